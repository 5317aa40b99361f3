"""An agent that comes and goes again and again is named once, and again when it has settled."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from fleet_registry.domain.presence import LIVE
from muster_contracts.fleet.v1 import Presence


@dataclass(frozen=True, slots=True)
class FlappingPolicy:
    """How many comings and goings within a window make an agent flap; as long a quiet makes it stable."""

    changes: int = 6
    window_seconds: float = 60.0


def is_move(was: Presence, now: Presence) -> bool:
    """Whether a change is a coming or a going; being late and back is neither."""
    return (was in LIVE) != (now in LIVE)


def moves_after(moves: tuple[datetime, ...], at: datetime, policy: FlappingPolicy) -> tuple[datetime, ...]:
    """The comings and goings within the window that ends now, the new one included."""
    begin = at - timedelta(seconds=policy.window_seconds)
    return (*(move for move in moves if move > begin), at)[-policy.changes :]


def flaps(moves: tuple[datetime, ...], policy: FlappingPolicy) -> bool:
    """Whether so many moves within the window are too many."""
    return len(moves) >= policy.changes


def settled(moves: tuple[datetime, ...], now: datetime, policy: FlappingPolicy) -> bool:
    """Whether a flapping agent has kept its presence for a whole window."""
    return not moves or now - moves[-1] >= timedelta(seconds=policy.window_seconds)
