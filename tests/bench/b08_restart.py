"""B8: from the end of a service to its next process, among 20 services, killed at random moments.

The driver alone is measured, as it is called by the keeper of a package. Beside it the limit of this machine
(a pidfd and one posix_spawn) and, where they are installed, supervisord and runit.
"""

import asyncio
import contextlib
import os
import random
import select
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench.measure import Row, percentile
from tests.bench.peers import program

from host_agent.adapters.process_driver import ProcessDriver
from host_agent.domain.package import Loaded
from muster_contracts.package.specification import Specification

_SERVICES = 20
_KILLS = 40
_SLOW_KILLS = 6
"""Of peers that take a second each time."""
_SLEEP = shutil.which("sleep") or "/bin/sleep"


def run() -> list[Row]:
    """Kill and wait for another process, again and again."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        limit = _limit()
        ours = asyncio.run(_driver(directory))
        peers = {
            title: statistics.median(_peer(command, directory / title, kills)) * 1000
            for title, command, kills in (
                ("supervisord", _supervisord, _SLOW_KILLS),
                ("runit", _runit, _KILLS),
            )
            if program({"runit": "runsv"}.get(title, title))
        }
    return _rows(ours, limit, peers)


def _rows(ours: list[float], limit: list[float], peers: dict[str, float]) -> list[Row]:
    median, worst = statistics.median(ours) * 1000, percentile(ours, 99) * 1000
    floor = statistics.median(limit) * 1000
    what = "from kill -9 to the next process, median"
    rows = [
        Row("B8", what, median, "ms", "<= 10 ms", median <= 10, floor, "pidfd+spawn", median / floor),
        Row("B8", "the same, 99th percentile", worst, "ms", "<= 25 ms", worst <= 25),
    ]
    for name, took in peers.items():
        ratio = took / median
        enough = ratio >= 100 if name == "supervisord" else None
        target = ">= 100x" if name == "supervisord" else ""
        rows.append(Row("B8", what, median, "ms", target, enough, took, name, ratio))
    return rows


async def _driver(directory: Path) -> list[float]:
    driver = ProcessDriver(directory / "state", directory / "log")
    packages = [_package(directory, number) for number in range(_SERVICES)]
    runs = {package.name: await driver.start(package) for package in packages}
    took = []
    try:
        for _ in range(_KILLS):
            package = random.choice(packages)
            ending = asyncio.create_task(driver.wait(package, runs[package.name]))
            await asyncio.sleep(random.uniform(0.01, 0.1))
            pid = runs[package.name].pid
            assert pid
            began = time.perf_counter()
            os.kill(pid, signal.SIGKILL)
            await ending
            runs[package.name] = await driver.start(package)
            took.append(time.perf_counter() - began)
    finally:
        for package in packages:
            await driver.stop(package, runs[package.name])
        driver.close()
    return took


def _package(directory: Path, number: int) -> Loaded:
    spec = Specification(name=f"bench-{number}", command=[_SLEEP, "1000"])
    return Loaded(spec, directory / "package.json", "b" * 64)


def _limit() -> list[float]:
    """As quick as a program can be that does nothing but this."""
    took = []
    for _ in range(_KILLS):
        pid = os.posix_spawn(_SLEEP, [_SLEEP, "1000"], {})
        handle = os.pidfd_open(pid)
        began = time.perf_counter()
        os.kill(pid, signal.SIGKILL)
        select.select([handle], [], [])
        os.waitpid(pid, 0)
        other = os.posix_spawn(_SLEEP, [_SLEEP, "1000"], {})
        took.append(time.perf_counter() - began)
        os.close(handle)
        os.kill(other, signal.SIGKILL)
        os.waitpid(other, 0)
    return took


# Peers: each service writes its pid into a file and then sleeps -----------------------------------------


def _peer(
    start: Callable[[Path, list[str]], "contextlib.AbstractContextManager[None]"],
    directory: Path,
    kills: int,
) -> Iterator[float]:
    directory.mkdir()
    names = [f"s{number}" for number in range(_SERVICES)]
    for name in names:
        (directory / f"{name}.sh").write_text(f"echo $$ > {directory}/{name}.pid\nexec {_SLEEP} 1000\n")
    with start(directory, names):
        for name in names:
            _pid(directory, name, not_pid=0)
        time.sleep(1.5)  # until the peer believes that they are up
        for _ in range(kills):
            name = random.choice(names)
            pid = _pid(directory, name, not_pid=0)
            time.sleep(random.uniform(1.1, 1.6))  # who ran shorter is put off by both of them
            began = time.perf_counter()
            os.kill(pid, signal.SIGKILL)
            _pid(directory, name, not_pid=pid)
            yield time.perf_counter() - began


def _pid(directory: Path, name: str, not_pid: int) -> int:
    """The pid a service has, once it is another."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError):
            if (pid := int((directory / f"{name}.pid").read_text())) != not_pid:
                return pid
        time.sleep(0.0005)
    raise TimeoutError(f"cannot see {name} again")


@contextlib.contextmanager
def _supervisord(directory: Path, names: list[str]) -> Iterator[None]:
    services = "".join(
        f"[program:{name}]\ncommand=/bin/sh {directory}/{name}.sh\nautorestart=true\nstdout_logfile=NONE\n"
        for name in names
    )
    config = directory / "supervisord.conf"
    config.write_text(
        f"[supervisord]\nnodaemon=true\nlogfile=/dev/null\nlogfile_maxbytes=0\n"
        f"pidfile={directory}/pid\nchildlogdir={directory}\n{services}"
    )
    where = program("supervisord")
    assert where
    with _running([where, "-n", "-c", str(config)]):
        yield


@contextlib.contextmanager
def _runit(directory: Path, names: list[str]) -> Iterator[None]:
    where = program("runsv")
    assert where
    with contextlib.ExitStack() as stack:
        for name in names:
            service = directory / name
            service.mkdir()
            (service / "run").write_text(f"#!/bin/sh\nexec /bin/sh {directory}/{name}.sh\n")
            (service / "run").chmod(0o755)
            stack.enter_context(_running([where, str(service)]))
        yield


@contextlib.contextmanager
def _running(command: list[str]) -> Iterator[None]:
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        child.terminate()
        child.wait(15)
