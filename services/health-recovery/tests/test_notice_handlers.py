"""What operators ask about incidents and notifications."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from notice_makers import DATABASE, NOON, WEB, judgement, well
from notice_world import World, down, world

from health_recovery.notice_handlers import notice_routes
from health_recovery.ports import Unavailable
from muster_bus import AskFailed
from muster_contracts.health.v1 import Acknowledge, FindIncidents, TestNotification
from muster_testing.stage import Stage


@asynccontextmanager
async def staged(directory: Path, *channels: str) -> AsyncIterator[tuple[Stage, World]]:
    async with world(directory, *channels) as made:
        stage = Stage()
        stage.cast(
            "health-recovery",
            lambda _: notice_routes(notifying=made.notifying, store=made.store, acts=made.acts),
        )
        async with stage:
            yield stage, made


def acknowledge(package: str = "web", *, retry: bool = False) -> Acknowledge:
    return Acknowledge(
        occurred_at=NOON, agent_id="web-1", package=package, by="ann@laptop", text="on it", retry=retry
    )


async def test_what_lasts_is_found_with_what_was_tried_until_now(tmp_path: Path) -> None:
    async with staged(tmp_path) as (stage, made):
        await made.see(0, judgement())
        await made.see(5)
        made.acts.done[WEB] = ["restart: succeeded"]
        made.acts.given_up.add(WEB)
        [one] = (await stage.ask(FindIncidents(occurred_at=NOON))).incidents
        assert (one.tried, one.gave_up) == (["restart: succeeded"], True)
        await made.see(6, well())
        await made.pass_time(7, 30)
        made.acts.done.clear()
        [over] = (await stage.ask(FindIncidents(occurred_at=NOON, open=False))).incidents
        assert (over.tried, over.gave_up) == (["restart: succeeded"], True)


async def test_an_acknowledgement_names_the_incident_and_lets_recovery_begin_anew(tmp_path: Path) -> None:
    async with staged(tmp_path) as (stage, made):
        await made.see(0, judgement(DATABASE, dependents=(WEB,)), judgement(cause=DATABASE))
        await made.see(5)
        made.acts.given_up.add(DATABASE)
        answer = await stage.ask(acknowledge())
        assert (len(answer.incidents), answer.retried, made.acts.retried) == (1, [], [])
        answer = await stage.ask(acknowledge(retry=True))
        assert answer.retried == [DATABASE.ref]
        assert made.acts.retried == [(DATABASE, "ann@laptop")]


async def test_what_nothing_is_wrong_with_cannot_be_acknowledged(tmp_path: Path) -> None:
    async with staged(tmp_path) as (stage, _):
        with pytest.raises(AskFailed, match="part of no open incident"):
            await stage.ask(acknowledge("other", retry=True))


async def test_words_that_no_database_can_hold_are_refused(tmp_path: Path) -> None:
    async with staged(tmp_path) as (stage, _):
        with pytest.raises(AskFailed, match="NUL"):
            await stage.ask(acknowledge().model_copy(update={"text": "on\x00it"}))


async def test_while_the_database_is_away_the_asker_is_told_to_try_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_: object) -> None:
        raise Unavailable("cannot use the database just now")

    async with staged(tmp_path) as (stage, made):
        monkeypatch.setattr(made.store, "find", away)
        with pytest.raises(AskFailed) as caught:
            await stage.ask(FindIncidents(occurred_at=NOON))
        assert caught.value.code == "unavailable"


async def test_a_test_of_notifications_says_channel_by_channel_what_became_of_it(tmp_path: Path) -> None:
    async with staged(tmp_path, "log", "ops") as (stage, made):
        made.channels["ops"].broken = down()  # type: ignore[attr-defined]  # a FakeChannel
        answer = await stage.ask(TestNotification(occurred_at=NOON, by="ann@laptop"))
        assert {one.channel: one.ok for one in answer.deliveries} == {"log": True, "ops": False}
        with pytest.raises(AskFailed, match="there are: log, ops"):
            await stage.ask(TestNotification(occurred_at=NOON, channel="no", by="ann@laptop"))
