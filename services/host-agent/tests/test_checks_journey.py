"""A real agent, a real package and its checks, as an operator hears of them over a real broker."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from muster_bus.bus import Bus
from muster_contracts.health.v1 import CheckChanged, CheckList, CheckResult, ChecksRan, Health, ListChecks
from muster_contracts.package.v1 import PackageChanged, PackageDescribed, PackagesFound
from muster_testing.ground import Ground
from muster_testing.hosts import host_agent
from muster_testing.servers import free_port
from muster_testing.wait import until

WHO = "web-1"
PROGRAM = """
import http.server, os, pathlib, sys
body = pathlib.Path("body")
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        found = body.read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(found)))
        self.end_headers()
        self.wfile.write(found)
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Page).serve_forever()
"""
QUICK = {"every_seconds": 0.25, "timeout_seconds": 0.5, "failures": 2}


class Machine:
    """An agent with one package, and what is heard of it."""

    def __init__(self, ground: Ground, directory: Path) -> None:
        self.ground, self.home = ground, directory / "packages" / "web"
        self.port = free_port()
        self.changes: list[CheckChanged] = []
        self.results: list[CheckResult] = []
        self.packages: list[Any] = []
        self.bus: Bus

    def describe(self, *checks: dict[str, Any]) -> None:
        """Write package.json in one step."""
        self.home.mkdir(parents=True, exist_ok=True)
        beside = self.home / ".new"
        beside.write_text(
            json.dumps(
                {
                    "name": "web",
                    "command": [sys.executable, "-c", PROGRAM, str(self.port)],
                    "ready": {"tcp_port": self.port},
                    "checks": [each | QUICK for each in checks],
                }
            )
        )
        beside.replace(self.home / "package.json")

    def http(self) -> dict[str, Any]:
        """Whether the page says that all is well."""
        url = f"http://127.0.0.1:{self.port}/"
        return {"name": "page", "check": {"kind": "http", "url": url, "body_contains": "well"}}

    async def listen(self) -> None:
        """Hear what an operator may."""
        self.bus = await self.ground.bus("operator")
        await self.bus.hear(CheckChanged, self._change)
        await self.bus.hear(ChecksRan, self._ran)
        for kind in (PackageChanged, PackageDescribed, PackagesFound):
            await self.bus.hear(kind, self._package)

    async def _change(self, fact: CheckChanged) -> None:
        self.changes.append(fact)

    async def _ran(self, fact: ChecksRan) -> None:
        self.results += fact.results

    async def _package(self, fact: Any) -> None:
        self.packages.append(fact)

    def pid(self) -> int:
        """Of the package's process, as last said."""
        said = [each.pid for each in self.packages if isinstance(each, PackageChanged) and each.pid]
        return said[-1]

    async def holds(self, check: str, health: Health, reason: str = "") -> CheckChanged:
        """The change that was said last of a check, once it is this."""

        def last() -> CheckChanged | None:
            said = [each for each in self.changes if each.check == check]
            well = said and said[-1].now is health and reason in {"", said[-1].reason}
            return said[-1] if well else None

        found = await until(last, 30)
        assert found
        return found

    def looks_until(self, change: CheckChanged) -> list[Health]:
        """What the looks that led to a change saw, the oldest first."""
        looks = [each for each in self.results if each.check == change.check]
        before = [each.seen for each in looks if each.at <= change.occurred_at]
        return before[-change.looks :]


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    async with Ground(WHO) as ground:
        made = Machine(ground, tmp_path)
        try:
            yield made
        finally:
            for child in _left(made.port):
                child.kill()


def _left(port: int) -> list[psutil.Process]:
    """The package's processes, wherever they are now."""
    wanted = [PROGRAM, str(port)]
    return [each for each in psutil.process_iter(["cmdline"]) if (each.info["cmdline"] or [])[-2:] == wanted]


async def test_a_wrong_page_and_a_process_that_hangs_are_seen_and_so_is_their_end(
    machine: Machine, tmp_path: Path
) -> None:
    machine.describe(machine.http(), {"name": "process", "check": {"kind": "process"}})
    body = machine.home / "body"
    body.write_text("all is well")
    await machine.listen()
    settings = {"HOST_AGENT_LOG_DIR": str(tmp_path / "log")}
    with host_agent(machine.ground, WHO, packages=[machine.home.parent], settings=settings):
        await machine.holds("page", Health.OK)
        await machine.holds("process", Health.OK)
        assert {type(each) for each in machine.packages} == {PackageChanged, PackageDescribed, PackagesFound}

        body.write_text("oh dear")
        ill = await machine.holds("page", Health.CRITICAL, "body")
        assert ill.looks == 2
        await until(lambda: machine.looks_until(ill) == [Health.CRITICAL] * 2, 10)
        assert machine.changes[-1] is ill, "the process is well"
        body.write_text("well again")
        await machine.holds("page", Health.OK)

        os.kill(machine.pid(), signal.SIGSTOP)
        await machine.holds("process", Health.CRITICAL, "stopped")
        await machine.holds("page", Health.CRITICAL, "timeout")
        os.kill(machine.pid(), signal.SIGCONT)
        await machine.holds("process", Health.OK)
        await machine.holds("page", Health.OK)

        question = ListChecks(occurred_at=datetime.now(UTC), agent_id=WHO)
        told: CheckList = await machine.bus.ask(question, timeout=10)
        assert [(each.check, each.health, each.waiting) for each in told.checks] == [
            ("page", Health.OK, False),
            ("process", Health.OK, False),
        ]

        pid = machine.pid()
        machine.describe(machine.http())
        gone = await until(lambda: next((each for each in machine.changes if each.now is None), None), 30)
        assert gone
        assert (gone.check, gone.reason) == ("process", "removed")
        assert machine.pid() == pid
        assert await asyncio.to_thread(psutil.pid_exists, pid)
