"""A package that toggles is named once, and once more when it has calmed down.

The rule is that of Nagios ("Detection and Handling of State Flapping": flapping begins at or above a high
threshold of changes and ends below a low one, so that it does not itself flap), counted plainly over a
sliding window of time instead of weighted over the last 21 checks: agents look at different intervals, and
only changes are said. A change from or to unknown is the agent's coming or going, and counts for nothing.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from muster_contracts.health.v1 import Health


@dataclass(frozen=True, slots=True)
class FlappingPolicy:
    """``high`` changes within the window begin it; ``low`` or fewer end it."""

    high: int = 6
    low: int = 2
    window_seconds: float = 60.0

    @property
    def window(self) -> timedelta:
        """The sliding window."""
        return timedelta(seconds=self.window_seconds)


def counts(was: Health | None, now: Health) -> bool:
    """Whether a change of health is one that flapping is made of."""
    return was is not None and was is not now and Health.UNKNOWN not in {was, now}


def recent(moments: tuple[datetime, ...], now: datetime, policy: FlappingPolicy) -> tuple[datetime, ...]:
    """The changes within the window that ends now; no more than are needed to tell."""
    if not moments:
        return moments
    begin = now - policy.window
    return tuple(one for one in moments if one > begin)[-max(policy.high, policy.low + 1) :]


def flaps(moments: tuple[datetime, ...], policy: FlappingPolicy, *, before: bool) -> bool:
    """Whether it flaps, by its recent changes and by whether it did before."""
    return len(moments) > policy.low if before else len(moments) >= policy.high


def calm_at(moments: tuple[datetime, ...], policy: FlappingPolicy) -> datetime:
    """When a flapping package is stable, if it changes no more."""
    # It is, once all but the last ``low`` changes have left the window.
    decides = len(moments) - policy.low - 1
    return (moments[decides] if decides >= 0 else moments[-1]) + policy.window
