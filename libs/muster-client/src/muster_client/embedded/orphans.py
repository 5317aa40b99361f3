"""Processes that outlived their supervisor: found by pid and birth, and by the locks they hold."""

from muster_client.embedded import plan
from muster_client.embedded.errors import FleetError
from muster_client.embedded.layout import Layout
from muster_client.embedded.locks import holders
from muster_client.embedded.processes import Process
from muster_client.embedded.record import Record

STOP_SECONDS = 15.0


def orphans(layout: Layout, record: Record) -> list[tuple[str, Process]]:
    """What still runs in this directory though nobody looks after it, in the order it should be stopped."""
    recorded = [(entry.name, entry.process) for entry in record.survivors if entry.process]
    # A supervisor killed between a start and its note of it leaves a process nobody wrote down.
    locked = [
        (name, process)
        for name in plan.NAMES
        for pid in holders(layout.lock(name))
        if (process := Process.of(pid)) and process not in {known for _, known in recorded}
    ]
    order = {name: place for place, name in enumerate(plan.NAMES)}
    return sorted(recorded + locked, key=lambda found: order.get(found[0], -1), reverse=True)


def stop_orphans(layout: Layout, record: Record) -> list[str]:
    """Stop them, in order, and wait; the names of those stopped.

    Raises:
        FleetError: one belongs to another user.
    """
    try:
        return [name for name, process in orphans(layout, record) if process.stop(STOP_SECONDS)]
    except PermissionError as error:
        raise FleetError(f"cannot stop what runs in {layout.root}: it belongs to another user") from error
