"""What can be set on a host-agent, and where its files are.

Environment over file over default. What is in ``LIVE`` takes effect while the agent runs.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from muster_contracts.ids import LabelKey, LabelValue
from muster_runtime import Settings

LIVE = frozenset({"labels", "sample_seconds", "describe_seconds", "network_disks", "log_level"})
"""Keys that are applied without a restart."""

CONFIG_VARIABLE = "HOST_AGENT_CONFIG"
"""The settings' file, where ``--config`` does not name it; no setting itself, so it is not in the file."""


class Places:
    """Where an agent keeps its files: the system's places for root, the user's own (XDG) for anybody else."""

    def __init__(self, *, root: bool, environ: Mapping[str, str], home: Path) -> None:
        def user(variable: str, default: str) -> Path:
            # A relative path is invalid by the XDG specification and has to be ignored.
            given = Path(environ.get(variable, ""))
            return (given if given.is_absolute() else home / default) / "muster"

        self.config = Path("/etc/muster") if root else user("XDG_CONFIG_HOME", ".config")
        self.packages = self.config / "packages"
        self.policy = self.config / "policy.yaml"
        self.config /= "host-agent.yaml"
        self.state = Path("/var/lib/muster") if root else user("XDG_STATE_HOME", ".local/state")
        self.log = Path("/var/log/muster") if root else self.state / "log"
        self.state /= "host-agent"

    @classmethod
    def here(cls) -> "Places":
        """The places of the user this process runs as."""
        return cls(root=os.geteuid() == 0, environ=os.environ, home=Path.home())


class HostAgentSettings(Settings):
    """Everything that can be set on a host-agent."""

    ENV_PREFIX: ClassVar[str] = "HOST_AGENT_"

    servers: list[str] = Field(
        default=["nats://127.0.0.1:4222"], min_length=1, description="The brokers; any of them will do."
    )
    state_dir: Path = Field(
        default_factory=lambda: Places.here().state,
        description="Where the agent keeps its id, its key and what it has not yet been able to say.",
    )
    labels: dict[LabelKey, LabelValue] = Field(
        default_factory=dict, max_length=64, description="What the fleet may select this machine by."
    )
    interval_seconds: float = Field(
        default=5, ge=0.2, le=3600, description="Between heartbeats, until the registry grants an interval."
    )
    sample_seconds: float = Field(default=15, ge=1, le=3600, description="Between samples of the vitals.")
    describe_seconds: float = Field(
        default=60, ge=1, le=86400, description="Between looks whether the machine's description has changed."
    )
    network_disks: bool = Field(
        default=False, description="Whether file systems of other machines (NFS, CIFS, …) count as disks."
    )
    spool_capacity: int = Field(
        default=10_000, ge=100, description="Facts kept while the broker is away; then the oldest go."
    )
    package_dirs: list[Path] = Field(
        default_factory=lambda: [Places.here().packages],
        description="Where packages are looked for: NAME/package.json below each of these.",
    )
    policy_file: Path = Field(
        default_factory=lambda: Places.here().policy,
        description="What this machine may be told to do; without the file all but scripts.",
    )
    looks_at_once: int = Field(
        default=32, ge=1, le=1000, description="Health checks that look at the same time, without a process."
    )
    scripts_at_once: int = Field(
        default=4, ge=1, le=100, description="Health checks that run a script or systemctl at the same time."
    )
    most_checks: int = Field(
        default=1000, ge=0, le=10_000, description="Health checks of this machine; those beyond are unknown."
    )
    stop_packages_on_exit: bool = Field(
        default=False,
        description="Whether packages end with the agent when it is stopped; else the next one finds them.",
    )
    log_level: Literal["debug", "info", "warning", "error", "critical"] = Field(
        default="info", description="What is worth a line in the log."
    )
    log_json: bool | None = Field(
        default=None, description="JSON lines, or lines for people; by default whichever suits the output."
    )
    log_to_file: bool = Field(
        default=False, description="Whether to log to a file, turned over at 10 MiB, not to standard error."
    )
    log_dir: Path = Field(
        default_factory=lambda: Places.here().log, description="Where that file, host-agent.log, is."
    )
    health_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="Serves /livez, /readyz and /metrics; 0 takes any free port.",
    )
    health_host: str = Field(default="127.0.0.1", description="The address the health port is opened on.")
    health_port_file: Path | None = Field(
        default=None,
        description="Where to write the health port once it is open; opens one if none is given.",
    )


def needs_restart(keys: frozenset[str]) -> list[str]:
    """Which of these changed keys wait for a restart."""
    return sorted(key for key in keys if key.partition(".")[0] not in LIVE)
