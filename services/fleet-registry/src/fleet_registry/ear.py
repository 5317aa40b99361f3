"""Whether the broker's messages arrive here: proven by round trips, as a dead link looks like silence.

A broker that hangs or a link that swallows everything is noticed by the connection itself only after 20 to
30 s, later than agents are lost. So the registry keeps asking for a sign, and judges nobody without one.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable

from muster_runtime import Clock, logger

PATIENCE_SECONDS = 2.0
"""The longest time without a proof; in a fleet of shorter intervals one of those, which delays no loss."""

log = logger(__name__)


class Ear:
    """When the broker last proved that what it sends arrives here."""

    def __init__(
        self,
        round_trip: Callable[[], Awaitable[bool]],
        clock: Clock,
        interval_seconds: Callable[[], float],
        on_hearing_again: Callable[[], None],
    ) -> None:
        self._round_trip, self._clock = round_trip, clock
        self._interval_seconds, self._on_hearing_again = interval_seconds, on_hearing_again
        self._proven_at = float("-inf")

    @property
    def patience_seconds(self) -> float:
        """Deaf for no longer than this, the registry has missed at most one heartbeat of each agent."""
        return min(PATIENCE_SECONDS, self._interval_seconds())

    def hears(self) -> bool:
        """Whether silence means anything just now."""
        return self._clock.monotonic() - self._proven_at <= self.patience_seconds

    async def keep_listening(self) -> None:
        """For ever: ask for a proof twice within the patience."""
        while True:
            if await self._round_trip():
                self._proven()
            await asyncio.sleep(self.patience_seconds / 2)

    def _proven(self) -> None:
        now = self._clock.monotonic()
        deaf_for, self._proven_at = now - self._proven_at, now
        if deaf_for > self.patience_seconds:
            if math.isfinite(deaf_for):  # or this is the first proof of all
                log.warning(
                    "heard nothing of the broker: silence counts from now on", seconds=round(deaf_for, 1)
                )
            self._on_hearing_again()
