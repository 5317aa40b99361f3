"""What an agent needs of the bus; ``muster_bus.bus.Bus`` has it, and so has any fake in a test."""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel

from muster_contracts.message import Ask, DurableFact, LiveFact, Message, Order

A = TypeVar("A", bound=BaseModel)
M = TypeVar("M", bound=Message)
Q = TypeVar("Q", bound=Ask[Any])


class AgentBus(Protocol):
    """The part of the bus every agent speaks through."""

    @property
    def connected(self) -> bool:
        """Whether what is said now would reach the broker."""

    def on_reconnect(self, callback: Callable[[], None], /) -> None:
        """Call ``callback`` each time the connection has come back."""

    async def say(self, *messages: LiveFact | Order | DurableFact) -> None:
        """Say messages by their delivery class."""

    async def say_now(self, fact: DurableFact, timeout: float) -> None:  # noqa: ASYNC109  (of the ack)
        """Say a durable fact and wait for the broker's ack; the spool has it if there is none in time."""

    async def ask(self, question: Ask[A], *, timeout: float = 2.0) -> A:  # noqa: ASYNC109  (of the answer)
        """Ask and return the answer, or raise a MusterError."""

    async def hear(
        self, contract: type[M], handler: Callable[[M], Awaitable[None]], *, bound_to: str | None = None
    ) -> None:
        """Call ``handler`` with each message of ``contract`` addressed to ``bound_to``."""


class ObedientBus(AgentBus, Protocol):
    """What an agent that obeys commands needs as well."""

    async def answer(
        self, contract: type[Q], handler: Callable[[Q], Awaitable[BaseModel]], *, bound_to: str | None = None
    ) -> None:
        """Answer questions of ``contract`` asked of ``bound_to``."""

    async def settled(self) -> None:
        """Wait until the broker has every durable fact said so far."""
