"""Who is told what, and when."""

from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from notice_makers import DATABASE, NOON, WEB, after, incident

from health_recovery.domain.incidents import Incident
from health_recovery.domain.keys import Key
from health_recovery.domain.notice import Event
from health_recovery.domain.notices import (
    MINUTE,
    New,
    Pace,
    Planned,
    Route,
    Status,
    Telling,
    lately,
    news_of,
    plan,
    routed,
)
from muster_contracts.health.v1 import Health
from muster_contracts.selector import parse

AT_ONCE = Pace(group_wait=timedelta(0), group_interval=timedelta(0))
FIRES = Telling(Status.FIRING, Health.CRITICAL, NOON, 1)
OVER = incident(resolved_at=after(60), moved_at=after(75), why="well")


def firing(count: int, **changes: object) -> list[New]:
    return [
        New(incident(Key(f"web-{number}", "web"), number + 1, **changes), Event.FIRING, after(number))
        for number in range(count)
    ]


def planned(news: list[New], pace: Pace, at: datetime, *, sent: int = 0) -> list[Planned]:
    return plan("ops", pace, news, flushed={}, lately=sent, at=at)


@pytest.mark.parametrize(
    ("one", "told", "event"),
    [
        (incident(), None, Event.FIRING),
        (incident(), FIRES, None),
        (OVER, FIRES, Event.RESOLVED),
        (OVER, None, None),
        (OVER, replace(FIRES, status=Status.RESOLVED), None),
        (OVER, replace(FIRES, status=Status.LOST), None),
        (incident(episode=2), replace(FIRES, status=Status.RESOLVED), Event.FIRING),
        (incident(), replace(FIRES, health=Health.WARNING), Event.WORSE),
        (incident(health=Health.WARNING), FIRES, None),
        (incident(acknowledged_by="ann@laptop"), None, None),
        (incident(acknowledged_by="ann@laptop"), replace(FIRES, health=Health.WARNING), None),
        (replace(OVER, acknowledged_by="ann@laptop"), FIRES, Event.RESOLVED),
        (incident(), replace(FIRES, status=Status.LOST), None),
    ],
)
def test_what_is_news_depends_on_what_the_channel_was_told(
    one: Incident, told: Telling | None, event: Event | None
) -> None:
    new = news_of(one, told, Pace(), after(100))
    assert (new and new.event) == event


def test_one_machine_on_which_everything_is_ill_hides_nobody_else() -> None:
    evil = [New(incident(Key("evil", f"p{n}"), n + 1), Event.FIRING, after(n)) for n in range(100)]
    other = New(incident(DATABASE, 200), Event.FIRING, after(101))
    notices = planned([*evil, other], replace(AT_ONCE, per_minute=5), after(102))
    assert [one.news[0].incident.cause for one in notices[:2]] == [Key("evil", "p0"), DATABASE]
    assert sum(len(one.news) for one in notices) == 101


@pytest.mark.parametrize(("status", "event"), [(Status.FIRING, Event.REMINDER), (Status.LOST, Event.FIRING)])
def test_what_lasts_is_said_again_after_the_repeat_interval(status: Status, event: Event) -> None:
    told, four_hours = replace(FIRES, status=status), 4 * 3600
    assert news_of(incident(), told, Pace(), after(four_hours - 1)) is None
    new = news_of(incident(), told, Pace(), after(four_hours))
    assert new
    assert new.event is event


def test_a_mirror_is_told_of_acknowledged_ones_too_for_it_would_take_them_for_over() -> None:
    noted, mirror = incident(acknowledged_by="ann@laptop"), Pace(repeat=MINUTE, mirror=True)
    new = news_of(noted, FIRES, mirror, after(60))
    assert new
    assert new.event is Event.REMINDER


@pytest.mark.parametrize(
    ("route", "takes"),
    [
        (Route(frozenset({"ops"})), True),
        (Route(frozenset({"ops"}), selector=parse("team=blue")), True),
        (Route(frozenset({"ops"}), selector=parse("team=red")), False),
        (Route(frozenset({"ops"}), selector=parse("group=front,id=web-*")), True),
        (Route(frozenset({"ops"}), packages=frozenset({"database"})), False),
        (Route(frozenset({"ops"}), least=Health.CRITICAL), True),
    ],
)
def test_a_route_takes_what_meets_all_that_it_asks(route: Route, takes: bool) -> None:
    assert (routed(incident(), [route], ["ops", "log"]) == {"ops"}) == takes


def test_the_end_of_an_incident_goes_where_its_beginning_went_though_it_got_better() -> None:
    better = incident(health=Health.WARNING)
    assert routed(better, [Route(frozenset({"ops"}), least=Health.CRITICAL)], ["ops"]) == {"ops"}


def test_without_routes_everything_goes_everywhere_and_with_them_only_where_they_lead() -> None:
    assert routed(incident(), [], ["ops", "log"]) == {"ops", "log"}
    assert routed(incident(), [Route(frozenset({"ops"})), Route(frozenset({"log"}))], []) == {"ops", "log"}
    assert routed(incident(), [Route(frozenset({"ops"}), packages=frozenset({"x"}))], ["ops"]) == frozenset()


def test_a_group_waits_for_company_and_then_is_one_notice() -> None:
    pace = Pace(group_wait=timedelta(seconds=10))
    news = firing(5)
    assert planned(news, pace, after(9)) == []
    [one] = planned(news, pace, after(10))
    assert (len(one.news), one.labels, one.more) == (5, {"package": "web"}, 0)


def test_a_group_that_was_told_of_waits_for_its_interval() -> None:
    pace = Pace(group_wait=timedelta(0), group_interval=timedelta(seconds=30))
    [key] = planned(firing(1), pace, NOON)[0].groups
    assert plan("ops", pace, firing(1), flushed={key: NOON}, lately=0, at=after(29)) == []
    assert len(plan("ops", pace, firing(1), flushed={key: NOON}, lately=0, at=after(30))) == 1


@pytest.mark.parametrize(
    ("by", "notices"), [(("package",), 2), (("site",), 1), (("agent",), 3), (("team", "package"), 2), ((), 1)]
)
def test_incidents_are_grouped_by_what_the_settings_name(by: tuple[str, ...], notices: int) -> None:
    news = [*firing(2), New(incident(DATABASE, 9), Event.FIRING, NOON)]
    assert len(planned(news, replace(AT_ONCE, group_by=by), after(9))) == notices


def test_beyond_the_rate_the_rest_is_summed_up_and_without_a_limit_each_is_a_notice() -> None:
    each, news = replace(AT_ONCE, group_by=("agent",)), firing(40)
    notices = planned(news, replace(each, per_minute=3, most_items=5), after(60))
    assert [(len(one.news), one.more) for one in notices] == [(1, 0), (1, 0), (38, 33)]
    assert planned(news, replace(each, per_minute=3), after(60), sent=3) == []
    assert len(planned(news, replace(each, per_minute=1000), after(60))) == 40


def test_a_mirror_is_told_of_each_by_itself_in_several_notices() -> None:
    mirror = replace(AT_ONCE, group_by=(), most_items=15, mirror=True)
    assert [len(one.news) for one in planned(firing(40), mirror, after(60))] == [15, 15, 10]


def test_the_same_news_have_the_same_id_and_other_news_another() -> None:
    first, again = (planned(firing(2), AT_ONCE, after(9 + more)) for more in range(2))
    assert [one.id for one in first] == [one.id for one in again]
    assert planned(firing(3), AT_ONCE, after(9))[0].id != first[0].id


def test_only_the_last_minute_counts() -> None:
    assert lately([after(0), after(30), after(59)], after(60)) == 2


@given(
    st.lists(
        st.tuples(st.integers(0, 300), st.sampled_from([WEB, DATABASE, Key("db-2", "database")])), max_size=60
    ),
    st.integers(1, 5),
)
def test_whatever_comes_each_is_told_once_and_never_more_than_the_rate(
    story: list[tuple[int, Key]], rate: int
) -> None:
    pace = Pace(group_by=("agent",), group_wait=timedelta(0), group_interval=timedelta(0), per_minute=rate)
    arriving = sorted(story, key=lambda one: one[0])
    incidents = [
        (second, incident(key, number, moved_at=after(second)))
        for number, (second, key) in enumerate(arriving)
    ]
    told: dict[UUID, int] = {}
    sent: list[datetime] = []
    for second in range(0, 500, 5):
        news = [
            New(one, Event.FIRING, one.moved_at)
            for begun, one in incidents
            if begun <= second and one.id not in told
        ]
        notices = plan("ops", pace, news, flushed={}, lately=lately(sent, after(second)), at=after(second))
        for new in (new for one in notices for new in one.news):
            told[new.incident.id] = told.get(new.incident.id, 0) + 1
        sent += [after(second)] * len(notices)
        assert lately(sent, after(second)) <= rate
    assert set(told.values()) <= {1}
    assert len(told) == len(incidents)
