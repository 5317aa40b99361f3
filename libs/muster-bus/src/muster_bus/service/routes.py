"""Routes: which handler takes which contract. Declared inside ``handlers(...)``, bound to a bus later."""

from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from pydantic import BaseModel

from muster_contracts.message import Ask, Delivery, LiveFact, Message

M = TypeVar("M", bound=Message)
F = TypeVar("F", bound=LiveFact)
Q = TypeVar("Q", bound=Ask[Any])

Handler = Callable[[M], Awaitable[None]]
BatchHandler = Callable[[list[F]], Awaitable[None]]
AnswerHandler = Callable[[Q], Awaitable[BaseModel]]


class Way(StrEnum):
    """How a contract reaches its handler."""

    DURABLE = "durable"
    LIVE = "live"
    BATCHES = "batches"
    ASK = "ask"


@dataclass(frozen=True)
class Route:
    """One contract and its handler; ``at_once`` messages are worked on together, of one ``key`` in order."""

    way: Way
    contract: type[Message]
    handler: Callable[[Any], Awaitable[Any]]
    at_once: int = 1
    key: Callable[[Any], Hashable] | None = None
    max_wait_seconds: float = 0.05
    max_batch: int = 5000
    max_pending: int = 100_000


class Routes:
    """The subscriptions of one service. Its replicas share them: each message reaches one replica."""

    def __init__(self, service: str) -> None:
        self.service = service
        self.all: list[Route] = []

    def hears(
        self, contract: type[M], *, at_once: int = 1, key: Callable[[M], Hashable] | None = None
    ) -> Callable[[Handler[M]], Handler[M]]:
        """Take messages of a durable or live contract.

        One at a time keeps their order. More ``at_once`` do not, unless there is a ``key``: then the durable
        messages with equal keys are handled in order, and different keys side by side. A message that is
        repeated comes after those that came meanwhile, either way.

        A durable one is acknowledged when the handler returns; the handler may raise ``Retry`` or ``Reject``,
        and any other error means: again, later, a few times. A live one is not repeated.
        """
        way = Way.DURABLE if contract.DELIVERY is Delivery.DURABLE else Way.LIVE
        if contract.DELIVERY is Delivery.ASK:
            raise TypeError(f"cannot hear {contract.contract()}: it is a question; use answers")
        if key and way is Way.LIVE:
            raise TypeError(f"cannot hear {contract.contract()} by key: it is live; take one at a time")

        def declare(handler: Handler[M]) -> Handler[M]:
            self.all.append(Route(way, contract, handler, at_once, key))
            return handler

        return declare

    def hears_batches(
        self,
        contract: type[F],
        *,
        max_wait_seconds: float = 0.05,
        max_batch: int = 5000,
        max_pending: int = 100_000,
    ) -> Callable[[BatchHandler[F]], BatchHandler[F]]:
        """Take a firehose of a live contract in lists of at most ``max_batch``."""

        def declare(handler: BatchHandler[F]) -> BatchHandler[F]:
            self.all.append(
                Route(
                    Way.BATCHES,
                    contract,
                    handler,
                    max_wait_seconds=max_wait_seconds,
                    max_batch=max_batch,
                    max_pending=max_pending,
                )
            )
            return handler

        return declare

    def answers(
        self, contract: type[Q], *, at_once: int = 64
    ) -> Callable[[AnswerHandler[Q]], AnswerHandler[Q]]:
        """Answer questions of a contract; ``AskError`` answers with its problem, others with "internal"."""

        def declare(handler: AnswerHandler[Q]) -> AnswerHandler[Q]:
            self.all.append(Route(Way.ASK, contract, handler, at_once))
            return handler

        return declare
