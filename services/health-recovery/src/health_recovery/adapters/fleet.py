"""Who is in the fleet, asked of fleet-registry page by page."""

from collections.abc import Callable
from datetime import datetime
from typing import Protocol, TypeVar

from pydantic import BaseModel

from health_recovery.ports import Away
from muster_bus import AskFailed, NoAnswer
from muster_contracts.fleet.v1 import AgentRow, FindAgents, Presence
from muster_contracts.message import Ask

PAGE = 500
ANSWER_SECONDS = 5.0

A = TypeVar("A", bound=BaseModel)


class Asks(Protocol):
    """What of a bus is needed here."""

    async def ask(self, question: Ask[A], *, timeout: float = 2.0) -> A:  # noqa: ASYNC109  (as Bus)
        """Ask, and return the answer."""
        ...


class RegistryFleet:
    """See ``ports.Fleet``."""

    def __init__(self, bus: Asks, now: Callable[[], datetime]) -> None:
        self._bus, self._now = bus, now

    async def agents(self) -> list[AgentRow]:
        """Every agent, the retired ones too.

        Raises:
            Away: the registry does not answer.
        """
        found: list[AgentRow] = []
        after: str | None = None
        states = list(Presence)
        while True:
            question = FindAgents(occurred_at=self._now(), states=states, after=after, limit=PAGE)
            try:
                page = await self._bus.ask(question, timeout=ANSWER_SECONDS)
            except (AskFailed, NoAnswer) as error:
                raise Away(f"cannot list the agents: {error}") from error
            found += page.agents
            if (after := page.next) is None:
                return found
