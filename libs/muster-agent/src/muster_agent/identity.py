"""Who this agent is: an id and a key, both born on its machine and kept in its state directory.

The seed is written before the id, so that the id file is the mark of a finished birth: an id without a
seed is a loss that a person has to know of, a seed without an id is a birth that was cut short.
"""

import fcntl
import os
import re
import secrets
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from muster_agent.files import sync_directory, write_whole
from muster_bus.errors import MusterError
from muster_bus.identity import Keypair
from muster_contracts.ids import AgentId, is_agent_id

ID_FILE = "agent-id"
SEED_FILE = "agent.seed"
MAX_NAME = 63 - len("-0000")


class IdentityError(MusterError):
    """cannot use the agent's state directory."""


@dataclass(frozen=True, slots=True)
class AgentIdentity:
    """The id an agent speaks under and the key that proves it."""

    agent_id: AgentId
    keypair: Keypair
    seed_file: Path


class Identity:
    """The birth and the keeping of an agent's identity."""

    @staticmethod
    def ensure(state_dir: Path) -> AgentIdentity:
        """The identity in ``state_dir``; made there at the first call and the same at every later one.

        Raises:
            IdentityError: the directory, the id or the seed cannot be used; says why and what to do.
        """
        with _alone_in(state_dir):
            id_file, seed_file = state_dir / ID_FILE, state_dir / SEED_FILE
            born = id_file.exists()
            keypair = _kept_key(seed_file, born=born) or _new_key(seed_file)
            agent_id = _kept_id(id_file) if born else _new_id(id_file)
        return AgentIdentity(agent_id, keypair, seed_file)


def id_from(hostname: str) -> AgentId:
    """A new id for a machine called ``hostname``: its first label, made safe, and four random hex digits."""
    name = re.sub(r"[^a-z0-9]+", "-", hostname.partition(".")[0].lower()).strip("-")
    return f"{name[:MAX_NAME].strip('-') or 'agent'}-{secrets.token_hex(2)}"


@contextmanager
def _alone_in(state_dir: Path) -> Iterator[None]:
    """Hold the directory's lock, so that two first starts at once agree on one identity."""
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise _unusable(state_dir, error) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        _probe(state_dir)
        yield
    finally:
        os.close(handle)


def _probe(state_dir: Path) -> None:
    """Find out now, not at the first loss of connection, that nothing can be kept here."""
    try:
        with tempfile.TemporaryFile(dir=state_dir):
            pass
    except OSError as error:
        raise _unusable(state_dir, error) from error


def _unusable(state_dir: Path, error: OSError) -> IdentityError:
    return IdentityError(
        f"cannot use the state directory {state_dir}: {error.strerror}; "
        "make it a directory the agent's user may write to, or choose another one"
    )


def _kept_key(seed_file: Path, *, born: bool) -> Keypair | None:
    if not seed_file.exists():
        if born:
            raise IdentityError(
                f"cannot use {seed_file.parent}: the key {seed_file.name} is gone; restore it, "
                f"or remove {ID_FILE} to have the machine enter the fleet under a new id"
            )
        return None
    _check_mode(seed_file)
    try:
        return Keypair.load(seed_file)
    except (MusterError, OSError, ValueError):
        # The cause is dropped on purpose: it might quote the seed.
        raise IdentityError(
            f"cannot use {seed_file}: it holds no key; restore it, "
            f"or remove it and {ID_FILE} to have the machine enter the fleet under a new id"
        ) from None


def _check_mode(seed_file: Path) -> None:
    mode = stat.S_IMODE(seed_file.stat().st_mode)
    if mode & 0o077:
        raise IdentityError(
            f"cannot use {seed_file}: its mode is {mode:04o}, others may read the key; chmod 600 {seed_file}"
        )


def _new_key(seed_file: Path) -> Keypair:
    keypair = Keypair.generate()
    keypair.save(seed_file)
    sync_directory(seed_file.parent)
    return keypair


def _kept_id(id_file: Path) -> AgentId:
    text = id_file.read_text(errors="replace").removesuffix("\n")
    if not is_agent_id(text):
        raise IdentityError(
            f"cannot use {id_file}: {text[:80]!r} is no agent id (a-z, 0-9 and -, at most 63); "
            "restore it, or remove it to have the machine enter the fleet under a new id"
        )
    return text


def _new_id(id_file: Path) -> AgentId:
    agent_id = id_from(socket.gethostname())
    write_whole(id_file, f"{agent_id}\n".encode(), mode=0o644)
    return agent_id
