"""B7: what an idle host-agent costs, beside the least a Python agent can be and any peer this machine has."""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.bench.ground import Ground, ground
from tests.bench.measure import Row
from tests.bench.peers import peers
from tests.bench.processes import Cost, Watch

from muster_agent.identity import Identity as Born
from muster_bus.broker import Identity
from muster_bus.bus import Bus
from muster_bus.identity import Keypair
from muster_contracts.agent.v1 import Heartbeat, Hello, Welcome
from muster_contracts.message import Role
from muster_testing.wait import until

SECONDS = float(os.environ.get("MUSTER_BENCH_FOOTPRINT_SECONDS", "60"))
_MIB = 1 << 20
_AGENT, _FLOOR = "host-agent", "floor"


def run() -> list[Row]:
    """Agent and floor side by side on one broker."""
    return asyncio.run(_run())


async def _run() -> list[Row]:
    with ExitStack() as stack:
        state = Path(stack.enter_context(_directory("muster-footprint")))
        born, key = Born.ensure(state), Keypair.generate()
        key.save(state / "floor.seed")
        people = [
            Identity(Role.HOST_AGENT, born.agent_id, born.keypair.public),
            Identity(Role.HOST_AGENT, _FLOOR, key.public),
        ]
        async with ground(agents=people) as here:
            commands = {
                _AGENT: [str(Path(sys.executable).parent / "host-agent")],
                _FLOOR: [
                    sys.executable, "-m", "tests.bench.floor", here.nats.url, _FLOOR, f"{state}/floor.seed",
                ],
                **peers(state),
            }  # fmt: skip
            env = _agent_env(here, state)
            pids = {name: stack.enter_context(_process(argv, env)) for name, argv in commands.items()}
            costs = await _measure(here, born.agent_id, list(pids.values()))
    return _rows({name: costs[pid] for name, pid in pids.items()})


async def _measure(here: Ground, agent_id: str, pids: list[int]) -> dict[int, Cost]:
    """Wait until both beat, then measure; hellos are answered as the registry would."""
    heard: set[str] = set()

    async def hear(beat: Heartbeat) -> None:
        heard.add(beat.agent_id)

    async def welcome(hello: Hello) -> Welcome:
        return Welcome(agent_id=hello.agent_id, interval_seconds=5, deadline_seconds=12.5)

    bus = await Bus.connect(here.settings(Role.FLEET_REGISTRY), first_try_seconds=10)
    try:
        await bus.answer(Hello, welcome)
        await bus.hear(Heartbeat, hear)
        await until(lambda: agent_id in heard, seconds=20)
        watch = Watch(pids)
        await asyncio.sleep(SECONDS)
        return watch.cost()
    finally:
        await bus.close()


def _rows(costs: dict[str, Cost]) -> list[Row]:
    """The agent beside each of the others; the targets are its own."""
    agent = costs.pop(_AGENT)
    rss, met = agent.rss / _MIB, agent.rss <= 40 * _MIB
    rows = []
    for name, other in costs.items():
        theirs = other.rss / _MIB
        rows.append(
            Row("B7", "host-agent, resident", rss, "MiB", "<= 40 MiB", met, theirs, name, rss / theirs)
        )
        ratio = agent.pss / other.pss
        what = "host-agent, proportional"
        rows.append(Row("B7", what, agent.pss / _MIB, "MiB", "", None, other.pss / _MIB, name, ratio))
        what, share = f"host-agent, of a core over {SECONDS:.0f} s", agent.cpu * 100
        rows.append(Row("B7", what, share, "%", "<= 0.5 %", share <= 0.5, other.cpu * 100, name))
    return rows


def _agent_env(here: Ground, state: Path) -> dict[str, str]:
    return {
        "HOST_AGENT_SERVERS": f'["{here.nats.url}"]',
        "HOST_AGENT_STATE_DIR": str(state),
        "HOST_AGENT_INTERVAL_SECONDS": "5",
        "HOST_AGENT_SAMPLE_SECONDS": "15",
    }


@contextmanager
def _directory(prefix: str) -> Iterator[str]:
    path = tempfile.mkdtemp(prefix=prefix)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _process(command: list[str], env: dict[str, str]) -> Iterator[int]:
    """A process that ends with the block; its pid."""
    child = subprocess.Popen(
        command, env=os.environ | env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield child.pid
    finally:
        child.kill()
        child.wait(10)
