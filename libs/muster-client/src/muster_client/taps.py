"""Where watched messages come from: the bus as it is now, and the streams that remember.

A stream is read by direct gets in batches, which need no consumer and no right but to read; live
messages only say that there is more to read. So a reader misses nothing over a reconnect, and
leaves nothing behind when it goes.
"""

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from nats import errors as nats_errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from muster_bus.link import Basket, Link
from muster_client.decode import Heard
from muster_client.errors import Silent

BATCH = 256
"""Messages of one read; a batch of the largest facts stays below 16 MiB."""
READ_SECONDS = 5.0
LOOK_AGAIN_SECONDS = 15.0
"""A stream is read this often even if nothing was heard live: after a reconnect, or a lost live message."""
SETTLE_SECONDS = (0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5)
"""Waits between reads for a message that was heard live but is not yet on the broker's disk; short at first,
for people wait for results, and a read costs less than a millisecond."""


class Tap(Protocol):
    """A source of messages."""

    async def open(self) -> None:
        """From now on nothing is missed."""

    async def next(self) -> Heard:
        """The next message, when there is one."""

    async def close(self) -> None:
        """Stop listening."""


class LiveTap:
    """Messages as they go by; the oldest are dropped, and counted, when the reader is too slow."""

    def __init__(self, client: Link, subjects: Sequence[str], capacity: int = 10_000) -> None:
        self._client, self._subjects = client, subjects
        self._heard: deque[Heard] = deque(maxlen=capacity)
        self._more = asyncio.Event()
        self._subscriptions: list[Subscription] = []
        self.dropped = 0

    async def open(self) -> None:
        """Subscribe, and wait until the broker has taken the subscriptions."""
        for subject in self._subjects:
            subscription = await subscribe(self._client, subject, _unused, self._pour)
            self._subscriptions.append(subscription)

    async def next(self) -> Heard:
        """The oldest message not yet taken."""
        while not self._heard:
            self._more.clear()
            await self._more.wait()
        return self._heard.popleft()

    async def close(self) -> None:
        """Unsubscribe; a broken connection has forgotten us anyway."""
        for subscription in self._subscriptions:
            self._client.pour(subscription._id, None)  # noqa: SLF001  (the id is not public)
            await _unsubscribe(subscription)
        self._subscriptions.clear()

    def _pour(self, subject: bytes, data: bytes, _: bytes | None) -> None:
        self.dropped += len(self._heard) == self._heard.maxlen
        self._heard.append(Heard(subject.decode(), data, datetime.now(UTC)))
        self._more.set()


class StreamTap:
    """What a stream keeps under some subjects, in order, from ``since`` or from now on."""

    def __init__(
        self, client: Link, stream: str, subjects: Sequence[str], since: datetime | None = None
    ) -> None:
        self._client, self._stream, self._subjects = client, stream, subjects
        # One read has one filter: the narrowest that covers all; what else it brings is passed over.
        self._pattern = covering(subjects)
        self._start: dict[str, Any] = {"start_time": stamp(since)} if since else {}
        self._read: deque[Heard] = deque()
        self._stirred = asyncio.Event()
        self._subscriptions: list[Subscription] = []

    async def open(self) -> None:
        """Listen first, then find the place to start at: nothing falls in between."""
        for subject in self._subjects:
            self._subscriptions.append(await subscribe(self._client, subject, self._stir))
        if not self._start:
            self._start = {"seq": await last_sequence(self._client, self._stream, self._pattern) + 1}

    async def next(self) -> Heard:
        """The next message of the stream, waiting for it if need be."""
        while not self._read:
            if not await self._look():
                await self._news()
        return self._read.popleft()

    def look_again(self) -> None:
        """There may be something new: a live message said so, or the connection came back."""
        self._stirred.set()

    async def close(self) -> None:
        """Stop listening; the stream knows nothing of us."""
        for subscription in self._subscriptions:
            await _unsubscribe(subscription)

    async def _stir(self, _: Msg) -> None:
        self.look_again()

    async def _look(self) -> bool:
        """Read on; whether there was anything, wanted or not."""
        self._stirred.clear()
        came_far = False
        # A broker that is away just now is no error: there is another look after its return.
        with contextlib.suppress(Silent):
            async for heard in read(self._client, self._stream, self._pattern, self._start):
                self._start, came_far = {"seq": heard.sequence + 1}, True
                if any(covers(subject, heard.subject) for subject in self._subjects):
                    self._read.append(heard)
        return came_far

    async def _news(self) -> None:
        """Wait for a stir, and then for the stream to have on disk what caused it."""
        waits = iter((LOOK_AGAIN_SECONDS,))
        while (wait := next(waits, None)) is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stirred.wait(), wait)
                waits = iter(SETTLE_SECONDS)
            if await self._look():
                return


async def read(client: Link, stream: str, pattern: str, start: dict[str, Any]) -> AsyncIterator[Heard]:
    """One batch of what ``stream`` keeps under ``pattern``, oldest first, from ``start`` on.

    Raises:
        Silent: the broker does not answer.
    """
    request = {**start, "next_by_subj": pattern, "batch": BATCH}
    async for message in _replies(client, stream, request):
        headers = message.headers or {}
        yield Heard(
            headers["Nats-Subject"],
            message.data,
            datetime.fromisoformat(_microseconds(headers["Nats-Time-Stamp"])),
            int(headers["Nats-Sequence"]),
        )


async def read_all(client: Link, stream: str, pattern: str, since: datetime) -> AsyncIterator[Heard]:
    """Everything that ``stream`` keeps under ``pattern`` since a moment, oldest first; ends at the last."""
    start: dict[str, Any] | None = {"start_time": stamp(since)}
    while start:
        last = 0
        async for heard in read(client, stream, pattern, start):
            last = heard.sequence
            yield heard
        start = {"seq": last + 1} if last else None


async def last_sequence(client: Link, stream: str, pattern: str) -> int:
    """The sequence of the youngest message under ``pattern``; 0 if there is none."""
    reply = await _ask(client, stream, {"last_by_subj": pattern})
    return int((reply.headers or {}).get("Nats-Sequence", 0))


async def _ask(client: Link, stream: str, request: dict[str, Any]) -> Msg:
    async for reply in _replies(client, stream, request, single=True):
        return reply
    return Msg(client)  # nothing is kept there


async def _replies(
    client: Link, stream: str, request: dict[str, Any], *, single: bool = False
) -> AsyncIterator[Msg]:
    """The messages that answer a direct get: one, or a batch until its end mark, which is not yielded."""
    inbox = await client.subscribe(client.new_inbox())
    subject = f"$JS.API.DIRECT.GET.{stream}"
    try:
        await client.publish(subject, json.dumps(request).encode(), reply=inbox.subject)
        while True:
            coming = asyncio.ensure_future(inbox.next_msg(READ_SECONDS))
            if _is_end(stream, reply := await client.permitted(subject, coming)):
                return
            yield reply
            if single:
                return
    except (TimeoutError, nats_errors.Error) as error:
        raise Silent(f"cannot read the stream {stream}: the broker is silent; run: muster doctor") from error
    finally:
        await _unsubscribe(inbox)


def _is_end(stream: str, reply: Msg) -> bool:
    """Whether a reply says that there is nothing (more) to read: status 204 or 404."""
    status = (reply.headers or {}).get("Status")
    if status and status not in {"204", "404"}:
        raise Silent(f"cannot read the stream {stream}: the broker says {status}; run: muster doctor")
    return status is not None


async def subscribe(
    client: Link, subject: str, taken: Callable[[Msg], Awaitable[None]], basket: Basket | None = None
) -> Subscription:
    """Subscribe, and return when the broker has judged it.

    With a ``basket`` messages go there instead, in the order of the wire over all subscriptions.

    Raises:
        NotPermitted: this identity may not hear the subject.
        Silent: the broker is away.
    """
    try:
        subscription = await client.subscribe(subject, cb=taken)
        client.pour(subscription._id, basket)  # noqa: SLF001  (the id is not public)
        await client.permitted(subject, asyncio.ensure_future(client.flush()))
    except (TimeoutError, nats_errors.Error) as error:
        raise Silent(f"cannot listen to {subject}: the broker is silent; run: muster doctor") from error
    return subscription


async def _unused(_: Msg) -> None:
    """What is poured into a basket never comes this way."""


async def _unsubscribe(subscription: Subscription) -> None:
    """A connection that is down or closed has forgotten the subscription already."""
    with contextlib.suppress(nats_errors.Error):
        await subscription.unsubscribe()


def covers(pattern: str, subject: str) -> bool:
    """Whether a subject, or every subject of a pattern, is one of ``pattern``."""
    tokens, wanted = subject.split("."), pattern.split(".")
    return len(tokens) == len(wanted) and all(w in {"*", t} for w, t in zip(wanted, tokens, strict=True))


def covering(patterns: Sequence[str]) -> str:
    """The narrowest pattern that covers all of ``patterns``, which have equally many tokens."""
    columns = zip(*(pattern.split(".") for pattern in patterns), strict=True)
    return ".".join(tokens[0] if len(set(tokens)) == 1 else "*" for tokens in columns)


def stamp(at: datetime) -> str:
    """A moment as the broker writes it."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _microseconds(stamp: str) -> str:
    """The broker's nanoseconds cut to what Python's clock can hold."""
    whole, _, fraction = stamp.rstrip("Z").partition(".")
    return f"{whole}.{fraction[:6]:0<6}+00:00"
