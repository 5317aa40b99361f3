"""What operators ask, over a real bus: rows, pages, labels, groups, and problems that say what to do."""

import json
import subprocess
import sys
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from registry_world import World, now, world
from sqlalchemy.exc import IntegrityError

from fleet_registry import hearing
from fleet_registry.adapters.identities import Identities
from fleet_registry.counting import NEWS_DROPPED
from fleet_registry.domain.grants import GrantPolicy
from fleet_registry.domain.holds import HOLD_SECONDS, RECONNECTED_SECONDS, Holds
from fleet_registry.domain.pace import RUNS_AT_ONCE, Pace
from fleet_registry.granting import TELL_AGAIN_SECONDS, Grants
from fleet_registry.handlers import discerning
from fleet_registry.hearing import Newsroom
from fleet_registry.ports import Beat, News
from fleet_registry.settings import RegistrySettings
from muster_bus import AskFailed, Reject
from muster_contracts.agent.v1 import AgentKind, Heartbeat
from muster_contracts.fleet.v1 import (
    DefineGroup,
    DeleteGroup,
    ExpectAgent,
    FindAgents,
    GetHistory,
    GetSummary,
    ListGroups,
    Presence,
    RetireAgent,
    SetLabels,
)
from muster_contracts.host.v1 import Described
from muster_contracts.ids import make_epoch
from muster_runtime import ConfigurationError, HealthServer, SystemClock
from muster_runtime.metrics import Gauge
from muster_testing.wait import until


async def test_an_operator_finds_labels_and_groups_agents(tmp_path: Path) -> None:
    names = ["db-1", "web-1", "web-2"]
    async with world(tmp_path, *names) as here, here.registry():
        for name in names:
            await here.agent(name, labels={"site": "ams", "role": name[:-2]})
        page = await here.ask(FindAgents(occurred_at=now(), selector="id=web-*,site=ams", limit=1))
        assert ([one.id for one in page.agents], page.total, page.next) == (["web-1"], 2, "web-1")
        rest = await here.ask(FindAgents(occurred_at=now(), selector="id=web-*", after="web-1", limit=1))
        assert ([one.id for one in rest.agents], rest.next) == (["web-2"], None)
        assert rest.agents[0].last_seen
        assert rest.agents[0].agent_version == "1.2.3"
        assert rest.agents[0].address

        groups = await here.ask(DefineGroup(occurred_at=now(), name="canaries", selector="canary"))
        assert [(group.name, group.members) for group in groups.groups] == [("canaries", 0)]
        labels = {"canary": "", "site": "fra"}
        labelled = await here.ask(SetLabels(occurred_at=now(), agent_id="web-1", labels=labels))
        assert labelled.agent.labels == {"site": "fra", "role": "web", "canary": ""}
        assert labelled.declared_labels["site"] == "ams"
        assert labelled.agent.groups == ["canaries"]
        page = await here.ask(FindAgents(occurred_at=now(), selector="group=canaries"))
        assert [one.id for one in page.agents] == ["web-1"]
        assert page.agents[0].groups == ["canaries"]
        page = await here.ask(FindAgents(occurred_at=now(), selector="group=canaries", brief=True))
        assert ([(one.id, one.groups) for one in page.agents], page.total) == ([("web-1", [])], 1)
        taken_back = await here.ask(SetLabels(occurred_at=now(), agent_id="web-1", labels={"site": None}))
        assert taken_back.agent.labels["site"] == "ams"

        await here.ask(DeleteGroup(occurred_at=now(), name="canaries"))
        assert (await here.ask(ListGroups(occurred_at=now()))).groups == []


async def test_the_summary_counts_everybody_as_soon_as_it_is_recorded(tmp_path: Path) -> None:
    async with world(tmp_path, "web-1") as here, here.registry():
        agent = await here.agent("web-1")
        await here.ask(ExpectAgent(occurred_at=now(), agent_id="web-9"))
        summary = await here.ask(GetSummary(occurred_at=now()))
        assert (summary.by_state[Presence.ONLINE], summary.by_state[Presence.EXPECTED], summary.total) == (
            1,
            1,
            2,
        )
        assert summary.by_kind == {"host": 2}
        await here.ask(RetireAgent(occurred_at=now(), agent_id="web-9"))
        await agent.leave()
        await until(lambda: here.last_said("web-1") == "left")
        summary = await here.ask(GetSummary(occurred_at=now()))
        assert (summary.by_state[Presence.LEFT], summary.by_state[Presence.RETIRED], summary.total) == (
            1,
            1,
            1,
        )
        assert summary.interval_seconds == 0.3
        assert summary.degraded is None


async def test_what_an_agent_describes_itself_as_is_kept(tmp_path: Path) -> None:
    async with world(tmp_path, "web-1") as here, here.registry():
        agent = await here.agent("web-1")
        described = Described(
            occurred_at=now(), agent_id="web-1", epoch=agent.epoch, agent_version="1.2.3", hostname="web-1",
            os="Debian", kernel="Linux", architecture="x86_64", python="3.11", cpu_count=2, memory_bytes=1,
            booted_at=now(),
        )  # fmt: skip
        assert agent._bus
        await agent._bus.say(described)
        await until(lambda: _is_described(here))


async def _is_described(here: World) -> bool:
    return ((await here.detail("web-1")).description or {}).get("os") == "Debian"


PROBLEMS: list[tuple[Any, str, str]] = [
    (FindAgents(occurred_at=now(), selector="site=,=x"), "invalid", "cannot read .* at position 6"),
    (GetHistory(occurred_at=now(), agent_id="nobody"), "not-found", "cannot find nobody"),
    (GetHistory(occurred_at=now(), agent_id="web-1", before="x"), "invalid", "cannot go on before 'x'"),
    (RetireAgent(occurred_at=now(), agent_id="nobody"), "not-found", "cannot find nobody"),
    (SetLabels(occurred_at=now(), agent_id="nobody", labels={"a": "b"}), "not-found", "cannot find nobody"),
    (DefineGroup(occurred_at=now(), name="all", selector="group=x"), "invalid", "cannot define all: "),
]


async def test_a_question_that_cannot_be_answered_says_why(tmp_path: Path) -> None:
    async with world(tmp_path, "web-1") as here, here.registry():
        await here.agent("web-1")
        for question, code, text in PROBLEMS:
            with pytest.raises(AskFailed, match=f"^{text}") as problem:
                await here.ask(question)
            assert problem.value.code == code


EPOCH = make_epoch("a" * 12, 1)
FIGURES = [
    "heartbeats_total",
    "sweep_seconds_bucket",
    "connection_seconds_bucket",
    "stale_agents",
    "degraded",
    "outbox_letters",
    "last_seen_age_seconds",
    "granted_interval_seconds",
]


async def test_metrics_tell_of_the_fleet_without_a_series_per_agent(tmp_path: Path) -> None:
    names = [f"web-{n}" for n in range(5)]
    async with world(tmp_path, *names) as here, here.registry(), HealthServer() as health:
        agents = await here.agents(names)
        await agents[0].kill()
        await until(lambda: here.last_said("web-0") == "lost")
        shown = await _scrape(health)
        assert 'muster_fleet_agents{state="online"} 4.0' in shown
        assert 'muster_fleet_presence_changes_total{now="lost",reason="disconnected"}' in shown
        for name in FIGURES:
            assert f"muster_fleet_{name}" in shown
        assert "web-1" not in shown


async def test_series_per_agent_are_shown_where_they_are_switched_on(tmp_path: Path) -> None:
    name, alone = "muster_fleet_agent_last_seen_timestamp_seconds", {"per_agent_metrics": True}
    async with world(tmp_path, "web-1") as here, here.registry(**alone), HealthServer() as health:
        await here.agent("web-1")
        assert f'{name}{{agent_id="web-1"}}' in await _scrape(health)
    del Gauge.all[name]  # gauges belong to the process, and this one goes on


async def _scrape(health: HealthServer) -> str:
    import asyncio

    def get() -> str:
        with urllib.request.urlopen(f"{health.url}/metrics", timeout=5) as reply:
            return str(reply.read().decode())

    return await asyncio.to_thread(get)


async def test_newcomers_wait_their_turn_and_a_later_beat_stands_in_for_an_earlier_one() -> None:
    decided: list[int] = []

    class Slow:
        clock, pace = SystemClock(), Pace()

        async def decide(self, news: list[Any]) -> list[str]:
            decided.append(len(news))
            return [beat.agent_id for _, beat in news]

    newsroom = Newsroom(Slow())  # type: ignore[arg-type]
    for _ in range(3):
        newsroom.put((News(Beat(f"web-{n}", EPOCH, 5.0)), _heartbeat(f"web-{n}")) for n in range(1200))
    assert len(newsroom) == 1200
    strangers = [one for _ in range(3) for one in await newsroom.work()]
    assert decided == [500, 500, 200]
    assert len(set(strangers)) == 1200


class Desk:
    """Decides what it is given, unless it is about web-13, at an hour of one's choice."""

    def __init__(self) -> None:
        self.clock, self.pace, self.hour = self, Pace(), 0.0
        self.decided: list[tuple[str, str]] = []

    def monotonic(self) -> float:
        return self.hour

    async def decide(self, news: list[Any]) -> list[str]:
        if any(beat.agent_id == "web-13" for _, beat in news):
            raise IntegrityError("INSERT", {}, Exception())
        self.decided += [(beat.agent_id, beat.epoch) for _, beat in news]
        return [beat.agent_id for _, beat in news]


def _told(agent_id: str, epoch: str = EPOCH) -> tuple[News, Heartbeat]:
    return News(Beat(agent_id, epoch, 5.0)), _heartbeat(agent_id, epoch)


def _heartbeat(agent_id: str, epoch: str = EPOCH) -> Heartbeat:
    return Heartbeat(
        occurred_at=now(), agent_id=agent_id, kind=AgentKind.HOST, epoch=epoch, sequence=0, interval_seconds=5
    )


@pytest.mark.parametrize(
    "epochs",
    [
        [make_epoch("a" * 12, start) for start in range(3000)],
        [make_epoch(f"{boot:012x}", 1) for boot in range(3000)],
    ],
    ids=["of one machine", "of ever another machine"],
)
async def test_an_agent_that_speaks_under_ever_new_runs_takes_two_places_and_begins_one_a_second(
    epochs: list[str],
) -> None:
    desk = Desk()
    newsroom = Newsroom(desk)  # type: ignore[arg-type]
    for hour in range(60):
        desk.hour = float(hour)
        for start in range(hour * 50, hour * 50 + 50, 10):
            newsroom.put(_told("web-1", epoch) for epoch in epochs[start : start + 10])
            newsroom.put([_told("web-2")])
            assert len(newsroom) <= 3
            await newsroom.work()
    begun = {epoch for agent_id, epoch in desk.decided if agent_id == "web-1"}
    assert len(begun) <= 60 + RUNS_AT_ONCE
    assert desk.decided.count(("web-2", EPOCH)) == 300
    assert len(desk.pace) <= 2


async def test_a_room_that_is_full_drops_news_of_more_agents_and_counts_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hearing, "AGENTS_WAITING", 10)
    newsroom, before = Newsroom(Desk()), NEWS_DROPPED.get("full")  # type: ignore[arg-type]
    newsroom.put(_told(f"web-{n}") for n in range(12))
    newsroom.put([_told("web-0")])
    assert (len(newsroom), NEWS_DROPPED.get("full") - before) == (10, 2)


async def test_news_that_cannot_be_decided_costs_no_other_agent_its_own() -> None:
    desk = Desk()
    newsroom = Newsroom(desk)  # type: ignore[arg-type]
    newsroom.put(_told(f"web-{n}") for n in range(20))
    strangers = await newsroom.work()
    assert strangers == [f"web-{n}" for n in range(20) if n != 13]
    assert len(newsroom) == 0


async def test_what_can_never_be_recorded_is_rejected_and_not_tried_again() -> None:
    async def record(_: object) -> None:
        raise ValueError("year 10889 is out of range")

    with pytest.raises(Reject, match="cannot record it: year 10889"):
        await discerning(record)(None)


async def test_an_agent_that_welcomes_itself_without_end_is_told_to_wait(tmp_path: Path) -> None:
    async with world(tmp_path, "web-1") as here, here.registry():
        agent = await here.agent("web-1")
        refused: list[str] = []
        for start in range(30):
            agent.epoch = make_epoch("a" * 12, 1_000_000_000_000 + start)
            try:
                await agent.hello()
            except AskFailed as problem:
                refused.append(problem.code)
        assert set(refused) == {"unavailable"}


# Small parts -------------------------------------------------------------------------------------------

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_a_broken_connection_is_judged_after_its_hold_and_until_then_only_held() -> None:
    holds = Holds()
    holds.dropped("web-1", NOON, now=10.0)
    assert holds.due(10.0 + HOLD_SECONDS - 0.01) == {}
    assert holds.due(10.0 + HOLD_SECONDS) == {"web-1": NOON}
    assert holds.due(99.0) == {"web-1": NOON}  # until it is judged
    holds.judged("web-1")
    assert not holds


def test_a_registry_that_was_deaf_waits_for_the_next_connection_once_more() -> None:
    holds = Holds()
    holds.dropped("web-1", NOON, now=10.0)
    holds.postpone(20.0)
    assert holds.due(20.0 + HOLD_SECONDS - 0.01) == {}
    assert holds.due(20.0 + HOLD_SECONDS) == {"web-1": NOON}


def test_what_was_on_its_way_when_the_connection_ended_is_no_sign_of_another() -> None:
    holds = Holds()
    holds.dropped("web-1", NOON, now=10.0)
    holds.spoke(["web-1"])
    assert holds.due(99.0) == {"web-1": NOON}


def test_a_run_that_speaks_through_a_new_connection_is_not_held_any_more() -> None:
    holds = Holds()
    holds.dropped("web-1", NOON, now=10.0)
    holds.connected("web-1", now=10.1)
    assert holds.due(10.0 + HOLD_SECONDS) == {}
    assert holds.dropped_at("web-1") == NOON
    holds.spoke(["web-1"])
    assert holds.dropped_at("web-1") is None


def test_a_new_connection_that_says_nothing_is_left_to_its_silence() -> None:
    holds = Holds()
    holds.dropped("web-1", NOON, now=10.0)
    holds.connected("web-1", now=10.1)
    assert holds.due(10.1 + RECONNECTED_SECONDS) == {}
    assert not holds


def test_an_agent_is_told_of_its_interval_again_but_not_with_every_beat() -> None:
    grants = Grants(GrantPolicy())
    assert grants.to_tell([("web-1", 5.0), ("web-2", 9.0)], 0.0) == ["web-2"]
    assert grants.to_tell([("web-2", 9.0)], TELL_AGAIN_SECONDS - 1) == []
    assert grants.to_tell([("web-2", 9.0)], TELL_AGAIN_SECONDS) == ["web-2"]


def test_a_key_is_an_agents_only_if_the_file_says_so_and_the_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "identities.json"
    identities = Identities(path)
    assert identities.agent_of("UA") is None
    roles = {"UA": {"role": "host-agent", "name": "web-1"}, "UB": {"role": "operator", "name": "x"}}
    path.write_text(json.dumps(roles))
    identities._failed_at = float("-inf")
    assert identities.agent_of("UA") == "web-1"
    assert identities.agent_of("UB") is None
    assert [one for one in ("web-1", "web-2", "x") if identities.is_given(one)] == ["web-1"]
    path.write_text("no json")
    identities._failed_at = float("-inf")
    assert identities.agent_of("UC") is None
    assert identities.agent_of("UA") == "web-1"


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    path = tmp_path / "registry.yaml"
    path.write_text("presence:\n  interval_seconds: -1\n")
    with pytest.raises(ConfigurationError, match=r"presence\.interval_seconds"):
        RegistrySettings.load(path, {})


def test_settings_come_from_the_environment() -> None:
    environment = {
        "FLEET_REGISTRY_NATS_URL": "nats://a:1,nats://b:2",
        "FLEET_REGISTRY_PRESENCE__HOLD_SECONDS": "2",
    }
    settings = RegistrySettings.load(None, environment)
    assert settings.bus().servers == ["nats://a:1", "nats://b:2"]
    assert settings.presence.hold_seconds == 2
    assert settings.system_bus() is None


def test_the_command_explains_its_settings() -> None:
    command = [sys.executable, "-m", "fleet_registry.main", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    assert "FLEET_REGISTRY_DATABASE_URL" in shown
