"""The life of a process: it runs until it is asked to stop, then has a limited time to finish well."""

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from types import FrameType
from typing import Any, NoReturn

from muster_runtime.errors import ConfigurationError
from muster_runtime.logs import logger

CLEAN, FAILED, MISCONFIGURED = 0, 1, 2
FORCED_PATIENCE_SECONDS = 2.0

log = logger(__name__)


class Shutdown:
    """Tells everything in a process that it is time to finish, and why."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.reason: str | None = None

    @property
    def requested(self) -> bool:
        """Whether it is time to finish."""
        return self._event.is_set()

    def request(self, reason: str) -> None:
        """Ask the process to finish; the first reason given is kept."""
        if not self.requested:
            self.reason = reason
            self._event.set()

    async def wait(self) -> str:
        """Return the reason as soon as it is time to finish."""
        await self._event.wait()
        return self.reason or "asked to stop"


Main = Callable[[Shutdown], Awaitable[None]]


async def run(main: Main, *, drain_seconds: float = 10.0, shutdown: Shutdown | None = None) -> int:
    """Run ``main`` until it returns, and give the exit code of the process.

    SIGTERM and SIGINT request the shutdown; from then on ``main`` has ``drain_seconds`` to return, then it is
    cancelled. A second signal cancels at once, a third ends the process on the spot.

    Returns:
        0 if ``main`` returned, 1 if it failed or had to be cancelled, 2 if the configuration cannot be used
        (said on standard error, one sentence per problem, without a traceback).
    """
    shutdown = shutdown or Shutdown()
    hurry = asyncio.Event()
    body = asyncio.ensure_future(main(shutdown))
    with _signals(shutdown, hurry):
        try:
            await _finish(body, shutdown, hurry, drain_seconds)
        finally:
            await _cancel(body)
    return _exit_code(body)


def launch(main: Main, *, drain_seconds: float = 10.0) -> NoReturn:
    """Run ``main`` in a new event loop and exit with its exit code; the last line of a ``main.py``."""
    with asyncio.Runner() as runner:
        code = runner.run(run(main, drain_seconds=drain_seconds))
        _leave_within(FORCED_PATIENCE_SECONDS, code)
    sys.exit(code)


async def _finish(
    body: asyncio.Future[Any], shutdown: Shutdown, hurry: asyncio.Event, drain_seconds: float
) -> None:
    """Return when ``body`` is done, the drain deadline has passed or somebody is in a hurry."""
    asked: asyncio.Future[Any] = asyncio.create_task(shutdown.wait())
    forced: asyncio.Future[Any] = asyncio.create_task(hurry.wait())
    try:
        await asyncio.wait({body, asked}, return_when=asyncio.FIRST_COMPLETED)
        if body.done():
            return
        log.info("shutting down", reason=shutdown.reason, drain_seconds=drain_seconds)
        await asyncio.wait({body, forced}, timeout=drain_seconds, return_when=asyncio.FIRST_COMPLETED)
        if not body.done():
            log.error("cannot drain in time: cancelling", forced=hurry.is_set(), drain_seconds=drain_seconds)
    finally:
        asked.cancel()
        forced.cancel()


def _leave_within(seconds: float, code: int) -> None:
    """End the process with ``code`` even if a worker thread hangs, for which Python would wait for ever."""

    def leave() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    timer = threading.Timer(seconds, leave)
    timer.daemon = True
    timer.start()


async def _cancel(body: asyncio.Future[None]) -> None:
    if body.done():
        return
    body.cancel()
    await asyncio.wait([body], timeout=FORCED_PATIENCE_SECONDS)
    if not body.done():
        log.critical("cannot stop: the work ignores its cancellation; ending the process")
        os._exit(FAILED)


def _exit_code(body: asyncio.Future[None]) -> int:
    if body.cancelled():
        return FAILED
    error = body.exception()
    if error is None:
        return CLEAN
    if isinstance(error, ConfigurationError):
        sys.stderr.write(f"{error}\n")
        return MISCONFIGURED
    log.critical("process failed", exc_info=error)
    return FAILED


@contextlib.contextmanager
def _signals(shutdown: Shutdown, hurry: asyncio.Event) -> Iterator[None]:
    """Turn signals into requests; plain handlers, so that the third one works even when the loop is stuck."""
    loop = asyncio.get_running_loop()
    received = 0

    def on_signal(number: int, _: FrameType | None) -> None:
        nonlocal received
        received += 1
        if received > 2:
            os._exit(FAILED)
        if received == 2:
            loop.call_soon_threadsafe(hurry.set)
        loop.call_soon_threadsafe(shutdown.request, signal.Signals(number).name)

    try:
        before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not the main thread: whoever owns it owns the signals
        before = {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
