"""Delivery of one durable message: taken, repeated or kept as a dead letter; never lost, never a loop."""

import asyncio
import logging
import time
from typing import Any

from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from muster_bus.deadletters import DeadLetters
from muster_bus.errors import Reject, Retry
from muster_bus.metrics import Counters
from muster_bus.muffling import Muffle
from muster_bus.reading import CONTRACT_HEADER, NotOurs, Reader, Unreadable
from muster_bus.service.routes import Route
from muster_bus.service.turns import Turns
from muster_bus.streams import ACK_WAIT_SECONDS
from muster_bus.tracing import continued
from muster_contracts.bus.v1 import DeadReason

log = logging.getLogger("muster.bus")

MAX_FAILURES = 10
"""A message whose handler fails is given up after this many deliveries: with the waits below, minutes."""
MAX_MISTAKES = 3
"""A mistake is given up after this many deliveries, a second apart in all: it would be made again."""
MAX_RETRIES = 1000
"""A handler may ask for another try this often: an outage of hours, at the longest wait."""
LONGEST_WAIT_SECONDS = 60.0
MISTAKE_WAIT_SECONDS = 0.3

_MISTAKES = (ArithmeticError, AssertionError, AttributeError, LookupError, NameError, TypeError, ValueError)
"""What a handler fails with for reasons that lie in the message or the code, not in the world around it."""


class Durable:
    """Takes the messages of one durable contract to its handler."""

    def __init__(self, route: Route, dead_letters: DeadLetters, counters: Counters) -> None:
        self._reader: Reader[Any] = Reader.of(route.contract)
        self._name = route.contract.contract()
        self._handler = route.handler
        self._dead_letters = dead_letters
        self._counters = counters
        # A fetched batch starts in order and waits here in order: one at a time keeps the stream's order.
        self._turns = Turns(route.at_once, route.key)
        self._begun: dict[int, float] = {}
        self._muffle = Muffle()

    @property
    def longest_seconds(self) -> float:
        """For how long the handler has worked on the oldest message it works on."""
        return time.monotonic() - min(self._begun.values(), default=time.monotonic())

    async def take(self, raw: Msg) -> None:
        """Take one message: acknowledge it once its effect is stored, or say what shall become of it."""
        working = asyncio.create_task(_keep_claimed(raw))
        message = self._read(raw)
        try:
            async with self._turns.of(message):
                self._begun[id(raw)] = time.monotonic()
                with continued(raw.headers):
                    await self._take(raw, message)
        finally:
            self._begun.pop(id(raw), None)
            working.cancel()

    def _read(self, raw: Msg) -> Any:
        """The message, or the error that says why there is none."""
        try:
            return self._reader.read(raw.subject, raw.data, (raw.headers or {}).get(CONTRACT_HEADER))
        except (Unreadable, NotOurs) as error:
            return error

    async def _take(self, raw: Msg, message: Any) -> None:
        deliveries = _deliveries(raw)
        if deliveries > MAX_RETRIES:
            why = "it was delivered too often: each time its handler failed or its process ended"
            await self._bury(raw, DeadReason.EXHAUSTED, why, deliveries)
            return
        if isinstance(message, Exception):
            await self._answer_to(message, raw, deliveries)
            return
        try:
            await self._handler(message)
        except Exception as error:  # noqa: BLE001  (every error has its answer)
            await self._answer_to(error, raw, deliveries)
        else:
            self._counters.add("heard", self._name)
            await raw.ack()

    async def _answer_to(self, error: Exception, raw: Msg, deliveries: int) -> None:
        match error:
            case NotOurs():
                await raw.ack()
            case Unreadable():
                await self._bury(raw, error.reason, str(error), deliveries)
            case Reject():
                await self._bury(raw, DeadReason.REJECTED, str(error), deliveries)
            case Retry() if deliveries < MAX_RETRIES:
                await self._again(raw, error.after, deliveries)
            case Retry():
                await self._bury(raw, DeadReason.EXHAUSTED, str(error), deliveries)
            case _:
                await self._failed(error, raw, deliveries)

    async def _failed(self, error: Exception, raw: Msg, deliveries: int) -> None:
        self._counters.add("handler_failures", self._name)
        if self._muffle.lets(type(error).__name__):  # a traceback each would fill the log
            log.error("the handler of %s failed (delivery %d)", self._name, deliveries, exc_info=error)
        mistake = isinstance(error, _MISTAKES)
        if deliveries < (MAX_MISTAKES if mistake else MAX_FAILURES):
            await self._again(raw, MISTAKE_WAIT_SECONDS * deliveries if mistake else None, deliveries)
        else:
            await self._bury(
                raw, DeadReason.EXHAUSTED, f"the handler failed: {type(error).__name__}", deliveries
            )

    async def _again(self, raw: Msg, after: float | None, deliveries: int) -> None:
        self._counters.add("retries", self._name)
        wait = min(LONGEST_WAIT_SECONDS, 0.5 * 2.0 ** min(deliveries, 10)) if after is None else after
        # Never none: a nak without a delay comes back at once, and again, and again.
        await raw.nak(max(0.05, wait))

    async def _bury(self, raw: Msg, reason: DeadReason, detail: str, deliveries: int) -> None:
        contract_name = (raw.headers or {}).get(CONTRACT_HEADER)
        kept = await self._dead_letters.bury(
            raw.subject,
            raw.data,
            reason,
            detail,
            contract_name=contract_name,
            deliveries=deliveries,
            comes_again=True,
        )
        if kept:
            await raw.ack()
        else:
            await self._again(raw, None, deliveries)


def _deliveries(raw: Msg) -> int:
    # A Stage has no streams, so its messages carry no delivery count.
    return raw.metadata.num_delivered if raw.reply else 1


async def _keep_claimed(raw: Msg) -> None:
    """Tell the stream that the message is being worked on, so that a slow handler does not get it twice."""
    while True:
        await asyncio.sleep(ACK_WAIT_SECONDS / 3)
        try:
            await raw.in_progress()
        except NatsError:
            log.debug("cannot claim a message longer: the broker is away")
