"""The life of a command on an agent, in memory, under the loop's own time."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from obedience_ground import Life, some_terms

from muster_agent.obedience import Limits
from muster_agent.obedience.journal import JournalFailed
from muster_bus.errors import AskError, SpoolFailed
from muster_contracts.command.v1 import Backlog, CommandState

pytestmark = pytest.mark.looptime


@pytest.fixture
async def life(tmp_path: Path) -> AsyncIterator[Life]:
    life = Life(tmp_path)
    await life.begin()
    yield life
    await life.end()


async def test_a_command_is_accepted_performed_once_and_its_end_said_once(life: Life) -> None:
    order = some_terms(life.clock, result={"exit_code": 0, "result": {"pid": 7}})
    assert (await life.bus.order(order)).state is CommandState.ACCEPTED
    [end] = await life.ended(order)
    assert (end.state, end.reason, end.exit_code, end.result) == ("succeeded", "done", 0, {"pid": 7})
    assert end.accepted_at == end.started_at == order.submitted_at
    assert (await life.bus.order(order)).state is CommandState.SUCCEEDED
    await asyncio.sleep(10)
    assert life.scribe.began == [order.command_id]
    assert len(life.bus.ends(order)) == 1


async def test_one_lane_is_obeyed_in_order_and_lanes_side_by_side(life: Life) -> None:
    orders = [some_terms(life.clock, lane=f"lane-{number % 3}", sleep=1) for number in range(9)]
    await asyncio.gather(*(life.bus.order(one) for one in orders))
    ends = await life.ended(*orders)
    assert life.scribe.most_at_once == 3
    for lane in range(3):
        started = [end.started_at for end in ends[lane::3] if end.started_at]
        assert started == sorted(started)
        assert started[-1] - started[0] == pytest.approx(timedelta(seconds=2), abs=timedelta(seconds=0.2))


@pytest.mark.parametrize(
    ("terms", "state", "reason"),
    [
        ({"verb": "dance"}, "rejected", "unknown-verb"),
        ({"refuse": True}, "rejected", "precondition"),
        ({"not_after": -1}, "expired", "not-after"),
        ({"raise": True}, "failed", "error"),
        ({"result": {"state": CommandState.FAILED, "reason": "exit"}}, "failed", "exit"),
        ({"sleep": 100, "run_seconds": 5}, "timed_out", "run-time"),
    ],
    ids=["unknown verb", "precondition", "expired", "raises", "fails", "runs too long"],
)
async def test_every_command_ends_as_what_became_of_it(
    life: Life, terms: dict[str, Any], state: str, reason: str
) -> None:
    order = some_terms(life.clock, **terms)
    await life.bus.order(order)
    [end] = await life.ended(order)
    assert (end.state, end.reason) == (state, reason)
    assert "hunter2" not in end.text
    assert (await life.bus.order(order)).state == state


@pytest.mark.parametrize(
    ("terms", "state", "reason"),
    [
        ({"start_seconds": 5}, "timed_out", "start-time"),
        ({"not_after": 5, "start_seconds": 50}, "expired", "not-after"),
    ],
    ids=["start-time", "not-after"],
)
async def test_a_command_whose_turn_does_not_come_ends_in_time_without_being_begun(
    life: Life, terms: dict[str, Any], state: str, reason: str
) -> None:
    long, late = some_terms(life.clock, sleep=60), some_terms(life.clock, **terms)
    await life.bus.order(long)
    await life.bus.order(late)
    [end] = await life.ended(late)
    assert (end.state, end.reason, end.started_at) == (state, reason, None)
    assert end.occurred_at - late.submitted_at < timedelta(seconds=5.5)
    await life.ended(long)
    assert life.scribe.began == [long.command_id]


async def test_a_cancel_reaches_the_performer_at_once_and_waits_for_its_cleaning_up(life: Life) -> None:
    order = some_terms(life.clock, sleep=1000)
    await life.bus.order(order)
    await asyncio.sleep(3)
    await life.bus.cancel(order)
    [end] = await life.ended(order)
    assert (end.state, end.reason) == ("cancelled", "cancelled")
    assert end.occurred_at - order.submitted_at < timedelta(seconds=3.5)
    assert life.scribe.cleaned_up == [order.command_id]


async def test_a_cancel_before_the_start_means_it_is_never_begun(life: Life) -> None:
    long, waiting = some_terms(life.clock, sleep=60), some_terms(life.clock)
    await life.bus.order(long)
    await life.bus.order(waiting)
    await life.bus.cancel(waiting)
    [end] = await life.ended(waiting)
    assert (end.state, end.started_at) == ("cancelled", None)
    assert waiting.command_id not in life.scribe.began


async def test_a_cancel_before_the_command_is_remembered_over_a_crash(life: Life) -> None:
    order = some_terms(life.clock)
    await life.bus.cancel(order)
    await life.crash()
    await life.begin()
    await life.bus.order(order)
    [end] = await life.ended(order)
    assert end.state == "cancelled"
    assert life.scribe.began == []


async def test_what_ran_when_the_agent_died_is_interrupted_and_what_waited_runs(life: Life) -> None:
    ran, waited = some_terms(life.clock, sleep=60, print="half of it"), some_terms(life.clock)
    await life.bus.order(ran)
    await life.bus.order(waited)
    await asyncio.sleep(1)
    await life.crash()
    await life.begin()
    ends = await life.ended(ran, waited)
    assert [end.state for end in ends] == ["interrupted", "succeeded"]
    assert ends[0].started_at is not None
    assert (ends[0].output_bytes, ends[0].output_sha256) == (10, hashlib.sha256(b"half of it").hexdigest())
    assert life.scribe.began == [ran.command_id, waited.command_id]
    assert (await life.bus.order(ran)).state is CommandState.INTERRUPTED


async def test_an_end_that_was_not_spooled_is_said_by_the_next_run_with_the_same_id_and_its_own_epoch(
    life: Life,
) -> None:
    order = some_terms(life.clock)
    life.bus.spool_fails = SpoolFailed("cannot keep it")
    await life.bus.order(order)
    await asyncio.sleep(5)
    [kept] = await life.obedience._journal.unsaid(10)
    await life.crash()
    life.bus.spool_fails = None
    await life.begin()
    [end] = await life.ended(order)
    assert end.message_id == kept.message_id
    assert end.epoch != kept.epoch


async def test_an_agent_that_is_stopped_interrupts_what_runs_and_leaves_what_waits(life: Life) -> None:
    ran, waited = some_terms(life.clock, sleep=60), some_terms(life.clock)
    await life.bus.order(ran)
    await life.bus.order(waited)
    await asyncio.sleep(1)
    await life.end(seconds=2)
    [end] = await life.ended(ran)
    assert (end.state, end.reason) == ("interrupted", "agent-stopped")
    assert not life.bus.ends(waited)
    assert life.scribe.cleaned_up == [ran.command_id]
    await life.begin()
    [end] = await life.ended(waited)
    assert end.state == "succeeded"


async def test_the_backlog_is_taken_at_each_connect_with_its_cancels_first(life: Life) -> None:
    wanted, unwanted = some_terms(life.clock), some_terms(life.clock)
    life.bus.backlog = Backlog(orders=[unwanted, wanted], cancelled=[unwanted.command_id])
    life.bus.reconnect()
    ends = await life.ended(wanted, unwanted)
    assert [end.state for end in ends] == ["succeeded", "cancelled"]
    assert life.scribe.began == [wanted.command_id]
    assert life.bus.progress(wanted)[0].state is CommandState.ACCEPTED


async def test_an_end_the_ledger_does_not_know_a_minute_later_is_said_again(life: Life) -> None:
    order = some_terms(life.clock)
    await life.bus.order(order)
    await life.ended(order)
    life.bus.backlog = Backlog(orders=[order])
    life.bus.reconnect()
    await asyncio.sleep(1)
    assert len(life.bus.ends(order)) == 1
    await asyncio.sleep(90)
    life.bus.reconnect()
    await asyncio.sleep(1)
    first, again = life.bus.ends(order)
    assert first.message_id == again.message_id
    assert life.scribe.began == [order.command_id]


async def test_a_journal_that_fails_accepts_nothing_and_the_agent_goes_on(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(_: object) -> None:
        raise JournalFailed("cannot write the journal: the disk is full")

    order = some_terms(life.clock)
    with monkeypatch.context() as broken:
        broken.setattr(life.obedience._journal, "take", full)
        with pytest.raises(AskError, match="cannot accept") as refused:
            await life.bus.order(order)
        assert refused.value.problem.code == "unavailable"
    assert (await life.bus.order(order)).state is CommandState.ACCEPTED
    [end] = await life.ended(order)
    assert end.state == "succeeded"


async def test_progress_is_said_at_most_twice_a_second_and_the_last_word_always(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def chatter(work: Any) -> Any:
        for number in range(100):
            work.progress(f"step {number}", number)
            await asyncio.sleep(0.02)
        await asyncio.sleep(2)
        return await plain(work)

    plain = life.scribe._perform
    monkeypatch.setattr(life.scribe, "_perform", chatter)
    order = some_terms(life.clock)
    await life.bus.order(order)
    await life.ended(order)
    said = life.bus.progress(order)
    assert said[0].text is None
    assert said[-1].text == "step 99"
    assert 4 <= len(said) <= 7


async def test_an_end_is_said_without_a_look_into_the_journal_and_that_it_was_said_is_kept(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def looked(limit: int) -> Any:
        raise AssertionError(limit)

    journal = life.obedience._journal
    order = some_terms(life.clock)
    await asyncio.sleep(1)
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(journal, "unsaid", looked)
        await life.bus.order(order)
        await life.ended(order)
    await journal.written()
    assert await journal.unsaid(10) == []
    assert len(life.bus.ends(order)) == 1


async def test_what_is_over_at_once_is_not_said_to_run_and_what_goes_on_is(life: Life) -> None:
    brief, long = some_terms(life.clock), some_terms(life.clock, sleep=1)
    await life.bus.order(brief)
    await life.bus.order(long)
    await life.ended(brief, long)
    assert life.bus.progress(brief) == []
    assert [one.state for one in life.bus.progress(long)] == [CommandState.RUNNING]


async def test_more_than_may_be_open_is_refused_until_some_have_ended(tmp_path: Path) -> None:
    life = Life(tmp_path, limits=Limits(open_commands=2))
    await life.begin()
    orders = [some_terms(life.clock, sleep=1) for _ in range(3)]
    await life.bus.order(orders[0])
    await life.bus.order(orders[1])
    with pytest.raises(AskError, match="2 commands are open"):
        await life.bus.order(orders[2])
    assert (await life.bus.order(orders[1])).state is CommandState.ACCEPTED
    await life.ended(*orders[:2])
    await life.bus.order(orders[2])
    await life.ended(orders[2])
    await life.end()


async def test_the_journal_forgets_what_cannot_come_again_and_nothing_that_could_begin_twice(
    tmp_path: Path,
) -> None:
    life = Life(tmp_path, limits=Limits(known_commands=2))
    await life.begin()
    orders = [some_terms(life.clock), some_terms(life.clock)]
    for order in orders:
        await life.bus.order(order)
    await life.ended(*orders)
    await asyncio.sleep(120)
    third = some_terms(life.clock)
    with pytest.raises(AskError, match="the journal has 2 commands"):
        await life.bus.order(third)
    await asyncio.sleep(2 * 86_400)
    assert life.obedience._journal.known == 0
    await life.bus.order(third)
    [end] = await life.ended(third)
    assert end.state == "expired"
    await life.end()


async def test_what_a_command_brought_leaves_the_disk_after_its_end(tmp_path: Path) -> None:
    life = Life(tmp_path)
    await life.begin()
    order = some_terms(life.clock, content="hunter2")
    await life.bus.order(order)
    await life.ended(order)

    def holders() -> list[str]:
        return [file.name for file in tmp_path.glob("journal.db*") if b"hunter2" in file.read_bytes()]

    assert holders() == ["journal.db-wal"]
    await asyncio.sleep(61)
    assert holders() == []
    await life.end()
