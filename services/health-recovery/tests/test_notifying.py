"""What a leader makes of judgements: incidents on disk, facts, and notices that arrive."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest
from notice_makers import DATABASE, NOON, WEB, after, judgement, well
from notice_world import AT_ONCE, FakeChannel, World, down, world
from sqlalchemy import event

from health_recovery.domain.incidents import Rules
from health_recovery.domain.keys import Key
from health_recovery.domain.notice import Event
from health_recovery.domain.notices import Pace, Route
from health_recovery.notice_ports import CannotSend
from health_recovery.notifying import pause_before
from health_recovery.ports import Fenced, Unavailable
from muster_bus import AskError
from muster_contracts.health.v1 import FindIncidents, Health
from muster_runtime import Tasks
from muster_sql import drift
from muster_testing.wait import until

DEPENDENTS = [Key(f"web-{number}", "web") for number in range(8)]


def ops(made: World, name: str = "ops") -> FakeChannel:
    return cast("FakeChannel", made.channels[name])


async def test_a_database_and_its_eight_dependents_are_one_notification_and_one_resolve(
    tmp_path: Path,
) -> None:
    async with world(tmp_path, "ops", "log") as made:
        made.acts.done[DATABASE] = ["restart: succeeded"]
        # The dependents, on other machines, are seen before what makes them ill.
        await made.see(0, *(judgement(key) for key in DEPENDENTS))
        await made.see(
            2,
            judgement(DATABASE, dependents=tuple(DEPENDENTS)),
            *(judgement(key, cause=DATABASE) for key in DEPENDENTS),
        )
        await made.pass_time(3, 30)
        await made.see(31, well(DATABASE), *(judgement(key) for key in DEPENDENTS))
        await made.pass_time(32, 50)
        await made.see(51, *(well(key) for key in DEPENDENTS))
        await made.pass_time(52, 200, 5)
        for name in made.channels:
            assert ops(made, name).events == [
                ("database@db-1", Event.FIRING),
                ("database@db-1", Event.RESOLVED),
            ]
        first = ops(made).got[0].items[0].incident
        assert (first.affected_count, first.tried) == (8, ["restart: succeeded"])
        assert await made.facts() == ["incident-opened", "incident-resolved"]


async def test_toggling_ten_times_in_a_minute_is_one_notification_and_one_resolve(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        for turn in range(10):
            await made.see(turn * 6, judgement(flapping=turn > 3))
            await made.see(turn * 6 + 2, well(flapping=turn > 3))
        await made.see(120, well())
        await made.pass_time(121, 200)
        assert [event for _, event in ops(made).events] == [Event.FIRING, Event.RESOLVED]


@pytest.mark.parametrize("when", ["opened", "notified"])
async def test_a_new_leader_goes_on_where_the_one_before_stopped(tmp_path: Path, when: str) -> None:
    async with world(tmp_path) as made:
        await made.see(0, judgement())
        if when == "notified":
            await made.see(5)
        else:
            made.at(5)
            await made.notifying.look()
        await made.take_over()
        await made.pass_time(6, 20)
        assert ops(made).events == [("web@web-1", Event.FIRING)]
        await made.take_over()
        await made.see(21, well())
        await made.pass_time(22, 60)
        assert [event for _, event in ops(made).events] == [Event.FIRING, Event.RESOLVED]
        assert await made.facts() == ["incident-opened", "incident-resolved"]


async def test_a_leader_that_dies_after_sending_leaves_at_most_one_repeat_under_the_same_id(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as made:
        await made.see(0, judgement())
        made.at(5)
        await made.notifying.look()
        [line] = made.notifying._lines.values()
        await made.store.claim(line.waiting[0].notice.id)
        await line.channel.send(line.waiting[0].notice)  # and here it dies
        await made.take_over()
        await made.pass_time(6, 20)
        first, again = ops(made).got
        assert first == again
        await made.take_over()
        await made.pass_time(21, 40)
        assert len(ops(made).got) == 2


async def test_a_leader_of_yesterday_sends_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        await made.see(0, judgement())
        made.at(5)
        await made.notifying.look()
        yesterday = made.notifying
        await made.take_over()
        await made.deliver()
        [line] = yesterday._lines.values()
        with pytest.raises(Fenced):
            await yesterday._send_first(line)
        assert len(ops(made).got) == 1


async def test_what_was_sent_and_could_not_be_marked_is_marked_later_and_not_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path) as made:
        await made.see(0, judgement())
        made.at(5)
        await made.notifying.look()
        [line] = made.notifying._lines.values()
        with monkeypatch.context() as patch:
            patch.setattr(made.store, "sent", _full)
            with pytest.raises(Unavailable):
                await made.notifying._send_first(line)
        await made.notifying._send_first(line)
        assert (len(ops(made).got), line.waiting) == (1, type(line.waiting)())
        assert [row.state for row in await made.notices()] == ["sent"]


async def _full(*_: object) -> None:
    raise Unavailable("the disk is full")


async def test_a_channel_that_fails_is_tried_again_and_its_news_gather_meanwhile(tmp_path: Path) -> None:
    async with world(tmp_path, "ops", "log") as made:
        ops(made).broken = down()
        await made.see(0, judgement())
        await made.pass_time(1, 60)
        assert 2 <= ops(made).tries <= 12
        assert ops(made, "log").events == [("web@web-1", Event.FIRING)]
        await made.see(61, judgement(DATABASE, since=after(61)), judgement(Key("x", "web"), since=after(61)))
        await made.pass_time(62, 90)
        assert [row.state for row in await made.notices() if row.channel == "ops"] == ["waiting"]
        ops(made).broken = None
        await made.pass_time(91, 400)
        assert [cause for cause, _ in ops(made).events] == ["web@web-1", "database@db-1", "web@x"]
        assert made.notifying.complaints() == []


async def test_what_a_channel_does_not_take_for_an_hour_is_given_up_and_said(tmp_path: Path) -> None:
    async with world(tmp_path, "ops", "log") as made:
        ops(made).broken = down()
        await made.see(0, judgement())
        await made.pass_time(5, 3700, 10)
        rows = [row for row in await made.notices() if row.channel == "ops"]
        assert [row.state for row in rows] == ["dropped"]
        [complaint] = made.notifying.complaints()
        assert complaint.startswith("cannot send through channel ops: it is down")
        # It was never told that this fires, so it is not told that it is over; and works again afterwards.
        ops(made).broken = None
        await made.see(3701, well())
        await made.pass_time(3702, 3730)
        assert ops(made).got == []
        await made.see(4000, judgement(DATABASE, since=after(4000)))
        await made.pass_time(4001, 4010)
        assert ops(made).events == [("database@db-1", Event.FIRING)]
        assert made.notifying.complaints() == []


async def test_what_a_receiver_refuses_for_good_is_not_tried_again(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        ops(made).errors = [CannotSend("cannot send through channel ops: it answered 400", again=False)]
        await made.see(0, judgement())
        await made.pass_time(5, 100, 5)
        assert ops(made).tries == 1
        [row] = await made.notices()
        assert (row.state, row.why) == ("dropped", "cannot send through channel ops: it answered 400")


async def test_a_receiver_that_asks_for_time_gets_it(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        ops(made).errors = [down(after=120)]
        await made.see(0, judgement())
        await made.pass_time(5, 124)
        assert ops(made).got == []
        await made.pass_time(125, 126)
        assert len(ops(made).got) == 1


async def test_a_channel_that_fails_with_anything_is_contained(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        ops(made).errors = [KeyError("token=hunter2")]
        await made.see(0, judgement())
        await made.see(5)
        [row] = await made.notices()
        assert row.why == "cannot send through channel ops: KeyError"
        await made.pass_time(6, 30)
        assert len(ops(made).got) == 1


def test_pauses_double_to_five_minutes_and_are_never_all_the_same() -> None:
    assert all(1 <= pause_before(0) <= 2 for _ in range(50))
    assert all(150 <= pause_before(1000) <= 300 for _ in range(50))
    assert len({pause_before(5) for _ in range(50)}) > 40
    assert pause_before(1, after=50) == 50
    assert pause_before(1, after=1e9) == 3600


async def test_who_acknowledges_hears_only_of_the_end(tmp_path: Path) -> None:
    pace = replace(AT_ONCE, repeat=timedelta(minutes=1))
    async with world(tmp_path, paces={"ops": pace}) as made:
        await made.see(0, judgement())
        await made.see(5)
        [noted] = await made.notifying.acknowledge(WEB, "ann@laptop", "on it")
        assert noted.acknowledged_by == "ann@laptop"
        await made.take_over()
        await made.pass_time(6, 200, 10)
        await made.see(201, well())
        await made.pass_time(202, 230)
        assert [event for _, event in ops(made).events] == [Event.FIRING, Event.RESOLVED]
        assert ops(made).got[-1].items[0].incident.acknowledged_text == "on it"


async def test_without_an_acknowledgement_what_lasts_is_said_again(tmp_path: Path) -> None:
    pace = replace(AT_ONCE, repeat=timedelta(minutes=1))
    async with world(tmp_path, paces={"ops": pace}) as made:
        await made.see(0, judgement())
        await made.pass_time(5, 155, 5)
        assert [event for _, event in ops(made).events] == [Event.FIRING, Event.REMINDER, Event.REMINDER]


async def test_who_is_affected_is_acknowledged_by_its_cause(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        await made.see(0, judgement(DATABASE, dependents=(WEB,)), judgement(cause=DATABASE))
        await made.see(5)
        [noted] = await made.notifying.acknowledge(WEB, "ann@laptop", "")
        assert noted.cause == DATABASE
        shown = made.notifying.open_of(WEB)
        assert shown
        assert shown.id == noted.id
        assert await made.notifying.acknowledge(Key("no", "no"), "ann@laptop", "") == []


async def test_the_end_is_told_only_to_who_was_told_of_the_beginning(tmp_path: Path) -> None:
    routes = [
        Route(frozenset({"ops"}), packages=frozenset({"web"})),
        Route(frozenset({"log"}), packages=frozenset({"database"})),
    ]
    async with world(tmp_path, "ops", "log", routes=routes) as made:
        await made.see(0, judgement(), judgement(DATABASE))
        await made.see(5)
        await made.see(6, well(), well(DATABASE))
        await made.pass_time(7, 30)
        assert ops(made).events == [("web@web-1", Event.FIRING), ("web@web-1", Event.RESOLVED)]
        assert [cause for cause, _ in ops(made, "log").events] == ["database@db-1"] * 2


async def test_a_bad_release_on_many_hosts_is_summed_up(tmp_path: Path) -> None:
    async with world(tmp_path, paces={"ops": Pace(most_items=10)}) as made:
        await made.see(0, *(judgement(Key(f"web-{number}", "web")) for number in range(200)))
        await made.pass_time(1, 60)
        [notice] = ops(made).got
        assert (len(notice.items), notice.more) == (10, 190)
        assert "190 more" in notice.title()
        await made.see(61, *(well(Key(f"web-{number}", "web")) for number in range(200)))
        await made.pass_time(62, 120)
        [_, over] = ops(made).got
        assert (len(over.items), over.more) == (10, 190)


async def test_notices_of_a_channel_that_is_set_no_more_are_given_up(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        ops(made).broken = down()
        await made.see(0, judgement())
        await made.see(5)
        made.channels = {"other": FakeChannel()}
        await made.take_over()
        await made.pass_time(6, 10)
        assert [row.state for row in await made.notices()] == ["dropped", "sent"]
        assert ops(made, "other").events == [("web@web-1", Event.FIRING)]


async def test_what_a_package_relapses_into_is_said_again_under_the_same_incident(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        await made.see(0, judgement())
        await made.see(5)
        await made.see(10, well())
        await made.pass_time(11, 40)
        await made.take_over()
        await made.see(100, judgement(since=after(100)))
        await made.pass_time(101, 106)
        assert [event for _, event in ops(made).events] == [Event.FIRING, Event.RESOLVED, Event.FIRING]
        assert len({item.incident.id for notice in ops(made).got for item in notice.items}) == 1
        assert await made.facts() == ["incident-opened", "incident-resolved", "incident-opened"]


async def test_incidents_are_found_by_what_they_are_and_page_by_page(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        keys = [Key(f"web-{number}", "web") for number in range(5)]
        for number, key in enumerate(keys):
            await made.see(number * 10, judgement(key, since=after(number * 10)))
            await made.see(number * 10 + 5)
        await made.see(60, well(keys[0]))
        await made.pass_time(61, 80)
        ask = FindIncidents(occurred_at=NOON, limit=2)
        pages = [await made.store.find(ask)]
        while cursor := pages[-1].next:
            pages.append(await made.store.find(ask.model_copy(update={"before": cursor})))
        assert [one.cause.agent for page in pages for one in page.incidents] == [
            "web-4",
            "web-3",
            "web-2",
            "web-1",
        ]
        [over] = (await made.store.find(FindIncidents(occurred_at=NOON, open=False))).incidents
        assert (over.cause.agent, over.resolved_at) == ("web-0", after(60))
        mine = FindIncidents(occurred_at=NOON, open=None, agent_id="web-0", package="web")
        assert len((await made.store.find(mine)).incidents) == 1
        for cursor in ["nonsense", "2026-01-01/x", "99999-01-01T00:00:00+00:00/x"]:
            with pytest.raises(AskError, match="next of a page"):
                await made.store.find(ask.model_copy(update={"before": cursor}))


async def test_what_is_old_is_forgotten_and_what_lasts_is_not(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        await made.see(0, judgement(), judgement(DATABASE))
        await made.see(5)
        await made.see(6, well())
        await made.pass_time(7, 30)
        assert await made.store.forget(NOON, after(1000), 100) == 3
        assert await made.store.forget(after(1000), after(1000), 100) == 1
        assert await made.store.forget(after(1000), after(1000), 100) == 0
        await made.take_over()
        assert [one.cause for one in made.notifying.book.open()] == [DATABASE]


async def test_the_tables_are_as_the_migrations_make_them(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        from health_recovery.adapters.tables import METADATA

        assert [one for one in await drift(made.database, METADATA) if "notice" in one] == []


async def test_nothing_is_written_while_nothing_is_new(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        await made.see(0, judgement())
        await made.pass_time(5, 10)
        written: list[str] = []
        engine = made.database._writer.sync_engine
        event.listen(engine, "before_cursor_execute", lambda *call: written.append(call[2]))
        await made.see(11, judgement())
        await made.pass_time(12, 60)
        assert [one for one in written if one.startswith(("INSERT", "UPDATE"))] == []


async def test_the_running_parts_look_and_send_by_themselves(tmp_path: Path) -> None:
    async with world(tmp_path, rules=Rules(settle=timedelta(0))) as made:
        async with Tasks() as tasks:
            made.notifying.start(tasks)
            made.picture.seen[WEB] = judgement()
            made.notifying.assessed([WEB], NOON)
            await until(lambda: ops(made).got)
            assert await made.notifying.test(None, "ann@laptop")
        assert tasks.complaints() == []
        assert [item.event for item in ops(made).got[0].items] == [Event.FIRING]


async def test_a_term_that_ends_while_a_notice_is_sent_marks_it_so_that_the_next_does_not_repeat_it(
    tmp_path: Path,
) -> None:
    async with world(tmp_path, rules=Rules(settle=timedelta(0))) as made:
        ops(made).gate.clear()
        async with Tasks() as tasks:
            made.notifying.start(tasks)
            made.picture.seen[WEB] = judgement()
            made.notifying.assessed([WEB], NOON)
            await until(lambda: ops(made).tries)
            asyncio.get_running_loop().call_later(0.1, ops(made).gate.set)  # once the term ends
        await made.take_over()
        await made.pass_time(1, 10)
        assert ops(made).events == [("web@web-1", Event.FIRING)]


async def test_a_test_goes_through_every_channel_at_once_and_says_what_became_of_it(tmp_path: Path) -> None:
    async with world(tmp_path, "ops", "log") as made:
        ops(made).broken = down()
        deliveries = {one.channel: one for one in await made.notifying.test(None, "ann@laptop")}
        assert (deliveries["log"].ok, deliveries["ops"].ok) == (True, False)
        assert "it is down" in deliveries["ops"].text
        [only] = await made.notifying.test("log", "ann@laptop")
        assert only.channel == "log"
        assert ops(made, "log").got[-1].kind == "test"
        with pytest.raises(AskError, match="there are: log, ops"):
            await made.notifying.test("no", "ann@laptop")


async def test_a_channel_that_hangs_is_left_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("health_recovery.notifying.TEST_SECONDS", 0.05)
    async with world(tmp_path) as made:
        ops(made).hangs = True
        [delivery] = await made.notifying.test("ops", "ann@laptop")
        assert (delivery.ok, "took longer" in delivery.text) == (False, True)


async def test_a_worse_incident_is_said_once(tmp_path: Path) -> None:
    async with world(tmp_path, rules=Rules(warnings=True)) as made:
        await made.see(0, judgement(health=Health.WARNING))
        await made.see(5)
        await made.see(6, judgement())
        await made.see(7, judgement(health=Health.WARNING))
        await made.see(8, judgement())
        assert [event for _, event in ops(made).events] == [Event.FIRING, Event.WORSE]
