"""What every ``--json`` output of the ``muster`` command looks like: the promise to programs.

``OUTPUTS`` names each by its command; ``contracts/cli/`` keeps their JSON Schemas. Fields are added,
never renamed or removed. Times are ISO 8601 with an offset; units are in the names.
"""

import json
from enum import StrEnum
from functools import cache
from typing import Any
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter

from muster_contracts.audit.v1 import AuditEntry
from muster_contracts.bus.v1 import DeadReason
from muster_contracts.command.v1 import CommandDetail, CommandState, Target
from muster_contracts.fleet.v1 import (
    AgentDetail,
    AgentEvent,
    AgentRow,
    Connection,
    Group,
    Presence,
    Reason,
    Summary,
)
from muster_contracts.health import v1 as health
from muster_contracts.host.v1 import Vitals
from muster_contracts.message import Delivery
from muster_contracts.package.v1 import Configuration, ConfigurationFile, Package, PackageDetail


class Output(BaseModel):
    """Base of what is printed for programs."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class VitalsBrief(Output):
    """A machine in three numbers."""

    cpu_percent: float
    memory_used_percent: float
    load_1m: float


class AgentLine(AgentRow):
    """One agent of ``muster agents list``."""

    vitals: VitalsBrief | None = Field(default=None, description="Null unless the agent answered at once.")


class AgentShown(AgentDetail):
    """``muster agents show``: the registry's record, and what the agent itself answered."""

    vitals: Vitals | None = Field(default=None, description="Null unless the agent answered at once.")


class PresenceLine(Output):
    """One line of ``muster agents watch``: news of one agent, or of one site."""

    at: AwareDatetime
    event: str = Field(description="The fact's name, for example presence-changed or partition-suspected.")
    agent_id: str | None = Field(default=None, description="Null where the news is of a whole site.")
    was: Presence | None = None
    now: Presence | None = None
    reason: Reason | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    text: str = Field(description="The news for people.")


class Verdict(StrEnum):
    """Whether a message on the bus is one of the catalogue."""

    OK = "ok"
    UNKNOWN = "unknown"
    """Its subject is none of the catalogue's: another version, or not Muster's."""
    MALFORMED = "malformed"
    """Its payload is not what its contract describes."""
    FOREIGN_ID = "foreign-id"
    """Its payload carries another identity than its subject."""


class PackageLine(Package):
    """One package of ``muster packages list``."""

    agent: str = Field(description="The agent that looks after it.")


class LogLine(Output):
    """One line of ``muster packages logs``."""

    agent: str
    package: str
    line: str = Field(description="As printed, without its end.")


class CommandShown(CommandDetail):
    """``muster command show``: a command, and every one of its targets."""

    each: list[Target] = Field(description="The targets by agent.")


class CommandNews(StrEnum):
    """What a line of ``muster command watch`` tells."""

    PROGRESS = "progress"
    """How far a target is; each that has not ended is told once at the beginning."""
    OUTPUT = "output"
    """There is more of its output to read."""
    ENDED = "ended"
    """A target has ended; told once for each."""


class CommandLine(Output):
    """One line of ``muster command watch``."""

    at: AwareDatetime = Field(description="When it was heard, by this machine's clock.")
    event: CommandNews
    agent: str
    state: CommandState | None = Field(default=None, description="Null for output.")
    percent: float | None = None
    text: str | None = None
    output_bytes: int = Field(default=0, description="How much it has printed so far.")
    target: Target | None = Field(default=None, description="All that is known of it, once it has ended.")


class AuditVerdict(Output):
    """``muster audit verify``: whether the chain of entries is whole."""

    intact: bool
    entries: int = Field(description="How many were read.")
    last_hash: str | None = Field(default=None, description="Of the last entry; null if there is none.")
    anchored_sequence: int | None = Field(
        default=None, description="The last entry that the stream AUDIT vouches for; null if none."
    )
    anchored_at: AwareDatetime | None = None
    bad_sequence: int | None = Field(default=None, description="The first entry that is wrong.")
    problem: str | None = Field(default=None, description="What is wrong with it; for people.")


class HealthListed(Output):
    """``muster health``: the fleet's health, and the agents that were asked for, the ill ones first."""

    fleet: health.FleetHealth
    hosts: list[health.HostHealth]
    more: bool = Field(default=False, description="Whether more match than are listed; --all lists them.")


class HealthLine(Output):
    """One line of ``muster health watch``: news of one package, one agent, or one incident."""

    at: AwareDatetime
    event: str = Field(description="The fact's name: package-health-changed, incident-opened, check-ran, …")
    agent_id: str | None = Field(default=None, description="Of an incident, that of its cause.")
    package: str | None = Field(default=None, description="Null where the news is of a whole agent.")
    was: health.Health | None = None
    now: health.Health | None = Field(default=None, description="Null where its health is not the news.")
    incident: UUID | None = Field(default=None, description="The incident, where the news is of one.")
    text: str = Field(description="The news for people.")


class WatchedMessage(Output):
    """One line of ``muster watch``: one message as it went by."""

    received_at: AwareDatetime = Field(description="By this machine's clock; by the broker's if replayed.")
    subject: str
    contract: str | None = Field(default=None, description="For example agent.v1.Heartbeat; null if unknown.")
    verdict: Verdict
    message: dict[str, Any] | None = Field(default=None, description="The payload, where it is JSON.")
    error: str | None = Field(default=None, description="Why it is malformed.")
    size_bytes: int


class MapLine(Output):
    """One contract of ``muster map``."""

    contract: str
    subject: str = Field(description="With the fields that vary in braces.")
    delivery: Delivery
    said_by: list[str]
    heard_by: list[str]
    answer: str | None = Field(default=None, description="What an ask is answered with.")
    meaning: str = Field(description="The first paragraph of the contract's description.")


class DeadLetterLine(Output):
    """One message a service could not take."""

    at: AwareDatetime
    service: str
    reason: DeadReason
    subject: str = Field(description="Where it was heard.")
    contract: str | None = None
    detail: str
    size_bytes: int
    deliveries: int
    payload: str = Field(description="Its first bytes, base64.")


class ProcessState(StrEnum):
    """How one process of an embedded fleet is."""

    STARTING = "starting"
    """It runs, and is not ready yet."""
    RUNNING = "running"
    RESTARTING = "restarting"
    """It died and will be started again in a moment."""
    STOPPED = "stopped"
    FAILED = "failed"
    """It could not be started."""


class FleetPhase(StrEnum):
    """Where in its life an embedded fleet is."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"
    """It could not be started."""
    ABANDONED = "abandoned"
    """Its supervisor was killed: what still runs is looked after by nobody."""


class MemoryMeasure(StrEnum):
    """What a number of bytes counts."""

    PSS = "pss"
    """Pages shared with other processes count by their share, so that a sum over processes is true."""
    RSS = "rss"
    """Shared pages count in full, once for each process; used where the system does not tell the PSS."""


class ProcessStatus(Output):
    """One process of an embedded fleet."""

    name: str
    state: ProcessState
    pid: int | None = Field(default=None, description="Null while it does not run.")
    memory_bytes: int | None = Field(
        default=None, description="Null while it does not run; ``memory_measure`` says what is counted."
    )
    memory_measure: MemoryMeasure | None = None
    uptime_seconds: float | None = Field(
        default=None, description="Since its last start; null while it does not run."
    )
    restarts: int = Field(default=0, description="How often it died and was started again since muster up.")
    endpoint: str | None = Field(
        default=None, description="Where it listens; of a service, health and metrics."
    )
    log: str | None = Field(default=None, description="Path of its log file.")
    detail: str | None = Field(default=None, description="How it last ended, if it did; for people.")


class StatusOutput(Output):
    """``muster status``: an embedded fleet, process by process."""

    directory: str
    phase: FleetPhase
    problem: str | None = Field(default=None, description="What is wrong and what to do; for people.")
    processes: list[ProcessStatus] = Field(description="In the order of their start.")
    supervisor: ProcessStatus = Field(description="Who looks after them.")
    memory_bytes: int = Field(description="Of all processes and the supervisor together.")


class Health(StrEnum):
    """The verdict of one check."""

    OK = "ok"
    WARN = "warn"
    """It works; somebody should look at it."""
    FAIL = "fail"


class CheckResult(Output):
    """One check of ``muster doctor``."""

    name: str
    verdict: Health
    text: str = Field(description="What was found.")
    advice: str | None = Field(default=None, description="What to do about it; null where all is well.")


class DoctorOutput(Output):
    """``muster doctor``: whether all is well, and what to do if not."""

    directory: str
    verdict: Health = Field(description="The worst of all checks.")
    checks: list[CheckResult]


PACKAGE_VERBS = ("start", "stop", "restart", "pause", "resume", "signal")
"""What is ordered of a package by one word; each prints its targets."""

OUTPUTS: dict[str, Any] = {
    "status": StatusOutput,
    "doctor": DoctorOutput,
    "agents-list": list[AgentLine],
    "agents-show": AgentShown,
    "agents-history": list[AgentEvent],
    "agents-connections": list[Connection],
    "agents-watch": PresenceLine,
    "agents-vitals": Vitals,
    "agents-label": AgentDetail,
    "agents-expect": AgentDetail,
    "agents-retire": AgentDetail,
    "groups-list": list[Group],
    "groups-define": list[Group],
    "groups-delete": list[Group],
    "summary": Summary,
    "packages-list": list[PackageLine],
    "packages-show": PackageDetail,
    **{f"packages-{verb}": list[Target] for verb in PACKAGE_VERBS},
    "packages-logs": LogLine,
    "packages-config-list": list[ConfigurationFile],
    "packages-config-show": Configuration,
    "packages-config-apply": list[Target],
    "packages-run": list[Target],
    "command-submit": list[Target],
    "command-watch": CommandLine,
    "command-list": list[Target],
    "command-show": CommandShown,
    "command-cancel": CommandDetail,
    "audit-list": list[AuditEntry],
    "audit-verify": AuditVerdict,
    "health-list": HealthListed,
    "health-show": health.HostHealthDetail,
    "health-packages": list[health.PackageHealth],
    "health-history": list[health.HealthEvent],
    "health-flapping": list[health.PackageHealth],
    "health-why": health.Explanation,
    "health-availability": list[health.Availability],
    "health-incidents": list[health.Incident],
    "health-ack": health.Acknowledged,
    "health-maintenance-set": list[health.Maintenance],
    "health-maintenance-list": list[health.Maintenance],
    "health-maintenance-end": list[health.Maintenance],
    "health-notify-test": list[health.Delivery],
    "health-checks": list[health.CheckState],
    "health-watch": HealthLine,
    "recovery-status": health.RecoveryStatus,
    "recovery-list": list[health.RecoveryAct],
    "recovery-pause": health.RecoveryStatus,
    "recovery-resume": health.RecoveryStatus,
    "recovery-ack": health.Acknowledged,
    "watch": WatchedMessage,
    "map": list[MapLine],
    "dead-letters": list[DeadLetterLine],
}
"""Command (its words joined by a dash) → what its ``--json`` prints; ``watch`` ones print one per line."""


def schema_of(command: str) -> dict[str, Any]:
    """The JSON Schema of what ``command`` prints with ``--json``."""
    return _adapter(command).json_schema(mode="serialization")


def as_json(command: str, value: object, *, indent: int | None = 2) -> str:
    """``value`` as ``command`` prints it."""
    return _adapter(command).dump_json(value, indent=indent).decode()


@cache
def _adapter(command: str) -> TypeAdapter[Any]:
    # Built for the one command that runs, not for all of them at import.
    return TypeAdapter(OUTPUTS[command])


def main() -> int:
    """``python -m muster_client.outputs --write|--check [DIRECTORY]``: keep the published schemas in step."""
    import argparse  # noqa: PLC0415  (only for those who publish)
    import sys  # noqa: PLC0415
    from pathlib import Path  # noqa: PLC0415

    options = argparse.ArgumentParser(prog="muster_client.outputs", description=main.__doc__)
    what = options.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", action="store_true", help="write what differs")
    what.add_argument("--check", action="store_true", help="name what differs; exit code 1 if anything does")
    options.add_argument("directory", type=Path, nargs="?", default=Path("contracts/cli"))
    chosen = options.parse_args()
    texts = {f"{name}.json": json.dumps(schema_of(name), indent=2) + "\n" for name in OUTPUTS}
    seen = {path.name: path.read_text() for path in chosen.directory.glob("*.json")}
    stale = sorted(name for name in texts.keys() | seen.keys() if texts.get(name) != seen.get(name))
    for name in stale if chosen.write else ():
        chosen.directory.mkdir(parents=True, exist_ok=True)
        if name in texts:
            (chosen.directory / name).write_text(texts[name])
        else:
            (chosen.directory / name).unlink()
    done = "written" if chosen.write else "stale, run: python -m muster_client.outputs --write"
    sys.stdout.write("".join(f"{chosen.directory / name}: {done}\n" for name in stale))
    return 1 if stale and chosen.check else 0


if __name__ == "__main__":
    raise SystemExit(main())
