"""What the registry counts of itself. No series is per agent unless that is switched on."""

from collections.abc import Callable, Mapping
from typing import Protocol

from prometheus_client import Histogram

from fleet_registry.adapters.presence_index import PresenceIndex
from fleet_registry.adapters.sql_store import Recorded
from fleet_registry.fleet_view import FleetView
from fleet_registry.granting import Grants
from fleet_registry.roll import Roll
from fleet_registry.settings import RegistrySettings
from muster_contracts.fleet.v1 import Presence
from muster_runtime import Clock
from muster_runtime.metrics import Count, Gauge

CHANGES = Count(
    "muster_fleet_presence_changes_total", "Changes of presence, recorded.", labels=("now", "reason")
)
HEARTBEATS = Count("muster_fleet_heartbeats_total", "Heartbeats heard.")
COALESCED = Count(
    "muster_fleet_heartbeats_coalesced_total", "Heartbeats that a later one of the same batch stood in for."
)
REFUSED_SIGNS = Count(
    "muster_fleet_signs_failed_total", "Signs that could not be decided or recorded.", labels=("door",)
)
SWEEP_SECONDS = Histogram(
    "muster_fleet_sweep_seconds",
    "How long one look for silent agents takes.",
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1, 5),
)
SESSION_SECONDS = Histogram(
    "muster_fleet_connection_seconds",
    "How long agents stayed connected, told when a session ends.",
    buckets=(10, 60, 300, 1800, 3600, 6 * 3600, 86400, 7 * 86400, 30 * 86400),
)


def told(recorded: Recorded) -> None:
    """Count what was committed."""
    for change in recorded.changes:
        CHANGES.add(change.now, change.reason)
    for session in recorded.ended:
        SESSION_SECONDS.observe(session.seconds)


class Figures(Protocol):
    """The parts whose figures are shown."""

    settings: RegistrySettings
    clock: Clock
    view: FleetView
    index: PresenceIndex
    roll: Roll
    grants: Grants


def expose(of: Figures) -> None:
    """Show the figures that are read when somebody scrapes."""
    view, index, grants, clock = of.view, of.index, of.grants, of.clock
    _gauge("muster_fleet_agents", "Agents by state.", lambda: _by_state(view), "state")
    _gauge(
        "muster_fleet_stale_agents", "Agents that are late.", lambda: {(): _by_state(view)[(Presence.LATE,)]}
    )
    _gauge("muster_fleet_flapping_agents", "Agents that flap.", lambda: {(): view.counts.flapping})
    _gauge("muster_fleet_granted_interval_seconds", "Granted now.", lambda: {(): grants.interval_seconds})
    _gauge("muster_fleet_outbox_letters", "Facts that wait for the broker.", lambda: {(): view.outbox_size})
    _gauge(
        "muster_fleet_degraded",
        "1 while nobody is judged by silence.",
        lambda: {(): index.degraded is not None},
    )
    _gauge(
        "muster_fleet_last_seen_age_seconds",
        "Since live agents spoke.",
        lambda: _ages(index, clock),
        "quantile",
    )
    _gauge("muster_fleet_index_rebuilds", "Times Redis was filled again.", lambda: {(): index.rebuilt})
    Gauge(
        "muster_fleet_signs_ignored_total",
        "Signs that changed nothing, by why: stale runs, ended runs, contenders.",
        lambda: {(why,): number for why, number in dict(of.roll.notes).items()},
        ("why",),
        monotone=True,
    )
    if of.settings.per_agent_metrics:
        _gauge(
            "muster_fleet_agent_last_seen_timestamp_seconds",
            "When each agent spoke last.",
            lambda: {
                (one.agent_id,): one.last_seen.timestamp() for one in index.mirror.entries() if one.last_seen
            },
            "agent_id",
        )


def _gauge(name: str, text: str, read: Callable[[], Mapping[tuple[str, ...], float]], *labels: str) -> None:
    Gauge(name, text, read, labels)


def _of(view: FleetView, state: Presence) -> float:
    return view.counts.by_state.get(state, 0)


def _by_state(view: FleetView) -> dict[tuple[str, ...], float]:
    return {(state,): _of(view, state) for state in Presence}


def _ages(index: PresenceIndex, clock: Clock) -> dict[tuple[str, ...], float]:
    ages = sorted(index.mirror.ages(clock.now()))
    if not ages:
        return {}
    return {(str(part),): ages[min(len(ages) - 1, int(part * len(ages)))] for part in (0.5, 0.99, 1.0)}
