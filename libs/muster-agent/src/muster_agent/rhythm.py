"""When the next heartbeat is due: evenly spaced, never piled up, out of step with the rest of the fleet.

Pure: time is told, in seconds of any monotonic clock.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from random import random

SHORTEST_SECONDS = 0.05
LONGEST_SECONDS = 3600.0


def sane(interval_seconds: float) -> bool:
    """Whether an agent can live by this interval; anything else is damage or a mistake, not a grant."""
    return SHORTEST_SECONDS <= interval_seconds <= LONGEST_SECONDS


@dataclass
class Rhythm:
    """A grid of beats ``interval`` seconds apart; the first one is due at once."""

    interval: float
    chance: Callable[[], float] = field(default=random)
    due: float = -math.inf

    def adopt(self, interval: float) -> None:
        """Live by another interval; a beat is due at once, because it states its interval."""
        self.interval = interval
        self.hurry()

    def hurry(self) -> None:
        """Make a beat due at once."""
        self.due = -math.inf

    def beat(self, now: float) -> None:
        """A beat was made at ``now``: find the next place on the grid that is still to come."""
        if self.due == -math.inf:
            # A new phase: agents that start, adopt or reconnect together must not beat together ever after.
            self.due = now + self.interval * self.chance()
        while self.due <= now:
            missed = math.floor((now - self.due) / self.interval)
            self.due += self.interval * (missed + 1)

    def wait(self, now: float) -> float:
        """Seconds until the next beat is due; zero when it is."""
        return max(0.0, self.due - now)
