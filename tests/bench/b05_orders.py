"""B5: from an order to its visible result: one after the other, then three hundred in flight.

One real host-agent; ledger, journal, spool and streams are fsynced. Beside it, in the same run: the floor
of the bus (request/reply), and salt and celery where they are installed.
"""

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import nats
from nats.aio.msg import Msg
from tests.bench.celery_stand import celery
from tests.bench.measure import Row, percentile
from tests.bench.ordering import PACKAGES, Stand, stand
from tests.bench.salt_stand import salt

from muster_contracts.command.v1 import Body
from muster_contracts.package.v1 import RunScript, SignalPackage, StopSignal
from muster_testing.servers import NatsServer, free_port

TIMES = 300
IN_FLIGHT = 300
SUSTAINED_SECONDS = 8.0
_WARM_UP = 20
_SALT_TIMES = 30
_HOST = "host-1"


def run() -> list[Row]:
    """Peers first, each alone on the machine; then Muster."""
    with tempfile.TemporaryDirectory() as name:
        peers = _peers(Path(name))
    floor = asyncio.run(_floor())
    return asyncio.run(_muster(floor, peers))


def _peers(directory: Path) -> dict[str, list[float]]:
    """Seconds of each round trip, by peer."""
    found = {}
    with salt(directory, 1) as master:
        if master:
            found["salt test.ping"] = master.pings(_SALT_TIMES)
    with celery(directory) as worker:
        if worker:
            found["celery add"] = worker.round_trips(TIMES)
    return found


async def _floor() -> list[float]:
    """Request and reply through the broker alone, nothing durable."""
    with NatsServer(port=free_port()) as server:
        asker, answerer = await nats.connect(server.url), await nats.connect(server.url)

        async def answer(message: Msg) -> None:
            await message.respond(b"")

        await answerer.subscribe("floor", cb=answer)
        await answerer.flush()
        took = [await _timed(lambda: asker.request("floor", b"", 5)) for _ in range(TIMES)]
        await asker.close()
        await answerer.close()
    return took


async def _timed(do: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await do()
    return time.perf_counter() - began


async def _muster(floor: list[float], peers: dict[str, list[float]]) -> list[Row]:
    async with stand([_HOST]) as here:
        signals = await _sequential(here, _signal)
        scripts = await _sequential(here, lambda _: RunScript(script="nothing"))
        rate = await _sustained(here)
        here.check()
        return [*_latency(signals, scripts, floor, peers), *_throughput(here, rate)]


def _signal(number: int) -> Body:
    return SignalPackage(package=f"p{number % PACKAGES}", signal=StopSignal.WINCH)


async def _sequential(here: Stand, body: Callable[[int], Body]) -> list[float]:
    took = [await here.order(body(number), f"id={_HOST}") for number in range(_WARM_UP + TIMES)]
    return [seconds * 1000 for seconds in took[_WARM_UP:]]


async def _sustained(here: Stand) -> float:
    """Results a second while so many orders are always on their way."""
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def order_on(number: int) -> int:
        done = 0
        while loop.time() < began + SUSTAINED_SECONDS:
            await here.order(_signal(number), f"id={_HOST}")
            done += 1
        return done

    done = sum(await asyncio.gather(*(order_on(number) for number in range(IN_FLIGHT))))
    return done / (loop.time() - began)


def _latency(
    signals: list[float], scripts: list[float], floor: list[float], peers: dict[str, list[float]]
) -> list[Row]:
    median, worst = percentile(signals, 50), percentile(signals, 99)
    least = percentile(floor, 50) * 1000
    what = f"order until result, {TIMES} one by one, p50"
    rows = [
        Row("B5", what, median, "ms", "<= 10 ms", median <= 10, least, "NATS request/reply", median / least),
        Row("B5", "the same, p99", worst, "ms", "<= 40 ms", worst <= 40),
        Row("B5", "a script (/bin/true), p50", percentile(scripts, 50), "ms", "", None,
            note=f"p99 {percentile(scripts, 99):.1f} ms"),
    ]  # fmt: skip
    for name, took in peers.items():
        theirs = percentile(took, 50) * 1000
        enough = theirs / median >= 15 if name.startswith("salt") else None
        target = ">= 15x" if name.startswith("salt") else ""
        note = "durable beside not durable" if name.startswith("celery") else ""
        rows.append(Row("B5", what, median, "ms", target, enough, theirs, name, theirs / median, note))
    return rows


def _throughput(here: Stand, rate: float) -> list[Row]:
    doubled = here.results.doubled
    return [
        Row("B5", f"results, {IN_FLIGHT} in flight", rate, "/s", ">= 500 /s", rate >= 500),
        Row("B5", "results told twice", doubled, "", "0", doubled == 0,
            note=f"of {len(here.results.heard):,}"),
    ]  # fmt: skip
