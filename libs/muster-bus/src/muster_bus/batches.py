"""A firehose: one live contract heard in batches, as fast as nats-py can read its socket.

Messages go from the parser into a list; a task takes the list, reads it and hands over what is good. While
the handler works the list grows up to its limit, and what comes then is dropped and counted.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from muster_bus.deadletters import DeadLetters
from muster_bus.metrics import Counters
from muster_bus.reading import NotOurs, Reader, Unreadable
from muster_contracts.message import Message

log = logging.getLogger("muster.bus")

M = TypeVar("M", bound=Message)


class Batches(Generic[M]):
    """Collects one contract's messages and calls ``handler`` with lists of them, one list at a time."""

    def __init__(
        self,
        contract: type[M],
        handler: Callable[[list[M]], Awaitable[None]],
        dead_letters: DeadLetters,
        counters: Counters,
        *,
        max_batch: int,
        max_wait_seconds: float,
        max_pending: int,
    ) -> None:
        self._reader = Reader.of(contract)
        self._name = contract.contract()
        self._handler = handler
        self._dead_letters = dead_letters
        self._counters = counters
        self._max_batch, self._max_wait, self._max_pending = max_batch, max_wait_seconds, max_pending
        self._items: list[tuple[bytes, bytes]] = []
        self._some = asyncio.Event()
        self._full = asyncio.Event()
        self._dropped = 0
        self._task = asyncio.create_task(self._work(), name=f"batches of {self._name}")

    def put(self, subject: bytes, payload: bytes, _headers: bytes | None) -> None:
        """Take one message off the wire; called for each, so it does next to nothing."""
        count = len(self._items)
        if count >= self._max_pending:
            self._dropped += 1
            return
        self._items.append((subject, payload))
        if count == 0:
            self._some.set()
        elif count + 1 >= self._max_batch:
            self._full.set()

    async def stop(self) -> None:
        """Hand over what is there, then end."""
        self._task.cancel()
        await asyncio.wait([self._task])
        while self._items:
            await self._flush()

    async def _work(self) -> None:
        while True:
            await self._some.wait()
            await self._linger()
            try:
                await self._flush()
            except Exception:  # a firehose outlives whatever goes wrong with one batch
                log.exception("cannot finish with a batch of %s", self._name)

    async def _linger(self) -> None:
        """Until the batch is full or its first message has waited long enough."""
        if len(self._items) < self._max_batch:
            try:
                async with asyncio.timeout(self._max_wait):
                    await self._full.wait()
            except TimeoutError:
                return

    async def _flush(self) -> None:
        batch, self._items = self._items[: self._max_batch], self._items[self._max_batch :]
        self._full.clear()
        if not self._items:
            self._some.clear()
        self._count(len(batch))
        messages, bad = self._read(batch)
        for subject, payload, problem in bad:
            await self._dead_letters.bury(
                subject.decode(errors="replace"), payload, problem.reason, str(problem)
            )
        if messages:
            await self._hand_over(messages)

    def _count(self, heard: int) -> None:
        dropped, self._dropped = self._dropped, 0
        self._counters.add("heard", self._name, heard)
        if dropped:
            self._counters.add("dropped_batches", self._name, dropped)
            log.error("%d messages of %s dropped: its handler is too slow", dropped, self._name)

    def _read(
        self, batch: list[tuple[bytes, bytes]]
    ) -> tuple[list[M], list[tuple[bytes, bytes, Unreadable]]]:
        messages: list[M] = []
        bad = []
        read = self._reader.read_fast
        for subject, payload in batch:
            try:
                messages.append(read(subject, payload))
            except Unreadable as problem:
                bad.append((subject, payload, problem))
            except NotOurs:
                continue
        return messages, bad

    async def _hand_over(self, messages: list[M]) -> None:
        try:
            await self._handler(messages)
        except Exception:  # live facts: the next batch supersedes this one
            self._counters.add("handler_failures", self._name)
            log.exception("the handler of %s failed for a batch of %d", self._name, len(messages))
