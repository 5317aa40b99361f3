"""The rules about packages, without packages: states, pauses, who depends on whom, what to do next."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host_agent.domain import dependencies
from host_agent.domain.package import Exit
from host_agent.domain.package_state import TRANSITIONS, ImpossibleTransition, Signal, step
from host_agent.domain.policy import NOTHING, Policy
from host_agent.domain.reconciling import Act, Needs, Situation, decide
from host_agent.domain.restarting import after_exit, delay
from muster_contracts.package.specification import Restart
from muster_contracts.package.v1 import PackageState

S = PackageState

# States ------------------------------------------------------------------------------------------------


def test_an_absent_pair_is_impossible_and_named() -> None:
    with pytest.raises(ImpossibleTransition, match="cannot apply resume to package web while stopped"):
        step("web", S.STOPPED, Signal.RESUME)


def test_every_state_can_be_reached_and_left() -> None:
    assert set(TRANSITIONS.values()) == set(S)
    assert {state for state, _ in TRANSITIONS} == set(S)


# Restarts ----------------------------------------------------------------------------------------------


def test_pauses_double_from_half_a_second_to_thirty() -> None:
    pauses = [delay(Restart(), ends) for ends in range(1, 10)]
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_no_number_of_ends_is_too_large() -> None:
    assert delay(Restart(), 10**9) == 30
    assert delay(Restart(delay_seconds=0.05, longest_delay_seconds=86_400), 10**9) == 86_400


@pytest.mark.parametrize(
    ("policy", "code", "again"),
    [
        ("always", 0, True),
        ("always", 1, True),
        ("on-failure", 0, False),
        ("on-failure", 1, True),
        ("on-failure", -9, True),
        ("on-failure", None, True),
        ("never", 0, False),
        ("never", 1, False),
    ],
)
def test_the_policy_says_who_is_started_again(policy: str, code: int | None, again: bool) -> None:
    restart = Restart.model_validate({"policy": policy})
    assert after_exit(restart, 0, Exit(code), 1.0).again is again


@given(runs=st.lists(st.sampled_from([0.0, 9.99, 10.0, 500.0]), max_size=40))
def test_a_stable_run_always_means_no_pause_and_a_fresh_count(runs: list[float]) -> None:
    ends, unstable = 0, 0
    for ran in runs:
        verdict = after_exit(Restart(), ends, Exit(1), ran)
        unstable = 0 if ran >= 10 else unstable + 1
        assert verdict.ends == unstable
        assert verdict.delay_seconds == (min(30, 0.5 * 2 ** (unstable - 1)) if unstable else 0)
        assert verdict.crash_loop is (unstable >= 5)
        ends = verdict.ends


# Dependencies ------------------------------------------------------------------------------------------

NAMES = "abcdefgh"
GRAPHS = st.dictionaries(st.sampled_from(NAMES), st.lists(st.sampled_from(NAMES), max_size=4, unique=True))


def test_a_circle_is_named_from_each_of_its_members() -> None:
    graph = {"a": ["b"], "b": ["a"], "c": ["a"], "d": ["d"]}
    assert dependencies.cycles(graph) == {"a": "a -> b -> a", "b": "b -> a -> b", "d": "d -> d"}


def test_what_is_missing_is_named() -> None:
    assert dependencies.missing({"web": ["db", "api"], "api": []}, "web") == ["db"]


def test_waves_start_what_is_needed_first() -> None:
    graph = {"web": ["api", "cache"], "api": ["db"], "cache": [], "db": [], "lone": []}
    assert dependencies.start_waves(graph) == [["cache", "db", "lone"], ["api"], ["web"]]
    assert dependencies.start_waves(graph, ["web", "db"]) == [["db", "web"]]


@given(GRAPHS)
def test_a_package_is_on_a_circle_exactly_if_it_reaches_itself(graph: dict[str, list[str]]) -> None:
    def reaches(start: str) -> bool:
        seen: set[str] = set()
        ahead = list(graph[start])
        while ahead:
            if (here := ahead.pop()) == start:
                return True
            if here not in seen:
                seen.add(here)
                ahead += graph.get(here, ())
        return False

    found = dependencies.cycles(graph)
    assert set(found) == {name for name in graph if reaches(name)}
    for name, text in found.items():
        path = text.split(" -> ")
        assert path[0] == path[-1] == name
        assert all(after in graph[before] for before, after in pairwise(path))
        assert len(set(path)) == len(path) - 1


@given(GRAPHS)
def test_waves_hold_everybody_once_and_needs_before_needers(graph: dict[str, list[str]]) -> None:
    waves = dependencies.start_waves(graph)
    flat = [name for wave in waves for name in wave]
    assert sorted(flat) == sorted(graph)
    at = {name: number for number, wave in enumerate(waves) for name in wave}
    stuck = set(dependencies.cycles(graph))
    for name, needs in graph.items():
        above = stuck & (dependencies.requirements(graph, name) | {name})
        for each in needs:
            if each in graph and not above:
                assert at[each] < at[name]


@given(GRAPHS)
def test_dependents_and_requirements_are_each_others_mirror(graph: dict[str, list[str]]) -> None:
    for name in graph:
        for other in graph:
            needs = other in dependencies.requirements(graph, name)
            assert needs is (name in dependencies.dependents(graph, other))


# What to do next ---------------------------------------------------------------------------------------

SITUATIONS = st.builds(
    Situation,
    state=st.sampled_from(S),
    described=st.booleans(),
    usable=st.booleans(),
    wanted=st.booleans(),
    alive=st.booleans(),
    stale=st.booleans(),
    again=st.booleans(),
    due_in=st.sampled_from([0.0, 3.0]),
    needs=st.sampled_from(Needs),
)


@given(SITUATIONS)
def test_nothing_is_started_that_should_not_run_or_runs_or_lacks_something(now: Situation) -> None:
    if decide(now) is Act.START:
        assert now.described
        assert now.usable
        assert now.wanted
        assert not now.alive
        assert now.due_in == 0
        assert now.needs is Needs.READY


@given(SITUATIONS)
def test_nothing_is_stopped_that_should_run_as_it_is(now: Situation) -> None:
    if decide(now) in {Act.STOP, Act.REPLACE}:
        assert now.alive
        assert not (now.described and now.wanted) or now.again or now.stale


@given(SITUATIONS)
def test_a_blocked_package_stays_quiet_until_all_it_needs_is_ready(now: Situation) -> None:
    if now.state is S.BLOCKED and not now.alive and now.usable and now.wanted and now.described:
        assert (decide(now) is Act.START) is (now.due_in == 0 and now.needs is Needs.READY)


# Policy ------------------------------------------------------------------------------------------------


def test_all_is_allowed_but_scripts_unless_the_policy_says_otherwise() -> None:
    assert Policy().allows("package.restart")
    assert Policy().scripts == {}
    assert not NOTHING.allows("package.list")


def test_a_denial_stands_over_a_permission() -> None:
    policy = Policy(allow=["package.*"], deny=["package.st?p", "package.get*"])
    assert policy.allows("package.start")
    assert not policy.allows("package.stop")
    assert not policy.allows("package.get-configuration")
    assert not policy.allows("script.run")
