"""``package.json``: what one package is, as its author writes it. Unknown keys are errors.

The published JSON Schema is ``contracts/package.schema.json``.
"""

from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from muster_contracts.ids import PackageName
from muster_contracts.package.v1 import Driver, Purpose, RecoveryPolicy, Reliance, StopSignal

VariableName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
NoNul = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$", max_length=32_768)]


def _confined(path: str) -> str:
    """A relative path stays below its directory, whatever is there."""
    if ".." in PurePosixPath(path).parts:
        raise ValueError("it leads out of the directory of package.json by '..'; give an absolute path")
    return path


def _names_a_file(path: str) -> str:
    if not PurePosixPath(path).name or path.endswith("/"):
        raise ValueError("it names no file")
    return path


FilePath = Annotated[
    str,
    StringConstraints(pattern=r"^[^\x00-\x1f]+$", max_length=4096),
    AfterValidator(_confined),
    Field(description="A path; a relative one is below the directory of package.json."),
]
FileKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SecretFile(_Strict):
    """Where a secret is kept; its value is read at each start and is never shown, logged or sent."""

    file: FilePath = Field(
        description="A file that holds the value alone; one newline at its end is dropped."
    )


class Restart(_Strict):
    """When a package that ended by itself is started again, and after how long."""

    policy: Literal["always", "on-failure", "never"] = Field(
        default="always", description="on-failure: not after exit code 0."
    )
    delay_seconds: float = Field(
        default=0.5,
        ge=0.05,
        le=3600,
        description="Before the second start; it doubles with each that follows.",
    )
    longest_delay_seconds: float = Field(default=30.0, ge=0.05, le=86_400, description="No pause is longer.")
    stable_seconds: float = Field(
        default=10.0,
        ge=0.1,
        le=86_400,
        description="Whoever ran this long is forgiven the ends before, and is started again at once.",
    )
    crash_loop_after: int = Field(
        default=5, ge=2, le=1000, description="So many ends in a row without a stable run are a crash loop."
    )


class Stop(_Strict):
    """How a package is stopped: a signal, then, when it has not ended in time, SIGKILL to its whole tree."""

    signal: StopSignal = Field(default=StopSignal.TERM, description="What it is sent first.")
    timeout_seconds: float = Field(
        default=10.0, ge=0.1, le=3600, description="How long it may take; then it is killed."
    )


class Ready(_Strict):
    """What tells that a package is ready; without either, it is once it has run for ``after_seconds``."""

    tcp_port: int | None = Field(
        default=None, ge=1, le=65535, description="It accepts connections on loopback."
    )
    file: FilePath | None = Field(
        default=None, description="The file exists, and is not from before the start."
    )
    after_seconds: float = Field(default=0.2, ge=0, le=3600, description="It has not ended for this long.")
    timeout_seconds: float = Field(
        default=30.0, ge=0.1, le=3600, description="Not ready by then, it has failed."
    )


class Log(_Strict):
    """What is kept of what a package prints."""

    max_bytes: int = Field(default=10 << 20, ge=4096, description="Of one file; then a new one is begun.")
    keep_files: int = Field(default=3, ge=0, le=100, description="Older files that are kept.")


class Configured(_Strict):
    """A configuration file that may be read and replaced by command."""

    path: Annotated[FilePath, AfterValidator(_names_a_file)] = Field(
        description="Where it is; a relative one is below the directory of package.json. No links."
    )
    mode: str = Field(default="0644", pattern=r"^0?[0-7]{3}$", description="Permissions of a new file.")
    check: list[NoNul] | None = Field(
        default=None,
        min_length=1,
        description="Run with the candidate's path appended, before it is put in place; not 0 refuses it.",
    )


class HttpCheck(_Strict):
    """A health check by HTTP. Redirects are not followed, and no proxy is asked."""

    kind: Literal["http"] = Field(description="By HTTP.")
    url: str = Field(max_length=2000, pattern=r"^https?://", description="What is fetched.")
    method: Literal["GET", "HEAD", "POST"] = Field(default="GET", description="How it is asked for.")
    headers: dict[str, NoNul] = Field(default_factory=dict, max_length=32, description="What is sent along.")
    secret_headers: dict[str, SecretFile] = Field(
        default_factory=dict, max_length=8, description="Headers whose values are read from files."
    )
    status: list[Annotated[int, Field(ge=100, le=599)]] = Field(
        default=[200], min_length=1, max_length=64, description="Codes that are well."
    )
    body_contains: str | None = Field(
        default=None, max_length=1000, description="Text that has to be in the first 64 KiB of the body."
    )
    body_matches: str | None = Field(
        default=None, max_length=1000, description="A regular expression that has to be found in them."
    )
    answer_headers: dict[str, str] = Field(
        default_factory=dict, max_length=32, description="Headers the answer has to have, with these values."
    )
    slow_seconds: float | None = Field(
        default=None, gt=0, le=3600, description="An answer that takes longer is a warning."
    )
    verify: bool = Field(default=True, description="Whether the certificate has to be trusted.")
    authority_file: FilePath | None = Field(
        default=None, description="Whom to trust, in PEM; null: the system's."
    )
    expiry_warning_days: float | None = Field(
        default=None, gt=0, le=3650, description="A certificate that ends sooner is a warning."
    )
    expiry_critical_days: float | None = Field(
        default=None, gt=0, le=3650, description="A certificate that ends sooner is critical."
    )


class TcpCheck(_Strict):
    """A health check by connecting."""

    kind: Literal["tcp"] = Field(description="By connecting.")
    port: int = Field(ge=1, le=65535, description="The port that accepts connections.")
    host: str = Field(default="127.0.0.1", max_length=255, description="The address it is on.")


class ProcessCheck(_Strict):
    """A health check of the processes: the main one is there and not stopped, and what all of them use."""

    kind: Literal["process"] = Field(description="Of the processes.")
    memory_warning_bytes: int | None = Field(default=None, ge=1, description="Resident, of all of them.")
    memory_critical_bytes: int | None = Field(default=None, ge=1, description="Resident, of all of them.")
    cpu_warning_percent: float | None = Field(
        default=None, gt=0, description="Of one CPU, of all, since the look before."
    )
    cpu_critical_percent: float | None = Field(
        default=None, gt=0, description="Of one CPU, of all, since the look before."
    )
    files_warning: int | None = Field(default=None, ge=1, description="Open files of the main process.")
    files_critical: int | None = Field(default=None, ge=1, description="Open files of the main process.")


class ScriptCheck(_Strict):
    """A health check by a command of its own: 0 ok, 1 warning, 2 critical, anything else unknown."""

    kind: Literal["script"] = Field(description="By a command.")
    command: list[NoNul] = Field(
        min_length=1, description="The program and its arguments; never read by a shell."
    )
    directory: FilePath | None = Field(default=None, description="Where it runs; null: as the package.")
    environment: dict[VariableName, NoNul] = Field(
        default_factory=dict, max_length=64, description="Beside PATH, HOME, USER, LOGNAME, SHELL and LANG."
    )
    user: str | None = Field(
        default=None, max_length=64, description="Whom it runs as; null: as the package."
    )
    group: str | None = Field(default=None, max_length=64, description="By default the user's own.")


class GrpcCheck(_Strict):
    """A health check by the gRPC health checking protocol (grpc.health.v1)."""

    kind: Literal["grpc"] = Field(description="By gRPC.")
    port: int = Field(ge=1, le=65535, description="The port that is asked.")
    host: str = Field(default="127.0.0.1", max_length=255, description="The address it is on.")
    service: str = Field(default="", max_length=255, description="Which service; empty: the whole server.")


class NativeCheck(_Strict):
    """A health check by what systemd or Docker says of the package. Not for the driver process."""

    kind: Literal["native"] = Field(description="By its driver.")


class Check(_Strict):
    """One health check, its schedule and its thresholds."""

    name: FileKey = Field(description="What it is called.")
    check: Annotated[
        HttpCheck | TcpCheck | ProcessCheck | ScriptCheck | GrpcCheck | NativeCheck,
        Field(discriminator="kind", description="What is looked at, by kind."),
    ]
    purpose: Purpose = Field(
        default=Purpose.LIVENESS,
        description="liveness: if critical, recovery may act; readiness: a restart would not help.",
    )
    every_seconds: float = Field(default=30.0, ge=0.1, le=86_400, description="Between looks.")
    timeout_seconds: float = Field(default=5.0, ge=0.05, le=3600, description="A look may take this long.")
    failures: int = Field(
        default=3, ge=1, le=100, description="So many looks in a row have to be worse before that counts."
    )
    successes: int = Field(
        default=1, ge=1, le=100, description="So many looks in a row have to be better before that counts."
    )
    start_seconds: float = Field(
        default=0.0, ge=0, le=86_400, description="So long after a start only what is well counts."
    )


class Recovery(RecoveryPolicy):
    """What health-recovery may do about it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class RelyingOn(Reliance):
    """A package on other machines."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Specification(_Strict):
    """One package."""

    name: PackageName = Field(description="Of the package; one of its kind on a machine.")
    version: str = Field(
        default="0",
        max_length=64,
        pattern=r"^[A-Za-z0-9._+~-]+$",
        description="Of what is run: raise it, and it is restarted.",
    )
    description: str = Field(default="", max_length=1000, description="For people.")
    driver: Driver = Field(default=Driver.PROCESS, description="What keeps its processes.")
    enabled: bool = Field(
        default=True, description="Whether it is started by itself, until a command says otherwise."
    )

    command: list[NoNul] = Field(
        default_factory=list,
        description="For the driver process: the program and its arguments; never read by a shell. "
        "For docker: what is run in place of the image's own command, if given.",
    )
    directory: FilePath | None = Field(
        default=None, description="Where it runs; by default the directory of package.json."
    )
    environment: dict[VariableName, NoNul] = Field(
        default_factory=dict, max_length=256, description="Variables and their values."
    )
    environment_files: list[FilePath] = Field(
        default_factory=list,
        max_length=16,
        description="Lines NAME=value; later ones win, ``environment`` over all.",
    )
    secrets: dict[VariableName, SecretFile] = Field(
        default_factory=dict, max_length=64, description="Variables whose values are read from files."
    )
    user: str | None = Field(
        default=None, max_length=64, description="Whom it runs as; by default as the agent."
    )
    group: str | None = Field(default=None, max_length=64, description="By default the user's own.")
    umask: str | None = Field(
        default=None, pattern=r"^0?[0-7]{3}$", description="In octal, such as 027; by default the agent's."
    )

    unit: str | None = Field(
        default=None,
        # Never what systemctl could take for an option.
        pattern=r"^[A-Za-z0-9:_.@][A-Za-z0-9:_.@-]{0,199}\.service$",
        description="For the driver systemd: the unit that is controlled.",
    )
    user_unit: bool = Field(
        default=False, description="Whether it is a unit of the agent's own user (--user)."
    )

    image: str | None = Field(
        default=None,
        max_length=255,
        pattern=r"^[a-zA-Z0-9][a-zA-Z0-9._/:@-]*$",
        description="For the driver docker.",
    )
    ports: dict[str, int] = Field(
        default_factory=dict,
        max_length=32,
        description="For docker: '8080/tcp' inside to a port of loopback.",
    )
    volumes: dict[FilePath, str] = Field(
        default_factory=dict, max_length=32, description="For docker: a path here to 'path inside[:ro]'."
    )

    depends_on: list[PackageName] = Field(
        default_factory=list,
        max_length=64,
        description="Packages that have to be ready before it is started.",
    )
    stop: Stop = Field(default=Stop(), description="How it is stopped.")
    reload_signal: StopSignal = Field(
        default=StopSignal.HUP, description="What makes it read its files again."
    )
    ready: Ready = Field(default=Ready(), description="What tells that it is ready.")
    restart: Restart = Field(default=Restart(), description="What follows when it ends by itself.")
    log: Log = Field(default=Log(), description="What is kept of what it prints.")
    checks: list[Check] = Field(default_factory=list, max_length=64, description="Health checks.")
    relies_on: list[RelyingOn] = Field(
        default_factory=list,
        max_length=16,
        description="Packages on other machines that it needs: while one of them is ill, it is not to blame.",
    )
    recovery: Recovery = Field(default=Recovery(), description="What health-recovery may do about it.")
    configuration: dict[FileKey, Configured] = Field(
        default_factory=dict, max_length=64, description="Its configuration files, by the name commands use."
    )

    @model_validator(mode="after")
    def _has_what_its_driver_needs(self) -> Self:
        match self.driver:
            case Driver.PROCESS if not self.command or not self.command[0]:
                raise ValueError("key 'command': the driver process needs the program to run")
            case Driver.SYSTEMD if not self.unit:
                raise ValueError("key 'unit': the driver systemd needs the unit to control")
            case Driver.DOCKER if not self.image:
                raise ValueError("key 'image': the driver docker needs the image to run")
        if self.name in self.depends_on:
            raise ValueError(f"key 'depends_on': {self.name} cannot depend on itself")
        return self
