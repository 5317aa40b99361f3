"""Where everything of one embedded fleet lies: the only file that knows the names inside its directory."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from muster_client.embedded.errors import CannotStart
from muster_client.embedded.files import distrust, exposed, replace_whole

LEAST_FREE_BYTES = 32 << 20
"""With less, the broker would soon refuse what it cannot keep."""


def default_directory() -> Path:
    """``$MUSTER_DIR``, else ``$XDG_DATA_HOME/muster``, else ``~/.local/share/muster``.

    Raises:
        CannotStart: there is no home directory to fall back to.
    """
    if chosen := os.environ.get("MUSTER_DIR"):
        return Path(chosen)
    if data := os.environ.get("XDG_DATA_HOME"):
        return Path(data) / "muster"
    try:
        return Path.home() / ".local" / "share" / "muster"
    except RuntimeError as error:
        raise CannotStart("cannot find a home directory; give a place for the fleet with --dir") from error


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one fleet; every directory is its owner's alone (0700)."""

    root: Path

    @classmethod
    def at(cls, directory: Path | None) -> "Layout":
        """The fleet in ``directory``, or in the default one.

        Absolute, since processes change theirs; links are resolved once, so that none is turned meanwhile.
        """
        chosen = (directory or default_directory()).expanduser()
        return cls(
            Path(os.path.realpath(chosen))
        )  # unlike Path.resolve, without an error for what is no path

    @property
    def state(self) -> Path:
        """What the supervisor last knew of itself and its processes."""
        return self.root / "fleet.json"

    @property
    def client(self) -> Path:
        """How commands connect: servers, identity, seed file."""
        return self.root / "client.json"

    @property
    def keys(self) -> Path:
        """One seed per role; the Redis password."""
        return self.root / "keys"

    @property
    def broker(self) -> Path:
        """Configuration and JetStream files of the broker."""
        return self.root / "broker"

    @property
    def broker_config(self) -> Path:
        """Rendered at each start."""
        return self.broker / "nats.conf"

    @property
    def redis(self) -> Path:
        """Configuration and append-only file of Redis."""
        return self.root / "redis"

    @property
    def redis_config(self) -> Path:
        """Rendered at each start; holds the password, hence 0600."""
        return self.redis / "redis.conf"

    @property
    def redis_password(self) -> Path:
        """Generated once, 0600."""
        return self.keys / "redis.password"

    @property
    def registry(self) -> Path:
        """The registry's database and spool."""
        return self.root / "registry"

    @property
    def store(self) -> Path:
        """The database of state-store: what was ordered, and what became of it."""
        return self.root / "store"

    @property
    def health(self) -> Path:
        """The database of health-recovery: how everything is and was, and what was done about it."""
        return self.root / "health"

    @property
    def health_settings(self) -> Path:
        """Settings of health-recovery, above all its channels; there only if a person wrote them."""
        return self.root / "health-recovery.yaml"

    @property
    def packages(self) -> Path:
        """The packages of this machine's agent: ``NAME/package.json``."""
        return self.root / "packages"

    @property
    def policy(self) -> Path:
        """What this machine's agent may be told to do; there only if a person wrote one."""
        return self.root / "policy.yaml"

    @property
    def identities(self) -> Path:
        """Whose public key is whose, for the registry: ``{public: {role, name}}``."""
        return self.registry / "identities.json"

    @property
    def agent(self) -> Path:
        """The state of this machine's agent; its key is born there."""
        return self.root / "agent"

    @property
    def logs(self) -> Path:
        """One file per process."""
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """Locks; worthless once nothing runs."""
        return self.root / "run"

    @property
    def streams_made(self) -> Path:
        """Which streams were once made here; not among the broker's files, so that it outlives them."""
        return self.root / "streams.json"

    @property
    def streams_lost(self) -> Path:
        """There from the loss of a stream until a person has read of it and removes the file."""
        return self.root / "STREAMS-LOST"

    def agent_id(self) -> str:
        """The id of this machine's agent.

        Raises:
            OSError: it was not born yet.
        """
        return (self.agent / "agent-id").read_text().strip()

    def seed(self, identity: str) -> Path:
        """The nkey seed of one identity, 0600."""
        return self.keys / f"{identity}.seed"

    def log(self, name: str) -> Path:
        """The log file of one process."""
        return self.logs / f"{name}.log"

    def lock(self, name: str) -> Path:
        """Held for as long as the process ``name`` lives."""
        return self.run / f"{name}.lock"

    @property
    def parts(self) -> tuple[Path, ...]:
        """Every directory below the root."""
        return (
            self.keys,
            self.broker,
            self.redis,
            self.registry,
            self.store,
            self.health,
            self.agent,
            self.packages,
            self.logs,
            self.run,
        )

    def check(self) -> None:
        """See that nobody else can put files here, which we would then write to, or processes to kill.

        Raises:
            CannotStart: a directory is somebody else's, a link, or writable for others.
            OSError: one cannot be looked at.
        """
        there = (path for path in (self.root, *self.parts) if os.path.lexists(path))
        if complaint := next(filter(None, map(distrust, there)), "") or exposed(self.root):
            raise CannotStart(complaint)

    def create(self) -> None:
        """Make every directory, 0700, and see that it can be written to, and by nobody else.

        Raises:
            CannotStart: the directory cannot be made or written to, or others may write to it.
        """
        try:
            # Modes are set where we create, and left alone where not: --dir may name any place.
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.check()
            for part in self.parts:
                part.mkdir(exist_ok=True, mode=0o700)
            self.check()
            probe = self.run / "writable"
            replace_whole(probe, "Muster was here.\n")
            probe.unlink()
            free = shutil.disk_usage(self.root).free
        except OSError as error:
            why = error.strerror or str(error)
            raise CannotStart(
                f"cannot start in {self.root}: {why}; give a directory that you may write to with --dir"
            ) from error
        if free < LEAST_FREE_BYTES:
            raise CannotStart(
                f"cannot start in {self.root}: only {free >> 20} MiB are left on its disk; "
                f"free at least {LEAST_FREE_BYTES >> 20} MiB, or give another directory with --dir"
            )
