"""The process that supervises one fleet: ``python -m muster_client.embedded --dir DIR [--foreground]``."""

import argparse
import asyncio
import os
import sys
from contextlib import suppress
from pathlib import Path

from muster_client.embedded import plan
from muster_client.embedded.errors import AlreadyRunning, FleetError
from muster_client.embedded.files import open_own, open_standard_streams
from muster_client.embedded.journal import Journal
from muster_client.embedded.launch import ANOTHER_RUNS
from muster_client.embedded.layout import Layout
from muster_client.embedded.logfiles import rotate
from muster_client.embedded.record import Phase, Record
from muster_client.embedded.supervisor import Supervisor
from muster_client.embedded.view import View, Warnings

_LOOK_SECONDS = 0.5


def main() -> int:
    """Exit code: 0 stopped as asked, 1 could not start, 75 another supervisor is at work."""
    options = argparse.ArgumentParser(prog="muster-supervisor")
    options.add_argument("--dir", type=Path, required=True)
    options.add_argument("--foreground", action="store_true")
    chosen = options.parse_args()
    layout = Layout.at(chosen.dir)
    os.umask(0o077)  # also for what the processes below us make
    open_standard_streams()
    try:
        layout.create()
        asyncio.run(_in_foreground(layout) if chosen.foreground else _in_background(layout))
    except AlreadyRunning as error:
        sys.stderr.write(f"{error}\n")
        return ANOTHER_RUNS
    except FleetError as error:
        sys.stderr.write(f"{error}\n")  # in the background this is the log, which our parent quotes
        return 1
    return 0


async def _in_background(layout: Layout) -> None:
    """Whoever started us reads fleet.json; our output is our log."""
    await Supervisor(layout, Journal(sys.stdout), lambda _: None).run()


async def _in_foreground(layout: Layout) -> None:
    """Progress, the table, then warnings, on the terminal; the log is kept as well."""
    rotate(layout.log("supervisor"))
    with open_own(layout.log("supervisor")) as log:
        view = View()
        watch = _Watch(layout, view)
        try:
            await Supervisor(layout, Journal(log), watch).run()
        finally:
            await watch.close()
        view.say("Stopped; the next muster up finds everything as it was.")


class _Watch:
    """Turns changes of the fleet into what the terminal shows."""

    def __init__(self, layout: Layout, view: View) -> None:
        self._layout = layout
        self._view = view
        self._following: asyncio.Task[None] | None = None

    def __call__(self, record: Record) -> None:
        self._view.show(record)
        if record.phase is Phase.READY and self._following is None:
            self._view.ready(self._layout, record)
            self._view.say("\nWarnings of the services follow; Ctrl-C stops everything.")
            self._following = asyncio.create_task(self._follow())

    async def close(self) -> None:
        """Stop following."""
        if self._following:
            self._following.cancel()
            with suppress(asyncio.CancelledError):
                await self._following

    async def _follow(self) -> None:
        warnings = Warnings(self._layout, plan.NAMES, self._view)
        while True:
            warnings.look()
            await asyncio.sleep(_LOOK_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
