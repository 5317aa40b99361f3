"""The watchdog: notices consumers that vanished, drifted or went silent, mends them or complains."""

import asyncio
import logging
import time
from dataclasses import replace

from nats.errors import Error as NatsError
from nats.js.api import DeliverPolicy
from nats.js.errors import APIError, NotFoundError

from muster_bus.service.durable import Durable
from muster_bus.service.pulling import PULL_SECONDS, BoundJetStream, Pull
from muster_bus.streams import Consumer, consumer_config, reconcile_consumer

log = logging.getLogger("muster.bus")

LOOK_EVERY_SECONDS = 5.0
SILENT_SECONDS = 2 * PULL_SECONDS
STUCK_SECONDS = 300.0
"""A handler that works on one message for longer than this is complained of."""


class Watchdog:
    """Looks after the durable consumers of one service, every ``LOOK_EVERY_SECONDS``."""

    def __init__(self, jetstream: BoundJetStream, watched: dict[str, tuple[Consumer, Durable]]) -> None:
        self._jetstream = jetstream
        self._watched = watched
        self._floors: dict[str, int] = {}
        self._wrong: dict[str, str] = {}

    async def watch(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_SECONDS)
            if self._jetstream._link.up.is_set():  # noqa: SLF001  (ours)
                try:
                    await self.look()
                except Exception:
                    log.exception("the watchdog stumbled; it looks again")

    async def look(self) -> None:
        """One look at each consumer: level, not edge."""
        for consumer, _ in self._watched.values():
            try:
                await self._look_at(consumer)
            except (APIError, NatsError, TimeoutError) as error:
                self._wrong[consumer.name] = f"cannot look after {consumer.name}: {error or 'no answer'}"
            else:
                self._wrong.pop(consumer.name, None)

    def complaints(self) -> list[str]:
        """What is wrong now, for people; empty when all is well."""
        return [
            *self._wrong.values(),
            *(complaint for pull in self._jetstream.pulls.values() if (complaint := _of_pull(pull))),
            *(
                f"the handler of {name} has worked on one message for {durable.longest_seconds:.0f} s"
                for name, (_, durable) in self._watched.items()
                if durable.longest_seconds > STUCK_SECONDS
            ),
        ]

    async def _look_at(self, consumer: Consumer) -> None:
        try:
            info = await self._jetstream.consumer_info(consumer.stream, consumer.name, timeout=2)
        except NotFoundError:
            await self._make_again(consumer)
            return
        if info.ack_floor:
            self._floors[consumer.name] = info.ack_floor.stream_seq
        for change in await reconcile_consumer(self._jetstream, consumer):
            log.warning("mended: %s", change)

    async def _make_again(self, consumer: Consumer) -> None:
        """From where it had acknowledged to, if the stream is still the same; else from the beginning."""
        state = (await self._jetstream.stream_info(consumer.stream)).state
        config = consumer_config(consumer)
        floor = self._floors.get(consumer.name, 0)
        if 0 < floor <= state.last_seq:
            config = replace(config, deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=floor + 1)
        await self._jetstream.add_consumer(consumer.stream, config)
        log.warning("made consumer %s again: it had vanished", consumer.name)


def _of_pull(pull: Pull) -> str | None:
    if pull.missing_since is not None:
        return f"consumer {pull.consumer} or its stream {pull.stream} is missing"
    if (silent := time.monotonic() - pull.last_word) > SILENT_SECONDS:
        return f"consumer {pull.consumer} has been silent for {silent:.0f} s"
    return None
