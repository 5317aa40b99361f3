"""B1: heartbeats per second, from the socket to presence being up to date, of 1,000 agents at a blast."""

import asyncio
import secrets
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

from tests.bench.blaster import Battery, Blaster
from tests.bench.contestants import INTERVAL_SECONDS, Contestant, in_memory, limit, muster, naive
from tests.bench.ground import Ground, ground
from tests.bench.measure import PAIRS, Row

from muster_runtime import collect_garbage_seldom
from muster_testing.wait import until

Opening = Callable[[Ground], AbstractAsyncContextManager[Contestant]]

_VOLLEY = 40_000
_SMALL_VOLLEY = 8_000
"""For the warm-up, and for FastStream, which is ten times slower."""


def run() -> list[Row]:
    """Muster, the limit and FastStream in turn, five times."""
    return asyncio.run(_run())


async def _run() -> list[Row]:
    collect_garbage_seldom()  # as the registry's process does; everybody has the good of it
    battery = Battery(port=0, secret=secrets.token_hex(32), interval=INTERVAL_SECONDS)
    ours, limits, naives, dicts = [], [], [], []
    async with ground(battery.roster) as here:
        with Blaster(replace(battery, port=here.nats.port)) as blaster:
            for _ in range(PAIRS):
                ours.append(await _rate(here, muster, blaster, _VOLLEY))
                limits.append(await _rate(here, limit, blaster, _VOLLEY))
                naives.append(await _rate(here, naive, blaster, _SMALL_VOLLEY))
                dicts.append(await _rate(here, in_memory, blaster, _SMALL_VOLLEY))
    return [
        _row(ours, limits, "nats-py + msgspec + ZADD", 0.5),
        _row(ours, naives, "FastStream + Pydantic + ZADD", 8),
        _row(ours, dicts, "FastStream + Pydantic + dict", None),
    ]


def _row(ours: list[float], theirs: list[float], name: str, least: float | None) -> Row:
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    mine, other = statistics.median(ours), statistics.median(theirs)
    target, met = ("", None) if least is None else (f">= {least:g} x", ratio >= least)
    return Row("B1", "heartbeats ingested", mine, "/s", target, met, other, name, ratio)


async def _rate(here: Ground, opening: Opening, blaster: Blaster, count: int) -> float:
    """Heartbeats per second of one volley; a smaller one goes before, so that all agents are known."""
    async with opening(here) as contestant:
        await _volley(contestant, blaster, _SMALL_VOLLEY)
        return count / await _volley(contestant, blaster, count)


async def _volley(contestant: Contestant, blaster: Blaster, count: int) -> float:
    """Seconds from the order to fire until presence is up to date."""
    await asyncio.to_thread(blaster.load, count)
    contestant.reset()
    began = time.perf_counter()
    blaster.fire()
    await until(lambda: contestant.seen >= count, seconds=30, every=0.002)
    took = time.perf_counter() - began
    await asyncio.to_thread(blaster.done)
    return took
