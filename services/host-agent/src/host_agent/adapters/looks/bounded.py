"""A look that ends in time."""

import asyncio
from typing import Protocol

from host_agent.domain.look import Seen, critical
from host_agent.ports import Look


class Staged(Look, Protocol):
    """A look that can say what it waits for."""

    @property
    def stage(self) -> str:
        """In words that follow "while"."""


class Bounded:
    """Implements ``host_agent.ports.Look`` around another one."""

    def __init__(self, inner: Staged, seconds: float) -> None:
        self._inner = inner
        self._seconds = seconds

    async def look(self) -> Seen:
        """Look, and be done after so many seconds."""
        try:
            async with asyncio.timeout(self._seconds):
                return await self._inner.look()
        except TimeoutError:
            return critical("timeout", f"not done within {self._seconds:g} s, while {self._inner.stage}")


class Hopeless:
    """Implements ``host_agent.ports.Look`` for a check that can never be done."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen

    async def look(self) -> Seen:
        """Say why."""
        return self._seen
