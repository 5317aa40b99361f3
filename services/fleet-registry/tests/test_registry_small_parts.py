"""Small parts of the registry when what they lean on fails, is slow, or says old things."""

import asyncio
import urllib.error
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from registry_world import world

from fleet_registry.adapters.advisories import Connections
from fleet_registry.adapters.identities import Identities
from fleet_registry.address_book import AddressBook
from fleet_registry.domain.agent import Agent
from fleet_registry.domain.holds import HOLD_SECONDS, Holds
from fleet_registry.fleet_view import FleetView
from fleet_registry.hearing import Hearing
from fleet_registry.main import serve
from fleet_registry.ports import Unavailable
from muster_contracts.agent.v1 import LeaveReason, Left
from muster_contracts.fleet.v1 import Presence
from muster_contracts.ids import make_epoch
from muster_contracts.selector import parse
from muster_runtime import Shutdown, SystemClock, Tasks
from muster_testing.wait import until

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
FIRST, SECOND = make_epoch("a" * 12, 1), make_epoch("a" * 12, 2)

# What the broker tells ---------------------------------------------------------------------------------


class Listing(Connections):
    """The connections of a broker that answers only while it is up."""

    def __init__(self) -> None:
        super().__init__(cast("Any", None), cast("Any", SimpleNamespace(agent_of=lambda key: key or None)))
        self.up = True

    async def _servers(self) -> list[str]:
        return ["S"]

    async def _page(self, server: str, query: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        if not self.up:
            raise TimeoutError
        one = {"cid": 1, "ip": "10.0.0.1", "port": 4711, "authorized_user": "web-1"}
        return server, {"total": 1, "connections": [one]}

    def connected(self) -> None:
        """As an advisory says it: without the port."""
        self._open["web-1"]["S", 1] = "10.0.0.1"
        self._portless["S", 1] = "web-1"


@pytest.mark.parametrize("complete", [True, False])
async def test_a_listing_that_failed_is_made_up_for(complete: bool) -> None:
    broker = Listing()
    broker.complete, broker.up = complete, False
    broker.connected()
    with pytest.raises(TimeoutError):
        await broker._fetch()
    assert broker._closed is None  # or every connection that ends would be noted for ever
    assert broker._asking.is_set()
    broker.up = True
    await broker._fetch()
    assert broker.address("web-1") == "10.0.0.1:4711"
    assert broker.complete


def test_a_file_of_identities_that_cannot_be_read_is_not_tried_for_every_stranger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "identities.json"
    path.write_text('{"UA": {"role": "host-agent", "name": "web-1"}}')
    identities = Identities(path)
    assert identities.agent_of("UA") == "web-1"
    path.write_text("no json at all")
    tried: list[Path] = []
    read = Path.read_text

    def noted(self: Path) -> str:
        tried.append(self)
        return read(self)

    monkeypatch.setattr(Path, "read_text", noted)
    assert [identities.agent_of(f"U{n}") for n in range(20)] == [None] * 20
    assert tried == [path]


# What agents say ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("epoch", "held"), [(FIRST, True), (SECOND, False)])
async def test_only_the_goodbye_of_the_present_run_ends_the_hold_of_its_connection(
    epoch: str, held: bool
) -> None:
    async def take(_: object) -> None:
        """Nothing to record here."""

    holds = Holds()
    holds.dropped("web-1", NOON, now=10.0)
    parts: dict[str, Any] = dict.fromkeys(("grants", "goodbyes", "addresses"))
    index, roll = SimpleNamespace(live_epoch=lambda _: SECOND), SimpleNamespace(take=take)
    hearing = Hearing(
        holds=holds, index=cast("Any", index), roll=cast("Any", roll), clock=SystemClock(), **parts
    )
    await hearing.left(Left(occurred_at=NOON, agent_id="web-1", epoch=epoch, reason=LeaveReason.SHUTDOWN))
    assert bool(holds.due(10.0 + HOLD_SECONDS)) is held


# What is written and answered --------------------------------------------------------------------------


async def test_addresses_that_could_not_be_written_are_written_later_and_merged() -> None:
    written: list[dict[str, str]] = []
    outages = [Unavailable("away"), RuntimeError("broken")]

    async def write(addresses: dict[str, str]) -> None:
        if outages:
            book.note({"web-2": "c:3", "web-3": f"d:{len(outages)}"})  # the broker goes on meanwhile
            raise outages.pop()
        written.append(addresses)

    book = AddressBook(write, pause_seconds=0)
    book.note({"web-1": "a:1", "web-2": "b:2"})
    async with Tasks(pause=lambda _: 0) as tasks:
        tasks.spawn("remember addresses", book.keep_writing)
        await until(lambda: written)
    assert written == [{"web-1": "a:1", "web-2": "c:3", "web-3": "d:1"}]


async def test_a_page_that_would_not_fit_into_a_message_ends_early_and_leads_on() -> None:
    labels = {f"k{n:02}{'x' * 60}/{'y' * 63}": "z" * 63 for n in range(40)}
    fleet = [Agent(f"web-{n:03}", NOON, presence=Presence.ONLINE, declared=labels) for n in range(500)]

    async def find(_: object, __: object, after: str | None, limit: int) -> tuple[list[Agent], int]:
        return [one for one in fleet if one.id > (after or "")][:limit], len(fleet)

    async def nothing(*_: object) -> dict[str, Any]:
        return {}

    parts: dict[str, Any] = dict.fromkeys(("roll", "grants", "outbox", "clock"))
    index = SimpleNamespace(seen=nothing, degraded=None)
    queries = SimpleNamespace(find=find, groups=nothing)
    view = FleetView(queries=cast("Any", queries), index=cast("Any", index), **parts)
    seen: list[str] = []
    after = None
    while len(seen) < len(fleet):
        page = await view.page(parse(""), (), after, 500)
        assert len(page.model_dump_json()) < 600_000
        seen, after = seen + [row.id for row in page.agents], page.next
    assert seen == [one.id for one in fleet]
    assert after is None


async def test_a_round_that_keeps_crashing_makes_the_registry_unready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crash(_: object) -> None:
        raise RuntimeError("broken")

    port_file, shutdown = tmp_path / "port", Shutdown()
    async with world(tmp_path) as here:
        with monkeypatch.context() as broken:
            broken.setattr("fleet_registry.rounds.Rounds.sweep", crash)
            broken.setattr("fleet_registry.main.collect_garbage_seldom", lambda: None)
            settings = here.settings(health_port_file=port_file)
            serving = asyncio.create_task(serve(settings, shutdown))
            await until(lambda: port_file.exists() or serving.done())
            await until(lambda: _unready(int(port_file.read_text())))
        shutdown.request("the test is over")
        await serving


async def _unready(port: int) -> bool:
    def ask() -> str:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5).close()
        except urllib.error.HTTPError as error:
            with error:
                return str(error.read().decode())
        return ""

    return "task sweep crashed" in await asyncio.to_thread(ask)


async def test_facts_and_index_carry_the_name_of_the_database(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.registry() as registry:
        assert registry.roll.realm == registry.redis.realm == await registry.store.realm()
