"""Said and answered by fleet-registry: who is in the fleet, since when, and why not any more."""

from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import AwareDatetime, Field

from muster_contracts.agent.v1 import AgentKind
from muster_contracts.ids import AgentId, Epoch, GroupName, LabelKey, LabelValue, ServiceName
from muster_contracts.message import Answer, Ask, DurableFact, Part, Role, Subject

REGISTRY = "fleet-registry"


class Presence(StrEnum):
    """Whether an agent is there."""

    EXPECTED = "expected"
    """Announced by an operator, not seen yet."""
    ONLINE = "online"
    LATE = "late"
    """Silent for longer than its interval allows, not yet for its deadline."""
    LOST = "lost"
    """Gone without a goodbye: its connection broke, or it was silent past its deadline."""
    LEFT = "left"
    """Gone with a goodbye."""
    RETIRED = "retired"
    """Taken out of the fleet by an operator."""


class Reason(StrEnum):
    """Why an agent's presence is what it is."""

    HEARTBEAT = "heartbeat"
    HELLO = "hello"
    DISCONNECTED = "disconnected"
    """The broker saw the connection end and no other took its place."""
    SILENCE = "silence"
    """Nothing heard for the granted deadline."""
    OVERDUE = "overdue"
    """Nothing heard for longer than the interval."""
    PARTITION = "partition"
    """Lost together with much of its site; see ``PartitionSuspected``."""
    SHUTDOWN = "shutdown"
    RESTART = "restart"
    UPGRADE = "upgrade"
    REPLACED = "replaced"
    """A newer run of the same agent began."""
    EXPECTED = "expected"
    RETIRED = "retired"


# Facts ------------------------------------------------------------------------------------------


class PresenceChanged(DurableFact):
    """An agent's presence is another one now.

    While an agent flaps, or its site is suspected to be partitioned, its changes are not said one by one.
    """

    SUBJECT: ClassVar[Subject] = Subject("muster.fleet.v1.{agent_id}.presence-changed")
    SAID_BY = (Role.FLEET_REGISTRY,)
    HEARD_BY = (Role.OPERATOR, Role.HEALTH_RECOVERY)

    agent_id: AgentId
    kind: AgentKind
    was: Presence
    now: Presence
    reason: Reason
    epoch: Epoch | None = None
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict)


class AgentFlapping(DurableFact):
    """An agent came and went so often that its changes are not said any more until it is stable."""

    SUBJECT: ClassVar[Subject] = Subject("muster.fleet.v1.{agent_id}.agent-flapping")
    SAID_BY = (Role.FLEET_REGISTRY,)
    HEARD_BY = (Role.OPERATOR, Role.HEALTH_RECOVERY)

    agent_id: AgentId
    changes: int = Field(description="Comings and goings within the window.")
    window_seconds: float


class AgentStable(DurableFact):
    """A flapping agent has kept one presence for a whole window."""

    SUBJECT: ClassVar[Subject] = Subject("muster.fleet.v1.{agent_id}.agent-stable")
    SAID_BY = (Role.FLEET_REGISTRY,)
    HEARD_BY = (Role.OPERATOR, Role.HEALTH_RECOVERY)

    agent_id: AgentId
    presence: Presence


class IdentityConflict(DurableFact):
    """Two live machines speak under one id. Both stay visible: the later one as ``known_as``."""

    SUBJECT: ClassVar[Subject] = Subject("muster.fleet.v1.{agent_id}.identity-conflict")
    SAID_BY = (Role.FLEET_REGISTRY,)
    HEARD_BY = (Role.OPERATOR,)

    agent_id: AgentId = Field(description="The id both speak under; the earlier one keeps it.")
    epoch: Epoch = Field(description="The run of the earlier one.")
    known_as: AgentId = Field(description="The id the registry gave the later one.")
    other_epoch: Epoch = Field(description="The run of the later one.")
    address: str | None = Field(
        default=None, description="Where the earlier one connects from, if the broker told."
    )
    other_address: str | None = Field(
        default=None, description="Where the later one connects from, if the broker told."
    )


class PartitionSuspected(DurableFact):
    """Much of a site vanished at once: said once, in the place of a loss for each agent."""

    SUBJECT: ClassVar[Subject] = Subject("muster.fleet.v1.{service}.partition-suspected")
    SAID_BY = (Role.FLEET_REGISTRY,)
    HEARD_BY = (Role.OPERATOR, Role.HEALTH_RECOVERY)

    service: ServiceName = REGISTRY
    site: str = Field(description="The agents' label 'site'; empty for agents without one.")
    missing: int = Field(description="Late or lost when it was noticed.")
    known: int = Field(description="Online, late or recently lost then.")


class PartitionEnded(DurableFact):
    """A suspected partition is over; agents that did not come back are said to be lost one by one now."""

    SUBJECT: ClassVar[Subject] = Subject("muster.fleet.v1.{service}.partition-ended")
    SAID_BY = (Role.FLEET_REGISTRY,)
    HEARD_BY = (Role.OPERATOR, Role.HEALTH_RECOVERY)

    service: ServiceName = REGISTRY
    site: str = Field(description="As in the PartitionSuspected before it.")
    returned: int = Field(description="How many of the missing agents are online again.")
    still_lost: int = Field(description="How many are not, and are said to be lost now.")
    lasted_seconds: float


# What the answers are made of ----------------------------------------------------------------------


class AgentRow(Part):
    """One agent as lists show it."""

    id: AgentId
    kind: AgentKind
    state: Presence
    reason: Reason
    since: AwareDatetime = Field(description="When it came into this state.")
    last_seen: AwareDatetime | None = Field(
        default=None, description="Its last sign of life; null before the first."
    )
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict)
    groups: list[GroupName] = Field(default_factory=list)
    agent_version: str | None = Field(default=None, description="The version it said in its last hello.")
    epoch: Epoch | None = None
    address: str | None = Field(
        default=None, description="Where its connection comes from, if the broker told."
    )
    flapping: bool = Field(
        default=False, description="Whether it comes and goes so often that its changes are not said."
    )
    conflict_with: AgentId | None = Field(
        default=None, description="The id this one speaks under, shared with another."
    )


class Connection(Part):
    """One session of an agent, from its first to its last sign of life."""

    epoch: Epoch
    connected_at: AwareDatetime = Field(description="Its first sign of life.")
    disconnected_at: AwareDatetime | None = Field(default=None, description="Null while it is active.")
    duration_seconds: float
    address: str | None = Field(default=None, description="Where it came from, if the broker told.")
    reason: Reason | None = Field(default=None, description="Why it ended.")
    agent_version: str | None = Field(default=None, description="The version the agent said in its hello.")


class AgentEvent(Part):
    """One line of an agent's history."""

    id: str = Field(description="Names this line; the ``before`` of the next page.")
    event: Presence = Field(description="The state it came into.")
    was: Presence
    at: AwareDatetime = Field(description="When it came into that state.")
    reason: Reason
    duration_seconds: float | None = Field(
        default=None, description="How long it stayed; null while it lasts."
    )
    epoch: Epoch | None = None
    address: str | None = Field(
        default=None, description="Where its connection came from, if the broker told."
    )


class Group(Part):
    """A named selector; its members are whoever matches now."""

    name: GroupName
    selector: str = Field(description="See muster_contracts.selector.")
    members: int = Field(default=0, description="How many agents match now, the retired ones left out.")


class Degraded(Part):
    """What the registry cannot do just now, for people."""

    since: AwareDatetime = Field(description="When it began.")
    text: str = Field(description="What cannot be done, and why.")


# Questions -----------------------------------------------------------------------------------------

Selector = Annotated[
    str, Field(max_length=2000, description="See muster_contracts.selector; empty selects all.")
]


class _Query(Answer):
    """What every answer of the registry carries."""

    degraded: Degraded | None = Field(default=None, description="Set while last_seen may be out of date.")


class AgentPage(_Query):
    """Agents in the order of their ids."""

    agents: list[AgentRow]
    total: int = Field(description="How many match, over all pages.")
    next: AgentId | None = Field(
        default=None, description="Ask again with this as ``after``; null on the last page."
    )


class FindAgents(Ask[AgentPage]):
    """Which agents match the selector and are in one of the states?"""

    SUBJECT: ClassVar[Subject] = Subject("muster.fleet.v1.fleet-registry.find-agents")
    SAID_BY = (Role.OPERATOR, Role.STATE_STORE, Role.HEALTH_RECOVERY)
    HEARD_BY = (Role.FLEET_REGISTRY,)
    ANSWER = AgentPage

    selector: Selector = ""
    states: list[Presence] = Field(default_factory=list, description="Empty: every state but retired.")
    after: AgentId | None = None
    limit: int = Field(default=50, ge=1, le=500, description="At most this many on one page.")
    brief: bool = Field(
        default=False,
        description="Whether to leave out the groups, and what was last seen of each since its last change.",
    )


class AgentDetail(_Query):
    """All the registry knows of one agent."""

    agent: AgentRow
    interval_seconds: float | None = None
    deadline_seconds: float | None = None
    declared_labels: dict[LabelKey, LabelValue] = Field(default_factory=dict, description="The agent's own.")
    assigned_labels: dict[LabelKey, LabelValue] = Field(
        default_factory=dict, description="An operator's; they win."
    )
    active: Connection | None = None
    description: dict[str, Any] | None = Field(
        default=None, description="The last host.v1.Described, if any."
    )


class GetAgent(Ask[AgentDetail]):
    """What is known of this agent?"""

    SUBJECT: ClassVar[Subject] = Subject("muster.fleet.v1.fleet-registry.get-agent")
    SAID_BY = (Role.OPERATOR,)
    HEARD_BY = (Role.FLEET_REGISTRY,)
    ANSWER = AgentDetail

    agent_id: AgentId


class HistoryPage(_Query):
    """An agent's changes of presence, newest first."""

    events: list[AgentEvent]
    next: str | None = Field(
        default=None, description="Ask again with this as ``before``; null on the last page."
    )


class GetHistory(Ask[HistoryPage]):
    """How did this agent come and go?"""

    SUBJECT: ClassVar[Subject] = Subject("muster.fleet.v1.fleet-registry.get-history")
    SAID_BY = (Role.OPERATOR,)
    HEARD_BY = (Role.FLEET_REGISTRY,)
    ANSWER = HistoryPage

    agent_id: AgentId
    before: str | None = Field(
        default=None, description="The ``next`` of the page before; null for the newest."
    )
    limit: int = Field(default=50, ge=1, le=500, description="At most this many on one page.")


class ConnectionPage(_Query):
    """An agent's sessions, newest first."""

    connections: list[Connection]
    next: str | None = Field(
        default=None, description="Ask again with this as ``before``; null on the last page."
    )


class GetConnections(Ask[ConnectionPage]):
    """Which sessions did this agent have?"""

    SUBJECT: ClassVar[Subject] = Subject("muster.fleet.v1.fleet-registry.get-connections")
    SAID_BY = (Role.OPERATOR,)
    HEARD_BY = (Role.FLEET_REGISTRY,)
    ANSWER = ConnectionPage

    agent_id: AgentId
    before: str | None = Field(
        default=None, description="The ``next`` of the page before; null for the newest."
    )
    limit: int = Field(default=50, ge=1, le=500, description="At most this many on one page.")


class Summary(_Query):
    """The fleet in numbers."""

    by_state: dict[Presence, int]
    by_kind: dict[AgentKind, int] = Field(default_factory=dict)
    total: int = Field(description="Agents in any state but retired.")
    flapping: int = Field(default=0, description="Agents that come and go too often to be said one by one.")
    partitions: list[str] = Field(default_factory=list, description="Sites suspected to be cut off.")
    interval_seconds: float = Field(description="The interval the registry grants now.")
    dead_letters: int = Field(
        default=0, description="Messages this registry could not take since it started."
    )


class GetSummary(Ask[Summary]):
    """How is the fleet?"""

    SUBJECT: ClassVar[Subject] = Subject("muster.fleet.v1.fleet-registry.get-summary")
    SAID_BY = (Role.OPERATOR,)
    HEARD_BY = (Role.FLEET_REGISTRY,)
    ANSWER = Summary


class SetLabels(Ask[AgentDetail]):
    """Assign labels to an agent, or take assigned ones back (null)."""

    SUBJECT: ClassVar[Subject] = Subject("muster.fleet.v1.fleet-registry.set-labels")
    SAID_BY = (Role.OPERATOR,)
    HEARD_BY = (Role.FLEET_REGISTRY,)
    ANSWER = AgentDetail

    agent_id: AgentId
    labels: dict[LabelKey, LabelValue | None] = Field(max_length=64)


class ExpectAgent(Ask[AgentDetail]):
    """Put an agent on the roll before it was ever seen, or take a retired one back."""

    SUBJECT: ClassVar[Subject] = Subject("muster.fleet.v1.fleet-registry.expect-agent")
    SAID_BY = (Role.OPERATOR,)
    HEARD_BY = (Role.FLEET_REGISTRY,)
    ANSWER = AgentDetail

    agent_id: AgentId
    kind: AgentKind = AgentKind.HOST
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict, max_length=64)


class RetireAgent(Ask[AgentDetail]):
    """Take an agent out of the fleet; its history stays."""

    SUBJECT: ClassVar[Subject] = Subject("muster.fleet.v1.fleet-registry.retire-agent")
    SAID_BY = (Role.OPERATOR,)
    HEARD_BY = (Role.FLEET_REGISTRY,)
    ANSWER = AgentDetail

    agent_id: AgentId


class GroupList(_Query):
    """Every group, by name."""

    groups: list[Group]


class ListGroups(Ask[GroupList]):
    """Which groups are there, and how many agents match each?"""

    SUBJECT: ClassVar[Subject] = Subject("muster.fleet.v1.fleet-registry.list-groups")
    SAID_BY = (Role.OPERATOR, Role.HEALTH_RECOVERY)
    HEARD_BY = (Role.FLEET_REGISTRY,)
    ANSWER = GroupList


class DefineGroup(Ask[GroupList]):
    """Create a group, or give an existing one another selector."""

    SUBJECT: ClassVar[Subject] = Subject("muster.fleet.v1.fleet-registry.define-group")
    SAID_BY = (Role.OPERATOR,)
    HEARD_BY = (Role.FLEET_REGISTRY,)
    ANSWER = GroupList

    name: GroupName
    selector: Selector


class DeleteGroup(Ask[GroupList]):
    """Remove a group; its agents stay."""

    SUBJECT: ClassVar[Subject] = Subject("muster.fleet.v1.fleet-registry.delete-group")
    SAID_BY = (Role.OPERATOR,)
    HEARD_BY = (Role.FLEET_REGISTRY,)
    ANSWER = GroupList

    name: GroupName
