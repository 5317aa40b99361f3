"""A stage to rehearse services on: tell them messages, ask them, read what they say. No broker, no sockets.

Each service gets a FastStream broker of its own, as in production, and one ``TestNatsBroker`` carries
messages between them. Delivery happens inside ``tell``: when it returns, all that follows has been heard.
What a stage has not: streams, repeats and permissions. Those belong to tests on a ``Ground``.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Self, TypeVar, cast

from faststream.exceptions import SubscriberNotFound
from faststream.nats import NatsBroker, TestNatsBroker
from pydantic import BaseModel

from muster_bus.bus import encode
from muster_bus.deadletters import DeadLetters
from muster_bus.errors import AskFailed, NobodyAnswers
from muster_bus.metrics import Counters
from muster_bus.reading import CONTRACT_HEADER, PROBLEM_HEADER
from muster_bus.service.mounting import LentBroker, mount
from muster_bus.service.routes import Routes
from muster_bus.spool import Spool
from muster_bus.subjects import subject_to_hear
from muster_contracts.message import Ask, Delivery, Message, Problem

LETTERS_AT_ONCE = 100

A = TypeVar("A", bound=BaseModel)
M = TypeVar("M", bound=Message)

RoutesOf = Callable[["StageBus"], Routes | Sequence[Routes]]
Take = Callable[[str, bytes], Awaitable[None]]


class StageBus:
    """What a service speaks through on a stage: as ``muster_bus.Bus``, as far as handlers need it."""

    def __init__(self, stage: "Stage", identity: str) -> None:
        self._stage = stage
        self.identity = identity
        self.counters = Counters()
        self.connected = True
        self.courier: StageCourier | None = None

    async def say(self, *messages: Message) -> None:
        """Say messages; whoever hears them has heard them when this returns."""
        for message in messages:
            await self._stage.tell(message)

    async def say_now(self, fact: Message, timeout: float = 2.0) -> None:  # noqa: ARG002, ASYNC109  (as Bus)
        """As ``say``: nothing is ever away on a stage."""
        await self._stage.tell(fact)

    async def ask(self, question: Ask[A], *, timeout: float = 2.0) -> A:  # noqa: ASYNC109  (as Bus)
        """Ask another service on the stage."""
        return await self._stage.ask(question, timeout=timeout)

    async def hear(
        self, contract: type[M], handler: Callable[[M], Awaitable[None]], *, bound_to: str | None = None
    ) -> None:
        """Hear a contract from now on, on an open stage too."""
        subject = subject_to_hear(contract, bound_to).split(".")

        async def take(said_on: str, payload: bytes) -> None:
            if _matches(said_on.split("."), subject):
                await handler(contract.model_validate_json(payload))

        self._stage.listeners.append(take)

    def on_reconnect(self, callback: Callable[[], None], /) -> None:
        """Nothing to call back for: a stage is always there."""

    def on_disconnect(self, callback: Callable[[], None], /) -> None:
        """Nothing to call back for: a stage is always there."""

    async def settled(self) -> None:
        """Everything said has been heard already."""


class StageCourier:
    """Takes the letters of a spool, for example an outbox, to the stage; ``run`` it as a task."""

    def __init__(self, stage: "Stage", spool: Spool) -> None:
        self._stage, self._spool = stage, spool
        self._some = asyncio.Event()
        self._some.set()

    def wake(self) -> None:
        """There may be letters."""
        self._some.set()

    async def run(self) -> None:
        """Deliver what is there, and again whenever it is woken, for ever."""
        while True:
            await self._some.wait()
            self._some.clear()
            while letters := await self._spool.take(LETTERS_AT_ONCE):
                for letter in letters:
                    await self._stage.tell_raw(letter.subject, letter.payload, letter.headers)
                await self._spool.done(letter.id for letter in letters)


class Stage:
    """An in-memory bus that carries every cast member and keeps the record of all that was said.

    ``stage.cast("fleet-registry", lambda bus: handlers(agents, bus))``, then ``async with stage: …``.
    A handler that fails unexpectedly fails the ``tell`` that reached it, unless the stage is ``forgiving``.
    """

    def __init__(self, *, forgiving: bool = False) -> None:
        self._forgiving = forgiving
        self._voice = NatsBroker(logger=None)
        self._brokers: list[NatsBroker] = [self._voice]
        self._buses: dict[str, StageBus] = {}
        self._said: list[Message] = []
        self.listeners: list[Take] = []
        """Who hears beside the cast: agents and operators, by ``StageBus.hear``."""
        self._exits = AsyncExitStack()

    def cast(self, service: str, routes: Routes | Sequence[Routes] | RoutesOf) -> StageBus:
        """Give a part to a service, before the stage opens; returns the bus it speaks through."""
        bus = self.bus(service)
        made = routes(bus) if callable(routes) else routes
        broker = LentBroker()
        for one in [made] if isinstance(made, Routes) else made:
            mount(broker, one.service, one.all, DeadLetters(service, bus.counters, self.tell), bus.counters)
        self._brokers.append(broker)
        return bus

    def bus(self, identity: str) -> StageBus:
        """The bus that ``identity`` speaks through."""
        return self._buses.setdefault(identity, StageBus(self, identity))

    async def __aenter__(self) -> Self:
        await self._exits.enter_async_context(TestNatsBroker(*self._brokers))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exits.aclose()

    async def tell(self, message: Message) -> None:
        """Say a message to the cast, and keep it in the record.

        Raises:
            AssertionError: a handler failed unexpectedly; the log has its traceback.
        """
        payload = encode(message)
        self._said.append(message)
        await self.tell_raw(message.subject, payload, _headers(message))

    async def tell_raw(self, subject: str, payload: bytes, headers: dict[str, str] | None = None) -> None:
        """Say bytes that may be no message at all."""
        before = self._failures()
        await self._voice.publish(payload, subject, headers=headers or {})
        for take in list(self.listeners):
            await take(subject, payload)
        if self._failures() > before and not self._forgiving:
            raise AssertionError(f"a handler failed for {subject}: see the log above")

    async def ask(self, question: Ask[A], *, timeout: float = 2.0) -> A:  # noqa: ASYNC109  (as Bus)
        """Ask the cast.

        Raises:
            AskFailed: it was answered with a problem.
            NobodyAnswers: nobody on the stage answers it.
        """
        payload = encode(question)
        self._said.append(question)
        try:
            reply = await self._voice.request(
                payload, question.subject, timeout=timeout, headers=_headers(question)
            )
        except SubscriberNotFound:
            raise NobodyAnswers(f"cannot ask {question.contract()}: nobody on the stage answers it") from None
        if PROBLEM_HEADER in reply.headers:
            raise AskFailed(Problem.model_validate_json(reply.body))
        return cast("A", question.ANSWER.model_validate_json(reply.body))

    def heard(self, kind: type[M]) -> list[M]:
        """Every message of ``kind`` said so far, oldest first."""
        return [message for message in self._said if isinstance(message, kind)]

    def _failures(self) -> int:
        return sum(bus.counters.of("handler_failures") for bus in self._buses.values())


def _matches(subject: list[str], pattern: list[str]) -> bool:
    return len(subject) == len(pattern) and all(
        wanted in {"*", token} for token, wanted in zip(subject, pattern, strict=True)
    )


def _headers(message: Message) -> dict[str, str]:
    return {} if message.DELIVERY is Delivery.LIVE else {CONTRACT_HEADER: message.contract()}
