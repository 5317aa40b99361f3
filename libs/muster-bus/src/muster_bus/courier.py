"""The courier: carries letters from a spool to their streams, in order, until the broker has each one.

It publishes a window at a time and forgets a letter when its stream has acknowledged it. A broken link or
a missing stream only makes it wait; repeats are told apart by their ``Nats-Msg-Id``. A letter the broker
refuses for itself stays in the spool and is tried again, and the others pass it by; one that is too large
for its stream will be so for ever, and is dropped, counted and logged.
"""

import asyncio
import contextlib
import json
import logging
import random
import time
from collections.abc import Callable
from typing import Any

from nats import errors as nats_errors

from muster_bus.ending import end
from muster_bus.errors import MusterError, NotPermitted, TooLarge
from muster_bus.link import Link
from muster_bus.metrics import Counters
from muster_bus.reading import MESSAGE_ID_HEADER
from muster_bus.spool import Letter, Spool

log = logging.getLogger("muster.bus")

WINDOW = 200
ACK_SECONDS = 5.0
MAX_WAIT_SECONDS = 10.0
REFUSED_WAIT_SECONDS = 30.0
_TOO_LARGE = 10054
"""JetStream's error code: the message is larger than its stream allows."""


class NotStored(MusterError):
    """Cannot tell that the stream has the letter; it has to be sent again."""


async def deliver(link: Link, letter: Letter, seconds: float = ACK_SECONDS) -> bool:
    """Publish one letter to its stream; True if the stream had it already.

    Raises:
        NotStored: no acknowledgement within ``seconds``, no stream, or the stream could not take it.
        NotPermitted: the broker does not let this identity say it.
        TooLarge: the broker or the stream never takes one of this size.
    """
    headers = {MESSAGE_ID_HEADER: letter.id, **letter.headers}
    work = link.request(letter.subject, letter.payload, timeout=seconds, headers=headers)
    try:
        reply = await link.permitted(letter.subject, work)
    except nats_errors.MaxPayloadError:
        raise _too_large(letter) from None
    except (nats_errors.Error, TimeoutError) as error:
        raise NotStored(f"cannot store {letter.subject}: {str(error) or type(error).__name__}") from error
    ack = json.loads(reply.data)
    if ack.get("error", {}).get("err_code") == _TOO_LARGE:
        raise _too_large(letter)
    if "error" in ack:
        raise NotStored(f"cannot store {letter.subject}: {ack['error'].get('description', 'refused')}")
    return bool(ack.get("duplicate"))


def _too_large(letter: Letter) -> TooLarge:
    return TooLarge(
        f"cannot store {letter.subject}: {len(letter.payload)} bytes are more than its stream takes; say less"
    )


class Courier:
    """Works as one task from ``start`` to ``stop``; ``wake`` tells it that there is something new."""

    def __init__(self, spool: Spool, link: Link, counters: Counters, *, window: int = WINDOW) -> None:
        self._spool = spool
        self._link = link
        self._counters = counters
        self._window = window
        self._news = asyncio.Event()
        self._idle = asyncio.Event()
        self._resting = asyncio.Event()
        self._refused: dict[str, float] = {}
        self._task: asyncio.Task[None] | None = None
        self.complaint: str | None = None
        """Why letters wait, if they wait for another reason than the broker's absence."""
        self.reached: Callable[[str], None] = _go_on
        """Told where a letter is (published, acked, floor), so that a test can have the process die there."""

    def start(self) -> None:
        """Begin with whatever an earlier run left in the spool."""
        self._news.set()
        self._task = asyncio.create_task(self._work(), name="courier")

    def wake(self) -> None:
        """There are new letters, or a reason to try the old ones again."""
        self._idle.clear()
        self._resting.clear()
        self._news.set()

    async def idle(self) -> None:
        """Wait until every letter put so far is delivered."""
        await self._idle.wait()

    async def stop(self, seconds: float = 2.0) -> None:
        """Deliver what can be delivered within ``seconds``, then leave the rest in the spool."""
        if self._task is None:
            return
        if self._link.up.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._resting.wait(), seconds)
        await end(self._task)

    async def _work(self) -> None:
        failures = 0
        while True:
            await self._link.up.wait()
            try:
                went_well = await self._round()
            except Exception:  # the courier outlives whatever goes wrong
                log.exception("the courier stumbled; trying again")
                went_well = False
            self._counters.add("courier_rounds", "well" if went_well else "failed")
            failures = 0 if went_well else failures + 1
            await self._rest(failures)

    async def _round(self) -> bool:
        """Send one window; True if it got somewhere or there was nothing to do."""
        self._news.clear()
        now = time.monotonic()
        self._refused = {subject: until for subject, until in self._refused.items() if until > now}
        passing = await self._spool.take(self._window, without=self._refused.keys())
        if not passing:
            self._nothing_to_send(waiting=bool(self._refused) and await self._spool.size() > 0)
            return True
        outcomes = await self._send(passing)
        done = _whose(passing, outcomes, bool)
        hopeless = _whose(passing, outcomes, TooLarge)
        self.reached("acked")
        await self._spool.done([*done, *hopeless])
        self.reached("floor")
        self._counters.add("delivered", count=len(done))
        self._counters.add("delivered_again", count=sum(outcome is True for outcome in outcomes))
        self._judge(passing, outcomes, anything_went=bool(done))
        self._news.set()
        return bool(done or hopeless)

    def _nothing_to_send(self, *, waiting: bool) -> None:
        if self._news.is_set():
            return
        self._resting.set()
        if not waiting:
            self.complaint = None
            self._idle.set()

    async def _send(self, letters: list[Letter]) -> list[bool | BaseException]:
        """All letters at once, in order; an outage ends the waiting for their acknowledgements."""
        sending = asyncio.gather(*(self._deliver(one) for one in letters), return_exceptions=True)
        sending.add_done_callback(_retrieve)
        outage = asyncio.ensure_future(self._link.down.wait())
        try:
            both: list[asyncio.Future[Any]] = [sending, outage]
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not sending.done():
                return [NotStored("cannot store it: the broker is away")] * len(letters)
            return sending.result()
        finally:
            outage.cancel()
            if not sending.done():
                sending.cancel()
                await asyncio.wait([sending])

    async def _deliver(self, letter: Letter) -> bool:
        known = await deliver(self._link, letter)
        self.reached("published")
        return known

    def _judge(
        self, letters: list[Letter], outcomes: list[bool | BaseException], *, anything_went: bool
    ) -> None:
        """Who is refused for itself steps aside for a while, so that it holds up no other subject."""
        for letter, outcome in zip(letters, outcomes, strict=True):
            if isinstance(outcome, bool):
                continue
            if isinstance(outcome, TooLarge):
                self._counters.add("undeliverable")
                log.error("a letter is dropped: %s (message id %s)", outcome, letter.id)
                continue
            self._counters.add("courier_retries", type(outcome).__name__)
            if isinstance(outcome, NotPermitted) or (anything_went and self._link.is_connected):
                self._refused[letter.subject] = time.monotonic() + REFUSED_WAIT_SECONDS
            if self.complaint != str(outcome) and self._link.is_connected:
                self.complaint = str(outcome)
                log.error("a letter waits: %s (message id %s)", outcome, letter.id)

    async def _rest(self, failures: int) -> None:
        """Until there is news, or a refused subject is due; longer after each round that failed."""
        if failures:
            longest = min(MAX_WAIT_SECONDS, 0.1 * 2.0 ** min(failures, 10))
            await asyncio.sleep(random.uniform(longest / 2, longest))  # noqa: S311  (jitter, no secret)
            return
        due = min(self._refused.values(), default=None)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if due is None else max(0.0, due - time.monotonic())):
                await self._news.wait()


def _go_on(_: str) -> None:
    """Nobody waits at any point."""


def _whose(letters: list[Letter], outcomes: list[bool | BaseException], kind: type) -> list[str]:
    return [one.id for one, outcome in zip(letters, outcomes, strict=True) if isinstance(outcome, kind)]


def _retrieve(done: asyncio.Future[Any]) -> None:
    """Look at the outcome, or asyncio complains of a cancelled gathering that nobody looked at."""
    if not done.cancelled():
        done.exception()
