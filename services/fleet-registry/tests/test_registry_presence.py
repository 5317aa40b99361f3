"""The table of presence, and what one sign does to one agent."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise, product
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_registry.domain.agent import Agent, Closed, Corrected, Decision, Note, Opened, Sign
from fleet_registry.domain.decide import Rules, decide, newcomer
from fleet_registry.domain.presence import LIVE, TRANSITIONS, ImpossibleTransition, Signal, diagram, step
from muster_contracts.fleet.v1 import AgentFlapping, Presence, PresenceChanged, Reason
from muster_contracts.ids import make_epoch

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
BOOT = "0a1b2c3d4e5f"
FIRST, SECOND, THIRD = (make_epoch(BOOT, 1000 + run) for run in range(3))
ELSEWHERE = make_epoch("ffffffffffff", 1000)
RULES = Rules()


def sign(signal: Signal, epoch: str | None = FIRST, *, after: float = 0.0, **more: object) -> Sign:
    reason = {
        Signal.BEAT: Reason.HEARTBEAT,
        Signal.OVERDUE: Reason.OVERDUE,
        Signal.SILENCE: Reason.SILENCE,
        Signal.DISCONNECT: Reason.DISCONNECTED,
        Signal.GOODBYE: Reason.SHUTDOWN,
        Signal.EXPECT: Reason.EXPECTED,
        Signal.RETIRE: Reason.RETIRED,
    }[signal]
    return replace(Sign("web-1", signal, NOON + timedelta(seconds=after), reason, epoch), **more)  # type: ignore[arg-type]


def tell(*signs: Sign, agent: Agent | None = None, rules: Rules = RULES) -> tuple[Agent, list[Decision]]:
    """The agent after a story, and every decision on the way."""
    decisions = []
    for one in signs:
        agent = agent or newcomer(one)
        assert agent
        decisions.append(decide(agent, one, rules))
        agent = decisions[-1].agent
    assert agent
    return agent, decisions


def story(decisions: list[Decision]) -> list[tuple[Presence, Reason]]:
    """The changes said, in order."""
    return [
        (fact.now, fact.reason)
        for decision in decisions
        for fact in decision.facts
        if isinstance(fact, PresenceChanged)
    ]


def test_a_silent_agent_turns_late_then_lost_and_returns_with_its_next_heartbeat() -> None:
    _, decisions = tell(*map(sign, [Signal.BEAT, Signal.OVERDUE, Signal.SILENCE, Signal.BEAT]))
    assert [now for now, _ in story(decisions)] == ["online", "late", "lost", "online"]


@pytest.mark.parametrize(
    ("presence", "signal"), sorted(set(product(Presence, Signal)) - TRANSITIONS.keys())
)  # fmt: skip
def test_a_pair_outside_the_table_is_refused_by_name(presence: Presence, signal: Signal) -> None:
    with pytest.raises(ImpossibleTransition, match=f"^cannot apply {signal} to web-1 while {presence}$"):
        step("web-1", presence, signal)


def test_only_an_agent_nobody_has_heard_has_no_silence_to_be_judged_by() -> None:
    assert set(product(Presence, Signal)) - TRANSITIONS.keys() == {
        (Presence.EXPECTED, Signal.OVERDUE),
        (Presence.EXPECTED, Signal.SILENCE),
    }


def test_the_diagram_shows_every_transition_that_changes_something() -> None:
    assert diagram().count("-->") == 1 + sum(
        before is not after for (before, _), after in TRANSITIONS.items()
    )


def test_a_killed_agent_is_lost_because_its_connection_ended() -> None:
    agent, decisions = tell(sign(Signal.BEAT), sign(Signal.DISCONNECT, after=9, ended_at=NOON))
    assert story(decisions)[-1] == (Presence.LOST, Reason.DISCONNECTED)
    assert decisions[-1].sessions == (Closed("web-1", FIRST, NOON, Reason.DISCONNECTED),)
    assert agent.epoch == FIRST


@pytest.mark.parametrize(
    "after", [Signal.DISCONNECT, Signal.SILENCE, Signal.OVERDUE, Signal.BEAT, Signal.GOODBYE]
)
def test_after_a_goodbye_nothing_of_that_run_is_news(after: Signal) -> None:
    agent, decisions = tell(sign(Signal.BEAT), sign(Signal.GOODBYE), sign(after))
    assert agent.presence is Presence.LEFT
    assert story(decisions) == [(Presence.ONLINE, Reason.HEARTBEAT), (Presence.LEFT, Reason.SHUTDOWN)]
    assert not decisions[-1].changes


def test_a_goodbye_slower_than_the_loss_corrects_it_to_left() -> None:
    agent, decisions = tell(sign(Signal.BEAT), sign(Signal.DISCONNECT), sign(Signal.GOODBYE))
    assert agent.presence is Presence.LEFT
    assert decisions[-1].sessions == (Corrected("web-1", FIRST, NOON, Reason.SHUTDOWN),)


def test_a_run_that_began_and_left_while_nobody_listened_is_a_session_all_the_same() -> None:
    agent, decisions = tell(sign(Signal.BEAT), sign(Signal.GOODBYE), sign(Signal.GOODBYE, SECOND))
    assert (agent.presence, agent.epoch) == (Presence.LEFT, SECOND)
    opened, closed = decisions[-1].sessions
    assert (opened.epoch, closed.epoch) == (SECOND, SECOND)
    assert not decisions[-1].changes


def test_a_goodbye_slower_than_the_next_run_only_corrects_its_own_session() -> None:
    agent, decisions = tell(sign(Signal.BEAT), sign(Signal.BEAT, SECOND), sign(Signal.GOODBYE, FIRST))
    assert (agent.presence, agent.epoch) == (Presence.ONLINE, SECOND)
    assert decisions[-1].sessions == (Corrected("web-1", FIRST, NOON, Reason.SHUTDOWN),)
    assert not decisions[-1].facts


def test_a_run_that_was_never_heard_but_for_its_goodbye_has_left() -> None:
    agent, decisions = tell(sign(Signal.GOODBYE))
    assert agent.presence is Presence.LEFT
    assert [type(edit) for edit in decisions[0].sessions] == [Opened, Closed]


def test_a_retired_agent_stays_retired_until_it_is_expected_again() -> None:
    agent, decisions = tell(sign(Signal.BEAT), sign(Signal.RETIRE), sign(Signal.BEAT), sign(Signal.GOODBYE))
    assert agent.presence is Presence.RETIRED
    assert decisions[2].note is Note.RETIRED
    agent, _ = tell(sign(Signal.EXPECT), sign(Signal.BEAT, SECOND), agent=agent)
    assert agent.presence is Presence.ONLINE


def test_a_newer_run_on_the_same_machine_replaces_the_older_one_without_a_word() -> None:
    agent, decisions = tell(sign(Signal.BEAT), sign(Signal.BEAT, SECOND, after=5))
    assert (agent.presence, agent.epoch, agent.reason) == (Presence.ONLINE, SECOND, Reason.REPLACED)
    assert decisions[-1].sessions[0] == Closed("web-1", FIRST, NOON + timedelta(seconds=5), Reason.REPLACED)
    assert isinstance(decisions[-1].sessions[1], Opened)
    assert not decisions[-1].facts
    assert [change.reason for change in decisions[-1].changes] == [Reason.REPLACED]


def test_a_message_of_an_older_run_is_counted_and_ignored() -> None:
    agent, decisions = tell(sign(Signal.BEAT, SECOND), sign(Signal.BEAT, FIRST))
    assert (agent.epoch, decisions[-1].note) == (SECOND, Note.STALE)


def test_a_verdict_on_an_earlier_run_changes_nothing() -> None:
    agent, decisions = tell(sign(Signal.BEAT, SECOND), sign(Signal.DISCONNECT, FIRST))
    assert (agent.presence, decisions[-1].note) == (Presence.ONLINE, Note.OUTDATED)


def test_a_repeated_hello_that_tells_nothing_new_leaves_nothing_to_write() -> None:
    agent, _ = tell(sign(Signal.BEAT, labels={"site": "ams"}))
    again, decisions = tell(sign(Signal.BEAT, labels={"site": "ams"}, after=5), agent=agent)
    assert again is agent
    assert not decisions[0].changes


def test_a_new_run_heard_by_a_heartbeat_is_asked_to_introduce_itself() -> None:
    _, decisions = tell(sign(Signal.BEAT), sign(Signal.BEAT), sign(Signal.BEAT, SECOND, reason=Reason.HELLO))
    assert [decision.introduce for decision in decisions] == [True, False, False]


def test_an_agent_that_comes_and_goes_is_named_flapping_once_and_then_only_recorded() -> None:
    toggles = [
        sign(Signal.BEAT if turn % 2 == 0 else Signal.DISCONNECT, after=turn * 5) for turn in range(10)
    ]
    agent, decisions = tell(*toggles)
    facts = [type(fact) for decision in decisions for fact in decision.facts]
    assert facts == [PresenceChanged] * 5 + [AgentFlapping]
    assert len([change for decision in decisions for change in decision.changes]) == 10
    assert agent.flapping


def test_an_agent_that_comes_and_goes_slowly_does_not_flap() -> None:
    agent, _ = tell(
        *(sign(Signal.BEAT if turn % 2 == 0 else Signal.DISCONNECT, after=turn * 15) for turn in range(10))
    )
    assert not agent.flapping


def test_being_late_and_back_is_no_coming_or_going() -> None:
    agent, _ = tell(sign(Signal.BEAT), *(sign(s) for s in [Signal.OVERDUE, Signal.BEAT] * 10))
    assert not agent.flapping


SIGNS = st.builds(
    sign,
    st.sampled_from(Signal),
    st.sampled_from([FIRST, SECOND, THIRD, ELSEWHERE]),
    after=st.floats(0, 100),
)


@given(st.lists(SIGNS, max_size=30))
def test_whatever_happens_history_is_one_chain_and_each_word_is_said_once(signs: list[Sign]) -> None:
    agent: Agent | None = None
    decisions: list[Decision] = []
    for one in signs:
        agent = agent or newcomer(one)
        if agent is None or (agent.presence, one.signal) not in TRANSITIONS:
            continue
        decisions.append(decide(agent, one, RULES))
        agent = decisions[-1].agent if decisions[-1].agent.version else None
    changes = [change for decision in decisions for change in decision.changes]
    assert all(before.now is after.was for before, after in pairwise(changes))
    if agent and changes:
        assert changes[-1].now is agent.presence
    ids = [fact.message_id for decision in decisions for fact in decision.facts]
    assert len(ids) == len(set(ids))
    versions = [decision.agent.version for decision in decisions]
    assert versions == sorted(versions)


@given(st.lists(SIGNS, max_size=30))
def test_whatever_happens_exactly_the_live_agent_has_an_open_session(signs: list[Sign]) -> None:
    agent: Agent | None = None
    is_open: str | None = None
    for one in signs:
        agent = agent or newcomer(one)
        if agent is None or (agent.presence, one.signal) not in TRANSITIONS:
            continue
        decision = decide(agent, one, RULES)
        agent = decision.agent if decision.agent.version else None
        for edit in decision.sessions:
            if isinstance(edit, Opened):
                assert is_open is None
                is_open = edit.epoch
            elif isinstance(edit, Closed):
                assert is_open == edit.epoch
                is_open = None
        assert (is_open is not None) == (agent is not None and agent.presence in LIVE)


@given(st.lists(SIGNS, max_size=30))
def test_whatever_happens_a_leave_is_never_called_a_death(signs: list[Sign]) -> None:
    agent: Agent | None = None
    for one in signs:
        agent = agent or newcomer(one)
        if agent is None or (agent.presence, one.signal) not in TRANSITIONS:
            continue
        before = agent
        decision = decide(agent, one, RULES)
        agent = decision.agent if decision.agent.version else None
        if before.presence is Presence.LEFT and agent:
            assert agent.presence is not Presence.LOST


def test_the_readme_shows_the_table_as_it_is() -> None:
    readme = Path(__file__).parents[1] / "README.md"
    assert diagram() in readme.read_text()


def test_a_fact_has_one_id_but_another_in_a_rebuilt_or_restored_database() -> None:
    def said(realm: str = "a", after: float = 0) -> UUID:
        _, [decision] = tell(sign(Signal.BEAT, after=after), rules=replace(RULES, realm=realm))
        return decision.facts[0].message_id

    assert said() == said()
    assert len({said(), said(realm="b"), said(after=1)}) == 3
