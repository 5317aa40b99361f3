"""Looks that connect, and the resolver that may hang."""

import asyncio
import socket
import threading
from collections.abc import Generator, Sequence
from pathlib import Path

import pytest
from looks_ground import descriptors, says, seen, serving

from host_agent.adapters.looks import connecting
from host_agent.adapters.looks.bounded import Bounded
from host_agent.adapters.looks.connecting import MOST_LOOKUPS, Connecting
from host_agent.adapters.looks.tcp import TcpLook
from host_agent.domain.look import Seen
from muster_contracts.health.v1 import Health
from muster_contracts.package.specification import TcpCheck
from muster_testing.wait import until


async def test_a_port_that_accepts_is_well(tmp_path: Path) -> None:
    before = descriptors()
    async with serving(says(b"")) as port:
        for host in ("127.0.0.1", "localhost"):
            found = await seen(tmp_path, "tcp", port=port, host=host)
            assert (found.health, found.text) == (Health.OK, f"{host} port {port} accepts connections")
    await until(lambda: descriptors() <= before)


async def test_a_port_that_nobody_is_at_is_critical(tmp_path: Path) -> None:
    async with serving(says(b"")) as port:
        pass
    for host in ("127.0.0.1", "localhost", "::1"):
        found = await seen(tmp_path, "tcp", port=port, host=host)
        assert found.health is Health.CRITICAL
        assert found.reason in {"refused", "unreachable"}  # a machine may have no IPv6


async def test_a_port_whose_queue_is_full_is_a_timeout_that_leaves_no_socket(tmp_path: Path) -> None:
    before = descriptors()
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        port = deaf.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            found = await seen(tmp_path, "tcp", port=port, timeout_seconds=0.2)
    assert (found.health, found.reason) == (Health.CRITICAL, "timeout")
    assert found.text == f"not done within 0.2 s, while connecting to 127.0.0.1 port {port}"
    assert descriptors() <= before


class Resolver:
    """One that hangs until it is told to answer."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.go_on = threading.Event()
        self.answer: Sequence[str] | Exception = ["127.0.0.1"]

    def look_up(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        self.go_on.wait(60)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def resolver() -> Generator[Resolver]:
    """It; at the end nobody waits for it any more."""
    made = Resolver()
    yield made
    made.go_on.set()
    for thread in threading.enumerate():
        if thread.name == "resolver":
            thread.join(10)


async def look(resolver: Resolver, port: int, host: str = "web.example", seconds: float = 20.0) -> Seen:
    look = TcpLook(TcpCheck(kind="tcp", port=port, host=host))
    look._connecting = Connecting(host, port, resolver.look_up)
    return await Bounded(look, seconds).look()


async def test_a_name_is_looked_up_and_each_of_its_addresses_tried(resolver: Resolver) -> None:
    resolver.go_on.set()
    resolver.answer = ["127.0.0.2", "127.0.0.1"]
    async with serving(says(b"")) as port:
        assert (await look(resolver, port)).health is Health.OK
    assert resolver.asked == ["web.example"]


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (
            socket.gaierror(-2, "Name or service not known"),
            "cannot find web.example: Name or service not known",
        ),
        (UnicodeError("label too long"), "cannot find web.example: it is no name of a host"),
        ([], "cannot find web.example: it has no address"),
    ],
)
async def test_a_name_that_nobody_knows_is_critical(
    resolver: Resolver, answer: Sequence[str] | Exception, text: str
) -> None:
    resolver.go_on.set()
    resolver.answer = answer
    found = await look(resolver, 1)
    assert (found.health, found.reason, found.text) == (Health.CRITICAL, "dns", text)


async def test_the_systems_resolver_is_asked(tmp_path: Path) -> None:
    found = await seen(tmp_path, "tcp", port=1, host="no-such-host.invalid")
    assert (found.health, found.reason) == (Health.CRITICAL, "dns")
    assert connecting.look_up("localhost")


async def test_a_resolver_that_hangs_is_a_timeout_and_is_asked_once(resolver: Resolver) -> None:
    async with serving(says(b"")) as port:
        one = TcpLook(TcpCheck(kind="tcp", port=port, host="web.example"))
        one._connecting = Connecting("web.example", port, resolver.look_up)
        bounded = Bounded(one, 0.05)
        for _ in range(3):
            found = await bounded.look()
            assert found.text == "not done within 0.05 s, while waiting for the resolver to find web.example"
        resolver.go_on.set()
        assert (await one.look()).health is Health.OK
    assert resolver.asked == ["web.example"]


async def test_resolvers_that_hang_hold_up_no_other_work(resolver: Resolver) -> None:
    looks = [asyncio.create_task(look(resolver, 1, f"web-{n}.example")) for n in range(MOST_LOOKUPS + 1)]
    await until(looks[-1].done)
    assert (looks[-1].result().health, looks[-1].result().reason) == (Health.UNKNOWN, "resolver-busy")
    assert await asyncio.to_thread(lambda: "done") == "done"
    resolver.go_on.set()
    assert {(await one).reason for one in looks[:-1]} <= {"refused"}


async def test_the_loops_own_resolver_would_hold_up_all_other_work(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *_: resolver.look_up(str(host)))
    loop = asyncio.get_running_loop()
    lookups = [asyncio.ensure_future(loop.getaddrinfo(f"web-{n}.example", 1)) for n in range(40)]
    other = asyncio.create_task(asyncio.to_thread(lambda: "done"))
    await until(lambda: len(resolver.asked) > 4)
    assert not (await asyncio.wait([other], timeout=0.2))[0]
    resolver.go_on.set()
    assert await other == "done"
    await asyncio.gather(*lookups)
