"""Recovery carries out what the ladder decides: once, also over take-overs, outages and lost words."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest
from recovery_world import NOON, QUICK, WEB, after, ill, ward, well

from health_recovery import recovering
from health_recovery.domain.keys import Key
from muster_contracts.command.v1 import CommandState, Submit
from muster_contracts.fleet.v1 import Presence
from muster_contracts.health.v1 import Hold, Pause, RecoveryDecided, RecoveryEnded, Step
from muster_contracts.package.v1 import PackageState, RestartPackage, RunScript

pytestmark = pytest.mark.looptime

HEAL = QUICK.model_copy(update={"script": "heal"})


async def test_the_ladder_is_climbed_by_orders_and_ends_in_giving_up() -> None:
    async with ward(ill(policy=HEAL)) as here:
        await asyncio.sleep(100)
        orders = list(here.ledger.orders.values())
        told = [fact.act.step for fact in here.store.facts if isinstance(fact, RecoveryDecided)]
    assert [one.body for one in orders] == [
        RestartPackage(package="web"),
        RestartPackage(package="web"),
        RestartPackage(package="web", with_dependents=True),
        RunScript(script="heal", arguments=["web"]),
    ]
    assert [step for step, _ in here.steps] == [one.step for one in here.store.acts.values()] == told
    assert told[-1] is Step.GIVE_UP
    gaps = [later - earlier for (_, earlier), (_, later) in zip(here.steps, here.steps[1:], strict=False)]
    assert gaps == pytest.approx([5, 9, 17, 33], abs=1.5)  # each took a second
    assert here.recovering.gave_up(WEB)


async def test_an_order_names_what_it_was_decided_upon() -> None:
    async with ward(ill(state=PackageState.EXITED, restart_policy="never")) as here:
        await asyncio.sleep(1)
        [order] = here.ledger.orders.values()
    [act] = here.store.acts.values()
    assert (order.command_id, order.idempotency_key) == (act.id, str(act.id))
    assert (order.issuer, order.selector) == ("health-recovery", "id=web-1")
    assert order.precondition.package_states == [PackageState.EXITED]
    assert order.not_after == act.decided_at + timedelta(seconds=60)


async def test_what_is_well_again_closes_its_case_and_says_so() -> None:
    async with ward(ill()) as here:
        here.ledger.effect = lambda order: here.patients.put(well(since=here.clock.now()))
        await asyncio.sleep(60)
        said = [
            (fact.act.state, fact.act.step) for fact in here.store.facts if isinstance(fact, RecoveryEnded)
        ]
        assert here.recovering.case_of(WEB) is None
    assert said == [(CommandState.SUCCEEDED, Step.RESTART)] * 2
    assert here.store.cases[WEB].closed
    assert len(here.steps) == 1


async def test_of_a_case_that_is_well_again_nothing_comes_next() -> None:
    async with ward(ill()) as here:
        here.ledger.effect = lambda order: here.patients.put(well(since=here.clock.now()))
        await asyncio.sleep(5)
        case = here.recovering.case_of(WEB)
    assert case
    assert (case.hold, case.hold_text, case.attempts) == (None, "well again", 1)
    assert (case.next_step, case.next_at) == (None, None)


async def test_a_former_dependent_is_left_alone_for_as_long_as_is_set() -> None:
    async with ward(ill(relieved_at=NOON), aftermath_seconds=30) as here:
        await asyncio.sleep(40)
        assert next(at for _, at in here.steps) == pytest.approx(30, abs=1.5)


async def test_an_illness_of_long_ago_that_is_over_by_the_next_word_is_not_acted_upon() -> None:
    """After an outage the old facts of a stream come one after the other: first that it fell ill, then that
    it has been well again for long."""
    async with ward(ill(since=after(-600))) as here:
        await asyncio.sleep(60)
        here.patients.put(well(since=after(-500)))
        here.recovering.assessed([WEB], here.clock.now())
        await asyncio.sleep(120)
        assert not here.store.acts


@pytest.mark.parametrize(("seconds", "acts"), [(2, 1), (0, 2)])
async def test_a_new_leader_first_hears_what_waited(
    monkeypatch: pytest.MonkeyPatch, seconds: float, acts: int
) -> None:
    """Its twin, without the time, restarts again what the first restart has mended."""
    monkeypatch.setattr(recovering, "CATCH_UP", timedelta(seconds=seconds))
    monkeypatch.setattr(recovering, "DOUBTED", timedelta(seconds=seconds))
    async with ward(ill()) as here:
        await asyncio.sleep(3)
        assert here.tasks
        await here.tasks.close()
        await asyncio.sleep(10)
        await here.take_over()
        await asyncio.sleep(1)
        here.patients.put(well(since=after(4)))
        await asyncio.sleep(20)
        assert len(here.store.acts) == acts


async def test_after_an_outage_a_leader_first_hears_what_waited() -> None:
    async with ward(ill()) as here:
        await asyncio.sleep(3)
        here.store.down = "before"
        await asyncio.sleep(30)
        here.store.down = ""
        await asyncio.sleep(20)
        here.patients.put(well(since=after(4)))
        await asyncio.sleep(60)
        assert len(here.store.acts) == 1


async def test_an_illness_of_long_ago_that_lasts_is_acted_upon_a_little_later() -> None:
    async with ward(ill(since=after(-600))) as here:
        await asyncio.sleep(80)
        assert here.steps[0][0] is Step.RESTART
        assert 75 <= here.steps[0][1] <= 76.5


async def test_while_state_store_is_away_the_same_order_waits_for_it() -> None:
    async with ward(ill()) as here:
        here.ledger.away = True
        await asyncio.sleep(30)
        assert here.recovering.acting(WEB)
        assert here.recovering.acting_count == 1
        here.ledger.away = False
        await asyncio.sleep(3)
        [order] = here.ledger.orders.values()
    assert order.command_id in here.store.acts
    assert len(here.steps) == 1


async def test_an_order_whose_answer_was_lost_is_one_order() -> None:
    async with ward(ill()) as here:
        here.ledger.forgets_to_answer = True
        here.ledger.takes = 8
        await asyncio.sleep(7)
        assert here.ledger.submissions > 1
        assert len(here.ledger.orders) == 1


async def test_an_order_that_is_refused_ends_its_act_and_costs_no_rung() -> None:
    async with ward(ill()) as here:
        here.ledger.refuses = True
        await asyncio.sleep(2)
        [act] = here.store.acts.values()
        case = here.recovering.case_of(WEB)
    assert act.state is None
    assert act.ended_at
    assert act.text == "cannot order it: no agent matches"
    assert case
    assert (case.attempts, case.next_step) == (0, Step.RESTART)


async def test_an_agent_that_finds_it_otherwise_costs_no_rung() -> None:
    async with ward(ill()) as here:
        here.ledger.state, here.ledger.reason = CommandState.REJECTED, "precondition"
        await asyncio.sleep(100)
    assert [step for step, _ in here.steps] == [Step.RESTART] * 5 + [Step.GIVE_UP]


async def test_a_word_that_was_lost_is_asked_for_when_it_is_overdue() -> None:
    async with ward(ill(), begin_seconds=1, start_seconds=1, run_seconds=1) as here:
        here.ledger.tell = None
        await asyncio.sleep(50)
        assert here.recovering.acting(WEB)
        await asyncio.sleep(30)
    assert len(here.steps) == 2
    assert next(iter(here.store.acts.values())).state is CommandState.SUCCEEDED


async def test_a_repeated_word_ends_an_act_once() -> None:
    async with ward(ill()) as here:
        tell = here.ledger.tell
        assert tell

        async def twice(word: object) -> None:
            await tell(word)  # type: ignore[arg-type]  # a Settled, as it came
            await tell(word)  # type: ignore[arg-type]

        here.ledger.tell = twice
        await asyncio.sleep(3)
        ends = [fact for fact in here.store.facts if isinstance(fact, RecoveryEnded)]
    assert len(ends) == 1


async def test_the_next_leader_goes_on_in_the_middle_of_the_ladder() -> None:
    async with ward(ill(policy=HEAL)) as here:
        await asyncio.sleep(8)
        assert len(here.steps) == 2
        await here.take_over()
        await asyncio.sleep(90)
    assert [step for step, _ in here.steps] == [
        Step.RESTART, Step.RESTART, Step.RESTART_WITH_DEPENDENTS, Step.SCRIPT, Step.GIVE_UP,
    ]  # fmt: skip
    assert len(here.ledger.orders) == 4


async def test_the_next_leader_sends_what_was_only_decided_under_the_same_id() -> None:
    async with ward(ill()) as here:
        here.ledger.away = True
        await asyncio.sleep(1)
        [act] = here.store.acts.values()
        await here.take_over()
        here.ledger.away = False
        await asyncio.sleep(3)
    assert list(here.ledger.orders) == [act.id]
    assert here.store.acts[act.id].state is CommandState.SUCCEEDED


async def test_the_next_leader_asks_what_became_of_an_order_whose_word_went_to_the_one_before() -> None:
    async with ward(ill()) as here:
        here.ledger.tell = None
        await asyncio.sleep(1.5)
        [act] = here.store.acts.values()
        assert act.state is CommandState.PENDING
        await here.take_over()
        await asyncio.sleep(1)
    assert here.store.acts[act.id].state is CommandState.SUCCEEDED


@pytest.mark.parametrize("down", ["before", "after"])
async def test_a_database_that_is_away_costs_no_act_and_doubles_none(down: str) -> None:
    async with ward() as here:
        here.store.down = down
        here.patients.put(ill())
        await asyncio.sleep(3.5)
        here.store.down = ""
        await asyncio.sleep(1)
        assert len(here.ledger.orders) == len(here.store.acts) == 1


async def test_dry_run_says_the_whole_ladder_and_orders_nothing() -> None:
    async with ward(ill(), dry_run=True) as here:
        await asyncio.sleep(60)
        facts = [fact for fact in here.store.facts if isinstance(fact, RecoveryDecided)]
        assert here.recovering.status().dry_run
    assert [fact.act.step for fact in facts] == [
        Step.RESTART, Step.RESTART, Step.RESTART_WITH_DEPENDENTS, Step.GIVE_UP,
    ]  # fmt: skip
    assert all(fact.act.dry_run and fact.act.state is None and fact.act.ended_at for fact in facts)
    assert not here.ledger.orders


async def test_a_pause_holds_those_it_selects_until_it_is_taken_back() -> None:
    other = Key("db-1", "db")
    async with ward() as here:
        pause = Pause(id=uuid4(), selector="id=web-*", since=NOON, by="ann", text="release")
        await here.recovering.pause(pause)
        await here.recovering.pause(pause)
        here.patients.put(ill(), ill(other))
        await asyncio.sleep(3)
        case = here.recovering.case_of(WEB)
        assert case
        assert (case.hold, case.hold_text) == (Hold.PAUSED, "ann paused it: release")
        assert [act.agent for act in here.store.acts.values()] == ["db-1"]
        await here.take_over()
        await asyncio.sleep(1)
        assert len(here.store.acts) == 1
        assert here.recovering.status().pauses == [pause]
        assert await here.recovering.resume(pause.id, "ann")
        assert await here.recovering.resume(pause.id, "ann")
        assert not await here.recovering.resume(uuid4(), "ann")
        await asyncio.sleep(3)
    assert {act.agent for act in here.store.acts.values()} == {"db-1", "web-1"}


async def test_a_pause_that_has_an_end_ends_by_itself() -> None:
    async with ward() as here:
        await here.recovering.pause(Pause(id=uuid4(), selector="", since=NOON, until=after(20), by="ann"))
        here.patients.put(ill())
        await asyncio.sleep(15)
        assert not here.steps
        await asyncio.sleep(10)
    [(_, at)] = here.steps
    assert at == pytest.approx(20, abs=1.1)


async def test_whoever_retries_has_it_begun_anew_at_once() -> None:
    async with ward(ill()) as here:
        assert not await here.recovering.retry(WEB, "ann")
        await asyncio.sleep(60)
        assert here.recovering.gave_up(WEB)
        before = here.steps
        assert await here.recovering.retry(WEB, "ann")
        await asyncio.sleep(0.5)
        assert not here.recovering.gave_up(WEB)
    assert [step for step, _ in here.steps[len(before) :]] == [Step.RESTART]


async def test_what_was_tried_is_told_in_lines_for_people() -> None:
    async with ward(ill()) as here:
        here.ledger.state, here.ledger.reason = CommandState.FAILED, "exit"
        await asyncio.sleep(10)
        assert await here.recovering.tried(WEB) == ["restart: failed, exit", "restart: failed, exit"]
        assert await here.recovering.tried(Key("x", "y")) == []


async def test_a_package_that_is_gone_has_no_case_any_more() -> None:
    async with ward(ill()) as here:
        await asyncio.sleep(3)
        del here.patients.seen[WEB]
        await asyncio.sleep(3)
        assert here.recovering.status().total == 0
    assert not here.store.cases


async def test_what_holds_each_ill_package_is_told() -> None:
    stopped, lost = Key("web-2", "web"), Key("web-3", "web")
    async with ward(
        ill(cause=Key("db-1", "db")),
        ill(stopped, state=PackageState.STOPPED),
        ill(lost, presence=Presence.LOST),
    ) as here:
        await asyncio.sleep(2)
        status = here.recovering.status()
    assert [(one.agent, one.hold) for one in status.cases] == [
        ("web-1", Hold.SUPPRESSED), ("web-2", Hold.STOPPED), ("web-3", Hold.UNREACHABLE),
    ]  # fmt: skip
    assert not here.store.acts


BRIEF = QUICK.model_copy(update={"cooldown_seconds": 3600, "delay_seconds": 1})
FLEET = 200
PERCENT = 10


def bad_release(count: int) -> list[Key]:
    return [Key(f"web-{number}", "web") for number in range(count)]


@pytest.mark.parametrize(("percent", "at_once"), [(PERCENT, 20), (100, 200)])
async def test_a_bad_release_never_has_more_recovering_at_once_than_the_budget_allows(
    percent: int, at_once: int
) -> None:
    """The twin at 100 % shows what the budget keeps away: every host restarted at one time."""
    async with ward(budget_percent=percent) as here:
        here.ledger.takes = 2
        here.patients.put(
            *(ill(key, site="ams", groups=("web",), policy=BRIEF) for key in bad_release(FLEET))
        )
        most = 0
        while not all(here.recovering.gave_up(key) for key in bad_release(FLEET)):
            await asyncio.sleep(0.5)
            most = max(most, len(here.ledger.running()))
        assert most == at_once
    assert len(here.ledger.orders) == 3 * FLEET


async def test_of_several_that_wait_the_one_that_makes_most_others_ill_comes_first() -> None:
    db, cache = Key("db-1", "db"), Key("cache-1", "cache")
    made_ill = tuple(Key(f"web-{number}", "web") for number in range(8))
    async with ward(
        ill(cache, groups=("all",)), ill(db, groups=("all",), dependents=made_ill), budget_percent=1
    ) as here:
        await asyncio.sleep(0.5)
        [order] = here.ledger.orders.values()
    assert order.selector == "id=db-1"


def spared(order: Submit) -> bool:
    return isinstance(order.body, RestartPackage) and not order.body.with_dependents


async def test_a_recovered_release_is_left_alone() -> None:
    async with ward(budget_percent=PERCENT) as here:
        keys = bad_release(FLEET)
        here.patients.put(*(ill(key) for key in keys))

        def heal(order: Submit) -> None:
            key = Key(order.selector.removeprefix("id="), "web")
            here.patients.put(replace(well(key), since=here.clock.now()))

        here.ledger.effect = heal
        await asyncio.sleep(120)
        assert here.recovering.status().total == 0
    assert len(here.ledger.orders) == FLEET
    assert all(spared(order) for order in here.ledger.orders.values())
