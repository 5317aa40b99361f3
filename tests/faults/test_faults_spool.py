"""The broker dies again and again: facts with a spool and one id arrive once; the twins without do not."""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from muster_bus import Bus, MusterError
from muster_bus.spool import FileSpool
from muster_contracts.agent.v1 import Reconfigured
from muster_testing.ground import Ground

EPOCH = "0123456789ab-018f00000000"
FACTS = 300
Say = Callable[[Reconfigured], Awaitable[None]]


def fact(agent_id: str, number: int) -> Reconfigured:
    return Reconfigured(occurred_at=datetime.now(UTC), agent_id=agent_id, epoch=EPOCH, changed=[str(number)])


async def say_all(agent_id: str, say: Say) -> None:
    """One fact after the other, a few milliseconds apart."""
    for number in range(FACTS):
        await say(fact(agent_id, number))
        await asyncio.sleep(0.005)


async def kill_the_broker(ground: Ground, until_done: "asyncio.Future[Any]") -> int:
    """``kill -9`` and start again, a few times a second, until all is said."""
    kills = 0
    while not until_done.done():
        await asyncio.sleep(0.15)
        await asyncio.to_thread(ground.server.restart)
        kills += 1
    return kills


async def arrived(ground: Ground, agent_id: str) -> Counter[int]:
    """How often the stream has each of an agent's facts."""
    js = (await ground.bus("provisioner")).client.jetstream()
    subject = Reconfigured.SUBJECT.bound(agent_id)
    kept = (await js.stream_info("AGENT", subjects_filter=subject)).state.subjects or {}
    inbox = await js.subscribe(subject, ordered_consumer=True)
    facts = [json.loads((await inbox.next_msg(timeout=10)).data) for _ in range(sum(kept.values()))]
    return Counter(int(one["changed"][0]) for one in facts)


def insistent(bus: Bus) -> Say:
    """Says everything twice, as whoever did not see that it was kept must; the id makes it one."""

    async def say(fact: Reconfigured) -> None:
        await bus.say(fact)
        await bus.say(fact)

    return say


def forgetful(bus: Bus) -> Say:
    """The twin without a spool: what the broker does not take at once is gone."""

    async def say(fact: Reconfigured) -> None:
        with contextlib.suppress(MusterError):
            await bus.say_now(fact, timeout=0.3)

    return say


def stammering(bus: Bus) -> Say:
    """The twin without one id per fact: unsure whether one was kept, it says it again as a new one."""

    async def say(fact: Reconfigured) -> None:
        for saw_it in (False, True):  # the first acknowledgement is lost on its way, as a crash would lose it
            with contextlib.suppress(MusterError):
                await bus.say_now(fact.model_copy(update={"message_id": uuid4()}), timeout=0.3)
                if saw_it:
                    return

    return say


async def test_every_fact_with_a_spool_and_an_id_arrives_once_and_the_twins_lose_or_repeat() -> None:
    async with Ground("careful", "forgetful", "stammering") as ground:
        spool = FileSpool(ground.directory / "spool.sqlite")
        careful = await ground.bus("careful", spool=spool)
        sayings = asyncio.gather(
            say_all("careful", insistent(careful)),
            say_all("forgetful", forgetful(await ground.bus("forgetful"))),
            say_all("stammering", stammering(await ground.bus("stammering"))),
        )
        kills = await kill_the_broker(ground, sayings)
        await sayings
        await careful.settled()
        assert kills >= 3
        assert await arrived(ground, "careful") == dict.fromkeys(range(FACTS), 1)
        assert len(await arrived(ground, "forgetful")) < FACTS
        assert max((await arrived(ground, "stammering")).values()) > 1
        spool.close()
