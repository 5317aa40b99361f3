"""One agent as the registry knows it, what happens to it, and what is decided."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from fleet_registry.domain.presence import Signal
from muster_contracts.agent.v1 import AgentKind
from muster_contracts.fleet.v1 import Presence, Reason
from muster_contracts.message import DurableFact

NO_LABELS: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Agent:
    """One agent; ``version`` counts the changes of its presence or identity, and orders them."""

    id: str
    since: datetime
    kind: AgentKind = AgentKind.HOST
    presence: Presence = Presence.EXPECTED
    reason: Reason = Reason.EXPECTED
    epoch: str | None = None
    address: str | None = None
    agent_version: str | None = None
    interval_seconds: float | None = None
    last_seen: datetime | None = None
    declared: Mapping[str, str] = field(default_factory=dict)
    assigned: Mapping[str, str] = field(default_factory=dict)
    speaks_as: str | None = None
    moves: tuple[datetime, ...] = ()
    flapping: bool = False
    in_partition: bool = False
    """Vanished while its site was suspected to be cut off; its loss has not been said."""
    version: int = 0

    @property
    def labels(self) -> dict[str, str]:
        """Its labels; those an operator assigned win over its own."""
        return {**self.declared, **self.assigned}

    @property
    def site(self) -> str:
        """Where it stands: its label ``site``, empty without one."""
        return self.assigned.get("site") or self.declared.get("site", "")


@dataclass(frozen=True, slots=True)
class Sign:
    """Something that happened to one agent, and what came with it.

    ``epoch`` is the run that spoke, or the run a verdict is about; a verdict on a run that is no
    longer the agent's changes nothing.
    """

    agent_id: str
    signal: Signal
    at: datetime
    reason: Reason
    epoch: str | None = None
    kind: AgentKind | None = None
    agent_version: str | None = None
    address: str | None = None
    interval_seconds: float | None = None
    labels: Mapping[str, str] | None = None
    ended_at: datetime | None = None
    """When the session gave its last sign of life, where that was before ``at``."""
    disconnected_at: datetime | None = None
    """When the connection of the run before ended, if the broker told."""
    contest_since: datetime | None = None
    known_spoke: datetime | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """One line of an agent's history."""

    agent_id: str
    was: Presence
    now: Presence
    at: datetime
    reason: Reason
    epoch: str | None
    address: str | None


@dataclass(frozen=True, slots=True)
class Opened:
    """A session begins."""

    agent_id: str
    epoch: str
    at: datetime
    address: str | None
    agent_version: str | None


@dataclass(frozen=True, slots=True)
class Closed:
    """The agent's open session, which was ``epoch``, ends."""

    agent_id: str
    epoch: str
    at: datetime
    reason: Reason


@dataclass(frozen=True, slots=True)
class Corrected:
    """The agent's session of ``epoch`` had ended for another reason than was thought, or went by unheard."""

    agent_id: str
    epoch: str
    at: datetime
    reason: Reason


SessionEdit = Opened | Closed | Corrected


class Note(StrEnum):
    """What a decision found worth counting."""

    STALE = "stale"
    ENDED = "ended"
    CONTENDER = "contender"
    CLONE = "clone"
    UNNAMED = "unnamed"
    """A clone of an id that has too many of them already."""
    RETIRED = "retired"
    OUTDATED = "outdated"
    """A verdict about a run that is not the agent's any more."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows from one sign: the agent as it is now, and what is to be recorded and said."""

    agent: Agent
    changes: tuple[Change, ...] = ()
    sessions: tuple[SessionEdit, ...] = ()
    facts: tuple[DurableFact, ...] = ()
    note: Note | None = None
    introduce: bool = False
    """The run is new to the registry and has not said hello: it is to be asked for it."""
