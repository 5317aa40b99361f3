"""Who is in the fleet, asked of fleet-registry: once for all who wait with the same selector."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Protocol, TypeVar

from pydantic import BaseModel

from muster_bus import AskError, AskFailed, NoAnswer
from muster_contracts.fleet.v1 import FindAgents
from muster_contracts.message import Ask

PAGE = 500
ANSWER_SECONDS = 5.0

A = TypeVar("A", bound=BaseModel)


class Asks(Protocol):
    """What of a bus is needed here."""

    async def ask(self, question: Ask[A], *, timeout: float = 2.0) -> A:  # noqa: ASYNC109  (as Bus)
        """Ask, and return the answer."""
        ...


class Fleet:
    """See ``ports.Agents``.

    Whoever comes while a question is under way shares the next one, never that one: it may have been
    answered before they came, and what they changed just before has to count.
    """

    def __init__(self, bus: Asks, now: Callable[[], datetime]) -> None:
        self._bus, self._now = bus, now
        self._asking: dict[tuple[str, int], asyncio.Task[list[str]]] = {}
        self._next: dict[tuple[str, int], asyncio.Task[list[str]]] = {}

    async def matching(self, selector: str, most: int) -> list[str]:
        """The ids of agents that match now; more than ``most``, but not all, where there are more.

        Raises:
            AskError: the registry refuses the selector, or does not answer.
        """
        wanted = (selector, most)
        if wanted not in self._next:
            before = self._asking.get(wanted)
            self._next[wanted] = asyncio.create_task(self._ask_after(before, wanted))
        return await asyncio.shield(self._next[wanted])

    async def _ask_after(
        self, before: "asyncio.Task[list[str]] | None", wanted: tuple[str, int]
    ) -> list[str]:
        if before:
            await asyncio.wait([before])
        task = self._asking[wanted] = self._next.pop(wanted)
        try:
            return await self._ask(*wanted)
        finally:
            if self._asking.get(wanted) is task:
                del self._asking[wanted]

    async def _ask(self, selector: str, most: int) -> list[str]:
        found: list[str] = []
        after: str | None = None
        try:
            while len(found) <= most:
                question = FindAgents(
                    occurred_at=self._now(), selector=selector, after=after, limit=PAGE, brief=True
                )
                page = await self._bus.ask(question, timeout=ANSWER_SECONDS)
                found += [agent.id for agent in page.agents]
                if (after := page.next) is None:
                    break
        except AskFailed as error:
            raise AskError(error.code, str(error), **error.problem.details) from error
        except NoAnswer as error:
            text = f"cannot find out whom '{selector}' selects: fleet-registry does not answer; try again"
            raise AskError("unavailable", text) from error
        return found
