"""What state-store counts of itself, and the figures that are read when somebody scrapes."""

from collections.abc import Callable

from muster_bus import Bus
from muster_runtime import Count
from muster_runtime.metrics import Gauge
from state_store.domain.target import Kept
from state_store.ports import Pushes
from state_store.rounds import Rounds

ENDED = Count("muster_store_targets_ended_total", "Targets that have ended, by how.", ("state", "reason"))
LATE = Count("muster_store_reports_late_total", "Reports that came after their target had ended otherwise.")

REASONS = {
    "done",
    "exit",
    "policy",
    "precondition",
    "not-found",
    "run-time",
    "start-time",
    "not-after",
    "silence",
    "withdrawn",
    "cancelled",
}
"""Those that are shown by name: agents choose theirs, and a series for each would be too many."""


def told(ended: list[Kept], late: int) -> None:
    """Count what was committed."""
    for one in ended:
        ENDED.add(one.state.value, one.reason if one.reason in REASONS else "other")
    if late:
        LATE.add(by=late)


def expose(rounds: Rounds, pushes: Pushes, bus: Bus, dropped: Callable[[], int]) -> None:
    """Show the figures from now on."""
    Gauge(
        "muster_store_open_targets",
        "Targets that have not ended.",
        lambda: {(state.value,): float(number) for state, number in rounds.open.items()},
        ("state",),
    )
    Gauge("muster_store_pushes_waiting", "Orders to be pushed.", lambda: {(): float(pushes.waiting)})
    Gauge("muster_store_outbox_dropped", "Facts lost to a full outbox.", lambda: {(): float(dropped())})
    Gauge(
        "muster_store_bus_total",
        "What the bus counts: heard, said, dead letters and drops, by contract or reason.",
        lambda: {key: float(number) for key, number in bus.counters.all().items()},
        ("what", "of"),
        monotone=True,
    )
