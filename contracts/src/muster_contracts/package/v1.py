"""Packages: the supervised services of one machine, what can be done with them, and how they are.

A package is described by a ``package.json`` on its machine (see ``muster_contracts.package.specification``).
The bodies here are what commands order of packages; questions go to the machine's agent directly.
"""

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import AwareDatetime, Field

from muster_contracts.ids import AgentId, Epoch, PackageName, Sha256
from muster_contracts.message import Answer, Ask, DurableFact, Part, Role, Subject

LONGEST_CONFIGURATION = 32 * 1024
"""Characters of one configuration file that can be applied by command."""


class Driver(StrEnum):
    """What keeps a package's processes."""

    PROCESS = "process"
    SYSTEMD = "systemd"
    DOCKER = "docker"


class PackageState(StrEnum):
    """How a package is."""

    INVALID = "invalid"
    """Its package.json cannot be used; ``problem`` names file and key."""
    STOPPED = "stopped"
    STARTING = "starting"
    """It was started and is not ready yet, or waits for what it depends on."""
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    EXITED = "exited"
    """It ended by itself, and its restart policy leaves it so."""
    BACKOFF = "backoff"
    """It ended by itself and will be started again in a moment."""
    CRASH_LOOP = "crash_loop"
    """It ended again and again; it is tried again, at pauses that grow to the longest."""
    BLOCKED = "blocked"
    """It should run, and what it depends on does not."""
    FAILED = "failed"
    """It could not be started: the executable, the user, the unit or the image is missing or not allowed."""


class CheckKind(StrEnum):
    """How a health check looks."""

    HTTP = "http"
    TCP = "tcp"
    PROCESS = "process"
    SCRIPT = "script"
    GRPC = "grpc"
    """The gRPC health checking protocol, ``grpc.health.v1``."""
    NATIVE = "native"
    """What systemd or Docker says of it."""


class Purpose(StrEnum):
    """What a check is for."""

    LIVENESS = "liveness"
    """Critical means that it does not work any more and recovery may act."""
    READINESS = "readiness"
    """Critical means that it cannot serve just now, and a restart would not help."""


class StopSignal(StrEnum):
    """Signals a package can be sent."""

    HUP = "HUP"
    INT = "INT"
    QUIT = "QUIT"
    TERM = "TERM"
    KILL = "KILL"
    USR1 = "USR1"
    USR2 = "USR2"
    WINCH = "WINCH"


# What commands order ---------------------------------------------------------------------------------


VERB = Field(description="Names the kind of order.")


class OnPackage(Part):
    """Base of what is ordered of one package."""

    package: PackageName

    @property
    def lane(self) -> str:
        """Commands of one lane run one after the other on a machine; different lanes side by side."""
        return f"package:{self.package}"

    @property
    def about(self) -> str:
        """What it is about, for lists."""
        return self.package


class StartPackage(OnPackage):
    """Start a package and what it depends on, and wait until it is ready. What runs is left alone."""

    verb: Annotated[Literal["package.start"], VERB] = "package.start"


class StopPackage(OnPackage):
    """Stop a package, also for good: it stays stopped over restarts of the agent.

    Refused while others that depend on it run, unless ``cascade``: then they are stopped first.
    """

    verb: Annotated[Literal["package.stop"], VERB] = "package.stop"
    cascade: bool = Field(default=False, description="Stop what depends on it, too.")


class RestartPackage(OnPackage):
    """Stop a package if it runs, start it, and wait until it is ready.

    What depends on it is left alone, unless ``with_dependents``: then what runs of it is stopped before and
    started again afterwards, in the order of dependence.
    """

    verb: Annotated[Literal["package.restart"], VERB] = "package.restart"
    with_dependents: bool = Field(default=False, description="Restart what runs of its dependents, too.")


class PausePackage(OnPackage):
    """Hold every process of a package where it is (SIGSTOP)."""

    verb: Annotated[Literal["package.pause"], VERB] = "package.pause"


class ResumePackage(OnPackage):
    """Let a paused package go on (SIGCONT)."""

    verb: Annotated[Literal["package.resume"], VERB] = "package.resume"


class SignalPackage(OnPackage):
    """Send a signal to the main process of a package."""

    verb: Annotated[Literal["package.signal"], VERB] = "package.signal"
    signal: StopSignal = Field(description="Without SIG.")


class ApplyConfiguration(OnPackage):
    """Replace a configuration file that package.json lists, in one step; the previous one is kept."""

    verb: Annotated[Literal["package.apply-configuration"], VERB] = "package.apply-configuration"
    file: str = Field(max_length=100, description="The name package.json gives the file.")
    content: str = Field(
        max_length=LONGEST_CONFIGURATION,
        description="All of it. Kept in the ledger only until the command has ended: it may hold secrets.",
        json_schema_extra={"sensitive": True},
    )
    expected_sha256: Sha256 | None = Field(
        default=None, description="Only if the present file has this digest; else it is rejected."
    )
    then: Literal["nothing", "reload", "restart"] = Field(
        default="nothing", description="reload: the package's reload signal; restart: if it runs."
    )


PackageBody = (
    StartPackage
    | StopPackage
    | RestartPackage
    | PausePackage
    | ResumePackage
    | SignalPackage
    | ApplyConfiguration
)


class RunScript(Part):
    """Run a script that the machine's own policy lists; its output is streamed."""

    verb: Annotated[Literal["script.run"], VERB] = "script.run"
    script: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="The name the policy gives it.")
    arguments: list[Annotated[str, Field(max_length=1000)]] = Field(
        default_factory=list, max_length=32, description="Appended to its command, never read by a shell."
    )

    @property
    def lane(self) -> str:
        """Runs of one script come one after the other."""
        return f"script:{self.script}"

    @property
    def about(self) -> str:
        """What it is about, for lists."""
        return self.script


# How packages are ------------------------------------------------------------------------------------


class Package(Part):
    """One package as lists show it."""

    name: PackageName
    version: str = Field(default="", description="Of the package; empty if it cannot be read.")
    driver: Driver | None = Field(default=None, description="Null if package.json cannot be read.")
    state: PackageState
    since: AwareDatetime = Field(description="When it came into this state.")
    wanted: bool = Field(default=True, description="Whether it is meant to run.")
    pid: int | None = Field(default=None, description="Of its main process; null while it does not run.")
    uptime_seconds: float | None = Field(
        default=None, description="Since its last start; null while it does not run."
    )
    restarts: int = Field(
        default=0, description="How often it was started again after it had ended by itself."
    )
    processes: int = Field(default=0, description="How many processes it has.")
    memory_bytes: int | None = Field(
        default=None, description="Of all its processes, resident; null if not known."
    )
    cpu_percent: float | None = Field(
        default=None,
        description="Of one CPU, of all its processes, since the look before; null at the first.",
    )
    depends_on: list[PackageName] = Field(default_factory=list)
    problem: str | None = Field(
        default=None,
        description="What is wrong, for people: names the file and the key, or the missing thing.",
    )
    exit_code: int | None = Field(
        default=None, description="How it last ended: a code, or minus a signal's number."
    )
    file: str | None = Field(default=None, description="The path of its package.json.")


class PackageList(Answer):
    """Every package of one machine, by name."""

    agent_id: AgentId
    packages: list[Package]
    next: PackageName | None = Field(
        default=None, description="Ask again with this as ``after``; null on the last page."
    )


class ListPackages(Ask[PackageList]):
    """Which packages does this machine have, and how are they?"""

    SUBJECT: ClassVar[Subject] = Subject("muster.package.v1.{agent_id}.list-packages")
    SAID_BY = (Role.OPERATOR, Role.HEALTH_RECOVERY)
    HEARD_BY = (Role.HOST_AGENT,)
    ANSWER = PackageList

    agent_id: AgentId
    after: PackageName | None = Field(default=None, description="The ``next`` of the page before.")


class ConfigurationFile(Part):
    """One configuration file that package.json lists."""

    name: str = Field(description="The name package.json gives it.")
    path: str = Field(description="Where it is.")
    size_bytes: int | None = Field(default=None, description="Null if there is none.")
    sha256: Sha256 | None = Field(default=None, description="Null if there is none.")
    modified_at: AwareDatetime | None = Field(default=None, description="Null if there is none.")
    previous: bool = Field(default=False, description="Whether the version before is kept.")


class PackageDetail(Answer):
    """All a machine knows of one package; values of secrets and environment are left out."""

    agent_id: AgentId
    package: Package
    description: str = Field(default="", description="From package.json.")
    command: list[str] = Field(default_factory=list, description="What is run, or the unit or image.")
    user: str | None = Field(default=None, description="Whom it runs as; null: as the agent.")
    environment: list[str] = Field(
        default_factory=list, description="Names of its variables, without values."
    )
    secrets: list[str] = Field(default_factory=list, description="Names of its secrets, without values.")
    configuration: list[ConfigurationFile] = Field(default_factory=list)
    log_file: str | None = Field(default=None, description="Where its output goes, if to a file.")
    dependents: list[PackageName] = Field(default_factory=list)
    pids: list[int] = Field(default_factory=list, description="All its processes; at most 200.")


class GetPackage(Ask[PackageDetail]):
    """What is known of this package?"""

    SUBJECT: ClassVar[Subject] = Subject("muster.package.v1.{agent_id}.get-package")
    SAID_BY = (Role.OPERATOR,)
    HEARD_BY = (Role.HOST_AGENT,)
    ANSWER = PackageDetail

    agent_id: AgentId
    package: PackageName


class Configuration(Answer):
    """A configuration file and what is in it; values under keys that name secrets are hidden."""

    agent_id: AgentId
    file: ConfigurationFile
    content: str = Field(description="Up to 32 KiB of it.")
    truncated: bool = Field(default=False, description="Whether there is more.")


class GetConfiguration(Ask[Configuration]):
    """What is in this configuration file of a package?"""

    SUBJECT: ClassVar[Subject] = Subject("muster.package.v1.{agent_id}.get-configuration")
    SAID_BY = (Role.OPERATOR,)
    HEARD_BY = (Role.HOST_AGENT,)
    ANSWER = Configuration

    agent_id: AgentId
    package: PackageName
    file: str = Field(max_length=100, description="The name package.json gives it.")
    previous: bool = Field(default=False, description="The version before the present one.")


class LogLines(Answer):
    """The last lines a package printed, oldest first."""

    agent_id: AgentId
    package: PackageName
    lines: list[str] = Field(description="Without their ends.")
    end_offset: int = Field(
        description="Behind the last line; ask again from there to go on. Of a process, bytes of its log."
    )
    truncated: bool = Field(default=False, description="Whether there was more than fits into an answer.")


class ReadLog(Ask[LogLines]):
    """What did this package print lately, or since an offset?"""

    SUBJECT: ClassVar[Subject] = Subject("muster.package.v1.{agent_id}.read-log")
    SAID_BY = (Role.OPERATOR,)
    HEARD_BY = (Role.HOST_AGENT,)
    ANSWER = LogLines

    agent_id: AgentId
    package: PackageName
    lines: int = Field(default=100, ge=1, le=1000, description="At most this many, the last ones.")
    from_offset: int | None = Field(
        default=None, ge=0, description="Those after this offset, the first ones; null: the last lines."
    )


class PackageChanged(DurableFact):
    """A package came into another state."""

    SUBJECT: ClassVar[Subject] = Subject("muster.package.v1.{agent_id}.package-changed")
    SAID_BY = (Role.HOST_AGENT,)
    HEARD_BY = (Role.OPERATOR, Role.HEALTH_RECOVERY)

    agent_id: AgentId
    epoch: Epoch
    package: PackageName
    was: PackageState | None = Field(default=None, description="Null when it was found.")
    now: PackageState | None = Field(default=None, description="Null when its package.json is gone.")
    reason: str = Field(
        max_length=100, description="Why, for programs: command, exit, dependency, adopted, …"
    )
    text: str | None = Field(default=None, max_length=2000, description="The same for people.")
    version: str = Field(default="", description="Of the package.")
    pid: int | None = Field(default=None, description="Of its main process; null if none runs.")
    exit_code: int | None = Field(
        default=None, description="A code, or minus a signal's number, after an exit."
    )
    restarts: int = Field(
        default=0, description="How often it was started again after it had ended by itself."
    )


class Reliance(Part):
    """What a package needs of other machines: the package of this name on the agents that match."""

    package: PackageName
    where: str = Field(max_length=2000, description="A selector of agents, such as role=db,site=ams.")


class RecoveryPolicy(Part):
    """What health-recovery may do about a package that runs and is ill, or has ended though it should run.

    The ladder: ``restarts`` restarts, then ``with_dependents`` restarts with what depends on it, then the
    script once, then it gives up. Pauses between acts double from ``delay_seconds``, each drawn evenly from
    nothing to that (full jitter).
    """

    enabled: bool = Field(default=True, description="Whether anything is done at all.")
    restarts: int = Field(default=2, ge=0, le=100, description="Restarts of the package alone.")
    with_dependents: int = Field(default=1, ge=0, le=100, description="Restarts with what depends on it.")
    script: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9][a-z0-9-]{0,62}$",
        description="A script that the machine's policy lists; it gets the package's name. Null: none.",
    )
    delay_seconds: float = Field(
        default=5.0, ge=0, le=86_400, description="The longest pause before the second act; it doubles."
    )
    longest_delay_seconds: float = Field(default=300.0, ge=0, le=86_400, description="No pause is longer.")
    acts_per_window: int = Field(default=5, ge=1, le=1000, description="At most so many acts in a window.")
    window_seconds: float = Field(default=3600.0, ge=1, le=604_800, description="The window, a sliding one.")
    stable_seconds: float = Field(
        default=60.0, ge=0, le=86_400, description="Well for so long, and its past is forgiven."
    )
    cooldown_seconds: float = Field(
        default=1800.0, ge=1, le=604_800, description="After giving up, it begins anew so much later."
    )


class DescribedCheck(Part):
    """One health check of a package."""

    name: str = Field(max_length=100, description="The name package.json gives it.")
    kind: CheckKind
    purpose: Purpose
    every_seconds: float = Field(description="Between looks.")


class PackageDescribed(DurableFact):
    """What a package.json says that others have to know; said at an agent's start and when it changes."""

    SUBJECT: ClassVar[Subject] = Subject("muster.package.v1.{agent_id}.package-described")
    SAID_BY = (Role.HOST_AGENT,)
    HEARD_BY = (Role.HEALTH_RECOVERY, Role.OPERATOR)

    agent_id: AgentId
    epoch: Epoch
    package: PackageName
    version: str = Field(default="", description="Of the package.")
    driver: Driver
    restart_policy: str = Field(max_length=20, description="always, on-failure or never.")
    depends_on: list[PackageName] = Field(default_factory=list, max_length=64)
    relies_on: list[Reliance] = Field(default_factory=list, max_length=16)
    recovery: RecoveryPolicy = RecoveryPolicy()
    checks: list[DescribedCheck] = Field(default_factory=list, max_length=64)


class PackagesFound(DurableFact):
    """Which packages a machine has, all of them; said at an agent's start and when one comes or goes."""

    SUBJECT: ClassVar[Subject] = Subject("muster.package.v1.{agent_id}.packages-found")
    SAID_BY = (Role.HOST_AGENT,)
    HEARD_BY = (Role.HEALTH_RECOVERY, Role.OPERATOR)

    agent_id: AgentId
    epoch: Epoch
    packages: list[PackageName] = Field(max_length=900)
