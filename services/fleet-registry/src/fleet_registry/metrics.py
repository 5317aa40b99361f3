"""The figures that are read when somebody scrapes. No series is per agent unless that is switched on."""

from collections.abc import Callable
from dataclasses import dataclass

from fleet_registry.fleet_view import FleetView
from fleet_registry.granting import Grants
from fleet_registry.ports import Index
from fleet_registry.roll import Roll
from muster_bus import Bus
from muster_contracts.fleet.v1 import Presence
from muster_runtime import Clock
from muster_runtime.metrics import Gauge

QUANTILES = (0.5, 0.99, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The parts whose figures are shown."""

    view: FleetView
    index: Index
    roll: Roll
    grants: Grants
    bus: Bus
    clock: Clock
    per_agent: bool


def expose(of: Figures) -> None:
    """Show the figures from now on."""
    view, index = of.view, of.index
    _figure("stale_agents", "Agents that are late.", lambda: _in_state(view, Presence.LATE))
    _figure("flapping_agents", "Agents that flap.", lambda: view.counts.flapping)
    _figure("partitions", "Sites suspected to be cut off.", lambda: len(view.counts.partitions))
    _figure("granted_interval_seconds", "Granted now.", lambda: of.grants.interval_seconds)
    _figure("outbox_letters", "Facts that wait for the broker.", lambda: view.outbox_size)
    _figure("degraded", "1 while nobody is judged by silence.", lambda: index.degraded is not None)
    _figure("index_rebuilds", "Times the index was filled again.", lambda: index.rebuilt)
    _expose_labelled(of)
    if of.per_agent:
        Gauge(
            "muster_fleet_agent_last_seen_timestamp_seconds",
            "When each live agent spoke last.",
            lambda: {(one,): seen.timestamp() for one, seen in index.seen_here().items()},
            ("agent_id",),
        )


def _expose_labelled(of: Figures) -> None:
    Gauge(
        "muster_fleet_agents",
        "Agents by state.",
        lambda: {(state.value,): _in_state(of.view, state) for state in Presence},
        ("state",),
    )
    Gauge(
        "muster_fleet_last_seen_age_seconds",
        "Since the live agents spoke.",
        lambda: _ages(of.index, of.clock),
        ("quantile",),
    )
    Gauge(
        "muster_fleet_signs_ignored_total",
        "Signs that changed nothing, by why: stale or ended runs, contenders, retired agents.",
        lambda: {(why,): number for why, number in dict(of.roll.notes).items()},
        ("why",),
        monotone=True,
    )
    Gauge(
        "muster_fleet_bus_total",
        "What the bus counts: heard, said, dead letters and drops, by contract or reason.",
        lambda: {key: float(number) for key, number in of.bus.counters.all().items()},
        ("what", "of"),
        monotone=True,
    )


def _figure(name: str, text: str, read: Callable[[], float]) -> None:
    Gauge(f"muster_fleet_{name}", text, lambda: {(): float(read())})


def _in_state(view: FleetView, state: Presence) -> float:
    return view.counts.by_state.get(state, 0)


def _ages(index: Index, clock: Clock) -> dict[tuple[str, ...], float]:
    now = clock.now()
    ages = sorted((now - seen).total_seconds() for seen in index.seen_here().values())
    if not ages:
        return {}
    return {(str(part),): ages[min(len(ages) - 1, int(part * len(ages)))] for part in QUANTILES}
