"""From judgements to incidents."""

from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from notice_makers import DATABASE, NOON, WEB, Fleet, after, judgement, well

from health_recovery.domain.assessment import Assessment
from health_recovery.domain.incidents import NEXT, News, Phase, Rules, Standing, standing
from health_recovery.domain.keys import Key
from muster_contracts.health.v1 import Health

CALM, SETTLE = 15, 5


@pytest.mark.parametrize(("phase", "stands"), list(product(Phase, Standing)))
def test_every_phase_knows_what_to_make_of_every_standing(phase: Phase, stands: Standing) -> None:
    assert NEXT[phase][stands] in Phase


@pytest.mark.parametrize(
    ("seen", "stands"),
    [
        (None, Standing.GONE),
        (judgement(), Standing.ILL),
        (judgement(cause=DATABASE), Standing.SUPPRESSED),
        (judgement(maintenance=True), Standing.MAINTENANCE),
        (well(maintenance=True), Standing.WELL),
        (judgement(health=Health.UNKNOWN, reason="agent-lost"), Standing.UNKNOWN),
        (judgement(health=Health.UNKNOWN, reason="agent-retired"), Standing.GONE),
        (judgement(health=Health.WARNING, reason="paused"), Standing.STOPPED),
        (well(reason="stopped"), Standing.STOPPED),
        (judgement(health=Health.WARNING), Standing.WELL),
        (well(flapping=True), Standing.UNSTEADY),
        (judgement(flapping=True), Standing.ILL),
        (well(), Standing.WELL),
    ],
)
def test_how_a_package_stands_follows_from_its_judgement(seen: Assessment | None, stands: Standing) -> None:
    assert standing(seen, Rules()) is stands


def test_a_warning_is_an_incident_only_where_that_is_wanted() -> None:
    warned = judgement(health=Health.WARNING)
    assert standing(warned, Rules(warnings=True)) is Standing.ILL
    assert standing(warned, Rules()) is Standing.WELL


def test_an_illness_is_an_incident_once_it_has_settled_and_over_once_its_cause_is_calm() -> None:
    fleet = Fleet()
    fleet.look(0, judgement())
    fleet.wait(1, 20)
    fleet.look(21, well())
    fleet.wait(22, 60)
    assert fleet.story == [(SETTLE, "web@web-1", News.OPENED), (21 + CALM, "web@web-1", News.RESOLVED)]
    [over] = fleet.book.incidents()
    assert (over.opened_at, over.resolved_at, over.why) == (NOON, after(21), "well")


def test_a_short_illness_is_no_incident_and_without_settling_it_would_be() -> None:
    stories = []
    for rules in [Rules(), Rules(settle=Rules().settle * 0)]:
        fleet = Fleet(rules)
        fleet.look(0, judgement())
        fleet.look(3, well())
        fleet.wait(4, 60)
        stories.append([news for *_, news in fleet.story])
    assert stories == [[], [News.OPENED, News.RESOLVED]]


def test_dependents_that_fall_ill_before_their_cause_make_no_incident_of_their_own() -> None:
    dependents = [Key(f"web-{number}", "web") for number in range(8)]
    fleet = Fleet()
    fleet.look(0, *(judgement(key) for key in dependents))
    fleet.look(
        2,
        judgement(DATABASE, dependents=tuple(dependents)),
        *(judgement(key, cause=DATABASE) for key in dependents),
    )
    fleet.wait(3, 60)
    assert fleet.story == [(7, "database@db-1", News.OPENED)]
    assert fleet.book.open()[0].affected == tuple(dependents)
    assert fleet.book.open_of(dependents[3]) == fleet.book.open()[0]


@pytest.mark.parametrize(("aftermath", "incidents"), [(60, 1), (0, 2)])
def test_who_was_affected_has_time_to_recover_after_the_cause_and_without_it_is_an_incident(
    aftermath: int, incidents: int
) -> None:
    fleet = Fleet(Rules(aftermath=Rules().calm * aftermath / CALM))
    fleet.look(0, judgement(DATABASE, dependents=(WEB,)), judgement(cause=DATABASE))
    fleet.wait(1, 30)
    fleet.look(30, well(DATABASE), judgement())
    fleet.wait(31, 70)
    fleet.look(70, well())
    fleet.wait(71, 200)
    assert sum(news is News.OPENED for *_, news in fleet.story) == incidents


def test_who_stays_ill_after_its_cause_is_well_is_an_incident_in_the_end() -> None:
    fleet = Fleet()
    fleet.look(0, judgement(DATABASE, dependents=(WEB,)), judgement(cause=DATABASE))
    fleet.wait(1, 30)
    fleet.look(30, well(DATABASE), judgement())
    fleet.wait(31, 120)
    assert fleet.story[-1] == (90, "web@web-1", News.OPENED)


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        (judgement(cause=DATABASE), "suppressed"),
        (judgement(maintenance=True), "maintenance"),
        (judgement(health=Health.WARNING, reason="paused"), "stopped"),
        (None, "gone"),
    ],
)
def test_an_incident_is_over_at_once_when_it_is_explained_worked_on_stopped_or_gone(
    seen: Assessment | None, why: str
) -> None:
    fleet = Fleet()
    fleet.look(0, judgement())
    fleet.look(5)
    fleet.see(6, seen)
    [over] = fleet.book.incidents()
    assert (over.why, over.resolved_at, over.health) == (why, after(6), Health.CRITICAL)


def test_an_incident_of_a_lost_agent_stays_open_and_says_so() -> None:
    fleet = Fleet()
    fleet.look(0, judgement())
    fleet.look(5)
    fleet.look(6, judgement(health=Health.UNKNOWN, reason="agent-lost"))
    fleet.wait(7, 600)
    [lasting] = fleet.book.open()
    assert lasting.unknown
    assert "not there" in lasting.shown().text
    fleet.look(601, well())
    fleet.wait(602, 620)
    assert fleet.story[-1] == (601 + CALM, "web@web-1", News.RESOLVED)


def test_a_lost_agent_opens_nothing() -> None:
    fleet = Fleet()
    fleet.look(0, judgement(health=Health.UNKNOWN, reason="agent-lost"))
    fleet.look(1, judgement())
    fleet.look(2, judgement(health=Health.UNKNOWN, reason="agent-lost"))
    fleet.wait(3, 60)
    assert fleet.story == []


@pytest.mark.parametrize(("calm", "opened"), [(15, 1), (0, 10)])
def test_toggling_ten_times_in_a_minute_is_one_incident_and_without_calm_ten(calm: int, opened: int) -> None:
    none = Rules().settle * 0
    fleet = Fleet(Rules(settle=none, calm=Rules().calm * calm / CALM, reopen=none))
    for turn in range(10):
        fleet.look(turn * 6, judgement(since=after(turn * 6)))
        fleet.look(turn * 6 + 3, well())
    fleet.wait(58, 120)
    assert [news for *_, news in fleet.story].count(News.OPENED) == opened
    assert fleet.book.open() == []


def test_a_flapping_cause_is_an_incident_until_it_is_stable() -> None:
    fleet = Fleet()
    for turn in range(10):
        flapping = turn >= 3
        fleet.look(turn * 4, judgement(flapping=flapping))
        fleet.look(turn * 4 + 2, well(flapping=flapping))
    fleet.wait(40, 300)
    [(_, _, news)] = fleet.story
    assert news is News.OPENED
    assert fleet.book.open()[0].flapping
    fleet.look(301, well())
    fleet.wait(302, 330)
    assert [news for *_, news in fleet.story] == [News.OPENED, News.RESOLVED]


def test_a_relapse_later_than_that_is_another_incident() -> None:
    fleet = Fleet()
    ids = set()
    for start in [0, 1000]:
        fleet.look(start, judgement(since=after(start)))
        fleet.look(start + 5)
        ids.add(fleet.book.open()[0].id)
        fleet.look(start + 10, well())
        fleet.wait(start + 11, start + 900)
    assert len(ids) == 2


def test_a_relapse_within_the_reopen_time_is_a_further_episode() -> None:
    fleet = Fleet()
    fleet.look(0, judgement())
    fleet.look(5)
    [first] = fleet.book.open()
    fleet.look(10, well())
    fleet.look(25)
    fleet.look(100, judgement(since=after(100)))
    fleet.look(105)
    [again] = fleet.book.open()
    assert (again.id, again.episode, again.opened_at) == (first.id, 2, NOON)


def test_what_is_over_is_forgotten_after_a_while() -> None:
    fleet = Fleet()
    fleet.look(0, judgement())
    fleet.look(5)
    fleet.look(10, well())
    fleet.look(25)
    fleet.wait(26, 400)
    assert not fleet.book.cases


def test_the_severity_and_the_affected_are_kept_up_to_date() -> None:
    fleet = Fleet(Rules(warnings=True))
    fleet.look(0, judgement(health=Health.WARNING))
    fleet.look(5)
    fleet.look(6, judgement(dependents=(DATABASE,)))
    [one] = fleet.book.open()
    assert (one.health, one.affected) == (Health.CRITICAL, (DATABASE,))
    fleet.look(7, judgement(health=Health.WARNING))
    [one] = fleet.book.open()
    assert (one.health, one.worst, one.affected) == (Health.WARNING, Health.CRITICAL, ())


SEEN: st.SearchStrategy[Assessment | None] = st.sampled_from(
    [
        well(),
        judgement(),
        judgement(flapping=True),
        well(flapping=True),
        judgement(cause=DATABASE),
        judgement(maintenance=True),
        judgement(health=Health.UNKNOWN, reason="agent-lost"),
        judgement(health=Health.WARNING, reason="paused"),
        None,
    ]
)


@given(st.lists(st.tuples(st.integers(min_value=1, max_value=20), SEEN), max_size=30))
def test_whatever_happens_an_incident_opens_and_ends_in_turn_and_only_an_illness_opens_one(
    story: list[tuple[int, Assessment | None]],
) -> None:
    fleet, second = Fleet(), 0
    for pause, seen in story:
        fleet.see(second, seen)
        before = len(fleet.story)
        fleet.wait(second + 1, second + pause)
        if any(news is News.OPENED for *_, news in fleet.story[before:]):
            assert standing(seen, Rules()) is Standing.ILL
        second += pause + 1
    news = [one for *_, one in fleet.story]
    assert all(former is not latter for former, latter in pairwise(news))
    assert not news or news[0] is News.OPENED
    assert len(fleet.book.open()) == (1 if news and news[-1] is News.OPENED else 0)


@given(st.lists(SEEN, max_size=20))
def test_a_look_that_is_repeated_changes_nothing(story: list[Assessment | None]) -> None:
    fleet = Fleet()
    for second, seen in enumerate(story):
        fleet.see(second * 7, seen)
        assert fleet.see(second * 7, seen) == {}
