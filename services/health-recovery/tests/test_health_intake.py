"""The one door to the picture: batches, outages, poison; and what is asked of the leader, on a stage."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from health_desk import Desk, key
from health_facts import NOON, check, described, later, presence, row, state

from health_recovery.domain import hearing
from health_recovery.domain.assessing import Changes
from health_recovery.domain.availability import Stretch
from health_recovery.domain.flapping import FlappingPolicy
from health_recovery.domain.keys import Key
from health_recovery.domain.picture import Picture
from health_recovery.handlers import Known, from_agents, from_historians, from_readers, from_workers
from health_recovery.intake import Intake
from health_recovery.ports import Away, Fenced, Unavailable
from health_recovery.rounds import Rounds
from muster_bus import AskFailed
from muster_contracts.fleet.v1 import AgentRow
from muster_contracts.health.v1 import (
    EndMaintenance,
    ExplainHealth,
    FindHosts,
    FindPackages,
    GetAvailability,
    GetFleetHealth,
    GetHealthHistory,
    GetHostHealth,
    Health,
    HealthHistory,
    ListMaintenance,
    Maintenance,
    SetMaintenance,
)
from muster_testing.stage import Stage


class Shelf:
    """Keeps what is written; ``trouble`` is raised instead while it is set."""

    def __init__(self) -> None:
        self.trouble: Exception | None = None
        self.poison: str | None = None
        self.written: list[Changes] = []
        self.windows: dict[UUID, Maintenance] = {}

    async def load(self) -> Picture:
        return Picture()

    async def write(self, changes: Changes) -> None:
        await asyncio.sleep(0)
        if self.trouble:
            raise self.trouble
        if any(one.package == self.poison for one in changes.packages):
            raise ValueError("cannot write this")
        self.written.append(changes)

    async def add_window(self, told: Maintenance) -> None:
        self.windows.setdefault(told.id, told)

    async def end_window(self, window: UUID, at: datetime) -> None:
        self.windows[window] = self.windows[window].model_copy(update={"until": at})

    async def forget(self, before: datetime) -> bool:
        return False

    async def page(self, ask: GetHealthHistory) -> HealthHistory:
        return HealthHistory(events=[])

    async def stretches(self, wanted: Key, since: datetime, until: datetime) -> list[Stretch]:
        return [Stretch(since, until, Health.OK, maintenance=False)] if wanted.package == "web" else []


class Hands:
    """The clock is the test's."""

    def __init__(self) -> None:
        self.moment = NOON

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return self.moment.timestamp()


class Nobody:
    """No incidents and no recovery."""

    open_count = acting_count = gave_up_count = 0
    dry_run = False

    def open_of(self, wanted: Key) -> None:
        return None

    def case_of(self, wanted: Key) -> None:
        return None

    def acting(self, wanted: Key) -> bool:
        return False

    async def acts_of(self, wanted: Key, limit: int) -> list[Any]:
        return []


class World:
    def __init__(self) -> None:
        self.shelf, self.clock = Shelf(), Hands()
        self.picture = Picture()
        self.intake = Intake(self.picture, self.shelf, self.clock, FlappingPolicy())

    def health(self, name: str) -> str | None:
        package = self.picture.get(key(name))
        return package.health.value if package else None


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    here = World()
    judging = asyncio.create_task(here.intake.run())
    try:
        yield here
    finally:
        judging.cancel()
        await asyncio.wait([judging])


async def test_what_waits_together_is_one_commit() -> None:
    async with world() as here:
        await asyncio.gather(*(here.intake.take(state(f"p{n}@a")) for n in range(50)))
        assert len(here.shelf.written) == 1


@pytest.mark.parametrize("trouble", [Unavailable("away"), Fenced("another leads")])
async def test_what_was_not_written_is_not_in_the_picture_and_its_sayer_is_told(trouble: Exception) -> None:
    async with world() as here:
        await here.intake.take(state("web@a"))
        here.shelf.trouble = trouble
        with pytest.raises(type(trouble)):
            await here.intake.take(state("web@a", "failed", later(1)))
        assert here.health("web@a") == "ok"
        here.shelf.trouble = None
        await here.intake.take(state("web@a", "failed", later(1)))
        assert here.health("web@a") == "critical"


async def test_one_that_cannot_be_written_holds_up_no_other() -> None:
    async with world() as here:
        here.shelf.poison = "bad"
        facts = [state("web@a"), state("bad@a"), state("db@a", "failed")]
        ends = await asyncio.gather(*(here.intake.take(one) for one in facts), return_exceptions=True)
        assert [type(end) for end in ends] == [type(None), ValueError, type(None)]
        assert [here.health(name) for name in ("web@a", "bad@a", "db@a")] == ["ok", None, "critical"]


async def test_time_judges_again_what_an_outage_kept_from_being_written() -> None:
    async with world() as here:
        await here.intake.take(state("web@a"))
        await here.intake.take(state("web@a", "starting", NOON))
        here.clock.moment = later(61)
        here.shelf.trouble = Unavailable("away")
        with pytest.raises(Unavailable):
            await here.intake.tick()
        here.shelf.trouble = None
        await here.intake.tick()
        assert here.health("web@a") == "warning"


async def test_who_waits_when_a_term_ends_is_told() -> None:
    here = World()
    waiting = asyncio.create_task(here.intake.take(state("web@a")))
    await asyncio.sleep(0)
    here.intake.close()
    with pytest.raises(Fenced):
        await waiting


def test_without_skipping_older_facts_a_late_one_makes_a_well_package_ill(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The twin: what the order of facts is for."""
    facts: list[hearing.Fact] = [state("web@a"), check("web@a", "ok", later(10))]
    late = check("web@a", "critical", later(5))
    guarded, careless = Desk(), Desk()
    guarded.one_by_one(*facts)
    guarded.tell(late, now=later(11))
    monkeypatch.setattr(hearing, "supersedes", lambda *_: True)
    careless.one_by_one(*facts)
    careless.tell(late, now=later(11))
    assert (guarded.health("web@a"), careless.health("web@a")) == ("ok", "critical")


class Registry:
    """Lists these, or does not answer."""

    def __init__(self, *rows: AgentRow) -> None:
        self.rows: list[AgentRow] | None = list(rows)

    async def agents(self) -> list[AgentRow]:
        if self.rows is None:
            raise Away("no answer")
        return self.rows


async def test_without_the_registry_judging_goes_on_with_what_is_known() -> None:
    async with world() as here:
        registry = Registry(row("a", labels={"role": "web"}))
        rounds = Rounds(
            intake=here.intake, store=here.shelf, fleet=registry, clock=here.clock, refresh_seconds=30,
            history_days=1,
        )  # fmt: skip
        await rounds.refresh()
        registry.rows = None
        await rounds.refresh()
        assert rounds.complaints()
        await here.intake.take(state("web@a", "failed"))
        assert here.health("web@a") == "critical"
        assert here.picture.host("a").labels == {"role": "web"}
        registry.rows = []
        await rounds.look_again()
        assert not rounds.complaints(), "it need not wait for the next round"


# On a stage ------------------------------------------------------------------------------------------


@asynccontextmanager
async def staged() -> AsyncIterator[tuple[Stage, World]]:
    async with world() as here:
        known = Known(here.picture, Nobody(), Nobody(), lambda: "me")
        stage = Stage()
        stage.cast("health-recovery", [
            from_agents(here.intake), from_readers(known), from_historians(here.shelf, here.clock),
            from_workers(intake=here.intake, store=here.shelf, clock=here.clock),
        ])  # fmt: skip
        async with stage:
            yield stage, here


async def test_the_leader_answers_how_the_fleet_its_hosts_and_its_packages_are() -> None:
    async with staged() as (stage, _):
        for agent in ("a", "b", "c"):
            await stage.tell(presence(agent, labels={"role": "db" if agent == "a" else "web"}))
            await stage.tell(state(f"web@{agent}"))
        await stage.tell(state("db@a", "failed"))
        await stage.tell(described("web@b", relies=[("db", "role=db")], checks=["http"]))
        await stage.tell(check("web@b"))
        fleet = await stage.ask(GetFleetHealth(occurred_at=NOON))
        assert (fleet.fleet.health, fleet.fleet.agents.critical, fleet.fleet.suppressed) == ("critical", 2, 1)
        assert fleet.leader == "me"
        hosts = await stage.ask(FindHosts(occurred_at=NOON, selector="role=web", limit=1))
        assert ([one.agent for one in hosts.hosts], hosts.total, hosts.next) == (["b"], 2, "b")
        rest = await stage.ask(FindHosts(occurred_at=NOON, selector="role=web", limit=1, after="b"))
        assert ([one.agent for one in rest.hosts], rest.next) == (["c"], None)
        ill = await stage.ask(FindPackages(occurred_at=NOON, health=[Health.CRITICAL]))
        assert [(one.agent, one.package) for one in ill.packages] == [("a", "db"), ("b", "web")]
        seen, cursor = [], None
        while True:
            page = await stage.ask(FindPackages(occurred_at=NOON, after=cursor, limit=1))
            seen += [(one.agent, one.package) for one in page.packages]
            if (cursor := page.next) is None:
                break
        assert seen == [("a", "db"), ("a", "web"), ("b", "web"), ("c", "web")]
        detail = await stage.ask(GetHostHealth(occurred_at=NOON, agent_id="b"))
        assert detail.host.culprit == "web"
        assert [one.check for one in detail.checks["web"]] == ["http"]
        why = await stage.ask(ExplainHealth(occurred_at=NOON, agent_id="b", package="web"))
        assert [(one.agent, one.package) for one in why.chain] == [("a", "db")]
        cause = await stage.ask(ExplainHealth(occurred_at=NOON, agent_id="a", package="db"))
        assert [str(one) for one in cause.dependents] == ["web@b"]


@pytest.mark.parametrize(
    ("ask", "code"),
    [
        (GetHostHealth(occurred_at=NOON, agent_id="x"), "not-found"),
        (ExplainHealth(occurred_at=NOON, agent_id="x", package="y"), "not-found"),
        (FindHosts(occurred_at=NOON, selector="a=("), "invalid"),
        (GetAvailability(occurred_at=NOON, agent_id="x", package="y"), "not-found"),
        (GetAvailability(occurred_at=NOON, agent_id="x", package="web", since=later(9)), "invalid"),
        (SetMaintenance(occurred_at=NOON, selector="", until=NOON, by="ann"), "invalid"),
        (SetMaintenance(occurred_at=NOON, selector="", until=later(1e7), by="ann"), "invalid"),
        (SetMaintenance(occurred_at=NOON, selector="", until=later(9), by="ann", text="\x00"), "invalid"),
        (EndMaintenance(occurred_at=NOON, id=uuid4(), by="ann"), "not-found"),
    ],
)
async def test_what_cannot_be_answered_is_told_why(ask: Any, code: str) -> None:
    async with staged() as (stage, _):
        with pytest.raises(AskFailed, match="cannot") as failed:
            await stage.ask(ask)
        assert failed.value.problem.code == code


async def test_maintenance_begins_and_ends_by_the_clock_or_when_somebody_says_so() -> None:
    async with staged() as (stage, here):
        await stage.tell(presence("a"))
        await stage.tell(state("web@a", "failed"))
        ask = SetMaintenance(
            occurred_at=NOON, selector="id=a", since=later(10), until=NOON + timedelta(hours=1), by="ann"
        )
        for _ in range(2):
            assert len((await stage.ask(ask)).windows) == 1
        for second, under_way in ((5, False), (10, True)):
            here.clock.moment = later(second)
            await here.intake.tick()
            package = here.picture.get(key("web@a"))
            assert package
            assert package.judged.maintenance is under_way
        await stage.ask(EndMaintenance(occurred_at=NOON, id=ask.message_id, by="ann"))
        package = here.picture.get(key("web@a"))
        assert package
        assert not package.judged.maintenance
        assert (await stage.ask(ListMaintenance(occurred_at=NOON))).windows == []
