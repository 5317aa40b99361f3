"""What every Muster message is: an immutable fact, order or question with an address.

A contract states four things beside its fields: the subject it travels on, its delivery class, who
says it and who hears it. ``catalogue`` collects them; everything generated comes from there.
"""

import re
from enum import StrEnum
from typing import Any, ClassVar, Generic, TypeVar
from uuid import UUID, uuid4

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field


class Delivery(StrEnum):
    """How a message travels, and whether it may be lost (architecture, section 3)."""

    LIVE = "live"
    """Core NATS; may be lost, the next one supersedes it."""
    DURABLE = "durable"
    """JetStream with a message id; kept in a spool by its sayer until the broker has acked; never lost."""
    ASK = "ask"
    """Request and reply with a deadline; idempotent by its id, so the asker may repeat it."""


class Role(StrEnum):
    """Who may say or hear a contract; the broker's permissions are generated per role."""

    AGENT = "agent"
    """Any kind of agent (host, cluster, runner, OpAMP), each confined to its own id."""
    HOST_AGENT = "host-agent"
    """An agent that looks after one machine; has all that an agent has."""
    FLEET_REGISTRY = "fleet-registry"
    STATE_STORE = "state-store"
    HEALTH_RECOVERY = "health-recovery"
    OPERATOR = "operator"
    """People and programs: the ``muster`` command, controllers, consumers."""
    ANY_SERVICE = "any-service"
    """Every service of the control plane, under its own name."""


class Subject(str):
    """A NATS subject template, for example ``muster.agent.v1.{agent_id}.heartbeat``."""

    __slots__ = ()

    @property
    def pattern(self) -> str:
        """The subscription that hears every message of this kind."""
        return ".".join("*" if token.startswith("{") else token for token in self.split("."))

    @property
    def who(self) -> str:
        """The fourth token: a service's name, or the field that holds the identity, in braces."""
        return self.split(".")[3]

    def bound(self, identity: str) -> str:
        """The subject with ``identity`` in the place of the sayer's or addressee's id."""
        return ".".join(identity if token.startswith("{") else token for token in self.split("."))

    def of(self, message: "Message") -> str:
        """The concrete subject this one message travels on."""
        return self.format_map(message.__dict__)


class Message(BaseModel):
    """Base of all contracts. Readers skip fields that newer writers add."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    SUBJECT: ClassVar[Subject]
    DELIVERY: ClassVar[Delivery]
    SAID_BY: ClassVar[tuple[Role, ...]]
    HEARD_BY: ClassVar[tuple[Role, ...]]
    MAX_BYTES: ClassVar[int] = 64 * 1024
    """A larger payload is refused by its sayer and dead-lettered by its hearer."""

    occurred_at: AwareDatetime = Field(description="When this became true at its source.")

    @property
    def subject(self) -> str:
        """The subject this message travels on."""
        return self.SUBJECT.of(self)

    @classmethod
    def contract(cls) -> str:
        """The contract's name on the bus, for example ``agent.v1.Heartbeat``."""
        _, area, version = cls.__module__.split(".")
        return f"{area}.{version}.{cls.__name__}"


class LiveFact(Message):
    """Something that is so just now; the next one supersedes it."""

    DELIVERY = Delivery.LIVE


class Order(Message):
    """An imperative to one addressee, pushed live; whoever gives it repeats it until it is seen to hold."""

    DELIVERY = Delivery.LIVE


class DurableFact(Message):
    """Something that happened; it arrives, perhaps twice, with the same ``message_id`` each time."""

    DELIVERY = Delivery.DURABLE

    message_id: UUID = Field(
        default_factory=uuid4, description="Sent as Nats-Msg-Id; equal for every repeat."
    )


class Part(BaseModel):
    """A part of messages and answers: as immutable and as forbearing towards newer writers as they are."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Answer(Part):
    """What an ask is answered with; travels to the asker's inbox, so it has no subject of its own."""


A_co = TypeVar("A_co", bound=BaseModel, covariant=True)


class Ask(Message, Generic[A_co]):
    """A question with one type of answer. Asking twice with one ``message_id`` has one effect."""

    DELIVERY = Delivery.ASK

    ANSWER: ClassVar[type[BaseModel]]

    message_id: UUID = Field(default_factory=uuid4, description="Repeated unchanged when the ask is retried.")


class Problem(Answer):
    """The answer of an ask that could not be served; ``text`` starts with "cannot"."""

    code: str = Field(
        description="Stable, for programs: not-found, invalid, conflict, unavailable, internal."
    )
    text: str = Field(description="For people.")
    details: dict[str, Any] = Field(
        default_factory=dict, description="More for programs, by code; may be empty."
    )


def kebab(name: str) -> str:
    """``PresenceChanged`` as the last token of its subject: ``presence-changed``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()
