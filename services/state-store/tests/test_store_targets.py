"""The table of states, and what one sign does to one target: exactly one end, never left."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from muster_contracts.command.v1 import ENDS, CommandState, Ended
from muster_contracts.ids import make_epoch
from state_store.domain import target as targets
from state_store.domain.states import (
    LIVING,
    REPORTS,
    TRANSITIONS,
    ImpossibleTransition,
    Signal,
    diagram,
    step,
)
from state_store.domain.target import Kept, Outcome, Patience

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
PATIENCE = Patience(grace=MINUTE, push_again=timedelta(seconds=30))


def kept(**changes: object) -> Kept:
    new = Kept(
        command_id=UUID(int=1), agent="web-1", verb="package.restart", about="web", issuer="ann",
        submitted_at=NOON, not_after=NOON + 10 * MINUTE, start_seconds=120, run_seconds=300, position=1,
    )  # fmt: skip
    return replace(targets.planned(new, PATIENCE), **changes)  # type: ignore[arg-type]


def report(state: CommandState = CommandState.SUCCEEDED, after: float = 60) -> Ended:
    return Ended(
        occurred_at=NOON + timedelta(seconds=after), agent_id="web-1", epoch=make_epoch("a" * 12, 1),
        command_id=UUID(int=1), verb="package.restart", state=state, reason="done",
    )  # fmt: skip


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def test_nothing_leads_out_of_the_eight_ends() -> None:
    assert len(ENDS) == 8
    assert not {state for state, _ in TRANSITIONS} & ENDS
    assert set(TRANSITIONS.values()) >= ENDS


@pytest.mark.parametrize(("state", "signal"), sorted(set(product(CommandState, Signal)) - TRANSITIONS.keys()))
def test_a_pair_outside_the_table_is_refused_by_name(state: CommandState, signal: Signal) -> None:
    with pytest.raises(ImpossibleTransition, match=f"cannot apply {signal} to a target that is {state}"):
        step(state, signal)


@pytest.mark.parametrize("state", LIVING)
def test_every_end_can_be_reached_from_every_living_state(state: CommandState) -> None:
    assert {step(state, signal) for signal in Signal} >= ENDS


def test_the_readme_shows_the_table() -> None:
    readme = Path(__file__).parents[1] / "README.md"
    assert diagram() in readme.read_text()


def test_what_surely_never_arrived_expires_at_its_not_after() -> None:
    unreachable = targets.pushed(kept(), Outcome.UNREACHABLE, NOON, PATIENCE)
    assert unreachable.deadline == NOON + 10 * MINUTE
    assert targets.overdue(unreachable, at(599)) is unreachable
    assert targets.overdue(unreachable, at(600)).state is CommandState.EXPIRED


@pytest.mark.parametrize(
    "arrived",
    [
        kept(),  # its process died while it pushed
        targets.pushed(kept(), Outcome.UNKNOWN, NOON, PATIENCE),
        targets.handed_out(targets.pushed(kept(), Outcome.UNREACHABLE, NOON, PATIENCE), PATIENCE),
        targets.tried_again(targets.pushed(kept(), Outcome.UNREACHABLE, NOON, PATIENCE), at(30), PATIENCE),
    ],
    ids=["being pushed", "no word came back", "handed out", "being pushed again"],
)
def test_what_may_have_arrived_is_lost_after_its_grace_and_never_said_to_have_expired(arrived: Kept) -> None:
    assert arrived.deadline == NOON + 11 * MINUTE
    assert targets.overdue(arrived, at(659)).state is CommandState.PENDING
    assert targets.overdue(arrived, at(660)).state is CommandState.LOST


def test_without_noting_attempts_before_they_are_made_what_may_have_run_would_be_said_to_have_expired() -> (
    None
):
    unnoted = replace(kept(), pushing=False)
    assert targets.overdue(replace(unnoted, deadline=at(600)), at(600)).state is CommandState.EXPIRED


def test_a_later_nobody_there_does_not_unsay_that_an_earlier_push_may_have_arrived() -> None:
    once = targets.pushed(kept(), Outcome.UNKNOWN, NOON, PATIENCE)
    again = targets.pushed(targets.tried_again(once, at(30), PATIENCE), Outcome.UNREACHABLE, at(31), PATIENCE)
    assert again.may_have_arrived
    cut_off = targets.tried_again(kept(), at(30), PATIENCE)
    assert targets.pushed(cut_off, Outcome.UNREACHABLE, at(31), PATIENCE).may_have_arrived


def test_a_deadline_follows_from_how_far_the_target_is() -> None:
    accepted = targets.pushed(kept(), Outcome.ACCEPTED, at(60), PATIENCE)
    assert accepted.deadline == at(60 + 120 + 300 + 60)
    late = targets.pushed(kept(), Outcome.ACCEPTED, at(590), PATIENCE)
    assert late.deadline == at(600 + 300 + 60)
    running = targets.heard(accepted, CommandState.RUNNING, at(100), PATIENCE)
    assert running.deadline == at(100 + 300 + 60)
    assert targets.reported(running, report(), at(110)).deadline is None


def test_a_cancel_ends_at_once_only_what_surely_never_arrived() -> None:
    unreachable = targets.pushed(kept(), Outcome.UNREACHABLE, NOON, PATIENCE)
    assert targets.cancelled(unreachable, NOON, PATIENCE).state is CommandState.CANCELLED
    for arrived in (kept(), targets.pushed(kept(), Outcome.ACCEPTED, NOON, PATIENCE)):
        asked = targets.cancelled(arrived, NOON, PATIENCE)
        assert asked.state is arrived.state
        assert asked.cancel_requested
        assert asked.push_at == at(5)


def test_a_cancel_during_a_push_that_finds_nobody_ends_it() -> None:
    asked = targets.cancelled(kept(), NOON, PATIENCE)
    assert targets.pushed(asked, Outcome.UNREACHABLE, NOON, PATIENCE).state is CommandState.CANCELLED
    assert targets.pushed(asked, Outcome.UNKNOWN, NOON, PATIENCE).state is CommandState.PENDING


def test_pushes_become_rarer_and_end_with_the_time_of_the_order() -> None:
    one, waits = targets.pushed(kept(), Outcome.UNREACHABLE, NOON, PATIENCE), []
    for _ in range(6):
        one = targets.tried_again(replace(one, pushing=False), NOON, PATIENCE)
        assert one.push_at
        waits.append((one.push_at - NOON).total_seconds())
    assert waits == [60, 120, 240, 480, 600, 600]
    assert targets.tried_again(one, at(600), PATIENCE).push_at is None


def test_a_report_after_lost_is_noted_and_the_end_stays() -> None:
    lost = targets.overdue(kept(), at(660))
    late = targets.reported(lost, report(), at(700))
    assert (late.state, late.reported_late) == (CommandState.LOST, CommandState.SUCCEEDED)
    assert targets.reported(late, report(CommandState.FAILED), at(701)) is late


def test_a_repeated_report_changes_nothing() -> None:
    done = targets.reported(kept(), report(), at(60))
    assert targets.reported(done, report(), at(61)) is done


def test_a_wrong_clock_moves_no_end_before_its_order_or_after_now() -> None:
    assert targets.reported(kept(), report(after=-9999), at(60)).ended_at == NOON
    assert targets.reported(kept(), report(after=9999), at(60)).ended_at == at(60)


@pytest.mark.parametrize("state", [*LIVING, CommandState.LOST])
def test_no_agent_reports_what_is_no_end_of_its_own(state: CommandState) -> None:
    with pytest.raises(ValueError, match=r"cannot end .* no agent says so"):
        targets.reported(kept(), report(state), NOON)


class AnyStory(RuleBasedStateMachine):
    """Whatever comes in whatever order: exactly one end, never left, and never without a deadline."""

    @initialize()
    def ordered(self) -> None:
        self.now, self.kept, self.ends = 0.0, replace(kept(), command_id=uuid4()), 0
        self.arrived = False

    def arrives(self, really: bool = True) -> None:
        self.arrived |= really and not self.kept.ended

    def become(self, after: Kept) -> None:
        if self.kept.ended:
            assert (after.state, after.ended_at) == (self.kept.state, self.kept.ended_at)
        self.ends += after.ended and not self.kept.ended
        self.kept = after

    @rule(outcome=st.sampled_from(Outcome))
    def pushed(self, outcome: Outcome) -> None:
        self.arrives(outcome is not Outcome.UNREACHABLE)
        self.become(targets.pushed(self.kept, outcome, at(self.now), PATIENCE))

    @rule(state=st.sampled_from([CommandState.ACCEPTED, CommandState.RUNNING]))
    def heard(self, state: CommandState) -> None:
        self.arrives()
        self.become(targets.heard(self.kept, state, at(self.now), PATIENCE))

    @rule(state=st.sampled_from(sorted(REPORTS)))
    def reported(self, state: CommandState) -> None:
        self.arrives()
        self.become(targets.reported(self.kept, report(state), at(self.now)))

    @rule()
    def handed_out(self) -> None:
        if not self.kept.ended:
            self.arrived = True
            self.become(targets.handed_out(self.kept, PATIENCE))

    @rule()
    def tried_again(self) -> None:
        if self.kept.push_at:
            self.become(targets.tried_again(self.kept, at(self.now), PATIENCE))

    @rule()
    def cancelled(self) -> None:
        self.become(targets.cancelled(self.kept, at(self.now), PATIENCE))

    @rule(seconds=st.floats(0.1, 400))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.become(targets.overdue(self.kept, at(self.now)))

    @invariant()
    def at_most_one_end_and_a_deadline_till_then(self) -> None:
        if hasattr(self, "kept"):
            assert self.ends == self.kept.ended
            assert (self.kept.deadline is None) == self.kept.ended
            if self.arrived and self.kept.reason in {"not-after", "withdrawn"}:
                raise AssertionError("what may have arrived is said never to have")

    def teardown(self) -> None:
        if hasattr(self, "kept"):
            last = self.kept.deadline or at(self.now)
            assert targets.overdue(self.kept, last).ended


AnyStory.TestCase.settings = settings(max_examples=300, stateful_step_count=25, deadline=None)
TestAnyStory = AnyStory.TestCase


@given(signals=st.lists(st.sampled_from(Signal), max_size=20))
def test_whatever_signals_come_the_table_is_left_at_its_first_end(signals: list[Signal]) -> None:
    state, ends = CommandState.PENDING, 0
    for signal in signals:
        if state in ENDS:
            with pytest.raises(ImpossibleTransition):
                step(state, signal)
        else:
            state = step(state, signal)
            ends += state in ENDS
    assert ends <= 1
