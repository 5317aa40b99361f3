"""Routes onto a FastStream broker: the one place that knows its subscribers.

FastStream is given no models: each handler gets the raw message and everything that decides about it is
ours, so that neither its injection (a thread per parameter) nor its acknowledgement policies (which lose,
or loop) take part (decision 4).
"""

import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from faststream import AckPolicy
from faststream.message import StreamMessage
from faststream.nats import JStream, NatsBroker, NatsResponse, PullSub
from nats.aio.client import Client
from nats.aio.msg import Msg

from muster_bus.answering import Doorkeeper, Unanswerable, answer_to
from muster_bus.deadletters import DeadLetters
from muster_bus.hearing import Hearing
from muster_bus.metrics import Counters
from muster_bus.reading import CONTRACT_HEADER, PROBLEM_HEADER, Reader
from muster_bus.service.durable import Durable
from muster_bus.service.routes import Route, Way
from muster_bus.streams import Consumer, consumer_name, stream_of
from muster_bus.subjects import group_of, subject_to_hear
from muster_bus.tracing import continued
from muster_contracts.message import Problem

log = logging.getLogger("muster.bus")

PULL_BATCH = 64
GRACE_SECONDS = 5.0


class LentBroker(NatsBroker):
    """A FastStream broker on a connection that somebody else opened and will close."""

    def __init__(self) -> None:
        super().__init__(
            apply_types=False,
            logger=None,
            graceful_timeout=GRACE_SECONDS,
            ack_policy=AckPolicy.MANUAL,
            decoder=_raw,
        )
        self.lent: Client | None = None

    async def _connect(self) -> Client:
        assert self.lent is not None
        self.config.connect(self.lent)
        return self.lent

    async def give_back(self) -> None:
        """Stop the subscribers, waiting for what they work on, and leave the connection open."""
        await super(NatsBroker, self).stop()
        self._connection = None
        self.config.disconnect()


Watched = dict[str, tuple[Consumer, Durable]]
"""Durable consumers by name, with what works on them: what the watchdog looks after."""


def mount(
    broker: NatsBroker, service: str, routes: Iterable[Route], dead_letters: DeadLetters, counters: Counters
) -> Watched:
    """Subscribe each route's handler; it begins to hear when the broker starts.

    Returns the durable consumers among them. A firehose is mounted message by message: that is for a Stage.
    """
    watched: Watched = {}
    for route in routes:
        match route.way:
            case Way.DURABLE:
                watched |= _mount_durable(broker, service, route, dead_letters, counters)
            case Way.ASK:
                _mount_ask(broker, service, route, counters)
            case Way.LIVE:
                hearing: Hearing[Any] = Hearing(route.contract, route.handler, dead_letters, counters)
                _mount_live(broker, service, route, hearing.take)
            case Way.BATCHES:
                one_by_one = _as_batches_of_one(route)
                hearing = Hearing(route.contract, one_by_one, dead_letters, counters)
                _mount_live(broker, service, route, hearing.take)
    return watched


def _mount_durable(
    broker: NatsBroker, service: str, route: Route, dead_letters: DeadLetters, counters: Counters
) -> Watched:
    name, stream = consumer_name(service, route.contract), stream_of(route.contract)
    durable = Durable(route, dead_letters, counters)
    subscriber = broker.subscriber(
        route.contract.SUBJECT.pattern,
        stream=JStream(stream, declare=False),
        durable=name,
        pull_sub=PullSub(batch_size=PULL_BATCH),
        no_reply=True,
    )
    subscriber(_named(durable.take, route))
    return {name: (Consumer(stream, name, service, route.contract), durable)}


def _mount_live(
    broker: NatsBroker, service: str, route: Route, take: Callable[[Msg], Awaitable[None]]
) -> None:
    subject = subject_to_hear(route.contract, None)
    subscriber = broker.subscriber(
        subject, queue=group_of(service, route.contract), no_reply=True, max_workers=route.at_once
    )
    subscriber(_named(take, route))


def _mount_ask(broker: NatsBroker, service: str, route: Route, counters: Counters) -> None:
    reader: Reader[Any] = Reader.of(route.contract)
    name, door = route.contract.contract(), Doorkeeper(route.contract, counters)

    async def take(raw: Msg) -> NatsResponse:
        door.check(raw)
        contract_name = (raw.headers or {}).get(CONTRACT_HEADER)
        with continued(raw.headers):
            answer = await answer_to(raw.subject, raw.data, contract_name, reader, route.handler)
        counters.add("answered", name)
        problem = isinstance(answer, Problem)
        if problem:
            counters.add("answered_with_problem", name)
        headers = {PROBLEM_HEADER: answer.code} if isinstance(answer, Problem) else {}
        # Without a correlation id of ours FastStream would send back the asker's, whatever it holds.
        return NatsResponse(answer.model_dump_json().encode(), headers=headers, correlation_id=name)

    subscriber = broker.subscriber(
        subject_to_hear(route.contract, None),
        queue=group_of(service, route.contract),
        max_workers=route.at_once,
    )
    subscriber(_named(take, route))


def _as_batches_of_one(route: Route) -> Callable[[Any], Awaitable[None]]:
    async def handle(message: Any) -> None:
        await route.handler([message])

    return handle


def _named(take: Callable[[Msg], Awaitable[Any]], route: Route) -> Callable[[Msg], Awaitable[Any]]:
    """A function of its own for each route, with the handler's name and promise, as FastStream shows them."""

    async def handler(raw: Msg) -> Any:
        try:
            return await take(raw)
        except Unanswerable:
            raise  # FastStream swallows it and answers nobody, which is what is wanted
        except Exception:
            # FastStream would swallow it in silence; a durable message comes back after its wait.
            log.exception("cannot finish with a message of %s", route.contract.contract())
            raise

    handler.__name__ = route.handler.__name__
    handler.__doc__ = route.handler.__doc__
    return handler


async def _raw(message: StreamMessage[Msg]) -> Msg:
    return message.raw_message
