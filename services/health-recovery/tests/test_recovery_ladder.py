"""The ladder: each act once and in its turn, ever further apart, and an end to it."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recovery_world import NOON, QUICK, WEB, after, ill, well

from health_recovery.domain.assessment import Assessment
from health_recovery.domain.budget import Budget, places, pools_of
from health_recovery.domain.keys import Key
from health_recovery.domain.ladder import (
    OWNERS,
    Act,
    Case,
    Close,
    Decision,
    Draw,
    GiveUp,
    Holds,
    Wait,
    decide,
    ended,
    longest_pause,
    retried,
    step_of,
)
from muster_contracts.fleet.v1 import Presence
from muster_contracts.health.v1 import Health, Hold, Step
from muster_contracts.package.v1 import PackageState, RecoveryPolicy

FREE = Holds()


def at_the_longest(_: float, most: float) -> float:
    return most


@dataclass
class Patient:
    """One package that is looked at each second; its acts take ``takes`` seconds and do not help."""

    seen: Assessment = field(default_factory=ill)
    holds: Holds = FREE
    draw: Draw = at_the_longest
    takes: float = 1.0
    settle: float = 0.0
    now: datetime = NOON
    case: Case | None = None
    ends_at: datetime | None = None
    counts: bool = True
    story: list[tuple[float, str]] = field(default_factory=list)

    def look(self) -> Decision:
        if self.ends_at and self.now >= self.ends_at:
            self.end()
        decision = decide(self.case, self.seen, self.holds, self.now)
        match decision:
            case Act(step, _, case):
                self.case, self.ends_at = case, self.now + timedelta(seconds=self.takes)
                self.say(step)
            case GiveUp(_, case):
                self.case = case
                self.say("give-up")
            case Close(why, case):
                self.case = case
                self.say(why)
        return decision

    def end(self) -> None:
        assert self.case
        assert self.ends_at
        self.case = ended(
            self.case, self.seen.policy, self.ends_at, self.draw, counts=self.counts,
            settle_seconds=self.settle,
        )  # fmt: skip
        self.ends_at = None

    def say(self, what: str) -> None:
        self.story.append(((self.now - NOON).total_seconds(), what))

    def live(self, seconds: float, every: float = 1.0) -> None:
        for _ in range(int(seconds / every)):
            self.look()
            self.now += timedelta(seconds=every)

    @property
    def acts(self) -> list[float]:
        return [at for at, what in self.story if what in {*Step} - {Step.GIVE_UP}]


def test_an_always_dying_package_is_restarted_then_with_its_dependents_then_given_up() -> None:
    patient = Patient(takes=0)
    patient.live(200)
    assert patient.story == [
        (0, "restart"),
        (4, "restart"),
        (12, "restart-with-dependents"),
        (28, "give-up"),
    ]


def test_the_script_comes_once_and_last() -> None:
    patient = Patient(ill(policy=QUICK.model_copy(update={"script": "heal"})), takes=0)
    patient.live(250)
    assert [what for _, what in patient.story] == [
        "restart", "restart", "restart-with-dependents", "script", "give-up",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("attempts", "step"),
    [(0, Step.SCRIPT), (1, Step.GIVE_UP), (2, Step.GIVE_UP)],
)
def test_rungs_that_are_not_wanted_are_left_out(attempts: int, step: Step) -> None:
    policy = RecoveryPolicy(restarts=0, with_dependents=0, script="heal")
    assert step_of(attempts, policy) is step


def test_pauses_double_up_to_the_longest() -> None:
    policy = RecoveryPolicy(
        restarts=100, delay_seconds=0.5, longest_delay_seconds=30, acts_per_window=1000, stable_seconds=0
    )
    patient = Patient(ill(policy=policy), takes=0)
    patient.live(200, every=0.05)
    gaps = [later - earlier for earlier, later in zip(patient.acts, patient.acts[1:], strict=False)]
    wanted = [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert gaps[: len(wanted)] == pytest.approx(wanted, rel=0.1)


def test_after_the_cool_down_it_begins_anew() -> None:
    policy = QUICK.model_copy(update={"restarts": 1, "with_dependents": 0})
    patient = Patient(ill(policy=policy), takes=0)
    patient.live(320)
    assert patient.story == [(0, "restart"), (4, "give-up"), (304, "restart"), (308, "give-up")]


def test_a_full_window_is_a_crash_loop_and_after_the_cool_down_a_place_in_it_is_waited_for() -> None:
    policy = QUICK.model_copy(update={"restarts": 50, "acts_per_window": 3})
    patient = Patient(ill(policy=policy), takes=0)
    patient.live(400)
    assert patient.story == [(0, "restart"), (4, "restart"), (12, "restart"), (28, "give-up")]
    assert patient.look() == Wait(Hold.WINDOW, "it was tried 3 acts within 600 s", after(600))
    patient.live(250)
    assert patient.story[4:] == [(600, "restart"), (604, "restart"), (612, "restart"), (628, "give-up")]


def test_a_new_illness_in_a_full_window_is_given_up_at_once_and_said_so() -> None:
    case = Case(WEB, NOON, acts=tuple(after(one) for one in range(5)), closed=True)
    decision = decide(case, ill(since=after(50)), FREE, after(50))
    assert isinstance(decision, GiveUp)
    assert decision.why == "it was tried 5 acts within 600 s"


def test_well_for_long_enough_its_past_is_forgiven_but_for_the_window() -> None:
    patient = Patient()
    patient.live(2)
    patient.seen = well(since=after(2))
    patient.live(40)
    assert patient.story[1:] == [(32, "well")]
    patient.seen = ill(since=after(42))
    patient.look()
    assert patient.case
    assert (patient.case.attempts, len(patient.case.acts)) == (1, 2)


def test_what_is_ill_again_before_it_was_stable_goes_on_where_it_was() -> None:
    patient = Patient()
    patient.live(2)
    patient.seen = well(since=after(2))
    patient.live(20)
    patient.seen = ill(since=after(22))
    patient.live(1)
    assert patient.story == [(0, "restart"), (22, "restart")]
    assert patient.case
    assert patient.case.attempts == 2


def test_a_closed_case_is_forgotten_with_its_window() -> None:
    patient = Patient()
    patient.live(2)
    patient.seen = well(since=after(2))
    patient.live(700)
    assert [what for _, what in patient.story] == ["restart", "well", "forgotten"]
    assert patient.case is None


def test_somebody_who_stops_it_ends_the_case_at_once() -> None:
    patient = Patient()
    patient.live(2)
    patient.seen = well(state=PackageState.STOPPED, since=after(2))
    patient.live(1)
    assert patient.story[-1] == (2, "stopped")


def test_nothing_is_done_while_nobody_can_tell_how_it_is() -> None:
    patient = Patient()
    patient.live(2)
    patient.seen = well(health=Health.UNKNOWN, since=after(2), presence=Presence.LOST)
    assert patient.look() == Wait(Hold.UNREACHABLE, "nobody can tell how it is")
    patient.live(500)
    assert len(patient.story) == 1


@pytest.mark.parametrize(
    ("state", "hold"),
    [
        (PackageState.RUNNING, None),
        (PackageState.EXITED, None),
        (PackageState.BACKOFF, Hold.AGENT),
        (PackageState.STARTING, Hold.AGENT),
        (PackageState.STOPPING, Hold.AGENT),
        (PackageState.CRASH_LOOP, Hold.CRASH_LOOP),
        (PackageState.FAILED, Hold.DISABLED),
        (PackageState.INVALID, Hold.DISABLED),
        (PackageState.BLOCKED, Hold.SUPPRESSED),
        (PackageState.STOPPED, Hold.STOPPED),
        (PackageState.PAUSED, Hold.STOPPED),
    ],
)
def test_each_state_has_one_owner(state: PackageState, hold: Hold | None) -> None:
    assert set(OWNERS) == set(PackageState)
    decision = decide(None, ill(state=state, restart_policy="never"), FREE, NOON)
    if hold is None:
        assert isinstance(decision, Act)
    else:
        assert isinstance(decision, Wait)
        assert decision.hold is hold


@pytest.mark.parametrize(
    ("seen", "hold"),
    [
        (ill(state=None), Hold.UNREACHABLE),
        (ill(presence=Presence.LOST), Hold.UNREACHABLE),
        (ill(presence=Presence.LATE), Hold.UNREACHABLE),
        (ill(cause=Key("db-1", "db")), Hold.SUPPRESSED),
        (ill(maintenance=True), Hold.MAINTENANCE),
        (ill(policy=RecoveryPolicy(enabled=False)), Hold.DISABLED),
        (ill(live=False), Hold.DISABLED),
        (ill(state=PackageState.EXITED), Hold.AGENT),
        (ill(partitioned=True), Hold.PARTITION),
    ],
)
def test_what_stands_in_the_way_of_an_act_is_named(seen: Assessment, hold: Hold) -> None:
    decision = decide(None, seen, FREE, NOON)
    assert isinstance(decision, Wait)
    assert decision.hold is hold
    assert decision.text


@pytest.mark.parametrize(
    ("holds", "hold"),
    [(Holds(paused="ann: release"), Hold.PAUSED), (Holds(crowded="2 of site ams"), Hold.BUDGET)],
)
def test_a_pause_and_a_full_group_hold_an_act(holds: Holds, hold: Hold) -> None:
    decision = decide(None, ill(), holds, NOON)
    assert decision == Wait(hold, holds.paused or holds.crowded)


def test_what_only_warns_is_left_alone() -> None:
    assert decide(None, ill(health=Health.WARNING), FREE, NOON) == Wait(None)


def test_an_order_that_did_nothing_costs_no_rung_but_a_place_in_the_window() -> None:
    patient = Patient(counts=False)
    patient.live(400)
    assert [what for _, what in patient.story] == ["restart"] * 5 + ["give-up"]


def test_what_an_act_did_has_time_to_be_seen() -> None:
    patient = Patient(draw=lambda least, _: least, takes=2, settle=3)
    patient.live(30)
    assert patient.acts == [0, 5, 10]


def test_whoever_retries_begins_with_an_empty_window() -> None:
    patient = Patient(takes=0)
    patient.live(40)
    assert patient.case
    patient.case = retried(patient.case)
    assert isinstance(decision := patient.look(), Act)
    assert decision.case.acts == (after(40),)


def test_what_was_only_said_does_not_count_once_it_is_done_in_earnest() -> None:
    patient = Patient(holds=Holds(dry_run=True), takes=0)
    patient.live(10)
    patient.holds = FREE
    patient.live(1)
    assert patient.case
    assert (patient.case.attempts, patient.case.dry_run) == (1, False)


policies = st.builds(
    RecoveryPolicy,
    restarts=st.integers(0, 5),
    with_dependents=st.integers(0, 3),
    script=st.sampled_from([None, "heal"]),
    delay_seconds=st.floats(0, 20),
    longest_delay_seconds=st.floats(0, 20),
    acts_per_window=st.integers(1, 6),
    window_seconds=st.floats(1, 400),
    stable_seconds=st.floats(0, 60),
    cooldown_seconds=st.floats(1, 200),
)


@settings(max_examples=60)
@given(
    policy=policies,
    seed=st.integers(),
    takes=st.floats(0, 20),
    phases=st.lists(st.tuples(st.sampled_from(["ill", "well", "unknown"]), st.integers(1, 60)), max_size=8),
)
def test_never_more_acts_than_allowed_in_any_window_and_never_two_at_once(
    policy: RecoveryPolicy, seed: int, takes: float, phases: list[tuple[str, int]]
) -> None:
    patient = Patient(ill(policy=policy), draw=random.Random(seed).uniform, takes=takes)
    for phase, seconds in [*phases, ("ill", 100)]:
        health = {"ill": Health.CRITICAL, "well": Health.OK, "unknown": Health.UNKNOWN}[phase]
        patient.seen = replace(patient.seen, health=health, since=patient.now)
        patient.live(seconds)
    for begin in patient.acts:
        assert (
            sum(begin <= one < begin + policy.window_seconds for one in patient.acts)
            <= policy.acts_per_window
        )
    for earlier, later in zip(patient.acts, patient.acts[1:], strict=False):
        assert later - earlier >= takes


@settings(max_examples=40)
@given(policy=policies, seed=st.integers())
def test_an_always_dying_package_is_given_up(policy: RecoveryPolicy, seed: int) -> None:
    patient = Patient(ill(policy=policy), draw=random.Random(seed).uniform, takes=0)
    rungs = policy.restarts + policy.with_dependents + 1
    patient.live(rungs * (policy.longest_delay_seconds + 2) + 10)
    assert "give-up" in [what for _, what in patient.story]
    before_that = [what for _, what in patient.story].index("give-up")
    assert before_that <= rungs


@given(policy=policies, attempts=st.integers(0, 5000), seed=st.integers())
def test_no_pause_is_longer_than_the_rung_allows(policy: RecoveryPolicy, attempts: int, seed: int) -> None:
    case = Case(WEB, NOON, attempts=attempts, acting=True)
    done = ended(case, policy, NOON, random.Random(seed).uniform, counts=True, settle_seconds=0)
    assert done.next_at
    pause = (done.next_at - NOON).total_seconds()
    assert 0 <= pause <= longest_pause(attempts, policy) + 1e-6 <= policy.longest_delay_seconds + 1e-6


def hosts(count: int) -> Iterator[Assessment]:
    for number in range(count):
        site, groups = f"site-{number % 3}", (f"group-{number % 4}", "all")
        yield ill(Key(f"web-{number}", "web"), site=site, groups=groups)


@settings(max_examples=40)
@given(
    count=st.integers(1, 40),
    percent=st.floats(0, 100),
    seed=st.integers(),
)
def test_never_more_of_any_group_at_once_than_the_budget_has_places(
    count: int, percent: float, seed: int
) -> None:
    fleet = list(hosts(count))
    sizes = {pool: sum(pool in pools_of(one) for one in fleet) for seen in fleet for pool in pools_of(seen)}
    budget, lots = Budget(percent, sizes.__getitem__), random.Random(seed)
    acting: list[Assessment] = []
    for seen in fleet * 2:
        decision = decide(None, seen, Holds(crowded=budget.crowded(pools_of(seen), seen.key.agent)), NOON)
        if isinstance(decision, Act):
            budget.take(pools_of(seen), seen.key.agent)
            acting.append(seen)
        for pool, size in sizes.items():
            assert len({one.key for one in acting if pool in pools_of(one)}) <= places(size, percent)
        if acting and lots.random() < 0.3:
            over = acting.pop(lots.randrange(len(acting)))
            budget.give_back(pools_of(over), over.key.agent)


def test_a_machine_on_which_everything_is_ill_leaves_room_for_the_others() -> None:
    budget = Budget(20, lambda _: 10)
    everything = [ill(Key("evil", f"p{number}"), groups=("all",)) for number in range(50)]
    for seen in everything:
        assert not budget.crowded(pools_of(seen), "evil")
        budget.take(pools_of(seen), "evil")
    [other, third] = [ill(Key(name, "web"), groups=("all",)) for name in ("web-1", "web-2")]
    assert budget.taken(("group", "all")) == 1
    assert not budget.crowded(pools_of(other), "web-1")
    budget.take(pools_of(other), "web-1")
    assert budget.crowded(pools_of(third), "web-2") == "2 of group all recover, 2 may at once"
    for seen in everything:
        budget.give_back(pools_of(seen), "evil")
    assert not budget.crowded(pools_of(third), "web-2")


@pytest.mark.parametrize(
    ("size", "percent", "most"), [(200, 20, 40), (9, 20, 1), (4, 20, 1), (10, 20, 2), (0, 20, 1)]
)
def test_one_may_always_recover(size: int, percent: float, most: int) -> None:
    assert places(size, percent) == most


@pytest.mark.parametrize(("needs", "begins"), [(True, 5), (False, 0)])
def test_what_needs_others_is_left_alone_until_they_had_time_to_be_seen_to_be_ill(
    needs: bool, begins: float
) -> None:
    holds = Holds(blame=timedelta(seconds=5))
    decision = decide(None, ill(needs_others=needs), holds, NOON)
    assert isinstance(decision, Wait if needs else Act)
    later = decide(None, ill(needs_others=needs), holds, NOON + timedelta(seconds=begins))
    assert isinstance(later, Act)


@pytest.mark.parametrize(("aftermath", "begins"), [(60, 60), (0, 0)])
def test_what_another_made_ill_has_time_to_get_well_after_it(aftermath: float, begins: float) -> None:
    """Its twin, without the time, restarts what would be well at its next look."""
    holds = Holds(aftermath=timedelta(seconds=aftermath))
    patient = Patient(ill(relieved_at=NOON), holds, takes=0)
    decision = patient.look()
    assert isinstance(decision, Wait if aftermath else Act)
    if isinstance(decision, Wait):
        assert (decision.hold, decision.until) == (Hold.SUPPRESSED, after(60))
    patient.live(100)
    assert patient.acts[0] == begins


def test_nothing_is_done_by_what_was_seen_before_the_last_start() -> None:
    patient = Patient(ill(stale=True))
    assert patient.look() == Wait(Hold.AGENT, "it was started again, and no check has looked yet")


@pytest.mark.parametrize("state", [PackageState.CRASH_LOOP, PackageState.STARTING, PackageState.RUNNING])
def test_a_crash_loop_is_its_agents_also_between_two_ends(state: PackageState) -> None:
    decision = Patient(ill(state=state, reason="crash-loop", check=None)).look()
    assert isinstance(decision, Wait)
    assert decision.hold is Hold.CRASH_LOOP
