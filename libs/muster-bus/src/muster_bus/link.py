"""The connection: nats-py's client with the edges that lose, hang or give up taken off.

What differs from the stock client, each measured or read in nats-py 2.16 (decision 3):
- It never closes by itself. Stock, any ``-ERR`` but a permission's (a kick, an expired login) ends it.
- Waits between attempts are drawn from the whole window (full jitter) and attempts never end.
- A dead link is aborted, not closed: ``wait_closed`` on one with unsent bytes waits for the kernel.
- What was unsent when the link broke is dropped: sent later, it would overtake letters lost on the wire,
  and nothing that matters relies on it (live facts may be lost, letters and asks are repeated).
- Leaving takes the time it is given; a stock drain over a dead link takes twenty seconds.
- A flush comes after what was sent before it; the stock one overtakes it.
- Subjects of a firehose go straight into a basket, without a message object and a task switch each.
- A subject, reply or status that is not UTF-8 is read as far as it goes. Stock, it ends the reading of the
  whole connection in silence, and the broker takes any bytes from whoever may say or ask something.
- A permission the broker refuses is counted, logged as an error, and wakes whoever waits on that subject.
"""

import asyncio
import base64
import logging
import random
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import nkeys
from nats import errors as nats_errors
from nats.aio.client import Client

from muster_bus.errors import NotPermitted
from muster_bus.identity import Keypair
from muster_bus.metrics import Counters
from muster_bus.muffling import Muffle
from muster_bus.settings import BusSettings

log = logging.getLogger("muster.bus")

T = TypeVar("T")

Basket = Callable[[bytes, bytes, bytes | None], None]
"""Takes subject, payload and raw headers of one message of a firehose; must not block or raise."""

_DENIED = re.compile(r"permissions violation for (publish|subscription) to \"([^\"]+)\"", re.IGNORECASE)


class Link(Client):
    """One connection of one identity; mends itself for as long as the process lives."""

    def __init__(self, settings: BusSettings, counters: Counters) -> None:
        super().__init__()
        self.counters = counters
        self.up = asyncio.Event()
        self.down = asyncio.Event()
        self.down.set()
        self.down_since = time.monotonic()
        self.on_up: list[Callable[[], None]] = []
        self.on_down: list[Callable[[], None]] = []
        self._settings = settings
        self._baskets: dict[int, Basket] = {}
        self._denied: dict[str, set[asyncio.Future[Any]]] = {}
        self.why_down = ""
        """The most telling complaint since the link was last up: a refusal rather than an absence."""
        self._complained: set[str] = set()
        self._muffle = Muffle(60)
        self.ever_up = False
        self.deaf_to: set[str] = set()
        """Subjects the broker did not let this identity subscribe."""
        self.closing = False
        self.tried = asyncio.Event()
        """Set once the first attempt to connect has ended, well or not."""
        self.on_gone: Callable[[], None] | None = None

    async def open(self) -> None:
        """Connect, however long it takes; from then on the link keeps itself."""
        await self.connect(
            servers=list(self._settings.servers),
            name=self._settings.identity,
            inbox_prefix=self._settings.inbox_prefix,
            max_reconnect_attempts=-1,
            reconnect_time_wait=1,
            connect_timeout=self._settings.connect_timeout_seconds,  # type: ignore[arg-type]  # takes floats
            ping_interval=self._settings.ping_interval_seconds,  # type: ignore[arg-type]  # takes floats
            max_outstanding_pings=self._settings.max_outstanding_pings,
            pending_size=8 << 20,
            flush_timeout=2,  # stock, whoever speaks while a link breaks waits until it is mended
            error_cb=self._complain,
            disconnected_cb=self._went_down,
            reconnected_cb=self._came_up,
            closed_cb=self._closed_for_good,
            **self._credentials(),
        )
        await self._init_request_sub()
        self._mark_up()

    def announce(self) -> None:
        """Tell who wants to know that the link is up."""
        for told in list(self.on_up):
            told()

    def leave(self) -> None:
        """The link is no longer needed: from now on its loss is no news, as when all are stopped at once."""
        self.closing = True

    async def shut(self, seconds: float = 5.0) -> None:
        """Let running handlers finish and unsent bytes leave, both within ``seconds``, then close."""
        self.leave()
        leaving = asyncio.create_task(self._empty() if self.up.is_set() else self.close())
        await asyncio.wait([leaving], timeout=seconds)
        while not leaving.done():
            self._abort()
            leaving.cancel()
            await asyncio.wait([leaving], timeout=0.1)
        if not leaving.cancelled() and (error := leaving.exception()):
            log.debug("the connection did not end well: %s", error)
        if not self.is_closed:
            await self.close()
        self._mark_down()

    async def _empty(self) -> None:
        """Hear no more, finish what was heard, send what is unsent, and close.

        As the stock drain, whose gathering nobody looks at where it is cut short: asyncio complains of that.
        """
        heard = [subscription._drain() for subscription in list(self._subs.values())]  # noqa: SLF001  (as stock)
        await asyncio.gather(*heard, return_exceptions=True)
        await self.flush()
        await self.close()

    def pour(self, sid: int, basket: Basket | None) -> None:
        """Deliver the messages of subscription ``sid`` into ``basket`` from now on; None: as usual again."""
        if basket is None:
            self._baskets.pop(sid, None)
        else:
            self._baskets[sid] = basket

    async def permitted(self, subject: str, work: Awaitable[T]) -> T:
        """Await ``work`` on ``subject``, but no longer than until the broker says it is not permitted.

        Raises:
            NotPermitted: the broker said so.
        """
        key = subject.lower()
        working = asyncio.ensure_future(work)
        denied: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._denied.setdefault(key, set()).add(denied)
        try:
            both: list[asyncio.Future[Any]] = [working, denied]
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            return denied.result() if denied.done() else await working
        finally:
            working.cancel()
            self._denied[key].discard(denied)
            if not self._denied[key]:
                del self._denied[key]

    async def flush(self, timeout: int = 10) -> None:  # noqa: ASYNC109  (as the stock client)
        """Return when the broker has taken everything sent so far, and said what it refuses of it."""
        await self._flush_pending(force_flush=True)
        await super().flush(timeout)

    def _credentials(self) -> dict[str, Any]:
        if self._settings.seed_file is None:
            return {}
        keypair = Keypair.load(self._settings.seed_file)
        self._auth_configured = True
        self._public_nkey = keypair.public

        def sign(nonce: str) -> bytes:
            keys = nkeys.from_seed(bytearray(keypair.seed.get_secret_value().encode()))
            return base64.b64encode(keys.sign(nonce.encode()))

        return {"signature_cb": sign}

    # What follows replaces parts of nats-py; see the top of this file.

    async def _select_next_server(self) -> None:
        """One attempt after a jittered wait; ``connect`` and ``_attempt_reconnect`` repeat it."""
        self._current_server = server = min(self._server_pool, key=lambda one: one.reconnects)
        if self.ever_up or server.reconnects:
            await asyncio.sleep(self._wait(server.reconnects))
        self._abort()  # stock, a connection that broke before it was accepted stays open for ever
        await self._connect_to_server(server)

    def _wait(self, attempt: int) -> float:
        window = self._settings.reconnect_min_seconds * 2.0 ** min(attempt, 16)
        return random.uniform(0, min(window, self._settings.reconnect_max_seconds))  # noqa: S311  (jitter, no secret)

    async def _attempt_reconnect(self) -> None:
        self._abort()
        while True:
            self._pending.clear()
            self._pending_data_size = 0
            try:
                await super()._attempt_reconnect()
            except Exception as error:  # noqa: BLE001  (stock, an unforeseen error ends the attempts in silence)
                await self._complain(error)
                await asyncio.sleep(self._settings.reconnect_max_seconds)
            else:
                return

    def _abort(self) -> None:
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()

    async def _process_err(self, err_msg: str) -> None:
        if "permissions violation" in err_msg:
            await super()._process_err(err_msg)
        else:
            error = nats_errors.Error(f"nats: {err_msg.strip(chr(39))}")
            await self._complain(error)
            await self._process_op_err(error)

    async def _process_pong(self) -> None:
        if self._pongs and self._pongs[0].done():
            # Who waited for it has given up. Stock, it ends the reading of the whole connection in silence.
            self._pongs.pop(0)
            self._pongs_received += 1
            self._pings_outstanding = 0
        else:
            await super()._process_pong()

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        if (basket := self._baskets.get(sid)) is not None:
            basket(subject, data, headers)
        else:
            try:
                await super()._process_msg(sid, subject, reply, data, headers)
            except UnicodeDecodeError:
                # Again, in UTF-8 and without the headers; the first time ended before anybody got it.
                await super()._process_msg(sid, _as_text(subject), _as_text(reply), data, b"")

    # What nats-py calls back.

    async def _came_up(self) -> None:
        self._mark_up()
        self.announce()

    def _mark_up(self) -> None:
        self.tried.set()
        self.ever_up = True
        self.why_down = ""
        self._complained.clear()
        self.down.clear()
        self.up.set()
        log.info("connected to the broker as %s", self._settings.identity)

    async def _went_down(self) -> None:
        if not self.down.is_set() and not self.closing:
            log.warning("lost the broker; trying again until it is back")
            self.counters.add("disconnects")
        self._mark_down()

    async def _closed_for_good(self) -> None:
        if self.on_gone and not self.closing:
            self.on_gone()

    def _mark_down(self) -> None:
        if self.down.is_set():
            return
        self.up.clear()
        self.down.set()
        self.down_since = time.monotonic()
        for told in list(self.on_down):
            told()

    async def _complain(self, error: Exception) -> None:
        """Loud where something is refused; once per outage where the broker is only away."""
        self.tried.set()
        text = str(error) or type(error).__name__
        if denied := _DENIED.search(text):
            self._refuse(denied[1].lower(), denied[2], text)
        elif isinstance(error, nats_errors.SlowConsumerError):
            self.counters.add("slow_consumer_drops")
            self._log_once(logging.ERROR, "messages are dropped: a handler is slower than what it hears")
        else:
            self.counters.add("errors", type(error).__name__)
            away = isinstance(error, OSError | nats_errors.UnexpectedEOF | nats_errors.StaleConnectionError)
            self.why_down = text if not away or not self.why_down else self.why_down
            level = logging.WARNING if away else logging.ERROR
            self._log_once(logging.DEBUG if self.closing else level, f"the connection complains: {text}")

    def _refuse(self, verb: str, subject: str, text: str) -> None:
        self.counters.add("permission_violations", verb)
        if verb == "publish" and subject.lower().startswith("_inbox."):
            # The broker lets a question be answered for a minute only, and not over a new connection.
            if self._muffle.lets("late answer"):
                log.warning("cannot answer on %s: it was asked too long ago", subject)
        else:
            log.error("cannot use a subject: %s (identity %s)", text, self._settings.identity)
        if verb == "subscription":
            self.deaf_to.add(subject)
        for waiting in list(self._denied.get(subject.lower(), ())):
            if not waiting.done():
                waiting.set_exception(NotPermitted(f"cannot use {subject}: no permission for this {verb}"))

    def _log_once(self, level: int, text: str) -> None:
        """Aloud the first time in an outage, quietly when it is repeated."""
        log.log(level if text not in self._complained else logging.DEBUG, text)
        self._complained.add(text)


def _as_text(subject: bytes) -> bytes:
    return subject.decode(errors="replace").encode()
