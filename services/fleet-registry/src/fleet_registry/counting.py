"""What the registry counts of itself, process-wide."""

from prometheus_client import Histogram

from fleet_registry.ports import Recorded
from muster_runtime.metrics import Count

CHANGES = Count(
    "muster_fleet_presence_changes_total", "Changes of presence, recorded.", labels=("now", "reason")
)
HEARTBEATS = Count("muster_fleet_heartbeats_total", "Heartbeats heard.")
COALESCED = Count(
    "muster_fleet_heartbeats_coalesced_total", "Heartbeats that a later one of the same batch stood in for."
)
NEWS_DROPPED = Count(
    "muster_fleet_news_dropped_total",
    "News of agents that was not decided: the room is full, another run took its place, or it failed.",
    labels=("why",),
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
