"""Fake time for whole services: a clock that follows the event loop, which waits for threads meanwhile.

Under ``@pytest.mark.looptime`` the loop jumps to its next timer whenever nothing is ready. It knows nothing
of the threads of others (a database's, say), and would let hours pass while they work.
"""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class LoopClock:
    """A ``muster_runtime.Clock``: at the loop's zero it is ``start``."""

    def __init__(self, start: datetime = NOON) -> None:
        self._start = start

    def now(self) -> datetime:
        """The wall time that belongs to the loop's."""
        return self._start + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        """The loop's time."""
        return asyncio.get_running_loop().time()


@contextmanager
def standstill() -> Iterator[None]:
    """Fake time stands still meanwhile; nothing inside may wait for time to pass."""
    work = _Elsewhere()
    # The loop waits in real time as long as an executor of its own is busy.
    asyncio.get_running_loop().run_in_executor(work, int)
    try:
        yield
    finally:
        work.outcome.set_result(0)


class _Elsewhere(Executor):
    """Runs nothing; its one piece of work ends when it is told to."""

    def __init__(self) -> None:
        self.outcome: Future[Any] = Future()

    def submit(self, fn: Callable[..., Any], /, *args: object, **kwargs: object) -> Future[Any]:  # noqa: ARG002
        return self.outcome
