"""Background tasks with names: restarted when they fail, each on its own, gone when their owner is done."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from muster_runtime.logs import logger
from muster_runtime.metrics import TASK_CRASHES

Work = Callable[[], Awaitable[object]]

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 30.0

log = logger(__name__)


@dataclass(slots=True)
class _Condition:
    """How one task fares: crashes in a row, the kind of the last one, and since when it has run without."""

    crashes: int = 0
    last: str = ""
    running_since: float | None = None

    @property
    def recovered(self) -> bool:
        """Whether it has run for longer than the longest pause."""
        since = self.running_since
        return since is not None and time.monotonic() - since > LONGEST_PAUSE_SECONDS


def pause_after(crashes: int) -> float:
    """Seconds to wait after so many crashes in a row: exponential, full jitter, at most 30."""
    ceiling = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(crashes - 1, 20))
    return random.uniform(0, ceiling)  # noqa: S311  (spreads restarts; no secret)


class Tasks:
    """The background tasks of one owner; leaving the context cancels them all and waits for their end.

    A task that raises is logged, counted (``muster_task_crashes_total``) and started again after a pause
    that grows to 30 s; the others do not notice. A task that returns is done.
    """

    def __init__(self, pause: Callable[[int], float] = pause_after, patience_seconds: float = 5.0) -> None:
        self._pause = pause
        self._patience = patience_seconds
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._conditions: dict[str, _Condition] = {}
        self._closed = False

    @property
    def names(self) -> list[str]:
        """The tasks that have not ended."""
        return sorted(self._tasks)

    def complaints(self) -> list[str]:
        """One sentence for each task that crashed and has not recovered; empty when all is well."""
        return [
            f"task {name} crashed {condition.crashes} times in a row, the last with {condition.last}"
            for name, condition in sorted(self._conditions.items())
            if condition.crashes > 1 and not condition.recovered
        ]

    def spawn(self, name: str, work: Work) -> asyncio.Task[None]:
        """Run ``work`` in the background; call it again whenever it raises.

        Raises:
            ValueError: a task of this name is running.
            RuntimeError: the tasks were closed.
        """
        if self._closed:
            raise RuntimeError(f"cannot start task {name}: its owner is closing")
        if name in self._tasks:
            raise ValueError(f"cannot start task {name}: one of this name is running; give it another name")
        condition = self._conditions[name] = _Condition()
        task = asyncio.create_task(self._keep(name, work, condition), name=name)
        self._tasks[name] = task
        task.add_done_callback(lambda _: self._forget(name))
        return task

    def every(self, name: str, seconds: float, work: Work, *, first_after: float = 0.0) -> asyncio.Task[None]:
        """Call ``work`` every ``seconds``, on a fixed beat, never two at once.

        A round longer than the beat makes the beats it covered go by; they are not made up for. A round
        that raises is logged and counted, and the next one comes at its time.
        """
        if seconds <= 0:
            raise ValueError(f"cannot repeat {name} every {seconds} s: give more than 0")
        return self.spawn(name, lambda: self._beat(name, seconds, work, first_after))

    async def cancel(self, name: str) -> None:
        """Stop one task and wait for its end; nothing happens if there is none of this name."""
        if task := self._tasks.get(name):
            task.cancel()
            await asyncio.wait([task], timeout=self._patience)

    async def close(self) -> None:
        """Stop them all and wait for their end; one that does not end within the patience is logged."""
        self._closed = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            _, stuck = await asyncio.wait(tasks, timeout=self._patience)
            for task in stuck:
                log.error("task does not end", task=task.get_name(), waited_seconds=self._patience)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _keep(self, name: str, work: Work, condition: _Condition) -> None:
        while True:
            condition.running_since = time.monotonic()
            try:
                await work()
            except asyncio.CancelledError as error:
                if _asked_to_stop():
                    raise
                self._crashed(name, condition, error)  # something inside was cancelled, not this task
            except Exception as error:  # noqa: BLE001  (one failing task never takes the others along)
                self._crashed(name, condition, error)
            else:
                return
            await asyncio.sleep(self._pause(condition.crashes))

    async def _beat(self, name: str, seconds: float, work: Work, first_after: float) -> None:
        condition = self._conditions[name]
        loop = asyncio.get_running_loop()
        due = loop.time() + first_after
        while True:
            await asyncio.sleep(max(0.0, due - loop.time()))
            try:
                await work()
            except asyncio.CancelledError as error:
                if _asked_to_stop():
                    raise
                self._crashed(name, condition, error)
            except Exception as error:  # noqa: BLE001  (the next round is its restart)
                self._crashed(name, condition, error)
            else:
                condition.crashes = 0
                if _asked_to_stop():
                    raise asyncio.CancelledError  # the work swallowed it; another round would hold up the end
            due += seconds * max(1, -int((due - loop.time()) // seconds))

    def _crashed(self, name: str, condition: _Condition, error: BaseException) -> None:
        condition.crashes = 1 if condition.recovered else condition.crashes + 1
        condition.last = type(error).__name__
        condition.running_since = None
        TASK_CRASHES.add(name)
        log.error("task failed", task=name, crashes=condition.crashes, exc_info=error)

    def _forget(self, name: str) -> None:
        self._tasks.pop(name, None)
        self._conditions.pop(name, None)


def _asked_to_stop() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
