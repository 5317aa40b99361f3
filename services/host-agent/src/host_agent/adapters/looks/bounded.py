"""A look that ends in time."""

import asyncio

from host_agent.domain.look import Seen, critical
from host_agent.ports import Look


class Bounded:
    """Implements ``host_agent.ports.Look`` around another."""

    def __init__(self, inner: Look, seconds: float) -> None:
        self._inner = inner
        self._seconds = seconds

    async def look(self) -> Seen:
        """Look, and be done after so many seconds."""
        try:
            async with asyncio.timeout(self._seconds):
                return await self._inner.look()
        except TimeoutError:
            return critical("timeout", f"no answer within {self._seconds:g} s")
