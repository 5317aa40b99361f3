"""What health-recovery counts of itself, and the figures that are read when somebody scrapes."""

from collections.abc import Callable

from health_recovery.domain.assessing import Changes
from health_recovery.domain.picture import Picture
from muster_bus import Bus
from muster_contracts.health.v1 import PackageHealthChanged
from muster_runtime import Count
from muster_runtime.metrics import Gauge

JUDGED = Count("muster_health_facts_total", "Facts and rounds that were judged and kept.")
CHANGED = Count("muster_health_changes_total", "Packages that are judged otherwise, by health.", ("health",))


def told(items: int, changes: Changes) -> None:
    """Count what was committed."""
    JUDGED.add(by=items)
    for fact in changes.facts:
        if isinstance(fact, PackageHealthChanged):
            CHANGED.add(fact.now.health.value if fact.now else "gone")


def expose(picture: Callable[[], Picture | None], bus: Callable[[], Bus | None]) -> None:
    """Show the figures from now on; without a picture this replica does not lead."""

    def packages() -> dict[tuple[str, ...], float]:
        held = picture()
        return {("all",): float(held.size), ("flapping",): float(held.flapping_count)} if held else {}

    Gauge("muster_health_leads", "Whether this replica leads.", lambda: {(): float(picture() is not None)})
    Gauge("muster_health_packages", "Packages that are judged.", packages, ("which",))
    Gauge(
        "muster_health_bus_total",
        "What the bus counts: heard, said, dead letters and drops, by contract or reason.",
        lambda: (
            {key: float(number) for key, number in found.counters.all().items()} if (found := bus()) else {}
        ),
        ("what", "of"),
        monotone=True,
    )
