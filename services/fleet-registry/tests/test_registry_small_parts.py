"""Small parts of the registry when what they lean on fails, is slow, or says old things."""

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fleet_registry.adapters.advisories import Connections
from fleet_registry.adapters.identities import Identities
from fleet_registry.domain.holds import HOLD_SECONDS, Holds
from fleet_registry.hearing import Hearing
from muster_contracts.agent.v1 import LeaveReason, Left
from muster_contracts.ids import make_epoch
from muster_runtime import SystemClock

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
