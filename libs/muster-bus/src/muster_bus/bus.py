"""The bus as its users see it: say facts and orders, ask and answer, hear; nothing durable is lost.

``say`` travels by the message's delivery class: live messages leave at once or not at all, durable ones go
through the spool and the courier. Subscriptions made before the broker is there begin when it is.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Self, TypeVar, cast

from nats import errors as nats_errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from pydantic import BaseModel

from muster_bus import courier as couriers
from muster_bus.answering import Answering
from muster_bus.batches import MAX_OF_ONE_SAYER, Batches
from muster_bus.courier import Courier, NotStored
from muster_bus.deadletters import DeadLetters
from muster_bus.ending import end
from muster_bus.errors import AskFailed, CannotConnect, NoAnswer, NobodyAnswers, NotPermitted, TooLarge
from muster_bus.hearing import Hearing
from muster_bus.link import Link
from muster_bus.metrics import Counters
from muster_bus.reading import CONTRACT_HEADER, MESSAGE_ID_HEADER, PROBLEM_HEADER, Unreadable, parse
from muster_bus.roles import SERVICES
from muster_bus.settings import BusSettings
from muster_bus.spool import Letter, Spool
from muster_bus.subjects import group_of, subject_to_hear
from muster_bus.tracing import TRACEPARENT_HEADER, traceparent
from muster_contracts.message import Ask, Delivery, DurableFact, LiveFact, Message, Order, Problem

log = logging.getLogger("muster.bus")

A = TypeVar("A", bound=BaseModel)
Q = TypeVar("Q", bound=Ask[Any])
M = TypeVar("M", bound=Message)

Taken = Callable[[Msg], Awaitable[None]]


class Bus:
    """One identity's place on the bus. Made by ``connect``; ``close`` it at the end."""

    def __init__(self, settings: BusSettings, *, spool: Spool | None = None) -> None:
        self.identity = settings.identity
        self.settings = settings
        self.counters = Counters()
        self.client = Link(settings, self.counters)
        self.courier = Courier(spool, self.client, self.counters) if spool else None
        self.spool = spool
        # Only services may say dead letters; elsewhere they are counted and logged.
        self.dead_letters = DeadLetters(
            self.identity, self.counters, self.say if self.identity in SERVICES else None
        )
        self._waiting: list[Callable[[], Awaitable[None]]] = []
        self._batches: list[Batches[Any]] = []
        self._answering: list[Answering[Any]] = []
        self._opening: asyncio.Task[None] | None = None
        self._closed = False

    @classmethod
    async def connect(
        cls,
        settings: BusSettings,
        *,
        spool: Spool | None = None,
        on_closed: Callable[[], None] | None = None,
        first_try_seconds: float | None = None,
    ) -> Self:
        """Connect, and stay connected for as long as the process lives.

        With ``first_try_seconds`` the broker has to be reached within them. Without, this returns after the
        first attempt whatever became of it, and goes on trying in the background: see ``connected``.

        Raises:
            CannotConnect: not within ``first_try_seconds``.
            BadSeed: the seed file cannot be used.
        """
        bus = cls(settings, spool=spool)
        bus.client.on_gone = on_closed
        bus._opening = asyncio.create_task(bus._open(), name="open the bus")
        first_attempt = asyncio.create_task(bus.client.tried.wait())
        patience = first_attempt if first_try_seconds is None else bus._opening
        await asyncio.wait(
            [bus._opening, patience], timeout=first_try_seconds, return_when=asyncio.FIRST_COMPLETED
        )
        first_attempt.cancel()
        if bus._opening.done():
            bus._opening.result()
        elif first_try_seconds is not None:
            await bus.close()
            raise CannotConnect(
                f"cannot reach the broker at {', '.join(settings.places)} as {settings.identity} within "
                f"{first_try_seconds:g} s: {bus.client.why_down}; is it running, does it know this key?"
            )
        return bus

    @property
    def connected(self) -> bool:
        """Whether the broker can be reached just now."""
        return self.client.up.is_set()

    async def wait_connected(self) -> None:
        """Wait until the broker can be reached."""
        await self.client.up.wait()

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` after each connect; it must not block."""
        self.client.on_up.append(callback)

    def on_disconnect(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` after each loss of the connection; it must not block."""
        self.client.on_down.append(callback)

    # Saying.

    async def say(self, *messages: LiveFact | Order | DurableFact) -> None:
        """Say messages, each by its delivery class.

        Live ones leave at once, or are dropped and counted while the broker is away. Durable ones are in the
        spool, fsynced, when this returns, and the courier takes them on; without a spool this returns when
        the stream has them.

        Raises:
            TooLarge: a message is larger than its contract allows; none of the messages was said.
            SpoolFailed: the disk did not take the durable ones.
            NotStored: without a spool, the stream did not take it in time.
        """
        encoded = [(message, encode(message)) for message in messages]
        letters = [
            _letter(message, payload) for message, payload in encoded if isinstance(message, DurableFact)
        ]
        if letters:
            await self._keep(letters)
        for message, payload in encoded:
            if message.DELIVERY is Delivery.LIVE:
                await self._say_live(message, payload)
            self.counters.add("said", message.contract())

    async def say_now(self, fact: DurableFact, timeout: float = 2.0) -> None:  # noqa: ASYNC109  (of the ack)
        """Say a durable fact and wait for its stream, for goodbyes; within the spool it is safe either way.

        Raises:
            NotStored: the stream did not take it within ``timeout`` seconds, and no spool took it either.
            TooLarge: it is larger than its contract allows, or than its stream takes; it was not said.
        """
        letter = _letter(fact, encode(fact))
        spooled = await self._spooled(letter)
        self.counters.add("said", fact.contract())
        try:
            async with asyncio.timeout(timeout):
                await self.client.up.wait()
                await couriers.deliver(self.client, letter, timeout)
        except (NotStored, NotPermitted, TimeoutError) as error:
            if self.courier is None or not spooled:
                raise NotStored(f"cannot store {letter.subject} within {timeout:g} s") from error
            self.courier.wake()
        except TooLarge:
            await self._take_back(letter, spooled=spooled)
            raise
        else:
            await self._take_back(letter, spooled=spooled)

    async def settled(self) -> None:
        """Wait until the stream has every durable fact said so far."""
        if self.courier:
            await self.courier.idle()

    async def ask(self, question: Ask[A], *, timeout: float = 2.0) -> A:  # noqa: ASYNC109  (of the answer)
        """Ask and return the answer. Asking again with the same question is safe.

        Raises:
            AskFailed: it was answered with a problem.
            NobodyAnswers: nobody listens for it.
            NoAnswer: no answer within ``timeout`` seconds, or the broker is away.
            NotPermitted: this identity may not ask it.
        """
        name = question.contract()
        payload = encode(question)
        self.counters.add("asked", name)
        try:
            async with asyncio.timeout(timeout):
                await self.client.up.wait()
                reply = await self._request(question, payload, timeout)
        except nats_errors.NoRespondersError:
            raise NobodyAnswers(f"cannot ask {name}: nobody answers {question.subject} just now") from None
        except (TimeoutError, nats_errors.Error) as error:
            why = "no answer" if self.connected else "the broker is away"
            raise NoAnswer(f"cannot tell what became of {name}: {why} within {timeout:g} s") from error
        return _answer(question, reply)

    # Hearing.

    async def answer(
        self,
        contract: type[Q],
        handler: Callable[[Q], Awaitable[BaseModel]],
        *,
        bound_to: str | None = None,
        queue: str | None = None,
    ) -> None:
        """Answer questions of one contract, up to ``ANSWERS_AT_ONCE`` at a time.

        ``bound_to`` an agent's id hears only what is asked of that agent. The handler returns the answer, or
        raises ``AskError`` to answer with a problem; any other error answers with the problem "internal".

        Raises:
            NotPermitted: this identity may not hear them.
        """
        answering = Answering(contract, handler, self.client, self.dead_letters, self.counters)
        self._answering.append(answering)
        await self._listen(subject_to_hear(contract, bound_to), queue, answering.take)

    async def hear(
        self,
        contract: type[M],
        handler: Callable[[M], Awaitable[None]],
        *,
        queue: str | None = None,
        bound_to: str | None = None,
    ) -> None:
        """Hear facts and orders of one contract, one at a time and in order; members of a ``queue`` share.

        A durable contract is heard live too: only what is said while this process listens.

        Raises:
            NotPermitted: this identity may not hear them.
        """
        hearing = Hearing(contract, handler, self.dead_letters, self.counters)
        await self._listen(
            subject_to_hear(contract, bound_to), group_of(queue, contract) if queue else None, hearing.take
        )

    async def hear_batches(
        self,
        contract: type[M],
        handler: Callable[[list[M]], Awaitable[None]],
        *,
        queue: str,
        max_batch: int = 5000,
        max_wait_seconds: float = 0.05,
        max_pending: int = 100_000,
        max_of_one_sayer: int = MAX_OF_ONE_SAYER,
    ) -> None:
        """Hear a firehose of live facts in lists; while the handler is slow, drops are counted.

        From one list to the next, ``max_of_one_sayer`` (50) messages of one sayer are taken; its surplus is
        dropped unread and counted.

        Raises:
            NotPermitted: this identity may not hear them.
        """
        batches = Batches(
            contract, handler, self.dead_letters, self.counters,
            max_batch=max_batch, max_wait_seconds=max_wait_seconds, max_pending=max_pending,
            max_of_one_sayer=max_of_one_sayer,
        )  # fmt: skip
        self._batches.append(batches)

        async def begin() -> None:
            subject = subject_to_hear(contract, None)
            # Told where to pour before the first message can come, all in one step of the loop.
            subscription = await self._subscribe(
                subject, group_of(queue, contract) if queue else None, _unused
            )
            self.client.pour(subscription._id, batches.put)  # noqa: SLF001  (the id is not public)

        await self.once_connected(begin)

    async def close(self, seconds: float = 5.0) -> None:
        """Stop hearing, finish what runs, deliver what ``seconds`` allow, and disconnect."""
        if self._closed:
            return
        self._closed = True
        self.client.leave()
        if self._opening:
            await end(self._opening)
        for answering in self._answering:
            await answering.stop(seconds / 4)
        if self.courier:
            await self.courier.stop(seconds / 4)
        await self.client.shut(seconds / 2)
        for batches in self._batches:
            await batches.stop()

    # Inside.

    async def _open(self) -> None:
        await self.client.open()
        if self.courier:
            self.courier.start()
        while self._waiting:
            try:
                await self._waiting.pop(0)()
            except NotPermitted:  # logged and counted by the link; whoever asked for it has gone on
                continue
            except Exception:  # one subscription must not cost the others
                log.exception("cannot begin to hear something")
        self.client.announce()

    async def once_connected(self, begin: Callable[[], Awaitable[None]]) -> None:
        """Run ``begin`` once the broker has been reached: now, or when it is."""
        if self.client.ever_up:
            await begin()
        else:
            self._waiting.append(begin)

    async def _listen(self, subject: str, queue: str | None, taken: Taken) -> None:
        async def begin() -> None:
            await self._subscribe(subject, queue, taken)

        await self.once_connected(begin)

    async def _subscribe(self, subject: str, queue: str | None, taken: Taken) -> Subscription:
        subscription = await self.client.subscribe(subject, queue=queue or "", cb=taken)
        # The broker answers the flush after it has judged the subscription.
        with contextlib.suppress(nats_errors.FlushTimeoutError):
            if self.connected:
                await self.client.permitted(subject, self.client.flush())
        return subscription

    async def _keep(self, letters: list[Letter]) -> None:
        if self.spool and self.courier:
            await self.spool.put(*letters)
            self.courier.wake()
        else:
            for letter in letters:
                await couriers.deliver(self.client, letter)

    async def _spooled(self, letter: Letter) -> bool:
        """Whether the spool has it; where its disk is full, the broker may still take it."""
        if self.spool is None:
            return False
        try:
            await self.spool.put(letter)
        except Exception:  # whatever a spool fails with, there is the broker
            log.exception("cannot spool %s: it goes to its stream alone", letter.subject)
            return False
        return True

    async def _take_back(self, letter: Letter, *, spooled: bool) -> None:
        """Its stream has it, so a spool that fails now costs a repeat that the stream drops."""
        if self.spool is None or not spooled:
            return
        try:
            await self.spool.done([letter.id])
        except Exception:
            log.exception("cannot forget %s: it will be sent again", letter.subject)

    async def _say_live(self, message: Message, payload: bytes) -> None:
        if not self.connected:
            self.counters.add("dropped_offline", message.contract())
            return
        try:
            await self.client.publish(message.subject, payload)
        except nats_errors.Error:
            self.counters.add("dropped_offline", message.contract())

    async def _request(self, question: Ask[A], payload: bytes, seconds: float) -> Msg:
        headers = {
            CONTRACT_HEADER: question.contract(),
            MESSAGE_ID_HEADER: str(question.message_id),
            TRACEPARENT_HEADER: traceparent(),
        }
        work = self.client.request(question.subject, payload, timeout=seconds, headers=headers)
        return await self.client.permitted(question.subject, work)


def encode(message: Message) -> bytes:
    """The message as it travels.

    Raises:
        TooLarge: it is larger than its contract allows.
    """
    payload = message.__pydantic_serializer__.to_json(message)
    if len(payload) > message.MAX_BYTES:
        name = message.contract()
        raise TooLarge(
            f"cannot say {name}: {len(payload)} bytes, its contract allows {message.MAX_BYTES}; say less"
        )
    return payload


def letter_of(fact: DurableFact) -> Letter:
    """The letter a durable fact travels as, for a service's outbox.

    Raises:
        TooLarge: it is larger than its contract allows.
    """
    return _letter(fact, encode(fact))


def _letter(fact: DurableFact, payload: bytes) -> Letter:
    return Letter(
        str(fact.message_id),
        fact.subject,
        payload,
        {CONTRACT_HEADER: fact.contract(), TRACEPARENT_HEADER: traceparent()},
    )


def _answer(question: Ask[A], reply: Msg) -> A:
    try:
        if reply.headers and PROBLEM_HEADER in reply.headers:
            raise AskFailed(parse(Problem, reply.data))
        return cast("A", parse(question.ANSWER, reply.data))
    except Unreadable as error:
        raise NoAnswer(f"cannot read the answer to {question.contract()}: {error}") from error


async def _unused(_: Msg) -> None:
    """A firehose's messages never come this way."""
