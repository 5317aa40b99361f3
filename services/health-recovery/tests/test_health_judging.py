"""How packages are judged: by themselves, by what they need, by how often they change; pure."""

from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from health_desk import Desk, key
from health_facts import (
    EPOCH,
    NEXT_EPOCH,
    NOON,
    check,
    cut_off,
    described,
    found,
    joined,
    later,
    presence,
    row,
    state,
)
from hypothesis import given
from hypothesis import strategies as st

from health_recovery.domain import hearing, picture
from health_recovery.domain.availability import Stretch, figures
from health_recovery.domain.causes import causes, chain_to_cause
from health_recovery.domain.facts import Stamp, supersedes
from health_recovery.domain.flapping import FlappingPolicy, calm_at, flaps, recent
from health_recovery.domain.hearing import Fact
from health_recovery.domain.keys import Key
from health_recovery.domain.timers import Timers
from health_recovery.domain.views import rollups
from health_recovery.judged import PictureView
from muster_contracts.agent.v1 import AgentKind
from muster_contracts.health.v1 import Health, HealthFlapping, HealthStable, HostHealthChanged
from muster_contracts.ids import make_epoch
from muster_contracts.package.v1 import PackageState, Purpose

# By itself -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "health", "reason"),
    [
        ("running", "ok", "running"),
        ("paused", "warning", "paused"),
        ("stopped", "ok", "stopped"),
        ("failed", "critical", "failed"),
        ("invalid", "critical", "invalid"),
        ("crash_loop", "critical", "crash-loop"),
        ("blocked", "critical", "blocked"),
        ("exited", "critical", "exited"),
        ("starting", "unknown", "never-heard"),
    ],
)
def test_a_package_is_judged_by_its_state(now: str, health: str, reason: str) -> None:
    desk = Desk()
    desk.tell(state("web@a", now))
    assert (desk.health("web@a"), desk.reason("web@a")) == (health, reason)


def test_every_state_has_a_judgement() -> None:
    for one in PackageState:
        desk = Desk()
        desk.tell(state("web@a", one))
        assert desk.health("web@a") in set(Health)


@pytest.mark.parametrize(
    ("policy", "code", "health"),
    [
        ("on-failure", 0, "ok"),
        ("never", 0, "ok"),
        ("never", 1, "critical"),
        ("on-failure", None, "critical"),
        ("always", 0, "critical"),
    ],
)
def test_an_exit_is_no_illness_where_it_was_meant_to_end(policy: str, code: int | None, health: str) -> None:
    desk = Desk()
    desk.tell(described("job@a", restart_policy=policy), state("job@a", "exited", exit_code=code))
    assert desk.health("job@a") == health


@pytest.mark.parametrize("short", ["starting", "stopping", "backoff"])
@pytest.mark.parametrize("before", ["ok", "critical"])
def test_a_package_in_motion_is_as_it_was_until_it_lasts_too_long(short: str, before: str) -> None:
    desk = Desk()
    desk.tell(state("web@a"), check("web@a", before))
    desk.tell(state("web@a", short, later(10)))
    assert desk.health("web@a") == before
    desk.at(later(69.9))
    assert desk.health("web@a") == before
    desk.at(later(70))
    assert desk.health("web@a") == ("warning" if before == "ok" else "critical")


def test_tries_that_follow_one_another_are_one_time_in_motion() -> None:
    desk = Desk()
    desk.tell(state("web@a"))
    for second in range(10, 60, 10):
        desk.tell(state("web@a", "backoff", later(second)))
        desk.tell(state("web@a", "starting", later(second + 5)))
    desk.at(later(70))
    assert desk.health("web@a") == "warning"
    desk.tell(state("web@a", "running", later(71)))
    assert desk.health("web@a") == "ok"


def test_the_worst_check_decides_and_unknown_ones_are_left_aside() -> None:
    desk = Desk()
    desk.tell(state("web@a"), check("web@a", "ok", check="a"), check("web@a", "unknown", check="b"))
    assert desk.health("web@a") == "ok"
    desk.tell(check("web@a", "warning", check="c", at=later(1)))
    desk.tell(check("web@a", "critical", check="d", at=later(2)))
    assert (desk.health("web@a"), desk.get("web@a").judged.base.check) == ("critical", "d")
    desk.tell(check("web@a", None, check="d", at=later(3)))
    assert (desk.health("web@a"), desk.get("web@a").judged.base.check) == ("warning", "c")


@pytest.mark.parametrize("before", ["ok", "warning", "critical"])
def test_a_package_that_is_started_again_is_as_it_was_until_a_check_has_looked(before: str) -> None:
    desk = Desk()
    desk.tell(state("web@a"), check("web@a", before))
    desk.tell(state("web@a", "starting", later(1)), check("web@a", "unknown", later(1), reason="stopped"))
    desk.tell(state("web@a", "running", later(2)))
    base = desk.get("web@a").judged.base
    assert (base.health.value, base.stale) == (before, before == "critical")
    assert desk.tell(state("web@a", "running", later(3))).events == []
    desk.tell(check("web@a", "ok", later(4)))
    assert desk.health("web@a") == "ok"
    toggled = [] if before == "ok" else ["web@a ok"]
    assert desk.news() == [f"web@a {before}", *toggled], "a restart is no news of its own"


def test_it_is_held_by_the_check_that_made_it_ill_and_by_no_other() -> None:
    """One that looks once an hour does not keep a package ill that it never called so."""
    desk = Desk()
    desk.tell(state("web@a"), check("web@a", "critical", check="page"), check("web@a", "ok", check="tls"))
    reset = [
        check("web@a", "unknown", later(1), check=name, reason="stopped") for name in ("page", "tls", "port")
    ]
    desk.tell(state("web@a", "starting", later(1)), *reset, state("web@a", "running", later(2)))
    desk.tell(check("web@a", "ok", later(3), check="port"))
    assert (desk.health("web@a"), desk.get("web@a").judged.base.stale) == ("critical", True)
    desk.tell(check("web@a", "ok", later(4), check="page"))
    assert desk.health("web@a") == "ok"


@pytest.mark.parametrize(
    ("ended", "held"), [("exited", "critical"), ("failed", "critical"), ("stopped", "ok")]
)
def test_what_did_not_run_is_as_it_was_until_the_first_look(ended: str, held: str) -> None:
    desk = Desk()
    desk.tell(state("web@a", ended), check("web@a", "unknown", reason="stopped"))
    desk.tell(state("web@a", "starting", later(1)), state("web@a", "running", later(2)))
    assert desk.health("web@a") == held
    assert desk.get("web@a").judged.base.stale is (held == "critical")
    desk.tell(check("web@a", "critical", later(3), check="http"))
    assert (desk.health("web@a"), desk.get("web@a").judged.base.stale) == ("critical", False)


def test_a_package_in_a_crash_loop_is_ill_until_it_has_run_for_long_enough() -> None:
    desk = Desk()
    desk.tell(state("flaky@a", "crash_loop", text="ended 5 times"))
    for second in range(10, 100, 30):
        desk.tell(state("flaky@a", "starting", later(second)))
        desk.tell(state("flaky@a", "running", later(second + 1)))
        assert (desk.health("flaky@a"), desk.reason("flaky@a")) == ("critical", "crash-loop")
        desk.at(later(second + 20))
        desk.tell(state("flaky@a", "crash_loop", later(second + 21)))
    assert desk.news() == ["flaky@a critical"]
    desk.tell(state("flaky@a", "starting", later(200)), state("flaky@a", "running", later(201)))
    desk.at(later(260.9))
    assert desk.health("flaky@a") == "critical"
    desk.at(later(261))
    assert desk.health("flaky@a") == "ok"
    desk.at(later(500))
    assert desk.health("flaky@a") == "ok"
    desk.tell(state("flaky@a", "backoff", later(600)))
    desk.at(later(659))
    assert desk.health("flaky@a") == "ok", "patience with the next start begins anew"


def test_a_former_dependent_is_known_to_be_one_until_it_is_well() -> None:
    desk = Desk()
    desk.tell(
        described("web@a", needs=["db"]), state("db@a"), state("web@a"),
        check("db@a", "critical", later(1)), check("web@a", "critical", later(2)),
    )  # fmt: skip
    assert desk.get("web@a").judged.relieved_at is None
    desk.tell(check("db@a", "ok", later(10)))
    assert (desk.cause("web@a"), desk.get("web@a").judged.relieved_at) == (None, later(10))
    desk.tell(check("web@a", "critical", later(15), text="still"))
    assert desk.get("web@a").judged.relieved_at == later(10)
    desk.tell(check("web@a", "ok", later(20)))
    assert desk.get("web@a").judged.relieved_at is None
    desk.tell(check("web@a", "critical", later(30)))
    assert desk.get("web@a").judged.relieved_at is None, "this time it is its own illness"


def test_only_a_liveness_check_lets_recovery_act() -> None:
    desk = Desk()
    desk.tell(state("web@a"), check("web@a", "critical", purpose=Purpose.READINESS, check="ready"))
    assert not desk.get("web@a").judged.base.live
    desk.tell(check("web@a", "critical", check="alive", at=later(1)))
    assert desk.get("web@a").judged.base.live
    assert desk.get("web@a").judged.base.check == "alive"


# Order -----------------------------------------------------------------------------------------------


def test_an_older_fact_that_comes_late_changes_nothing() -> None:
    desk = Desk()
    desk.tell(state("web@a"), check("web@a", "ok", later(10)))
    assert desk.tell(check("web@a", "critical", later(5)), now=later(20)).empty
    assert desk.tell(state("web@a", "failed", later(-5)), now=later(20)).empty
    assert desk.health("web@a") == "ok"


def test_a_repeat_changes_nothing() -> None:
    desk = Desk()
    facts: list[Fact] = [state("web@a"), check("web@a"), described("web@a"), found("a", "web"), presence("a")]
    desk.one_by_one(*facts)
    for fact in facts:
        changes = desk.tell(fact, now=later(9))
        assert not changes.facts
        assert not changes.events


def test_a_fact_of_the_run_before_is_older_whatever_its_clock_says() -> None:
    desk = Desk()
    desk.tell(state("web@a", at=later(5), epoch=NEXT_EPOCH))
    desk.tell(state("web@a", "failed", later(100), epoch=EPOCH))
    assert desk.health("web@a") == "ok"


def test_the_run_that_the_registry_knows_counts_though_its_clock_was_set_back() -> None:
    set_back = make_epoch("b" * 12, 10)
    desk = Desk()
    desk.tell(state("web@a", "failed", epoch=NEXT_EPOCH))
    desk.tell(state("web@a", "running", later(-60), epoch=set_back), now=NOON)
    assert desk.health("web@a") == "critical"
    desk.tell(presence("a", epoch=set_back))
    desk.tell(state("web@a", "running", later(-60), epoch=set_back), now=NOON)
    assert desk.health("web@a") == "ok"


@given(st.permutations(range(6)))
def test_facts_that_come_in_any_order_end_in_one_judgement(order: list[int]) -> None:
    facts: list[Fact] = [
        described("web@a", at=later(1), checks=["http"]),
        state("web@a", "starting", later(2)),
        state("web@a", "running", later(3)),
        check("web@a", "critical", later(4)),
        check("web@a", "ok", later(6)),
        found("a", "web", at=later(5)),
    ]
    desk = Desk()
    for place in order:
        desk.tell(facts[place], now=later(10))
    assert desk.health("web@a") == "ok"
    assert desk.host("a") == "ok"


def test_what_a_list_has_no_more_is_gone_and_is_said_to_be() -> None:
    desk = Desk()
    desk.tell(state("web@a"), state("old@a"), found("a", "web", "old", at=later(1)))
    desk.tell(found("a", "web", at=later(2)))
    assert desk.picture.get(key("old@a")) is None
    assert desk.news()[-1] == "old@a PackageHealthChanged"
    # Word of it that was on its way before the list does not bring it back; later word does.
    desk.tell(state("old@a", at=later(1.5)), now=later(3))
    assert desk.picture.get(key("old@a")) is None
    desk.tell(state("old@a", at=later(4)))
    assert desk.health("old@a") == "ok"


def test_a_check_that_a_later_description_leaves_out_does_not_come_back() -> None:
    desk = Desk()
    desk.tell(state("web@a"), check("web@a", "critical"))
    desk.tell(described("web@a", at=later(2), checks=[]))
    assert desk.health("web@a") == "ok"
    desk.tell(check("web@a", "critical", later(1)), now=later(3))
    assert desk.health("web@a") == "ok"


def test_a_machine_with_a_fast_clock_is_judged_since_now() -> None:
    desk = Desk()
    desk.tell(state("web@a", "failed", later(3600)), now=NOON)
    assert desk.get("web@a").judged.since == NOON


def test_of_two_runs_at_most_one_supersedes_the_other() -> None:
    one, other = Stamp(EPOCH, NOON), Stamp(NEXT_EPOCH, NOON)
    for current in (None, EPOCH, NEXT_EPOCH, make_epoch("c" * 12, 5)):
        assert supersedes(one, other, current) is not supersedes(other, one, current)


# Presence --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gone", "reason"), [("lost", "agent-lost"), ("left", "agent-left"), ("retired", "agent-retired")]
)
def test_of_an_absent_agent_nothing_is_known_and_back_it_is_as_it_was(gone: str, reason: str) -> None:
    desk = Desk()
    desk.tell(presence("a"), state("web@a", "failed"), state("db@a"))
    desk.tell(presence("a", gone, later(1)))
    assert (desk.health("web@a"), desk.reason("web@a")) == ("unknown", reason)
    assert desk.host("a") == "unknown"
    desk.tell(presence("a", "online", later(2)))
    assert (desk.health("web@a"), desk.health("db@a"), desk.host("a")) == ("critical", "ok", "critical")


def test_an_agent_that_is_late_is_believed() -> None:
    desk = Desk()
    desk.tell(presence("a"), state("web@a"), presence("a", "late", later(1)))
    assert desk.health("web@a") == "ok"


def test_what_is_missing_at_a_site_that_is_cut_off_is_unknown_and_the_rest_is_as_it_is() -> None:
    desk = Desk()
    for agent, now in (("a", "late"), ("b", "online"), ("c", "late")):
        site = "ams" if agent != "c" else "fra"
        desk.tell(presence(agent, now, labels={"site": site}), state(f"web@{agent}"))
    desk.tell(cut_off("ams", later(1)))
    assert [desk.reason(f"web@{agent}") for agent in "abc"] == ["partitioned", "running", "running"]
    seen = PictureView(desk.picture).get(key("web@b"))
    assert seen
    assert seen.partitioned
    desk.tell(joined("ams", later(2)))
    assert [desk.health(f"web@{agent}") for agent in "abc"] == ["ok", "ok", "ok"]


def test_older_word_of_presence_is_skipped_and_the_list_of_the_registry_counts() -> None:
    desk = Desk()
    desk.tell(state("web@a"), presence("a", "lost", later(10)))
    desk.tell(presence("a", "online", later(5)), now=later(11))
    assert desk.health("web@a") == "unknown"
    desk.see(row("a", "online", later(5)), now=later(11))
    assert desk.health("web@a") == "unknown"
    desk.see(row("a", "online", later(12), labels={"role": "web"}, groups=["front"]), now=later(13))
    assert desk.health("web@a") == "ok"
    assert desk.picture.host("a").groups == ("front",)


def test_agents_without_packages_are_judged_by_presence() -> None:
    desk = Desk()
    desk.see(
        row("k1", kind=AgentKind.CLUSTER), row("r1", "lost", kind=AgentKind.RUNNER), row("x", "expected")
    )
    assert [desk.host(agent) for agent in ("k1", "r1", "x")] == ["ok", "unknown", "unknown"]
    fleet, _, kinds = rollups(desk.picture)
    assert kinds[AgentKind.CLUSTER].health is Health.OK
    assert kinds[AgentKind.RUNNER].health is Health.UNKNOWN
    assert (fleet.health, fleet.agents.unknown) == (Health.OK, 2)


def test_retired_agents_are_not_counted() -> None:
    desk = Desk()
    desk.see(row("a", "retired"), row("b"))
    assert rollups(desk.picture)[0].agents.unknown == 0


def test_groups_are_as_their_worst_agent() -> None:
    desk = Desk()
    desk.see(row("a", groups=["web", "ams"]), row("b", groups=["web"]))
    desk.tell(state("web@a"), state("web@b", "paused"))
    _, groups, _ = rollups(desk.picture)
    assert {name: one.health for name, one in groups.items()} == {"ams": "ok", "web": "warning"}
    assert groups["web"].packages.warning == 1


# Causes ----------------------------------------------------------------------------------------------


def test_dependents_are_suppressed_by_the_deepest_ill_package_they_need() -> None:
    desk = Desk()
    desk.tell(
        state("disk@a"), state("db@a"), state("web@a"),
        described("db@a", needs=["disk"]), described("web@a", needs=["db"]),
    )  # fmt: skip
    desk.tell(state("web@a", "failed", later(1)))
    assert desk.cause("web@a") is None
    desk.tell(state("db@a", "failed", later(2)))
    assert desk.cause("web@a") == "db@a"
    desk.tell(state("disk@a", "failed", later(3)))
    assert (desk.cause("web@a"), desk.cause("db@a"), desk.cause("disk@a")) == ("disk@a", "disk@a", None)
    assert [str(one) for one in desk.picture.chain(key("web@a"))] == ["db@a", "disk@a"]
    desk.tell(state("db@a", "running", later(4)))
    assert (desk.cause("web@a"), desk.cause("db@a")) == (None, None)


def test_across_hosts_a_database_explains_its_eight_dependents() -> None:
    desk = Desk()
    desk.see(row("db-1", labels={"role": "db"}), *(row(f"web-{n}") for n in range(8)))
    desk.tell(state("db@db-1"))
    for n in range(8):
        desk.tell(state(f"web@web-{n}"), described(f"web@web-{n}", relies=[("db", "role=db")]))
    desk.tell(state("db@db-1", "failed", later(1)))
    desk.tell(*(state(f"web@web-{n}", "failed", later(2)) for n in range(8)))
    assert {desk.cause(f"web@web-{n}") for n in range(8)} == {"db@db-1"}
    seen = PictureView(desk.picture).get(key("db@db-1"))
    assert seen
    assert len(seen.dependents) == 8
    assert not seen.cause
    desk.tell(state("db@db-1", "running", later(3)))
    assert {desk.cause(f"web@web-{n}") for n in range(8)} == {None}


def test_a_cluster_with_one_instance_that_works_explains_nothing() -> None:
    desk = Desk()
    desk.see(row("db-1", labels={"role": "db"}), row("db-2", labels={"role": "db"}), row("web-1"))
    desk.tell(state("db@db-1"), state("db@db-2", "failed"), state("web@web-1", "failed"))
    desk.tell(described("web@web-1", relies=[("db", "role=db")]))
    assert desk.cause("web@web-1") is None
    desk.tell(state("db@db-1", "failed", later(1)))
    assert desk.cause("web@web-1") == "db@db-1"


def test_an_instance_that_joins_or_leaves_by_its_labels_counts_at_once() -> None:
    desk = Desk()
    desk.see(row("db-1"), row("web-1"))
    desk.tell(state("db@db-1", "failed"), state("web@web-1", "failed"))
    desk.tell(described("web@web-1", relies=[("db", "role=db")]))
    assert desk.cause("web@web-1") is None
    desk.see(row("db-1", labels={"role": "db"}), now=later(1))
    assert desk.cause("web@web-1") == "db@db-1"
    desk.see(row("db-1", labels={"role": "cache"}), now=later(2))
    assert desk.cause("web@web-1") is None


def test_a_lost_agent_is_the_cause_of_those_who_rely_on_its_package() -> None:
    desk = Desk()
    desk.see(row("db-1", labels={"role": "db"}), row("web-1"))
    desk.tell(state("db@db-1"), state("web@web-1"), described("web@web-1", relies=[("db", "role=db")]))
    desk.tell(presence("db-1", "lost", later(1), labels={"role": "db"}))
    changes = desk.tell(state("web@web-1", "failed", later(2)))
    assert desk.cause("web@web-1") == "db@db-1"
    assert (desk.health("db@db-1"), desk.reason("db@db-1")) == ("unknown", "agent-lost")
    # Whoever notifies sees it as critical: what nobody is told of must not hush up what it explains.
    assert key("db@db-1") in changes.assessed
    seen = PictureView(desk.picture).get(key("db@db-1"))
    assert seen
    assert (seen.health, seen.reason) == (Health.CRITICAL, "agent-lost")
    assert key("db@db-1") in [one.key for one in PictureView(desk.picture).ill()]
    desk.tell(state("web@web-1", "running", later(3)))
    assert list(PictureView(desk.picture).ill()) == []


def test_a_gone_cause_explains_no_more() -> None:
    desk = Desk()
    desk.tell(state("db@a", "failed"), state("web@a", "failed"), described("web@a", needs=["db"]))
    assert desk.cause("web@a") == "db@a"
    desk.tell(found("a", "web", at=later(1)))
    assert desk.cause("web@a") is None


def test_packages_that_need_each_other_have_one_cause() -> None:
    desk = Desk()
    names = ["a@h", "b@h", "c@h"]
    desk.tell(
        *(state(name, "failed") for name in names),
        described("a@h", needs=["b"]), described("b@h", needs=["c"]), described("c@h", needs=["a"]),
    )  # fmt: skip
    assert [desk.cause(name) for name in names] == [None, "a@h", "a@h"]


_GRAPHS = st.dictionaries(st.integers(0, 7), st.lists(st.integers(0, 7), max_size=4), max_size=8)


@given(_GRAPHS)
def test_every_cause_is_its_own_and_is_reached(graph: dict[int, list[int]]) -> None:
    nodes = {*graph, *(one for needed in graph.values() for one in needed)}

    def needs(one: Key) -> list[Key]:
        me = int(one.package)
        return [Key("h", str(other)) for other in dict.fromkeys(graph.get(me, ())) if other != me]

    for node in nodes:
        me = Key("h", str(node))
        cause, chain = causes([me], needs)[me], chain_to_cause(me, needs)
        assert (cause is None) is (not chain)
        if cause is None:
            continue
        assert causes([cause], needs)[cause] is None
        assert chain[-1] == cause
        assert all(second in needs(first) for first, second in pairwise([me, *chain]))


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["failed", "running"])), max_size=20), _GRAPHS)
def test_causes_kept_up_to_date_are_those_found_from_nothing(
    steps: list[tuple[int, str]], graph: dict[int, list[int]]
) -> None:
    """Whatever changes in whatever order, each ill package has the cause that a fresh look finds."""
    desk = Desk()
    for node in range(8):
        needs = [f"p{other}" for other in graph.get(node, ()) if other != node and other % 2 == node % 2]
        relies = [(f"p{other}", f"id=h{other % 2}") for other in graph.get(node, ()) if other % 2 != node % 2]
        desk.tell(described(f"p{node}@h{node % 2}", needs=sorted(set(needs)), relies=sorted(set(relies))))
    for second, (node, now) in enumerate(steps):
        desk.tell(state(f"p{node}@h{node % 2}", now, later(second)))
    for package in desk.picture.packages():
        assert package.judged.cause == desk.picture.causes_of([package.key]).get(package.key)


def test_the_causes_of_a_long_chain_into_a_circle_are_found_with_one_look_at_each() -> None:
    """A machine may describe its packages as it likes: no chain is too deep, and none too long to follow."""
    chain = [Key("h", f"p{number:05}") for number in range(5000)]
    looked: list[Key] = []

    def needs(one: Key) -> list[Key]:
        looked.append(one)
        place = int(one.package[1:])
        return [chain[place + 1 if place + 1 < len(chain) else place - 1]]

    found = causes(chain, needs)
    assert len(looked) == len(chain)
    assert {*found.values()} == {chain[-2], None}
    assert found[chain[-2]] is None


# What one agent may say ------------------------------------------------------------------------------


def test_an_agent_has_no_more_packages_and_a_package_no_more_checks_than_there_is_room_for() -> None:
    desk = Desk()
    desk.tell(*(check(f"p{number}@a") for number in range(hearing.MOST_PACKAGES + 5)))
    assert len(desk.picture.of_agent("a")) == desk.picture.size == hearing.MOST_PACKAGES
    desk.tell(*(check("p0@a", check=f"c{number}") for number in range(hearing.MOST_CHECKS + 5)))
    assert len(desk.get("p0@a").checks) == hearing.MOST_CHECKS
    # What is there is heard as before, and what goes makes room.
    desk.tell(check("p0@a", "ok", later(1), check="c0"), state("p1@a", None, later(1)), check("new@a"))
    assert desk.health("new@a") == "unknown"


def test_lists_that_are_said_again_and_again_make_no_more_room() -> None:
    """Word from the future keeps what a list has no more."""
    desk = Desk()
    for turn in range(3):
        names = [f"r{turn}p{number}" for number in range(hearing.MOST_PACKAGES)]
        desk.tell(found("a", *names, at=later(turn)), now=later(turn))
        desk.tell(*(state(f"{name}@a", at=later(9_999)) for name in names), now=later(turn))
        assert len(desk.picture.of_agent("a")) == hearing.MOST_PACKAGES


@pytest.mark.parametrize("clock", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_clock_that_is_no_clock_harms_nothing(clock: str) -> None:
    desk, at = Desk(), datetime.fromisoformat(clock)
    for turn in range(4):
        desk.tell(state("web@a", at=at), check("web@a", "critical" if turn % 2 else "ok", at), now=NOON)
    held = desk.get("web@a")
    moments = [held.judged.since, *(one.stamp.at for one in held.checks), *held.moments]
    assert all(hearing.EARLIEST <= one <= NOON + hearing.FASTEST for one in moments)


def test_a_clock_that_is_set_back_is_believed_again_within_a_minute() -> None:
    desk, hour = Desk(), 3600
    desk.tell(state("web@a", at=later(hour)), check("web@a", "ok", later(hour)), now=NOON)
    desk.tell(check("web@a", "critical", later(61)), now=later(61))
    assert desk.health("web@a") == "critical"


def test_packages_of_one_agent_rely_on_no_more_clusters_than_there_is_room_for() -> None:
    desk = Desk()
    desk.see(row("db-1", labels={"role": "db"}))
    desk.tell(state("db@db-1", "failed"))
    most = picture.MOST_CLUSTERS
    many = [described(f"p{n}@a", relies=[("db", f"role=x{n}"), ("db", f"role=x{n}")]) for n in range(most)]
    desk.tell(*many, state("web@a", "failed"), described("web@a", relies=[("db", "role=db")]))
    assert desk.cause("web@a") is None
    # Another agent is not concerned; what it relies on may be relied on; and what goes makes room.
    desk.tell(state("web@b", "failed"), described("web@b", relies=[("db", "role=db")]))
    assert desk.cause("web@b") == "db@db-1"
    desk.tell(described("p0@a", later(1)), described("web@a", later(1)))
    desk.tell(described("web@a", later(2), relies=[("db", "role in (db,dbs)")]))
    assert desk.cause("web@a") == "db@db-1"


def test_a_where_of_many_ids_means_nobody() -> None:
    desk = Desk()
    desk.see(row("db-1"))
    ids = ",".join(f"*{n}*" for n in range(picture.MOST_IDS + 1))
    desk.tell(state("db@db-1", "failed"), state("web@a", "failed"))
    desk.tell(described("web@a", relies=[("db", f"id in ({ids})")]))
    assert desk.cause("web@a") is None


def test_packages_of_agents_that_were_retired_long_ago_are_let_go_of() -> None:
    desk, touched = Desk(), hearing.Touched()
    for name in ("old", "new", "here"):
        desk.tell(presence(name), state(f"web@{name}"))
    desk.tell(presence("old", "retired", later(10)), presence("new", "retired", later(20)))
    hearing.forget_retired(desk.picture, later(15), touched, later(30))
    assert [str(one) for one in touched.packages] == ["web@old"]
    assert desk.picture.size == 2


def test_a_text_steers_no_terminal_and_begins_no_line() -> None:
    desk = Desk()
    desk.tell(state("web@a"), check("web@a", text="down\r\nBcc: x\x1b[2J\u202e\x00 \u00fc"))
    assert desk.get("web@a").judged.base.text == "http: down  Bcc: x [2J   \u00fc"


def test_a_package_that_is_due_ever_later_is_due_once() -> None:
    timers, web, db = Timers(), key("web@a"), key("db@a")
    timers.put(later(3), db)
    for turn in range(10_000):
        timers.put(later(10 + turn), web)
    assert len(timers) < 100
    assert timers.pop(later(9_000)) == {db: later(3)}
    timers.put_back(later(3), web)  # it is due at another time
    timers.put_back(later(3), db)
    assert timers.pop(later(20_000)) == {db: later(3), web: later(10 + 9_999)}
    assert timers.pop(later(30_000)) == {}


# Flapping --------------------------------------------------------------------------------------------


def test_ten_changes_in_a_minute_are_one_flapping_and_one_stable() -> None:
    desk = Desk()
    desk.tell(state("web@a"), check("web@a", "ok"))
    for turn in range(1, 11):
        desk.tell(check("web@a", "critical" if turn % 2 else "ok", later(turn * 6)))
        desk.at(later(turn * 6 + 3))
    for second in range(60, 200, 5):
        desk.at(later(second))
    kinds = [type(fact) for fact in desk.said if not isinstance(fact, HostHealthChanged)]
    assert kinds.count(HealthFlapping) == 1
    assert kinds.count(HealthStable) == 1
    # The first and five changes are said one by one; what came while it flapped is not.
    assert len(kinds) == 1 + 5 + 2
    assert not desk.get("web@a").judged.flapping


def test_history_keeps_the_changes_that_are_not_said() -> None:
    desk = Desk()
    desk.tell(state("web@a"), check("web@a", "ok"))
    events = 0
    for turn in range(1, 11):
        changes = desk.tell(check("web@a", "critical" if turn % 2 else "ok", later(turn)))
        events += len([one for one in changes.events if one.package])
    assert events == 10


def test_a_host_does_not_toggle_with_a_package_that_flaps() -> None:
    desk = Desk()
    desk.tell(state("web@a"), check("web@a", "ok"))
    for turn in range(1, 21):
        desk.tell(check("web@a", "critical" if turn % 2 else "ok", later(turn)))
    told = [fact for fact in desk.said if isinstance(fact, HostHealthChanged)]
    assert desk.host("a") == "warning"
    assert len(told) == 1 + 5 + 1


def test_coming_and_going_of_an_agent_is_no_flapping_of_its_packages() -> None:
    desk = Desk()
    desk.tell(state("web@a"))
    for turn in range(1, 21):
        desk.tell(presence("a", "lost" if turn % 2 else "online", later(turn)))
    assert not desk.get("web@a").judged.flapping


@given(st.lists(st.integers(0, 600), max_size=40), st.integers(2, 8), st.integers(0, 7))
def test_flapping_begins_at_the_high_threshold_and_ends_at_the_low_one(
    seconds: list[int], high: int, low: int
) -> None:
    policy, flapping = FlappingPolicy(high, min(low, high - 1)), False
    moments: tuple[datetime, ...] = ()
    for second in sorted(seconds):
        at = later(second)
        moments = recent((*moments, at), at, policy)
        within = [one for one in seconds if second - 60 < one <= second]
        before, flapping = flapping, flaps(moments, policy, before=flapping)
        if flapping and not before:
            assert len(moments) >= policy.high
        assert len(moments) <= len(within)
    if flapping:
        calm = calm_at(moments, policy)
        assert not flaps(recent(moments, calm, policy), policy, before=True)
        just_before = recent(moments, calm - timedelta(microseconds=1), policy)
        assert flaps(just_before, policy, before=True)


# Availability ----------------------------------------------------------------------------------------

_SPELLS = st.lists(
    st.tuples(st.integers(1, 50), st.sampled_from([*Health, None]), st.booleans()), min_size=1, max_size=30
)


@given(_SPELLS)
def test_availability_is_what_a_second_by_second_count_says(
    spells: list[tuple[int, Health | None, bool]],
) -> None:
    stretches, at = [], NOON
    for seconds, health, maintenance in spells:
        stretches.append(Stretch(at, at + timedelta(seconds=seconds), health, maintenance))
        at += timedelta(seconds=seconds)
    ticks = [_tick(health, maintenance) for seconds, health, maintenance in spells for _ in range(seconds)]
    sums = figures(stretches)
    assert sums.well_seconds == ticks.count("well")
    assert sums.ill_seconds == ticks.count("ill")
    assert sums.unknown_seconds == ticks.count("unknown")
    assert sums.maintenance_seconds == ticks.count("maintenance")
    known = [tick for tick in ticks if tick != "unknown"]
    begun = [now for was, now in pairwise(["well", *known]) if now == "ill" and was != "ill"]
    assert sums.failures == len(begun)
    repaired = [now for was, now in pairwise(known) if was == "ill" and now == "well"]
    assert len(sums.repaired_seconds) == len(repaired)


def _tick(health: Health | None, maintenance: bool) -> str:
    if health in {None, Health.UNKNOWN}:
        return "unknown"
    if maintenance:
        return "maintenance"
    return "ill" if health is Health.CRITICAL else "well"


def test_a_day_with_an_hour_of_failure_is_as_anybody_would_reckon_it() -> None:
    def at(hours: float) -> datetime:
        return NOON + timedelta(hours=hours)

    sums = figures(
        [
            Stretch(at(0), at(10), Health.OK, maintenance=False),
            Stretch(at(10), at(11), Health.CRITICAL, maintenance=False),
            Stretch(at(11), at(24), Health.OK, maintenance=False),
        ]
    )
    assert sums.percent == pytest.approx(100 * 23 / 24)
    assert (sums.failures, sums.mean_to_recovery, sums.mean_between_failures) == (1, 3600, 23 * 3600)


# The README ------------------------------------------------------------------------------------------

README = Path(__file__).parents[1] / "README.md"


def test_the_table_of_the_readme_is_what_the_code_does() -> None:
    rows = [line.strip("|").split("|") for line in README.read_text().splitlines() if line.startswith("| ")]
    table = {
        name.strip(): (health.strip(), {one.strip() for one in reasons.split(",")})
        for states, health, reasons in (row for row in rows if len(row) == 3)
        for name in states.split(",")
    }
    for one in PackageState:
        desk = Desk()
        desk.tell(state("web@a", "running"), state("web@a", one, later(1)))
        desk.at(later(100))
        health, reasons = table[one.value]
        assert desk.reason("web@a") in reasons
        assert desk.health("web@a") in health or one is PackageState.RUNNING
