"""Said and heard by every kind of agent, whatever it looks after.

A session is one run of one agent, named by its epoch. It begins with the first heartbeat or hello
and ends in exactly one of: a ``Left`` (a goodbye), a loss the registry declares, or a newer epoch.
"""

from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from muster_contracts.ids import AgentId, Epoch, LabelKey, LabelValue
from muster_contracts.message import Answer, Ask, DurableFact, LiveFact, Order, Role, Subject


class AgentKind(StrEnum):
    """What an agent looks after."""

    HOST = "host"
    CLUSTER = "cluster"
    RUNNER = "runner"
    OPAMP = "opamp"


class LeaveReason(StrEnum):
    """Why an agent said goodbye."""

    SHUTDOWN = "shutdown"
    RESTART = "restart"
    UPGRADE = "upgrade"


class Heartbeat(LiveFact):
    """The agent is alive and promises to speak again within ``interval_seconds``."""

    SUBJECT: ClassVar[Subject] = Subject("muster.agent.v1.{agent_id}.heartbeat")
    SAID_BY = (Role.AGENT,)
    HEARD_BY = (Role.FLEET_REGISTRY, Role.OPERATOR)
    MAX_BYTES = 4096

    agent_id: AgentId
    kind: AgentKind
    epoch: Epoch
    sequence: int = Field(ge=0, description="Counts up by one within an epoch, so that gaps can be counted.")
    interval_seconds: float = Field(
        gt=0, description="The interval the agent lives by; the last it was granted, or its own default."
    )


class Welcome(Answer):
    """What the registry grants an agent that said hello."""

    agent_id: AgentId = Field(
        description="The name the fleet knows the agent by; another one after a conflict."
    )
    interval_seconds: float = Field(gt=0, description="Send heartbeats this far apart.")
    deadline_seconds: float = Field(gt=0, description="Silence longer than this makes the agent lost.")


class Hello(Ask[Welcome]):
    """An agent introduces itself: at its start, after each reconnect, and when told to."""

    SUBJECT: ClassVar[Subject] = Subject("muster.agent.v1.{agent_id}.hello")
    SAID_BY = (Role.AGENT,)
    HEARD_BY = (Role.FLEET_REGISTRY,)
    ANSWER = Welcome

    agent_id: AgentId
    kind: AgentKind
    epoch: Epoch
    agent_version: str = Field(
        max_length=64, description="The version of the agent's package, such as 0.1.0."
    )
    interval_seconds: float = Field(
        gt=0, description="The interval the agent lives by until it is granted one."
    )
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict, max_length=64)


class AdoptInterval(Order):
    """Send heartbeats ``interval_seconds`` apart from now on."""

    SUBJECT: ClassVar[Subject] = Subject("muster.agent.v1.{agent_id}.adopt-interval")
    SAID_BY = (Role.FLEET_REGISTRY,)
    HEARD_BY = (Role.AGENT,)

    agent_id: AgentId
    interval_seconds: float = Field(gt=0)
    deadline_seconds: float = Field(gt=0, description="Silence longer than this makes the agent lost.")


class Introduce(Order):
    """Say hello: the registry heard a heartbeat of an agent or an epoch it does not know."""

    SUBJECT: ClassVar[Subject] = Subject("muster.agent.v1.{agent_id}.introduce")
    SAID_BY = (Role.FLEET_REGISTRY,)
    HEARD_BY = (Role.AGENT,)

    agent_id: AgentId


class Left(DurableFact):
    """The agent said goodbye: it stopped on purpose, and its silence is no loss."""

    SUBJECT: ClassVar[Subject] = Subject("muster.agent.v1.{agent_id}.left")
    SAID_BY = (Role.AGENT,)
    HEARD_BY = (Role.FLEET_REGISTRY, Role.OPERATOR)

    agent_id: AgentId
    epoch: Epoch
    reason: LeaveReason


class Reconfigured(DurableFact):
    """The agent's configuration files changed and were taken over, or refused with an error.

    Keys are named, values never: a value may be a secret.
    """

    SUBJECT: ClassVar[Subject] = Subject("muster.agent.v1.{agent_id}.reconfigured")
    SAID_BY = (Role.AGENT,)
    HEARD_BY = (Role.OPERATOR,)

    agent_id: AgentId
    epoch: Epoch
    changed: list[str] = Field(description="Dotted keys that have other values now; empty where refused.")
    needs_restart: list[str] = Field(
        default_factory=list, description="Changed keys that wait for a restart."
    )
    error: str | None = Field(default=None, description="Why the new configuration was refused, if it was.")
