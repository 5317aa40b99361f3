"""Pulling from a durable consumer: at once where there is something, calmly where it is missing.

This stands in the place of nats-py's pull subscription under FastStream. The stock one waits for a whole
batch once it has one message, asks again in a hot loop when its consumer has vanished, and goes silent for
its whole timeout after the broker was restarted.
"""

import asyncio
import contextlib
import json
import logging
import time
from typing import Any

from nats import errors as nats_errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js import JetStreamContext
from nats.js.api import Header

from muster_bus.link import Link

log = logging.getLogger("muster.bus")

PULL_SECONDS = 5.0
"""The server answers a pull within this, if only to say that there was nothing: silence is a fault."""
CALM_SECONDS = 1.0
PULL_BYTES = 4 << 20
"""Far below what the server holds for one client before it cuts it off as too slow (16 MiB)."""


class Pull:
    """One standing request for messages to one durable consumer."""

    def __init__(
        self, link: Link, subscription: Subscription, inbox: str, stream: str, consumer: str
    ) -> None:
        self.stream = stream
        self.consumer = consumer
        self.missing_since: float | None = None
        """When the consumer or its stream was first found missing, on the monotonic clock."""
        self.last_word = time.monotonic()
        """When the server last answered."""
        self._link = link
        self._subscription = subscription
        self._inbox = inbox
        self._asked = 0
        self._batch = 1
        self._tasks: set[asyncio.Task[None]] = set()
        link.on_up.append(self._ask_again_soon)

    async def fetch(self, batch: int = 1, **_: Any) -> list[Msg]:
        """All messages there are, at most ``batch`` and ``PULL_BYTES``, as soon as there is one.

        Raises:
            TimeoutError: there were none within ``PULL_SECONDS``, or the consumer is missing.
        """
        self._batch = batch
        if self._asked <= 0:
            await self._ask()
        first = await self._next(PULL_SECONDS + 1)
        messages = [first]
        with contextlib.suppress(
            nats_errors.TimeoutError
        ):  # the request has ended; what came with it is good
            while self._subscription.pending_msgs and len(messages) < batch:
                messages.append(await self._next(1))
        return messages

    async def unsubscribe(self) -> None:
        """End it; what is delivered but not taken goes back to the stream after its wait."""
        self._link.on_up.remove(self._ask_again_soon)
        await self._subscription.unsubscribe()

    async def _next(self, seconds: float) -> Msg:
        while True:
            try:
                message = await self._subscription.next_msg(seconds)
            except nats_errors.TimeoutError:
                self._asked = 0
                raise
            self.last_word = time.monotonic()
            status = (message.headers or {}).get(Header.STATUS)
            if status is None:
                self._asked -= 1
                self.missing_since = None
                return message
            await self._judge(status, message)

    async def _judge(self, status: str, message: Msg) -> None:
        """Every status ends the request: expired, nothing there, consumer deleted, or nobody to ask."""
        self._asked = 0
        if status in {"503", "404"} and "No Messages" not in (message.headers or {}).get(
            Header.DESCRIPTION, ""
        ):
            if self.missing_since is None:
                self.missing_since = time.monotonic()
                log.error("cannot pull from %s: it or its stream %s is missing", self.consumer, self.stream)
            await asyncio.sleep(CALM_SECONDS)
        else:
            self.missing_since = None
        raise nats_errors.TimeoutError

    async def _ask(self) -> None:
        request = {"batch": self._batch, "max_bytes": PULL_BYTES, "expires": int(PULL_SECONDS * 1e9)}
        self._asked = self._batch
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self.stream}.{self.consumer}"
        await self._link.publish(subject, json.dumps(request).encode(), self._inbox)

    def _ask_again_soon(self) -> None:
        """A restarted broker has forgotten the standing request."""
        self.last_word = time.monotonic()
        task = asyncio.get_running_loop().create_task(self._ask())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class BoundJetStream(JetStreamContext):
    """A JetStream context for FastStream that binds to provisioned consumers and never makes its own."""

    def __init__(self, link: Link) -> None:
        super().__init__(link)
        self._link = link
        self.pulls: dict[str, Pull] = {}

    async def pull_subscribe(  # type: ignore[override]  # a narrower promise; all that FastStream needs
        self, *_: Any, durable: str | None = None, stream: str | None = None, **__: Any
    ) -> Pull:
        """Bind to the durable consumer; whether it exists shows with the first pull."""
        assert durable
        assert stream
        inbox = self._link.new_inbox()
        pull = Pull(self._link, await self._link.subscribe(inbox), inbox, stream, durable)
        self.pulls[durable] = pull
        return pull
