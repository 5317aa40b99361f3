"""A stage to rehearse services on: tell them messages, ask them, read what they say. No broker, no sockets.

Each service gets a FastStream broker of its own, as in production, and one ``TestNatsBroker`` carries
messages between them. Delivery happens inside ``tell``: when it returns, all that follows has been heard.
What a stage has not: streams, repeats and permissions. Those belong to tests on a ``Ground``.
"""

from collections.abc import Callable, Sequence
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
from muster_contracts.message import Ask, Delivery, Message, Problem

A = TypeVar("A", bound=BaseModel)
M = TypeVar("M", bound=Message)

RoutesOf = Callable[["StageBus"], Routes | Sequence[Routes]]


class StageBus:
    """What a service speaks through on a stage: as ``muster_bus.Bus``, as far as handlers need it."""

    def __init__(self, stage: "Stage", identity: str) -> None:
        self._stage = stage
        self.identity = identity
        self.counters = Counters()
        self.connected = True

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

    async def settled(self) -> None:
        """Everything said has been heard already."""


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


def _headers(message: Message) -> dict[str, str]:
    return {} if message.DELIVERY is Delivery.LIVE else {CONTRACT_HEADER: message.contract()}
