"""Waiting for a command's end before people's eyes: a display that moves on a terminal, else plain lines."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from muster_client.cli.running import emit_line, note, now
from muster_client.commands import Command, Event, OutputGrew, Progress, TargetEnded
from muster_client.tally import Tally

if TYPE_CHECKING:
    from muster_contracts.command.v1 import Target

REFRESH_SECONDS = 0.1
REMIND_SECONDS = 3.0
"""Without a terminal, who is waited for is told once after this."""
LINES_OF_TARGETS = 20
"""The ends of more targets than this are counted, not told one by one."""


async def follow(command: Command, title: str, *, json: bool) -> "list[Target]":
    """Wait until every target has ended, and show how far they are; the targets by agent."""
    tally = Tally(command.targets)
    with leaving(command):
        shown = _moving(tally, title) if sys.stderr.isatty() else _plainly(tally)
        async with shown:
            async for event in command.life():
                tally.take(event, _clock())
    if not json:
        _tell(tally, title)
    return tally.targets


@contextlib.contextmanager
def leaving(command: Command) -> Iterator[None]:
    """Whoever goes before the end is told how to come back."""
    try:
        yield
    except asyncio.CancelledError:
        note(f"the command goes on; see it with: muster command watch {command.id}")
        note(f"stop it with: muster command cancel {command.id}")
        raise


@contextlib.asynccontextmanager
async def _moving(tally: Tally, title: str) -> AsyncIterator[None]:
    """Paint on standard error, over and over, and wipe it away at the end."""
    from rich.live import Live  # noqa: PLC0415

    from muster_client import render, render_orders  # noqa: PLC0415

    screen = render.console(sys.stderr)

    async def paint(live: Live) -> None:
        while True:
            live.update(render_orders.progress(tally, title, _clock(), screen.width), refresh=True)
            await asyncio.sleep(REFRESH_SECONDS)

    with Live(console=screen, auto_refresh=False, transient=True) as live:
        async with _beside(paint(live)):
            yield


@contextlib.asynccontextmanager
async def _plainly(tally: Tally) -> AsyncIterator[None]:
    """Say once who is waited for, if it takes a while."""

    async def remind() -> None:
        await asyncio.sleep(REMIND_SECONDS)
        waiting = ", ".join(f"{agent} ({one.state})" for agent, one in tally.slowest(5))
        note(f"{len(tally.ended)} of {tally.total} ended; waiting for {waiting or 'the first'}")

    async with _beside(remind()):
        yield


@contextlib.asynccontextmanager
async def _beside(work: Any) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _tell(tally: Tally, title: str) -> None:
    """What became of it: a line for each that succeeded, or a count of all."""
    from muster_client import render, render_orders  # noqa: PLC0415

    if tally.total <= LINES_OF_TARGETS:
        done = [target for target in tally.targets if target not in tally.failures]
        render.show(*(render_orders.outcome(target) for target in done))
    if tally.total > 1:
        render.show(render_orders.totals(title, tally))


async def watch(command: Command, *, json: bool) -> "list[Target]":
    """Print a line for each event until every target has ended."""
    ended: list[Target] = []
    with leaving(command):
        async for event in command.life():
            _print_event(event, json=json)
            if isinstance(event, TargetEnded):
                ended.append(event.target)
    return ended


def _print_event(event: Event, *, json: bool) -> None:
    from muster_client.outputs import CommandLine, CommandNews  # noqa: PLC0415

    line: dict[str, Any] = {"at": now(), "agent": getattr(event, "agent", None)}
    match event:
        case Progress():
            line |= {"event": CommandNews.PROGRESS, "state": event.state, "percent": event.percent}
            line |= {"text": event.text, "output_bytes": event.output_bytes}
        case OutputGrew():
            line |= {"event": CommandNews.OUTPUT, "output_bytes": event.size}
        case TargetEnded(target):
            line |= {"event": CommandNews.ENDED, "agent": target.agent, "state": target.state}
            line |= {"text": target.text, "output_bytes": target.output_bytes, "target": target}
    if json:
        emit_line("command-watch", CommandLine(**line))
        return
    from muster_client import render, render_orders  # noqa: PLC0415

    render.show(render_orders.event_line(CommandLine(**line)))


def _clock() -> float:
    return asyncio.get_running_loop().time()
