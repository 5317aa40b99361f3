"""Clones, partitions, grants: what shows only when many signs are seen together."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_registry.domain.agent import Agent, Note, Sign
from fleet_registry.domain.clones import CLONES_AT_MOST, Alias, name_for, names_for
from fleet_registry.domain.decide import Rules
from fleet_registry.domain.grants import GrantPolicy, deadline, grant, judged_by
from fleet_registry.domain.partition import Census, Partition, PartitionPolicy, ended, suspected
from fleet_registry.domain.presence import Signal
from fleet_registry.domain.rollcall import Rollcall, call, census_after, reunite, suspicions, vanishing_sites
from muster_contracts.fleet.v1 import IdentityConflict, Presence, PresenceChanged, Reason
from muster_contracts.ids import is_agent_id, make_epoch

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HERE, THERE, BEYOND = (make_epoch(boot * 12, 1000) for boot in "abc")
RULES = Rules()


def beat(epoch: str, after: float = 0, *, since: float | None = None, spoke: float | None = None) -> Sign:
    def moment(seconds: float | None) -> datetime | None:
        return None if seconds is None else NOON + timedelta(seconds=seconds)

    return Sign(
        "web-1",
        Signal.BEAT,
        NOON + timedelta(seconds=after),
        Reason.HEARTBEAT,
        epoch,
        interval_seconds=5,
        contest_since=moment(since),
        known_spoke=moment(spoke),
    )


def conflicts(rollcall: Rollcall) -> list[IdentityConflict]:
    return [
        f for _, decision in rollcall.decisions for f in decision.facts if isinstance(f, IdentityConflict)
    ]


def test_a_second_machine_waits_while_the_first_may_still_live() -> None:
    rollcall = call({}, [beat(HERE), beat(THERE, 1, since=1, spoke=0)], RULES)
    assert rollcall.agents["web-1"].epoch == HERE
    assert rollcall.decisions[-1][1].note is Note.CONTENDER


def test_two_machines_that_speak_in_turn_are_both_visible_and_named_once() -> None:
    signs = [beat(HERE), beat(THERE, 1, since=1, spoke=0), beat(THERE, 6, since=1, spoke=5)]
    signs += [beat(one, at, since=1, spoke=at - 1) for at in range(7, 60) for one in (HERE, THERE)]
    rollcall = call({}, signs, RULES)
    [conflict] = conflicts(rollcall)
    assert (conflict.agent_id, conflict.known_as) == ("web-1", "web-1-clone-bbbb")
    assert (conflict.epoch, conflict.other_epoch) == (HERE, THERE)
    assert {one.id: one.epoch for one in rollcall.agents.values()} == {
        "web-1": HERE,
        "web-1-clone-bbbb": THERE,
    }
    assert rollcall.agents["web-1-clone-bbbb"].speaks_as == "web-1"
    assert sum(len(decision.changes) for _, decision in rollcall.decisions) == 2


def test_a_conflict_names_first_who_keeps_the_id_and_then_who_came_later() -> None:
    signs = [beat(HERE), beat(THERE, 6, since=1, spoke=5)]
    places = {HERE: "10.0.0.1:1", THERE: "10.0.0.2:2"}
    rollcall = call({}, [replace(one, address=places[str(one.epoch)]) for one in signs], RULES)
    [conflict] = conflicts(rollcall)
    assert (conflict.epoch, conflict.address) == (HERE, "10.0.0.1:1")
    assert (conflict.other_epoch, conflict.other_address) == (THERE, "10.0.0.2:2")
    described = {name: field.description or "" for name, field in IdentityConflict.model_fields.items()}
    assert "earlier" in described["epoch"]
    assert "earlier" in described["address"]
    assert "later" in described["other_epoch"]
    assert "later" in described["other_address"]


def test_a_third_machine_gets_a_third_name() -> None:
    signs = [beat(HERE), beat(THERE, 6, since=1, spoke=5), beat(BEYOND, 7, since=2, spoke=5)]
    assert set(call({}, signs, RULES).agents) == {"web-1", "web-1-clone-bbbb", "web-1-clone-cccc"}


def test_a_machine_that_booted_again_takes_over_once_the_run_before_is_silent() -> None:
    rollcall = call(
        {}, [beat(HERE), beat(THERE, 1, since=1, spoke=0), beat(THERE, 9, since=1, spoke=0)], RULES
    )
    assert rollcall.agents["web-1"].epoch == THERE
    assert not conflicts(rollcall)


def test_an_alias_takes_neither_a_living_agents_name_nor_a_strangers() -> None:
    epoch = make_epoch("bbbbccccdddd", 1)
    living = Alias("web-1-clone-cccc", "web-1", HERE, Presence.ONLINE)
    gone = Alias("web-1-clone-eeee", "web-1", HERE, Presence.LOST)
    assert name_for("web-1", epoch, [living]) == "web-1-clone-bbbb"
    assert name_for("web-1", epoch, [living], taken={"web-1-clone-bbbb", living.id}) == "web-1-clone-dddd"
    assert name_for("web-1", epoch, [], taken=names_for("web-1", epoch)) is None
    assert name_for("web-1", epoch, [living, gone]) == gone.id
    assert all(is_agent_id(name) for name in names_for("x" * 63, epoch))


def test_only_so_many_machines_under_one_id_are_shown_and_the_rest_are_counted() -> None:
    epochs = [make_epoch(f"{boot:04x}" * 3, 1000) for boot in range(1, 20)]
    signs = [beat(HERE), *(beat(one, 7, since=2, spoke=5) for one in epochs)]
    rollcall = call({}, signs, RULES)
    assert len(rollcall.agents) == 1 + CLONES_AT_MOST
    unnamed = [decision for _, decision in rollcall.decisions if decision.note is Note.UNNAMED]
    assert len(unnamed) == len(epochs) - CLONES_AT_MOST


def test_a_broken_connection_buries_the_run_before_but_not_for_a_message_of_an_older_one() -> None:
    older, newer = (make_epoch("a" * 12, start) for start in (500, 2000))
    before = call({}, [beat(HERE)], RULES).agents
    broken = replace(beat(newer, 9), disconnected_at=NOON + timedelta(seconds=8))
    changes = [
        change for _, decision in call(before, [broken], RULES).decisions for change in decision.changes
    ]
    assert [(one.now, one.reason) for one in changes] == [("lost", "disconnected"), ("online", "heartbeat")]
    rollcall = call(before, [replace(broken, epoch=older)], RULES)
    assert rollcall.agents["web-1"].epoch == HERE
    assert [decision.note for _, decision in rollcall.decisions] == [Note.STALE]


def test_history_only_goes_forward_whatever_the_clocks_say() -> None:
    lost = Sign("web-1", Signal.SILENCE, NOON - timedelta(hours=1), Reason.SILENCE, HERE)
    [*_, (_, decision)] = call({}, [beat(HERE), lost], RULES).decisions
    assert decision.changes[0].at == NOON


# Partitions ----------------------------------------------------------------------------------------


def site(size: int, presence: Presence = Presence.ONLINE) -> dict[str, Agent]:
    return {
        f"a-{n}": Agent(f"a-{n}", NOON, presence=presence, epoch=HERE, declared={"site": "ams"}, version=1)
        for n in range(size)
    }


def silence(agent_id: str, signal: Signal = Signal.SILENCE) -> Sign:
    return Sign(agent_id, signal, NOON, Reason.SILENCE, HERE)


def test_the_losses_of_a_cut_site_are_one_fact_and_each_is_recorded() -> None:
    before = site(100)
    signs = [silence(f"a-{n}") for n in range(40)]
    first = call(before, signs, RULES)
    assert vanishing_sites(first) == {"ams"}
    census = census_after(Census(100, 0), "ams", before, first.agents, NOON)
    assert census == Census(60, 40)
    [(partition, fact)] = suspicions({"ams": census}, NOON, PartitionPolicy())
    assert (partition.missing, fact.known) == (40, 100)
    again = call(before, signs, replace(RULES, cut_sites=frozenset({"ams"})))
    assert not [fact for _, decision in again.decisions for fact in decision.facts]
    assert [d.changes[0].reason for _, d in again.decisions] == [Reason.PARTITION] * 40


def test_agents_that_return_to_a_cut_site_are_not_said_one_by_one() -> None:
    rules = replace(RULES, cut_sites=frozenset({"ams"}))
    signs = [silence("a-1"), Sign("a-1", Signal.BEAT, NOON, Reason.HEARTBEAT, HERE)]
    rollcall = call(site(20), signs, rules)
    assert rollcall.agents["a-1"].presence is Presence.ONLINE
    assert not [fact for _, decision in rollcall.decisions for fact in decision.facts]


def test_a_goodbye_from_a_cut_site_is_still_said() -> None:
    rules = replace(RULES, cut_sites=frozenset({"ams"}))
    rollcall = call(site(20), [Sign("a-1", Signal.GOODBYE, NOON, Reason.SHUTDOWN, HERE)], rules)
    [(_, decision)] = rollcall.decisions
    assert [type(fact) for fact in decision.facts] == [PresenceChanged]


@pytest.mark.parametrize(
    ("census", "verdict"),
    [(Census(70, 30), False), (Census(69, 31), True), (Census(0, 9), False), (Census(0, 10), True)],
)
def test_a_site_is_suspected_above_its_share_and_size(census: Census, verdict: bool) -> None:
    assert suspected(census, PartitionPolicy()) is verdict


def test_a_partition_ends_when_most_are_back_or_its_time_is_over() -> None:
    partition, policy = Partition("ams", NOON, 40, 100), PartitionPolicy()
    assert not ended(partition, Census(84, 16), NOON, policy)
    assert ended(partition, Census(85, 15), NOON, policy)
    assert ended(partition, Census(0, 100), NOON + timedelta(seconds=600), policy)


def test_the_end_of_a_partition_counts_the_returned_and_frees_everyone() -> None:
    members = [*site(8).values(), *(replace(a, id=f"b{a.id}") for a in site(2, Presence.LOST).values())]
    freed, fact, still = reunite(Partition("ams", NOON, 10, 20), members, NOON + timedelta(seconds=9))
    assert (fact.returned, fact.still_lost, fact.lasted_seconds) == (8, 2, 9)
    assert not any(agent.in_partition for agent in freed)
    assert [agent.version for agent in still] == [2, 2]


# Grants ---------------------------------------------------------------------------------------------

POLICY = GrantPolicy()


def test_a_fleet_of_fifty_thousand_is_granted_an_interval_that_finds_the_dead_in_35_seconds() -> None:
    granted = grant(5.0, 50_000, POLICY)
    assert 50_000 / granted <= 4000
    assert deadline(granted) <= 35


@given(st.lists(st.integers(0, 200_000), max_size=50))
def test_no_fleet_ever_exceeds_the_budget_and_none_is_granted_less_than_the_base(sizes: list[int]) -> None:
    granted = POLICY.base_seconds
    for live in sizes:
        granted = grant(granted, live, POLICY)
        assert granted >= POLICY.base_seconds
        assert live / granted <= POLICY.budget_per_second + 1e-6


@given(st.integers(20_000, 200_000), st.lists(st.integers(-500, 500), max_size=50))
def test_agents_that_come_and_go_at_an_edge_do_not_move_the_grant_to_and_fro(
    size: int, noise: list[int]
) -> None:
    granted, grants = POLICY.base_seconds, []
    for change in noise:
        granted = grant(granted, size + change, POLICY)
        grants.append(granted)
    assert grants == sorted(grants)


@given(st.floats(0.001, 1e6), st.floats(0.2, 60))
def test_nobody_is_judged_by_less_than_it_promised_or_was_granted(stated: float, granted: float) -> None:
    judged = judged_by(stated, granted, POLICY)
    assert judged >= granted
    assert judged >= min(stated, POLICY.longest_seconds)
    assert judged <= max(POLICY.longest_seconds, granted)
