"""How much memory and CPU an idle host-agent takes: prints, judges nothing (performance B7 and B10).

Run it as ``python services/host-agent/tools/footprint.py [SECONDS]`` on a machine that does nothing else.
"""

# ruff: noqa: INP001  (a script, in no package)

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from host_agent.adapters.linux import LinuxKernel
from host_agent.adapters.portable import PortableKernel
from host_agent.domain.speaker import Speaker
from host_agent.domain.vitals import vitals
from muster_contracts.agent.v1 import Hello, Welcome
from muster_testing.ground import Ground

PROGRAM = str(Path(sys.executable).with_name("host-agent"))
MIB = 1 << 20


async def main(seconds: float) -> None:
    """Measure two agents side by side, one of them with a health port."""
    show_samples()
    async with Ground("plain", "served") as ground:
        registry = await ground.bus("fleet-registry")
        await registry.answer(Hello, welcome)
        agents = {name: start(ground, name, served=name == "served") for name in ("plain", "served")}
        try:
            await asyncio.sleep(5)
            show_memory(agents, "5 s after the start")
            before = {name: sum(agent.cpu_times()[:2]) for name, agent in agents.items()}
            await asyncio.sleep(seconds)
            show_memory(agents, f"after {seconds:.0f} s more")
            for name, agent in agents.items():
                used = sum(agent.cpu_times()[:2]) - before[name]
                say(f"{name:8} CPU {100 * used / seconds:.2f} % of a core, idle, heartbeat 5 s, vitals 15 s")
        finally:
            for agent in agents.values():
                agent.terminate()
            psutil.wait_procs(list(agents.values()), 10)


async def welcome(hello: Hello) -> Welcome:
    """Grant everybody 5 s."""
    return Welcome(agent_id=hello.agent_id, interval_seconds=5, deadline_seconds=12.5)


def start(ground: Ground, name: str, *, served: bool) -> psutil.Process:
    """A host-agent as it is installed."""
    state = Path(tempfile.mkdtemp(dir=ground.directory)) / "state"
    state.mkdir(mode=0o700)
    seed = ground.settings(name).seed_file
    assert seed
    shutil.copy(seed, state / "agent.seed")
    (state / "agent-id").write_text(f"{name}\n")
    environment = {**os.environ, "HOST_AGENT_SERVERS": ground.server.url, "HOST_AGENT_STATE_DIR": str(state)}
    if served:
        environment["HOST_AGENT_HEALTH_PORT"] = "0"
    return psutil.Process(subprocess.Popen([PROGRAM], env=environment, stderr=subprocess.DEVNULL).pid)


def show_memory(agents: dict[str, psutil.Process], when: str) -> None:
    """Resident, proportional and own memory."""
    for name, agent in agents.items():
        memory = agent.memory_full_info()
        rss, pss, uss = (getattr(memory, kind) / MIB for kind in ("rss", "pss", "uss"))
        say(
            f"{name:8} RSS {rss:.1f} MiB, PSS {pss:.1f}, own {uss:.1f}, {agent.num_threads()} threads, {when}"
        )


def show_samples() -> None:
    """CPU time of one sample, from the kernel to the bytes that travel."""
    speaker, at = Speaker("web-1", "000000000000-000000000000", "0"), LinuxKernel().describe().booted_at
    for name, kernel in (("/proc", LinuxKernel()), ("psutil", PortableKernel())):
        took = cpu_time(lambda: vitals(kernel.read(), 0, speaker, at).model_dump_json())  # noqa: B023  (called at once)
        say(f"one sample by {name}: {1000 * took:.3f} ms of CPU")


def cpu_time(work: Callable[[], object], rounds: int = 300) -> float:
    """Seconds of CPU one call takes, on average."""
    started = time.process_time()
    for _ in range(rounds):
        work()
    return (time.process_time() - started) / rounds


def say(text: str) -> None:
    """Print one line."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]) if len(sys.argv) > 1 else 60))
