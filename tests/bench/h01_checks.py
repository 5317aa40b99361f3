"""H1: 500 checks of one agent: how late looks begin and what the agent takes, beside a loop that connects.

A look is as late as its own report says it began (``ChecksRan``) after the beat that a hash of its name
picks, which is reckoned here on the machine's own clock.
"""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from tests.bench.measure import Row, percentile

from host_agent.domain.schedule import share
from muster_contracts.agent.v1 import Hello, Welcome
from muster_contracts.health.v1 import CheckResult, ChecksRan
from muster_contracts.package.v1 import PackageChanged
from muster_testing.ground import Ground
from muster_testing.hosts import host_agent
from muster_testing.servers import free_port
from muster_testing.wait import until

EVERY = float(os.environ.get("MUSTER_BENCH_CHECKS_EVERY", "30"))
SECONDS = float(os.environ.get("MUSTER_BENCH_CHECKS_SECONDS", "61"))
_AGENT = "checked"
_PACKAGES = 10
_KINDS = {"tcp": 20, "http": 15, "process": 13, "script": 2}
"""Checks of each package by kind."""
_COUNT = _PACKAGES * sum(_KINDS.values())
_BARE = "bare loop that connects"
_SLEEP, _TRUE = shutil.which("sleep") or "/bin/sleep", shutil.which("true") or "/bin/true"


@dataclass
class Heard:
    """What the agent said."""

    results: list[CheckResult] = field(default_factory=list)
    pids: dict[str, int] = field(default_factory=dict)

    async def ran(self, fact: ChecksRan) -> None:
        """Looks."""
        self.results += fact.results

    async def changed(self, fact: PackageChanged) -> None:
        """A package's process."""
        if fact.pid:
            self.pids[fact.package] = fact.pid


@dataclass
class Measured:
    """How late each look began, in seconds, and shares of a core."""

    late: list[float]
    cpu: float
    scripts: float = 0.0
    rss: int = 0


def run() -> list[Row]:
    """Agent and bare loop side by side."""
    agent, bare = asyncio.run(_run())
    note = f"{_COUNT} checks every {EVERY:g} s, {len(agent.late)} looks"
    rows = []
    for percent, target in ((50, None), (99, 100.0)):
        ours, theirs = percentile(agent.late, percent) * 1000, percentile(bare.late, percent) * 1000
        met = None if target is None else ours < target
        wished = "" if target is None else f"< {target:g} ms"
        what = f"a look begins after its beat, p{percent}"
        rows.append(Row("H1", what, ours, "ms", wished, met, theirs, _BARE, note=note))
    cpu = agent.cpu * 100
    rows.append(Row("H1", "agent, of a core", cpu, "%", "< 2 %", cpu < 2, bare.cpu * 100, _BARE))
    rows.append(Row("H1", "its scripts, of a core", agent.scripts * 100, "%", "", None))
    rows.append(Row("H1", "agent, resident", agent.rss / (1 << 20), "MiB", "", None))
    return rows


async def _run() -> tuple[Measured, Measured]:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="muster-checks")))
        port = free_port()
        stack.enter_context(_process("serve", port))
        _put_packages(directory, port)
        async with Ground(_AGENT) as ground:
            heard = await _listen(ground)
            stack.callback(_end, heard)
            settings = {"HOST_AGENT_LOG_DIR": str(directory / "log"), "HOST_AGENT_INTERVAL_SECONDS": "5"}
            with host_agent(ground, _AGENT, packages=[directory], settings=settings) as agent:
                await until(lambda: len({_name(each) for each in heard.results}) == _COUNT, EVERY + 30)
                return await _measure(agent.pid, heard, port)


async def _listen(ground: Ground) -> Heard:
    async def welcome(hello: Hello) -> Welcome:
        return Welcome(agent_id=hello.agent_id, interval_seconds=5, deadline_seconds=12.5)

    heard = Heard()
    await (await ground.bus("fleet-registry")).answer(Hello, welcome)
    operator = await ground.bus("operator")
    await operator.hear(ChecksRan, heard.ran)
    await operator.hear(PackageChanged, heard.changed)
    return heard


async def _measure(pid: int, heard: Heard, port: int) -> tuple[Measured, Measured]:
    """Both over the same seconds."""
    # The second look comes up to half a period later than a beat: only what follows is on the beats.
    await asyncio.sleep(1.5 * EVERY)
    process = psutil.Process(pid)
    with _process("floor", port, _COUNT, EVERY, SECONDS) as bare:
        heard.results.clear()
        before, began = process.cpu_times(), time.monotonic()
        await asyncio.sleep(SECONDS)
        after, took = process.cpu_times(), time.monotonic() - began
        results, rss = list(heard.results), process.memory_info().rss
        out, _ = await asyncio.to_thread(bare.communicate, timeout=30)
    agent = Measured(
        [_late(each) for each in results],
        (after.user + after.system - before.user - before.system) / took,
        (after.children_user + after.children_system - before.children_user - before.children_system) / took,
        rss,
    )
    return agent, Measured(**json.loads(out))


def _late(result: CheckResult) -> float:
    """Seconds after the nearest beat; before it, too: a timer may be early."""
    began = result.at.timestamp() - (time.time() - time.monotonic())
    beat = share(_AGENT, result.package, result.check) * EVERY
    after = (began - beat) % EVERY
    return min(after, EVERY - after)


def _name(result: CheckResult) -> tuple[str, str]:
    return result.package, result.check


def _put_packages(directory: Path, port: int) -> None:
    kinds: dict[str, dict[str, Any]] = {
        "tcp": {"port": port},
        "http": {"url": f"http://127.0.0.1:{port}/", "body_contains": "well"},
        "process": {
            "memory_critical_bytes": 1 << 40,
            "cpu_critical_percent": 999,
            "files_critical": 1 << 20,
        },
        "script": {"command": [_TRUE]},
    }
    checks = [
        {"name": f"{kind}-{number}", "check": {"kind": kind, **kinds[kind]}, "every_seconds": EVERY}
        for kind, count in _KINDS.items()
        for number in range(count)
    ]
    for number in range(_PACKAGES):
        home = directory / f"p{number}"
        home.mkdir()
        described = {"name": home.name, "command": [_SLEEP, "1000"], "checks": checks}
        (home / "package.json").write_text(json.dumps(described))


@contextmanager
def _process(*arguments: object) -> "Iterator[subprocess.Popen[bytes]]":
    """A part of ``h01_floor`` that ends with the block."""
    command = [sys.executable, "-m", "tests.bench.h01_floor", *map(str, arguments)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def _end(heard: Heard) -> None:
    """A killed agent leaves its packages running."""
    for pid in heard.pids.values():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
