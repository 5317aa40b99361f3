"""A firehose: one live contract heard in batches, as fast as nats-py can read its socket.

Messages go from the parser into a list; a task takes the list, reads it and hands over what is good. While
the handler works the list grows up to its limits, and what comes then is dropped and counted. No sayer gets
more than ``MAX_OF_ONE_SAYER`` places between two lists, so that one who floods takes no place of another.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from muster_bus.deadletters import DeadLetters
from muster_bus.metrics import Counters
from muster_bus.muffling import Muffle
from muster_bus.reading import NotOurs, Reader, Unreadable
from muster_contracts.message import Message

log = logging.getLogger("muster.bus")

M = TypeVar("M", bound=Message)

MAX_OF_ONE_SAYER = 50
"""Places of one subject from one list to the next: a thousand a second at the usual wait of 50 ms."""
MAX_PENDING_BYTES = 64 << 20

_Item = tuple[bytes, bytes, int]
"""Subject, payload, and the payload's size on the wire: of what is too large only the beginning is held."""


class Batches(Generic[M]):
    """Collects one contract's messages and calls ``handler`` with lists of them, one list at a time.

    Held at most: ``max_pending`` messages, ``MAX_PENDING_BYTES`` bytes, and ``max_of_one_sayer`` messages of
    one sayer from one list to the next; surplus is dropped unread and counted.
    """

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
        max_of_one_sayer: int = MAX_OF_ONE_SAYER,
    ) -> None:
        self._reader = Reader.of(contract)
        self._name = contract.contract()
        self._handler = handler
        self._dead_letters = dead_letters
        self._counters = counters
        self._max_batch, self._max_wait, self._max_pending = max_batch, max_wait_seconds, max_pending
        self._max_of_one, self._largest = max_of_one_sayer, contract.MAX_BYTES
        self._items: list[_Item] = []
        self._bytes = 0
        self._of_one: dict[bytes, int] = {}
        self._some = asyncio.Event()
        self._full = asyncio.Event()
        self._dropped = 0
        self._surplus = 0
        self._flooded = b""
        self._muffle = Muffle()
        self._task = asyncio.create_task(self._work(), name=f"batches of {self._name}")

    def put(self, subject: bytes, payload: bytes, _headers: bytes | None) -> None:
        """Take one message off the wire; called for each, so it does next to nothing."""
        of_one = self._of_one.get(subject, 0)  # the whole subject: it names the sayer, and needs no cutting
        if of_one >= self._max_of_one:
            self._surplus += 1
            self._flooded = subject
            return
        count, size = len(self._items), len(payload)
        if count >= self._max_pending or self._bytes >= MAX_PENDING_BYTES:
            self._dropped += 1
            return
        if size > self._largest:
            payload = payload[: self._largest + 1]  # enough to see that it is too large
        self._of_one[subject] = of_one + 1
        self._bytes += len(payload)
        self._items.append((subject, payload, size))
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
        self._bytes -= sum(len(payload) for _, payload, _ in batch)
        self._of_one.clear()
        self._full.clear()
        if not self._items:
            self._some.clear()
        self._count(len(batch))
        messages, bad = self._read(batch)
        # The good ones first: no trouble with a bad one may cost them.
        if messages:
            await self._hand_over(messages)
        for (subject, payload, size), problem in bad:
            await self._dead_letters.bury(
                subject.decode(errors="replace"), payload, problem.reason, str(problem), size_bytes=size
            )

    def _count(self, heard: int) -> None:
        dropped, self._dropped = self._dropped, 0
        surplus, self._surplus = self._surplus, 0
        self._counters.add("heard", self._name, heard)
        if dropped:
            self._counters.add("dropped_batches", self._name, dropped)
            if self._muffle.lets("dropped"):
                log.error("messages of %s are dropped: its handler is too slow (%d)", self._name, dropped)
        if surplus:
            self._counters.add("dropped_surplus", self._name, surplus)
            if self._muffle.lets("surplus"):
                flooded = self._flooded.decode(errors="replace")
                log.error("messages on %s are dropped: its sayer says too many (%d)", flooded, surplus)

    def _read(self, batch: list[_Item]) -> tuple[list[M], list[tuple[_Item, Unreadable]]]:
        messages: list[M] = []
        bad = []
        read = self._reader.read_fast
        for item in batch:
            try:
                messages.append(read(item[0], item[1]))
            except Unreadable as problem:
                bad.append((item, problem))
            except NotOurs:
                continue
        return messages, bad

    async def _hand_over(self, messages: list[M]) -> None:
        try:
            await self._handler(messages)
        except Exception:  # live facts: the next batch supersedes this one
            self._counters.add("handler_failures", self._name)
            log.exception("the handler of %s failed for a batch of %d", self._name, len(messages))
