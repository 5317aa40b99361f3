"""Orders on a real broker: submitted, pushed, obeyed, cancelled, expired, lost, and told of each once."""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import urllib.request
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from store_world import Agent, World, chunk, ended, now, soon, submit, world

from muster_bus import AskFailed, NoAnswer
from muster_contracts.audit.v1 import Anchored, ReadAudit, verify
from muster_contracts.bus.v1 import DeadLettered
from muster_contracts.chunk.v1 import ChunkStored, PutChunk, ReadChunks, StreamEnd
from muster_contracts.command.v1 import (
    CancelCommand,
    CommandDetail,
    CommandState,
    GetCommand,
    Progressed,
)
from muster_contracts.package.v1 import RestartPackage, RunScript
from muster_runtime import SystemClock
from muster_testing.ground import Ground
from muster_testing.program import Program
from muster_testing.wait import until
from state_store.main import StateStore


async def test_an_order_is_pushed_obeyed_and_settled_once() -> None:
    async with world("a1") as here:
        agent = await here.agent("a1")
        command = await here.order()
        await until(lambda: agent.orders)
        assert agent.orders[0].terms.body == RestartPackage(package="web").model_dump(mode="json")
        await here.reaches(command, CommandState.ACCEPTED)
        report = await agent.end(command, exit_code=0, result={"pid": 7})
        target = await here.reaches(command, CommandState.SUCCEEDED)
        assert (target.reason, target.result) == ("done", {"pid": 7})
        await agent.bus.say(report, ended(command, state=CommandState.FAILED))
        await here.reaches(command, CommandState.SUCCEEDED)

        async def noted() -> bool:
            return (await here.target(command)).reported_late is CommandState.FAILED

        await until(noted)
        [settled] = await here.settles(command)
        assert settled.target == target


async def test_progress_shows_that_it_runs() -> None:
    async with world("a1") as here:
        agent = await here.agent("a1")
        command = await here.order()
        await here.reaches(command, CommandState.ACCEPTED)
        news = Progressed(occurred_at=now(), agent_id="a1", command_id=command, state=CommandState.RUNNING)
        await agent.bus.say(news)
        assert (await here.reaches(command, CommandState.RUNNING)).started_at


async def test_an_agent_that_is_away_gets_it_when_it_comes_back_in_time() -> None:
    async with world("a1") as here:
        command = await here.order()
        agent = await here.agent("a1")
        backlog = await agent.backlog()
        assert [one.command_id for one in backlog.orders] == [command]
        await agent.end(command)
        await here.reaches(command, CommandState.SUCCEEDED)
        assert (await agent.backlog()).orders == []


async def test_an_agent_that_stays_away_never_begins_it() -> None:
    async with world("a1") as here:
        command = await here.order(not_after=soon(0.5))
        target = await here.reaches(command, CommandState.EXPIRED)
        assert target.reason == "not-after"
        agent = await here.agent("a1")
        assert (await agent.backlog()).orders == []
        assert not agent.orders
        [settled] = await here.settles(command)
        assert settled.target.state is CommandState.EXPIRED


async def test_an_agent_that_says_nothing_has_lost_it_and_is_believed_late() -> None:
    async with world("a1") as here:
        agent = await here.agent("a1")
        agent.answers = agent.keep_silent
        command = await here.order(not_after=soon(0.8))
        target = await here.reaches(command, CommandState.LOST)
        assert target.reason == "silence"
        await agent.end(command)

        async def noted() -> bool:
            return (await here.target(command)).reported_late is CommandState.SUCCEEDED

        await until(noted)
        assert (await here.target(command)).state is CommandState.LOST
        assert len(await here.settles(command)) == 1


async def test_a_missed_push_is_made_up_for_without_a_reconnect() -> None:
    async with world("a1", push_again_seconds=0.2) as here:
        command = await here.order()
        agent = await here.agent("a1")
        await until(lambda: agent.orders)
        assert agent.orders[0].terms.command_id == command


# Cancel ---------------------------------------------------------------------------------------------------


async def cancel(here: World, command: UUID) -> CommandDetail:
    ask = CancelCommand(occurred_at=now(), command_id=command, issuer="bob@laptop")
    return await here.operator.ask(ask, timeout=5)


async def not_delivered(here: World, command: UUID) -> None:
    """Wait until it is known that nobody was there."""

    def known() -> bool:
        with sqlite3.connect(here.ground.directory / "store.db") as database:
            query = "SELECT pushing FROM targets WHERE command_id = ?"
            return bool(database.execute(query, [command.hex]).fetchone() == (0,))

    await until(known)


async def test_what_never_arrived_is_cancelled_at_once() -> None:
    async with world("a1") as here:
        command = await here.order()
        await not_delivered(here, command)
        assert (await cancel(here, command)).ended
        assert (await here.target(command)).state is CommandState.CANCELLED
        agent = await here.agent("a1")
        assert (await agent.backlog()).orders == []


@pytest.mark.parametrize("running", [False, True])
async def test_what_an_agent_has_is_cancelled_when_it_says_so(running: bool) -> None:
    async with world("a1") as here:
        agent = await here.agent("a1")
        command = await here.order()
        await here.reaches(command, CommandState.ACCEPTED)
        if running:
            told = Progressed(
                occurred_at=now(), agent_id="a1", command_id=command, state=CommandState.RUNNING
            )
            await agent.bus.say(told)
            await here.reaches(command, CommandState.RUNNING)
        assert not (await cancel(here, command)).ended
        await until(lambda: len(agent.cancels) > 1)  # told again, for an order may be missed
        backlog = await agent.backlog()
        assert backlog.cancelled == [command]
        await agent.end(command, state=CommandState.CANCELLED, reason="cancelled")
        assert (await here.reaches(command, CommandState.CANCELLED)).cancel_requested


async def test_what_has_ended_cannot_be_cancelled_any_more() -> None:
    async with world("a1") as here:
        agent = await here.agent("a1")
        command = await here.order()
        await agent.end(command)
        await here.reaches(command, CommandState.SUCCEEDED)
        assert (await cancel(here, command)).by_state[CommandState.SUCCEEDED] == 1
        assert not (await here.target(command)).cancel_requested


# Refusals -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "code", "text"),
    [
        ({"selector": "id=nobody"}, "not-found", "no agent matches 'id=nobody'"),
        ({"selector": "id=("}, "invalid", "cannot read"),
        ({"not_after": now() - timedelta(seconds=1)}, "invalid", "has passed"),
        ({"body": RunScript(script="x", arguments=["y" * 1000] * 32), "selector": "id=a1"}, None, ""),
        ({"not_after": now() + timedelta(days=400)}, "invalid", "days ahead"),
        ({"issuer": "a\x00b"}, "invalid", "NUL"),
    ],
)
async def test_what_cannot_be_ordered_is_refused_in_words_and_audited(
    changes: dict[str, object], code: str | None, text: str
) -> None:
    async with world("a1") as here:
        if code is None:
            await here.order(**changes)  # type: ignore[arg-type]
            return
        with pytest.raises(AskFailed, match=text) as caught:
            await here.order(**changes)  # type: ignore[arg-type]
        assert caught.value.code == code
        page = await here.operator.ask(ReadAudit(occurred_at=now()))
        wanted = [] if "issuer" in changes else ["refused"]
        assert [one.decision for one in page.entries] == wanted


async def test_while_the_registry_is_away_new_orders_wait_and_known_ones_are_answered() -> None:
    async with world("a1") as here:
        order = submit()
        first = await here.operator.ask(order)
        here.registry.away = True
        again = await here.operator.ask(order)
        assert (again.command_id, again.repeated) == (first.command_id, True)
        with pytest.raises(AskFailed) as caught:
            await here.order()
        assert caught.value.code == "unavailable"


async def test_orders_for_one_selector_share_the_question_whom_it_selects() -> None:
    async with world("a1") as here:
        await asyncio.gather(*(here.order() for _ in range(50)))
        assert here.registry.asked < 25


async def test_a_command_for_more_than_a_page_of_agents_reaches_them_all() -> None:
    async with world("a1") as here:
        here.registry.agents += [f"b{number:04}" for number in range(1100)]
        answer = await here.operator.ask(submit("id=b*"), timeout=10)
        assert answer.targets == 1100
        detail = await here.operator.ask(GetCommand(occurred_at=now(), command_id=answer.command_id))
        assert sum(detail.by_state.values()) == 1100


# Trouble --------------------------------------------------------------------------------------------------


async def test_a_report_of_nothing_is_a_dead_letter_and_holds_up_nobody() -> None:
    async with world("a1") as here:
        letters: list[DeadLettered] = []

        async def keep(letter: DeadLettered) -> None:
            letters.append(letter)

        await here.operator.hear(DeadLettered, keep)
        agent = await here.agent("a1")
        command = await here.order()
        await agent.end(uuid4())
        await agent.end(command, state=CommandState.LOST)
        await agent.end(command)
        await here.reaches(command, CommandState.SUCCEEDED)
        await until(lambda: len(letters) == 2)
        assert "it was never ordered there" in " ".join(one.detail for one in letters)


KILLED_BETWEEN = """
import asyncio, os, signal, sys
from muster_runtime import SystemClock
from state_store import main
from state_store.settings import StoreSettings

class Deadly(main.Pusher):
    def put(self, pushes):
        if list(pushes):
            os.kill(os.getpid(), signal.SIGKILL)

main.Pusher = Deadly

async def run():
    store = main.StateStore(StoreSettings.load(None), SystemClock())
    async with store.open():
        print("ready", flush=True)
        await asyncio.Event().wait()

asyncio.run(run())
"""


@pytest.mark.parametrize("agent_is_there", [True, False])
async def test_a_kill_between_commit_and_push_loses_nothing_and_claims_nothing(agent_is_there: bool) -> None:
    async with world("a1", run=False) as here:
        agent = await here.agent("a1") if agent_is_there else None
        process = await asyncio.to_thread(_started, here.ground)
        order = submit(not_after=soon(600 if agent else 3))
        with pytest.raises(NoAnswer):
            await here.operator.ask(order, timeout=2)
        assert await asyncio.to_thread(process.wait) == -signal.SIGKILL
        store = StateStore(here.settings, SystemClock())
        async with store.open():
            again = await here.operator.ask(order, timeout=5)
            assert again.repeated
            if agent:
                await until(lambda: agent.orders)
                await here.reaches(order.command_id, CommandState.ACCEPTED)
            else:
                # Nobody can tell any more that the push of the process that died reached nobody.
                await here.reaches(order.command_id, CommandState.LOST)


def _settings(ground: Ground) -> dict[str, str]:
    return {
        "STATE_STORE_NATS_URL": ground.server.url,
        "STATE_STORE_SEED_FILE": str(ground.seed_file("state-store")),
        "STATE_STORE_ORDERS__GRACE_SECONDS": "1",
        "STATE_STORE_DATABASE_URL": f"sqlite+aiosqlite:///{ground.directory / 'store.db'}",
    }


def _started(ground: Ground) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED_BETWEEN],
        env={**os.environ, **_settings(ground)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    with process.stdout as output:
        assert output.readline() == "ready\n"
    return process


async def test_a_restart_finds_everything_as_it_was_and_goes_on() -> None:
    async with world("a1", run=False) as here:
        agent = await here.agent("a1")
        async with StateStore(here.settings, SystemClock()).open():
            command = await here.order()
            await here.reaches(command, CommandState.ACCEPTED)
        await agent.end(command)
        async with StateStore(here.settings, SystemClock()).open():
            await here.reaches(command, CommandState.SUCCEEDED)
            page = await here.operator.ask(ReadAudit(occurred_at=now()))
            verify(page.entries)


async def test_the_head_of_the_audit_is_in_its_stream_when_the_process_has_ended() -> None:
    async with world("a1", run=False) as here:
        async with StateStore(here.settings, SystemClock()).open():
            await here.order()
        bus = await here.ground.bus("provisioner")
        stream = bus.client.jetstream()
        raw = await stream.get_last_msg("AUDIT", Anchored.SUBJECT.bound("state-store"))
        assert json.loads(raw.data or b"")["sequence"] == 1


# Output ---------------------------------------------------------------------------------------------------


async def test_output_is_kept_and_told_to_whoever_follows() -> None:
    async with world("a1") as here:
        agent = await here.agent("a1")
        grown: list[tuple[int, bool]] = []

        async def hear(stored: ChunkStored) -> None:
            grown.append((stored.size, stored.complete))

        await here.operator.hear(ChunkStored, hear)
        command = await here.order()
        stream, data = f"output/{command}", b"hello\n"
        first = chunk(data)
        end = StreamEnd(size=6, sha256=first.sha256)
        for put in ({"chunk": first}, {"chunk": first}, {"end": end}, {}):
            ask = PutChunk(occurred_at=now(), agent_id="a1", stream=stream, **put)
            taken = await agent.bus.ask(ask)
        assert taken.complete
        found = await here.operator.ask(ReadChunks(occurred_at=now(), agent_id="a1", stream=stream))
        assert (found.size, found.complete, len(found.chunks)) == (6, True, 1)
        await until(lambda: len(grown) == 2)
        assert grown == [(6, False), (6, True)]


async def test_a_damaged_chunk_and_one_too_many_are_refused_in_words() -> None:
    async with world("a1", bytes_of_stream=256) as here:
        agent = await here.agent("a1")
        command = await here.order()
        cases = [
            (chunk(b"hello", sha256="0" * 64), "invalid"),
            (chunk(b"hello", data="%"), "invalid"),
            (chunk(b"hello", length=4), "invalid"),
            (chunk(b"h" * 257), "too-large"),
        ]
        for bad, code in cases:
            with pytest.raises(AskFailed) as caught:
                await agent.bus.ask(
                    PutChunk(occurred_at=now(), agent_id="a1", stream=f"output/{command}", chunk=bad)
                )
            assert caught.value.code == code


# Backlog --------------------------------------------------------------------------------------------------


async def test_a_long_backlog_comes_in_pages_that_fit() -> None:
    async with world("a1") as here:
        body = RunScript(script="x", arguments=["y" * 1000] * 30)
        commands = [await here.order(body=body) for _ in range(60)]
        agent = await here.agent("a1")
        found: list[UUID] = []
        after, pages = None, 0
        while pages == 0 or after:
            page = await agent.backlog(after)
            assert len(page.model_dump_json()) < 600 * 1024
            found += [one.command_id for one in page.orders]
            after, pages = page.next, pages + 1
        assert found == commands
        assert pages >= 4


async def test_what_went_out_in_a_backlog_is_never_said_to_have_expired() -> None:
    async with world("a1") as here:
        command = await here.order(not_after=soon(1))
        await not_delivered(here, command)
        agent = Agent(await here.ground.bus("a1"), "a1")
        assert (await agent.backlog()).orders
        await here.reaches(command, CommandState.LOST)


# The program ----------------------------------------------------------------------------------------------


async def test_the_program_tells_how_it_is_and_ends_when_asked() -> None:
    async with world("a1", run=False) as here:
        agent = await here.agent("a1")
        port_file = here.ground.directory / "port"
        settings = {**_settings(here.ground), "STATE_STORE_HEALTH_PORT_FILE": str(port_file)}
        with Program("state-store", settings, here.ground.directory / "store.log") as program:
            await until(lambda: port_file.exists() and port_file.read_text(), 30)
            url = f"http://127.0.0.1:{port_file.read_text().strip()}"
            assert await asyncio.to_thread(_get, f"{url}/readyz")
            command = await here.order()
            await agent.end(command)
            await here.reaches(command, CommandState.SUCCEEDED)
            figures = await asyncio.to_thread(_get, f"{url}/metrics")
            assert 'muster_store_targets_ended_total{reason="done",state="succeeded"} 1.0' in figures
            for name in ("commit_items_count", "open_targets", "pushes_total", "reports_late_total"):
                assert f"muster_store_{name}" in figures
            assert await asyncio.to_thread(program.kill, signal.SIGTERM) == 0


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())
