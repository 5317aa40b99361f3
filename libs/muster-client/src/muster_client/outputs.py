"""What every ``--json`` output of the ``muster`` command looks like: the promise to programs.

``OUTPUTS`` names each by its command; ``contracts/cli/`` keeps their JSON Schemas. Fields are added,
never renamed or removed. Times are ISO 8601 with an offset; units are in the names.
"""

from enum import StrEnum
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter

from muster_contracts.bus.v1 import DeadReason
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
from muster_contracts.host.v1 import Vitals
from muster_contracts.message import Delivery


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


OUTPUTS: dict[str, TypeAdapter[Any]] = {
    "agents-list": TypeAdapter(list[AgentLine]),
    "agents-show": TypeAdapter(AgentShown),
    "agents-history": TypeAdapter(list[AgentEvent]),
    "agents-connections": TypeAdapter(list[Connection]),
    "agents-watch": TypeAdapter(PresenceLine),
    "agents-vitals": TypeAdapter(Vitals),
    "agents-label": TypeAdapter(AgentDetail),
    "agents-expect": TypeAdapter(AgentDetail),
    "agents-retire": TypeAdapter(AgentDetail),
    "groups-list": TypeAdapter(list[Group]),
    "groups-define": TypeAdapter(list[Group]),
    "groups-delete": TypeAdapter(list[Group]),
    "summary": TypeAdapter(Summary),
    "watch": TypeAdapter(WatchedMessage),
    "map": TypeAdapter(list[MapLine]),
    "dead-letters": TypeAdapter(list[DeadLetterLine]),
}
"""Command (its words joined by a dash) → what its ``--json`` prints; ``watch`` ones print one per line."""


def schema_of(command: str) -> dict[str, Any]:
    """The JSON Schema of what ``command`` prints with ``--json``."""
    return OUTPUTS[command].json_schema(mode="serialization")


def as_json(command: str, value: object, *, indent: int | None = 2) -> str:
    """``value`` as ``command`` prints it."""
    return OUTPUTS[command].dump_json(value, indent=indent).decode()
