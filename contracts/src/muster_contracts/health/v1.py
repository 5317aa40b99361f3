"""Health: what checks see, how packages and hosts are judged by it, and what is done about the ill ones.

A host agent runs the checks that ``package.json`` lists and says each result (live) and each change that
passed its thresholds (durable). health-recovery judges: a package by its state and its checks, a host by its
packages, and names for each illness the one that caused it. Each cause is one *incident*; only incidents
are notified.
"""

from enum import StrEnum
from typing import Annotated, ClassVar
from uuid import UUID

from pydantic import AwareDatetime, Field

from muster_contracts.agent.v1 import AgentKind
from muster_contracts.command.v1 import CommandState, Issuer
from muster_contracts.fleet.v1 import Presence, Selector
from muster_contracts.ids import AgentId, Epoch, GroupName, PackageName, ServiceName
from muster_contracts.message import Answer, Ask, DurableFact, LiveFact, Part, Role, Subject
from muster_contracts.package.v1 import CheckKind, PackageState, Purpose

HEALTH = "health-recovery"

LONGEST_TEXT = 500
"""Characters of what a check or a judgement says for people."""


class Health(StrEnum):
    """How a check, a package, a host or a group is; the worst one of its parts, ``unknown`` aside."""

    OK = "ok"
    WARNING = "warning"
    """It works, and somebody should look."""
    CRITICAL = "critical"
    """It does not do what it is for."""
    UNKNOWN = "unknown"
    """Nobody can tell: nothing was heard yet, or its agent is not there. Not an illness."""


CheckName = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
        description="The name package.json gives the check.",
        examples=["http"],
    ),
]
Text = Annotated[str, Field(max_length=LONGEST_TEXT, description="For people.")]
ReasonCode = Annotated[str, Field(max_length=100, description="Why, for programs.", examples=["timeout"])]


# Said by agents --------------------------------------------------------------------------------------


class CheckResult(Part):
    """What one look saw."""

    package: PackageName
    check: CheckName
    seen: Health = Field(description="By this look alone.")
    held: Health = Field(description="By the thresholds: what counts.")
    at: AwareDatetime = Field(description="When the look began.")
    duration_seconds: float = Field(ge=0, description="How long it took.")
    reason: ReasonCode
    text: Text = ""


class ChecksRan(LiveFact):
    """Looks of the last moment, as samples; those of a busy machine come in several messages."""

    SUBJECT: ClassVar[Subject] = Subject("muster.health.v1.{agent_id}.checks-ran")
    SAID_BY = (Role.HOST_AGENT,)
    HEARD_BY = (Role.HEALTH_RECOVERY, Role.OPERATOR)

    agent_id: AgentId
    epoch: Epoch
    results: list[CheckResult] = Field(max_length=50)


class CheckChanged(DurableFact):
    """What a check holds is another thing now, by its thresholds; said of every check at a start, too."""

    SUBJECT: ClassVar[Subject] = Subject("muster.health.v1.{agent_id}.check-changed")
    SAID_BY = (Role.HOST_AGENT,)
    HEARD_BY = (Role.HEALTH_RECOVERY, Role.OPERATOR)

    agent_id: AgentId
    epoch: Epoch
    package: PackageName
    check: CheckName
    kind: CheckKind
    purpose: Purpose
    was: Health | None = Field(
        default=None, description="Null when the check is new to this run of the agent."
    )
    now: Health | None = Field(default=None, description="Null when there is no such check any more.")
    reason: ReasonCode
    text: Text = ""
    looks: int = Field(default=1, ge=1, description="How many looks in a row saw it.")


class CheckState(Part):
    """One check, as its agent has it."""

    package: PackageName
    check: CheckName
    kind: CheckKind
    purpose: Purpose
    health: Health = Field(description="By its thresholds.")
    since: AwareDatetime = Field(description="Since when it holds that.")
    seen: Health | None = Field(default=None, description="By the last look; null before the first.")
    looked_at: AwareDatetime | None = Field(default=None, description="When the last look began.")
    duration_seconds: float | None = Field(default=None, description="How long the last look took.")
    every_seconds: float = Field(description="Between looks.")
    looks: int = Field(default=0, description="How many looks in a row saw what the last one saw.")
    waiting: bool = Field(
        default=False,
        description="Not looked at just now: the package does not run, or is in its start period.",
    )
    reason: ReasonCode = ""
    text: Text = ""


class CheckList(Answer):
    """Checks of one machine, by package and name."""

    agent_id: AgentId
    epoch: Epoch
    checks: list[CheckState]
    next: str | None = Field(
        default=None, description="Ask again with this as ``after``; null on the last page."
    )


class ListChecks(Ask[CheckList]):
    """Which checks does this machine have, and what do they hold?"""

    SUBJECT: ClassVar[Subject] = Subject("muster.health.v1.{agent_id}.list-checks")
    SAID_BY = (Role.OPERATOR, Role.HEALTH_RECOVERY)
    HEARD_BY = (Role.HOST_AGENT,)
    ANSWER = CheckList

    agent_id: AgentId
    package: PackageName | None = Field(default=None, description="Only of this package.")
    after: str | None = Field(default=None, max_length=200, description="The ``next`` of the page before.")


# How things are judged -------------------------------------------------------------------------------


class PackageRef(Part):
    """One package on one machine."""

    agent: AgentId
    package: PackageName

    def __str__(self) -> str:
        """``web@web-1``."""
        return f"{self.package}@{self.agent}"


class PackageHealth(Part):
    """How one package is judged."""

    agent: AgentId
    package: PackageName
    health: Health
    since: AwareDatetime = Field(description="Since when it is judged so.")
    state: PackageState | None = Field(default=None, description="Null if its agent never said.")
    reason: ReasonCode = Field(
        default="",
        description="Why, for programs: check, crash-loop, failed, invalid, exited, blocked, agent-lost, …",
    )
    text: Text = ""
    check: CheckName | None = Field(default=None, description="The check that decided, if one did.")
    cause: PackageRef | None = Field(
        default=None, description="What it is suppressed by: the ill package that made it ill."
    )
    flapping: bool = Field(default=False, description="It changes too often to be said each time.")
    maintenance: bool = Field(default=False, description="Somebody works on it: nothing is notified or done.")
    incident: UUID | None = Field(default=None, description="The open incident it is part of.")
    recovering: bool = Field(default=False, description="Whether something is being done about it.")


class PackageHealthChanged(DurableFact):
    """A package is judged otherwise now. While it flaps its changes are not said one by one."""

    SUBJECT: ClassVar[Subject] = Subject("muster.health.v1.{agent_id}.package-health-changed")
    SAID_BY = (Role.HEALTH_RECOVERY,)
    HEARD_BY = (Role.OPERATOR,)

    agent_id: AgentId
    was: Health | None = Field(default=None, description="Null for a package that is new.")
    now: PackageHealth | None = Field(default=None, description="Null for a package that is gone.")
    package: PackageName


class HostHealthChanged(DurableFact):
    """An agent's health, the worst of its packages, is another one now."""

    SUBJECT: ClassVar[Subject] = Subject("muster.health.v1.{agent_id}.host-health-changed")
    SAID_BY = (Role.HEALTH_RECOVERY,)
    HEARD_BY = (Role.OPERATOR,)

    agent_id: AgentId
    kind: AgentKind
    was: Health | None = Field(default=None, description="Null for an agent that is new.")
    now: Health
    reason: ReasonCode
    culprit: PackageName | None = Field(default=None, description="The package that decided, if one did.")


class HealthFlapping(DurableFact):
    """A package's health changed so often that its changes are not said any more until it is stable."""

    SUBJECT: ClassVar[Subject] = Subject("muster.health.v1.{agent_id}.health-flapping")
    SAID_BY = (Role.HEALTH_RECOVERY,)
    HEARD_BY = (Role.OPERATOR,)

    agent_id: AgentId
    package: PackageName
    changes: int = Field(description="Changes within the window.")
    window_seconds: float


class HealthStable(DurableFact):
    """A flapping package has kept its health for so long that its changes are said again."""

    SUBJECT: ClassVar[Subject] = Subject("muster.health.v1.{agent_id}.health-stable")
    SAID_BY = (Role.HEALTH_RECOVERY,)
    HEARD_BY = (Role.OPERATOR,)

    agent_id: AgentId
    package: PackageName
    health: Health


# Incidents -------------------------------------------------------------------------------------------


class Incident(Part):
    """One illness and all that it made ill: what people are told of, once, and again when it is over."""

    id: UUID = Field(description="Names the incident.")
    cause: PackageRef = Field(description="The package that is ill by itself.")
    health: Health = Field(description="How the cause is, or was at its worst once the incident is over.")
    reason: ReasonCode
    text: Text = ""
    opened_at: AwareDatetime = Field(description="Since when the cause is ill.")
    resolved_at: AwareDatetime | None = Field(default=None, description="Null while it lasts.")
    affected: list[PackageRef] = Field(
        default_factory=list, max_length=100, description="What is ill because of it; the first hundred."
    )
    affected_count: int = Field(default=0, description="How many that are in all.")
    flapping: bool = Field(default=False, description="It is open because the cause flaps.")
    tried: list[str] = Field(
        default_factory=list,
        max_length=20,
        description="What was done about it, for people; the last twenty.",
    )
    gave_up: bool = Field(default=False, description="Whether recovery does no more by itself.")
    acknowledged_by: str | None = Field(default=None, description="Who looks after it.")
    acknowledged_text: str | None = Field(default=None, description="What they said.")
    labels: dict[str, str] = Field(default_factory=dict, description="Those of the cause's agent.")


class IncidentOpened(DurableFact):
    """Something is ill by itself, and nothing that is known explains it."""

    SUBJECT: ClassVar[Subject] = Subject("muster.health.v1.{service}.incident-opened")
    SAID_BY = (Role.HEALTH_RECOVERY,)
    HEARD_BY = (Role.OPERATOR,)

    service: ServiceName = HEALTH
    incident: Incident


class IncidentResolved(DurableFact):
    """An incident is over: its cause is well, gone, stopped by somebody, or is explained by another."""

    SUBJECT: ClassVar[Subject] = Subject("muster.health.v1.{service}.incident-resolved")
    SAID_BY = (Role.HEALTH_RECOVERY,)
    HEARD_BY = (Role.OPERATOR,)

    service: ServiceName = HEALTH
    incident: Incident
    why: str = Field(max_length=100, description="well, gone, stopped, suppressed, maintenance or unknown.")


# Recovery --------------------------------------------------------------------------------------------


class Step(StrEnum):
    """One rung of the ladder."""

    RESTART = "restart"
    RESTART_WITH_DEPENDENTS = "restart-with-dependents"
    SCRIPT = "script"
    """The script that package.json names and the machine's policy lists."""
    GIVE_UP = "give-up"
    """Nothing more is done until the cool-down is over or somebody acknowledges."""


class Hold(StrEnum):
    """Why nothing is done just now about a package that is ill."""

    PAUSED = "paused"
    """Somebody paused recovery."""
    PARTITION = "partition"
    """Its site is suspected to be cut off."""
    BUDGET = "budget"
    """As many of its group recover already as may at once."""
    BACKOFF = "backoff"
    """It was tried a short while ago."""
    WINDOW = "window"
    """It was tried as often as it may be within the window."""
    CRASH_LOOP = "crash-loop"
    """Recovery gave up."""
    AGENT = "agent"
    """Its agent is at it: it starts, stops, or is started again after an exit."""
    SUPPRESSED = "suppressed"
    """Another package is the cause."""
    STOPPED = "stopped"
    """Somebody stopped or paused the package."""
    MAINTENANCE = "maintenance"
    UNREACHABLE = "unreachable"
    """Its agent is not there."""
    DISABLED = "disabled"
    """Its package.json wants no recovery, or nothing can be done (it cannot be started at all)."""
    DRY_RUN = "dry-run"
    """It is only said what would be done."""


class RecoveryAct(Part):
    """One thing that was done, or would have been."""

    id: UUID = Field(description="Also the id of its command.")
    agent: AgentId
    package: PackageName
    step: Step
    attempt: int = Field(ge=1, description="Counts up by one within one illness.")
    decided_at: AwareDatetime = Field(description="When it was decided.")
    why: Text = ""
    dry_run: bool = Field(default=False, description="It was only said.")
    state: CommandState | None = Field(
        default=None, description="How far its command is; null while it was not ordered, or if it never is."
    )
    text: Text = Field(default="", description="How its command ended, for people.")
    ended_at: AwareDatetime | None = Field(default=None, description="Null while it lasts.")


class RecoveryDecided(DurableFact):
    """Something is done about an ill package, or recovery gives up; said once for each decision."""

    SUBJECT: ClassVar[Subject] = Subject("muster.health.v1.{agent_id}.recovery-decided")
    SAID_BY = (Role.HEALTH_RECOVERY,)
    HEARD_BY = (Role.OPERATOR,)

    agent_id: AgentId
    act: RecoveryAct


class RecoveryEnded(DurableFact):
    """The command of an act has ended, or the package is well again and its case is closed."""

    SUBJECT: ClassVar[Subject] = Subject("muster.health.v1.{agent_id}.recovery-ended")
    SAID_BY = (Role.HEALTH_RECOVERY,)
    HEARD_BY = (Role.OPERATOR,)

    agent_id: AgentId
    act: RecoveryAct


class RecoveryCase(Part):
    """How far recovery is with one ill package."""

    agent: AgentId
    package: PackageName
    opened_at: AwareDatetime = Field(description="When it fell ill.")
    attempts: int = Field(default=0, description="Acts in this illness.")
    next_step: Step | None = Field(default=None, description="What comes next; null if nothing does.")
    next_at: AwareDatetime | None = Field(default=None, description="Not before this.")
    hold: Hold | None = Field(default=None, description="What stands in the way just now.")
    hold_text: Text = ""
    gave_up_at: AwareDatetime | None = Field(default=None, description="When it gave up, if it did.")
    until: AwareDatetime | None = Field(default=None, description="When the cool-down is over.")


# Questions -------------------------------------------------------------------------------------------


class Counts(Part):
    """How many are how."""

    ok: int = Field(default=0, description="How many are ok.")
    warning: int = Field(default=0, description="How many work, and somebody should look.")
    critical: int = Field(default=0, description="How many do not work.")
    unknown: int = Field(default=0, description="Of how many nobody can tell.")


class Rollup(Part):
    """A group, a kind of agents or the whole fleet."""

    health: Health = Field(description="The worst of its agents, unknown only if all are.")
    agents: Counts
    packages: Counts
    suppressed: int = Field(default=0, description="Ill packages that another one explains.")


class FleetHealth(Answer):
    """The fleet's health in numbers."""

    fleet: Rollup
    groups: dict[GroupName, Rollup] = Field(default_factory=dict)
    kinds: dict[AgentKind, Rollup] = Field(default_factory=dict)
    open_incidents: int = Field(default=0, description="How many incidents last.")
    recovering: int = Field(default=0, description="Acts whose command has not ended.")
    gave_up: int = Field(default=0, description="Packages recovery gave up on.")
    flapping: int = Field(default=0, description="How many packages flap.")
    dry_run: bool = Field(default=False, description="Recovery only says what it would do.")
    leader: str | None = Field(default=None, description="The replica that acts; null while none does.")


class GetFleetHealth(Ask[FleetHealth]):
    """How is the fleet?"""

    SUBJECT: ClassVar[Subject] = Subject("muster.health.v1.health-recovery.get-fleet-health")
    SAID_BY = (Role.OPERATOR,)
    HEARD_BY = (Role.HEALTH_RECOVERY,)
    ANSWER = FleetHealth


class HostHealth(Part):
    """One agent as lists show it."""

    agent: AgentId
    kind: AgentKind
    presence: Presence
    health: Health
    since: AwareDatetime = Field(description="Since when it is judged so.")
    reason: ReasonCode = ""
    culprit: PackageName | None = Field(default=None, description="The package that decided, if one did.")
    packages: Counts
    suppressed: int = Field(default=0, description="Ill packages that another one explains.")
    flapping: int = Field(default=0, description="How many of its packages flap.")
    maintenance: bool = Field(default=False, description="Whether somebody works on it.")


class HostHealthPage(Answer):
    """Agents in the order of their ids."""

    hosts: list[HostHealth]
    total: int = Field(description="How many match, over all pages.")
    next: AgentId | None = Field(
        default=None, description="Ask again with this as ``after``; null on the last page."
    )


class FindHosts(Ask[HostHealthPage]):
    """Which agents match the selector and are in such health?"""

    SUBJECT: ClassVar[Subject] = Subject("muster.health.v1.health-recovery.find-hosts")
    SAID_BY = (Role.OPERATOR,)
    HEARD_BY = (Role.HEALTH_RECOVERY,)
    ANSWER = HostHealthPage

    selector: Selector = ""
    health: list[Health] = Field(default_factory=list, description="Only in these; empty: in any.")
    after: AgentId | None = None
    limit: int = Field(default=50, ge=1, le=200, description="At most this many on one page.")


class PackageHealthPage(Answer):
    """Packages by agent and name."""

    packages: list[PackageHealth]
    total: int = Field(description="How many match, over all pages.")
    next: str | None = Field(
        default=None, description="Ask again with this as ``after``; null on the last page."
    )


class FindPackages(Ask[PackageHealthPage]):
    """Which packages are in such health?"""

    SUBJECT: ClassVar[Subject] = Subject("muster.health.v1.health-recovery.find-packages")
    SAID_BY = (Role.OPERATOR,)
    HEARD_BY = (Role.HEALTH_RECOVERY,)
    ANSWER = PackageHealthPage

    selector: Selector = ""
    package: PackageName | None = Field(default=None, description="Only of this name.")
    health: list[Health] = Field(default_factory=list, description="Only in these; empty: in any.")
    flapping: bool | None = Field(default=None, description="Only those that flap, or do not.")
    after: str | None = Field(default=None, max_length=200, description="The ``next`` of the page before.")
    limit: int = Field(default=50, ge=1, le=200, description="At most this many on one page.")


class CheckHealth(Part):
    """One check as health-recovery knows it."""

    check: CheckName
    kind: CheckKind
    purpose: Purpose
    health: Health
    since: AwareDatetime = Field(description="Since when it holds that.")
    reason: ReasonCode = ""
    text: Text = ""


class HostHealthDetail(Answer):
    """One agent and each of its packages; the checks only of those that are not ok."""

    host: HostHealth
    packages: list[PackageHealth] = Field(max_length=500)
    checks: dict[PackageName, list[CheckHealth]] = Field(default_factory=dict)


class GetHostHealth(Ask[HostHealthDetail]):
    """How is this agent, package by package?"""

    SUBJECT: ClassVar[Subject] = Subject("muster.health.v1.health-recovery.get-host-health")
    SAID_BY = (Role.OPERATOR,)
    HEARD_BY = (Role.HEALTH_RECOVERY,)
    ANSWER = HostHealthDetail

    agent_id: AgentId


class Explanation(Answer):
    """Why a package is as it is, from what is seen to what is done about it."""

    package: PackageHealth
    checks: list[CheckHealth]
    chain: list[PackageHealth] = Field(
        default_factory=list,
        description="From what it is suppressed by to the cause; empty if it is its own.",
    )
    dependents: list[PackageRef] = Field(
        default_factory=list, max_length=100, description="What it makes ill; the first hundred."
    )
    incident: Incident | None = None
    recovery: RecoveryCase | None = None
    acts: list[RecoveryAct] = Field(default_factory=list, description="The last ten, newest first.")


class ExplainHealth(Ask[Explanation]):
    """Why is this package as it is?"""

    SUBJECT: ClassVar[Subject] = Subject("muster.health.v1.health-recovery.explain-health")
    SAID_BY = (Role.OPERATOR,)
    HEARD_BY = (Role.HEALTH_RECOVERY,)
    ANSWER = Explanation

    agent_id: AgentId
    package: PackageName


class HealthEvent(Part):
    """One line of the history of health."""

    id: str = Field(description="Names this line; the ``before`` of the next page.")
    agent: AgentId
    package: PackageName | None = Field(default=None, description="Null: the agent as a whole.")
    at: AwareDatetime = Field(description="When it changed.")
    was: Health | None = None
    now: Health | None = Field(default=None, description="Null: it is gone.")
    reason: ReasonCode = ""
    text: Text = ""
    cause: PackageRef | None = Field(default=None, description="What it was suppressed by.")
    duration_seconds: float | None = Field(
        default=None, description="How long it stayed; null while it lasts."
    )


class HealthHistory(Answer):
    """Changes of health, newest first."""

    events: list[HealthEvent]
    next: str | None = Field(
        default=None, description="Ask again with this as ``before``; null on the last page."
    )


class GetHealthHistory(Ask[HealthHistory]):
    """How was the health of packages and agents?"""

    SUBJECT: ClassVar[Subject] = Subject("muster.health.v1.health-recovery.get-health-history")
    SAID_BY = (Role.OPERATOR,)
    HEARD_BY = (Role.HEALTH_RECOVERY,)
    ANSWER = HealthHistory

    agent_id: AgentId | None = Field(default=None, description="Only on this agent.")
    package: PackageName | None = Field(default=None, description="Only of this package.")
    since: AwareDatetime | None = Field(default=None, description="Only at or after this.")
    until: AwareDatetime | None = Field(default=None, description="Only before this.")
    before: str | None = Field(
        default=None, max_length=100, description="The ``next`` of the page before; null for the newest."
    )
    limit: int = Field(default=50, ge=1, le=500, description="At most this many on one page.")


class Availability(Answer):
    """How much of a time a package worked."""

    agent: AgentId
    package: PackageName
    since: AwareDatetime = Field(description="The beginning of the time, or of what is known of it.")
    until: AwareDatetime = Field(description="The end of the time.")
    percent: float | None = Field(
        default=None, description="Seconds ok or warning, of those neither unknown nor in maintenance."
    )
    ill_seconds: float = Field(default=0, description="Critical, outside of maintenance.")
    unknown_seconds: float = 0
    maintenance_seconds: float = 0
    failures: int = Field(default=0, description="How often it became critical.")
    mean_seconds_to_recovery: float | None = Field(
        default=None, description="Of the failures that are over; null if there are none."
    )
    mean_seconds_between_failures: float | None = Field(
        default=None, description="Of well time; null if there was no failure."
    )


class GetAvailability(Ask[Availability]):
    """How much of this time did this package work?"""

    SUBJECT: ClassVar[Subject] = Subject("muster.health.v1.health-recovery.get-availability")
    SAID_BY = (Role.OPERATOR,)
    HEARD_BY = (Role.HEALTH_RECOVERY,)
    ANSWER = Availability

    agent_id: AgentId
    package: PackageName
    since: AwareDatetime | None = Field(default=None, description="Null: a day ago.")
    until: AwareDatetime | None = Field(default=None, description="Null: now.")


class IncidentPage(Answer):
    """Incidents, newest first."""

    incidents: list[Incident]
    next: str | None = Field(
        default=None, description="Ask again with this as ``before``; null on the last page."
    )


class FindIncidents(Ask[IncidentPage]):
    """What was or is ill by itself?"""

    SUBJECT: ClassVar[Subject] = Subject("muster.health.v1.health-recovery.find-incidents")
    SAID_BY = (Role.OPERATOR,)
    HEARD_BY = (Role.HEALTH_RECOVERY,)
    ANSWER = IncidentPage

    open: bool | None = Field(default=True, description="Only those that last, or are over; null: both.")
    agent_id: AgentId | None = Field(default=None, description="Only those caused on this agent.")
    package: PackageName | None = Field(default=None, description="Only those caused by this package.")
    before: str | None = Field(
        default=None, max_length=100, description="The ``next`` of the page before; null for the newest."
    )
    limit: int = Field(default=50, ge=1, le=100, description="At most this many on one page.")


class Acknowledged(Answer):
    """What an acknowledgement did."""

    incidents: list[UUID] = Field(default_factory=list, description="Those that are looked after now.")
    retried: list[PackageRef] = Field(
        default_factory=list, description="Packages recovery had given up on, and begins anew with."
    )


class Acknowledge(Ask[Acknowledged]):
    """Somebody looks after this package: its incident is notified no more, but for its end.

    With ``retry``, recovery that gave up on it begins anew.
    """

    SUBJECT: ClassVar[Subject] = Subject("muster.health.v1.health-recovery.acknowledge")
    SAID_BY = (Role.OPERATOR,)
    HEARD_BY = (Role.HEALTH_RECOVERY,)
    ANSWER = Acknowledged

    agent_id: AgentId
    package: PackageName
    by: Issuer
    text: str = Field(default="", max_length=LONGEST_TEXT, description="What they say of it.")
    retry: bool = Field(default=False, description="Begin recovery anew where it gave up.")


class Maintenance(Part):
    """A time in which somebody works on something: nothing is notified or done about it meanwhile."""

    id: UUID = Field(description="Names the window.")
    selector: Selector
    package: PackageName | None = Field(default=None, description="Only this package; null: every one.")
    since: AwareDatetime = Field(description="From when on.")
    until: AwareDatetime = Field(description="Until when.")
    by: Issuer
    text: str = Field(default="", max_length=LONGEST_TEXT, description="What it is for.")


class MaintenanceList(Answer):
    """Maintenance that is, or is to come."""

    windows: list[Maintenance]


class SetMaintenance(Ask[MaintenanceList]):
    """Somebody will work on these. Asked twice with one ``message_id`` it is one window."""

    SUBJECT: ClassVar[Subject] = Subject("muster.health.v1.health-recovery.set-maintenance")
    SAID_BY = (Role.OPERATOR,)
    HEARD_BY = (Role.HEALTH_RECOVERY,)
    ANSWER = MaintenanceList

    selector: Selector
    package: PackageName | None = Field(default=None, description="Only this package; null: every one.")
    since: AwareDatetime | None = Field(default=None, description="Null: now.")
    until: AwareDatetime = Field(description="Until when; at most 90 days from its beginning.")
    by: Issuer
    text: str = Field(default="", max_length=LONGEST_TEXT, description="What it is for.")


class EndMaintenance(Ask[MaintenanceList]):
    """The work is done, or does not happen."""

    SUBJECT: ClassVar[Subject] = Subject("muster.health.v1.health-recovery.end-maintenance")
    SAID_BY = (Role.OPERATOR,)
    HEARD_BY = (Role.HEALTH_RECOVERY,)
    ANSWER = MaintenanceList

    id: UUID = Field(description="The window's.")
    by: Issuer


class ListMaintenance(Ask[MaintenanceList]):
    """What is being worked on?"""

    SUBJECT: ClassVar[Subject] = Subject("muster.health.v1.health-recovery.list-maintenance")
    SAID_BY = (Role.OPERATOR,)
    HEARD_BY = (Role.HEALTH_RECOVERY,)
    ANSWER = MaintenanceList


class RecoveryPage(Answer):
    """What was done, newest first."""

    acts: list[RecoveryAct]
    next: str | None = Field(
        default=None, description="Ask again with this as ``before``; null on the last page."
    )


class FindRecoveries(Ask[RecoveryPage]):
    """What was done about ill packages, and why?"""

    SUBJECT: ClassVar[Subject] = Subject("muster.health.v1.health-recovery.find-recoveries")
    SAID_BY = (Role.OPERATOR,)
    HEARD_BY = (Role.HEALTH_RECOVERY,)
    ANSWER = RecoveryPage

    agent_id: AgentId | None = Field(default=None, description="Only on this agent.")
    package: PackageName | None = Field(default=None, description="Only of this package.")
    before: str | None = Field(
        default=None, max_length=100, description="The ``next`` of the page before; null for the newest."
    )
    limit: int = Field(default=50, ge=1, le=200, description="At most this many on one page.")


class Pause(Part):
    """Recovery is held, by somebody, for some agents."""

    id: UUID = Field(description="Names the pause.")
    selector: Selector
    since: AwareDatetime = Field(description="From when on.")
    until: AwareDatetime | None = Field(default=None, description="Null: until somebody resumes it.")
    by: Issuer
    text: str = Field(default="", max_length=LONGEST_TEXT, description="Why.")


class RecoveryStatus(Answer):
    """How recovery is with everything that is ill."""

    cases: list[RecoveryCase] = Field(max_length=200, description="The first two hundred.")
    total: int = Field(description="How many cases there are.")
    pauses: list[Pause]
    dry_run: bool = Field(default=False, description="Whether it only says what it would do.")


class GetRecoveryStatus(Ask[RecoveryStatus]):
    """What is recovery at, and what holds it?"""

    SUBJECT: ClassVar[Subject] = Subject("muster.health.v1.health-recovery.get-recovery-status")
    SAID_BY = (Role.OPERATOR,)
    HEARD_BY = (Role.HEALTH_RECOVERY,)
    ANSWER = RecoveryStatus


class PauseRecovery(Ask[RecoveryStatus]):
    """Do nothing about these agents' packages by yourself. An empty selector pauses all."""

    SUBJECT: ClassVar[Subject] = Subject("muster.health.v1.health-recovery.pause-recovery")
    SAID_BY = (Role.OPERATOR,)
    HEARD_BY = (Role.HEALTH_RECOVERY,)
    ANSWER = RecoveryStatus

    selector: Selector = ""
    until: AwareDatetime | None = Field(default=None, description="Null: until somebody resumes it.")
    by: Issuer
    text: str = Field(default="", max_length=LONGEST_TEXT, description="Why.")


class ResumeRecovery(Ask[RecoveryStatus]):
    """Take back one pause, or all."""

    SUBJECT: ClassVar[Subject] = Subject("muster.health.v1.health-recovery.resume-recovery")
    SAID_BY = (Role.OPERATOR,)
    HEARD_BY = (Role.HEALTH_RECOVERY,)
    ANSWER = RecoveryStatus

    id: UUID | None = Field(default=None, description="Null: every one.")
    by: Issuer


class Delivery(Part):
    """What became of a notification to one channel."""

    channel: str = Field(max_length=100, description="The name the settings give it.")
    ok: bool = Field(description="Whether the channel took it.")
    text: Text = ""


class NotificationTested(Answer):
    """What became of the test, channel by channel."""

    deliveries: list[Delivery]


class TestNotification(Ask[NotificationTested]):
    """Send a test through one channel, or all, and say what became of it."""

    __test__ = False  # pytest takes names that begin so for its own

    SUBJECT: ClassVar[Subject] = Subject("muster.health.v1.health-recovery.test-notification")
    SAID_BY = (Role.OPERATOR,)
    HEARD_BY = (Role.HEALTH_RECOVERY,)
    ANSWER = NotificationTested

    channel: str | None = Field(default=None, max_length=100, description="Null: every one.")
    by: Issuer
