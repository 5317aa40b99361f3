"""Orders by the SDK against a real broker and a ledger by the contracts: every end once, every byte."""

import asyncio
import base64
import gzip
import hashlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_bus import AskFailed, Bus
from muster_client import Fleet, commands, machines
from muster_client.chunks import Reader
from muster_client.commands import Command, Event, OutputGrew, Progress, TargetEnded
from muster_client.errors import Damaged, Incomplete, NotFound
from muster_contracts.chunk.v1 import Chunk, Chunks
from muster_contracts.command.v1 import CommandState, Progressed
from muster_contracts.package.v1 import RestartPackage, RunScript
from muster_testing.ground import Ground
from muster_testing.town import Registry, row
from muster_testing.town_orders import Ledger, Machine, package
from muster_testing.wait import until

RESTART = RestartPackage(package="web")


@pytest.fixture
async def ground() -> AsyncIterator[Ground]:
    async with Ground("a-1", "a-2") as made:
        yield made


@pytest.fixture
async def registry(ground: Ground) -> Registry:
    made = Registry()
    made.agents = {name: row(name) for name in ("a-1", "a-2", "a-3")}
    await made.listen(await ground.bus("fleet-registry"))
    return made


@pytest.fixture
async def ledger(ground: Ground, registry: Registry) -> Ledger:
    made = Ledger(registry.matching)
    await made.listen(await ground.bus("state-store"))
    return made


@pytest.fixture
async def agent(ground: Ground) -> Bus:
    return await ground.bus("a-1")


@pytest.fixture
async def fleet(ground: Ground, ledger: Ledger) -> AsyncIterator[Fleet]:
    async with Fleet.connect(ground.settings("operator"), within=20, patience=20) as connected:
        yield connected


@pytest.fixture
def looking_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "LOOK_AGAIN_SECONDS", 0.05)


class Following:
    """The life of a command, followed in the background."""

    def __init__(self, command: Command) -> None:
        self.events: list[Event] = []
        self.task = asyncio.create_task(self._follow(command))

    async def _follow(self, command: Command) -> None:
        async for event in command.life():
            self.events.append(event)

    async def until(self, wanted: Callable[[Event], bool]) -> None:
        await until(lambda: any(wanted(event) for event in self.events), 30)

    async def began(self) -> None:
        """It has read the ledger, and listens."""
        await until(lambda: self.events, 30)

    @property
    def ended(self) -> list[str]:
        return [event.target.agent for event in self.events if isinstance(event, TargetEnded)]


# Ordering ----------------------------------------------------------------------------------------


async def test_an_order_ends_on_every_agent_it_was_meant_for(fleet: Fleet, ledger: Ledger) -> None:
    ledger.fates["a-2"] = {"state": "failed", "reason": "ready", "text": "cannot start web"}
    command = await fleet.order(RESTART, "id in (a-1,a-2)")
    assert command.targets == 2
    ended = await asyncio.wait_for(command.wait(), 30)
    assert [(one.agent, one.state.value, one.reason) for one in ended] == [
        ("a-1", "succeeded", "done"),
        ("a-2", "failed", "ready"),
    ]


async def test_an_order_carries_its_terms_and_its_issuer(fleet: Fleet, ledger: Ledger) -> None:
    before = datetime.now(UTC)
    await fleet.order(
        RESTART,
        "id=a-1",
        expires=timedelta(hours=1),
        run_for=timedelta(seconds=7),
        start_within=timedelta(seconds=3),
    )
    [submitted] = ledger.submitted
    assert (submitted.run_seconds, submitted.start_seconds, submitted.body) == (7, 3, RESTART)
    assert timedelta(0) <= submitted.not_after - before - timedelta(hours=1) < timedelta(minutes=1)
    assert submitted.issuer == commands.whoami()
    assert "@" in submitted.issuer


async def test_an_order_under_a_used_key_is_the_first_one(fleet: Fleet) -> None:
    first = await fleet.order(RESTART, "id=a-1", idempotency_key="tuesday")
    again = await fleet.order(RESTART, "id=a-1", idempotency_key="tuesday")
    assert (again.id, again.repeated, first.repeated) == (first.id, True, False)
    assert [one.agent for one in await again.wait()] == ["a-1"]


async def test_an_order_whose_ledger_is_busy_at_first_is_given_once(
    fleet: Fleet, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.unavailable = True
    ordering = asyncio.create_task(fleet.order(RESTART, "id=a-1"))
    await until(lambda: fleet.bus.counters.of("asked") > 3, 30)
    ledger.unavailable = False
    command = await asyncio.wait_for(ordering, 30)
    assert [one.command_id for one in ledger.submitted] == [command.id]


async def test_a_slow_ledger_is_given_time_and_not_asked_again(
    fleet: Fleet, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("muster_client.asking.TRY_SECONDS", 0.01)
    fleet.patience = 0.01
    asked = fleet.bus.counters.of("asked")
    ledger.gate.clear()
    ordering = asyncio.create_task(fleet.order(RESTART, "id=a-1"))
    await until(lambda: ledger.at_the_gate, 30)
    ledger.gate.set()
    assert (await ordering).targets == 1
    assert fleet.bus.counters.of("asked") == asked + 1


async def test_an_order_for_nobody_has_no_life(fleet: Fleet) -> None:
    command = await fleet.order(RESTART, "id=nobody")
    assert (command.targets, await command.wait()) == (0, [])


async def test_an_unknown_command_is_refused(fleet: Fleet) -> None:
    with pytest.raises(AskFailed) as refused:
        await fleet.command(uuid4())
    assert refused.value.code == "not-found"


# A life ------------------------------------------------------------------------------------------


async def test_a_life_begins_with_how_far_each_target_is_and_ends_with_the_last_end(
    fleet: Fleet, ledger: Ledger, agent: Bus
) -> None:
    ledger.waiting = {"a-1", "a-2"}
    command = await fleet.order(RESTART, "")
    following = Following(command)
    await until(lambda: len(following.events) == 3, 30)
    assert following.ended == ["a-3"]
    assert {event.agent for event in following.events if isinstance(event, Progress)} == {"a-1", "a-2"}

    await agent.say(progressed(command, "running", percent=40))
    await following.until(lambda event: isinstance(event, Progress) and event.percent == 40)
    await ledger.put(command.id, "a-1", b"hello")
    await following.until(lambda event: event == OutputGrew("a-1", 5, complete=False))
    await ledger.end(command.id, "a-1")
    await ledger.end(command.id, "a-2", state="lost", reason="silence")
    await asyncio.wait_for(following.task, 30)
    assert sorted(following.ended) == ["a-1", "a-2", "a-3"]


def progressed(command: Command, state: str, **more: Any) -> Progressed:
    told = {"occurred_at": datetime.now(UTC), "agent_id": "a-1", "command_id": command.id, "state": state}
    return Progressed.model_validate({**told, **more})


@pytest.mark.usefixtures("looking_often")
async def test_an_end_that_nobody_was_told_of_is_read_from_the_ledger(fleet: Fleet, ledger: Ledger) -> None:
    ledger.waiting = {"a-1"}
    command = await fleet.order(RESTART, "id=a-1")
    following = Following(command)
    await following.began()
    await ledger.end(command.id, "a-1", heard=False)
    await asyncio.wait_for(following.task, 30)
    assert following.ended == ["a-1"]


async def test_without_looking_again_such_an_end_is_never_seen(
    fleet: Fleet, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: facts alone are not enough."""
    monkeypatch.setattr(commands, "LOOK_AGAIN_SECONDS", 3600)
    ledger.waiting = {"a-1", "a-2"}
    command = await fleet.order(RESTART, "id in (a-1,a-2)")
    following = Following(command)
    await following.began()
    await ledger.end(command.id, "a-1", heard=False)
    await ledger.end(command.id, "a-2")
    await following.until(lambda event: isinstance(event, TargetEnded))
    assert (following.ended, following.task.done()) == (["a-2"], False)
    following.task.cancel()
    await asyncio.gather(following.task, return_exceptions=True)


@pytest.mark.usefixtures("looking_often")
async def test_a_ledger_that_is_away_for_a_while_ends_no_life(fleet: Fleet, ledger: Ledger) -> None:
    ledger.waiting = {"a-1"}
    fleet.patience = 0.2
    command = await fleet.order(RESTART, "id=a-1")
    following = Following(command)
    await following.began()
    ledger.unavailable = True
    asked = fleet.bus.counters.of("asked")
    await until(lambda: fleet.bus.counters.of("asked") > asked + 5, 30)
    ledger.unavailable = False
    await ledger.end(command.id, "a-1", heard=False)
    await asyncio.wait_for(following.task, 30)


@pytest.mark.usefixtures("looking_often")
async def test_a_ledger_that_is_away_from_the_beginning_is_waited_for(fleet: Fleet, ledger: Ledger) -> None:
    fleet.patience = 0.2
    command = await fleet.order(RESTART, "id=a-1")
    ledger.unavailable = True
    waiting = asyncio.create_task(command.wait())
    asked = fleet.bus.counters.of("asked")
    await until(lambda: fleet.bus.counters.of("asked") > asked + 5, 30)
    ledger.unavailable = False
    assert [one.agent for one in await asyncio.wait_for(waiting, 30)] == ["a-1"]


@pytest.mark.usefixtures("looking_often")
async def test_a_command_that_the_ledger_forgot_is_not_waited_for(fleet: Fleet, ledger: Ledger) -> None:
    ledger.waiting = {"a-1"}
    command = await fleet.order(RESTART, "id=a-1")
    following = Following(command)
    await following.began()
    ledger.reset()
    with pytest.raises(AskFailed, match="cannot find the command"):
        await asyncio.wait_for(following.task, 30)


async def test_a_broker_that_is_restarted_costs_no_end(
    ground: Ground, fleet: Fleet, ledger: Ledger, agent: Bus
) -> None:
    ledger.waiting = {"a-1"}
    command = await fleet.order(RESTART, "id=a-1")
    following = Following(command)
    await following.began()
    await asyncio.to_thread(ground.server.kill)
    await asyncio.to_thread(ground.server.start)
    await ledger.bus.wait_connected()
    await until(lambda: ledger.bus.connected and fleet.bus.connected, 30)
    await ledger.end(command.id, "a-1")
    await asyncio.wait_for(following.task, 30)
    assert following.ended == ["a-1"]


async def test_a_thousand_targets_are_read_page_by_page_and_each_ends_once(
    fleet: Fleet, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "_find", lambda _: [f"x-{number}" for number in range(1000)])
    ledger.waiting = {f"x-{number}" for number in range(0, 1000, 50)}
    command = await fleet.order(RESTART, "")
    following = Following(command)
    await following.began()
    for name in ledger.waiting:
        await ledger.end(command.id, name)
    await asyncio.wait_for(following.task, 60)
    assert sorted(following.ended) == sorted(f"x-{number}" for number in range(1000))


async def test_cancelling_ends_what_has_not_ended(fleet: Fleet, ledger: Ledger) -> None:
    ledger.waiting = {"a-1", "a-2"}
    command = await fleet.order(RESTART, "")
    await command.cancel("a-1")
    assert (await command.target("a-2")).state is CommandState.PENDING
    assert (await command.cancel()).ended
    assert [one.state.value for one in await command.wait()] == ["cancelled", "cancelled", "succeeded"]


async def test_what_was_ordered_is_found_again_newest_first(fleet: Fleet, ledger: Ledger) -> None:
    first = await fleet.order(RESTART, "id in (a-1,a-2)")
    second = await fleet.order(RunScript(script="backup"), "id=a-2", issuer="bob")
    assert [one.id async for one in fleet.targets(agent="a-2", page=1)] == [second.id, first.id]
    assert [one.agent async for one in fleet.targets(command=first.id)] == ["a-1", "a-2"]
    assert [one.verb async for one in fleet.targets(issuer="bob")] == ["script.run"]
    assert [one.id async for one in fleet.targets(states=[CommandState.FAILED])] == []


# Output ------------------------------------------------------------------------------------------


DATA = b"".join(b"line %d\n" % number for number in range(2000))


@pytest.fixture
async def running(fleet: Fleet, ledger: Ledger) -> Command:
    """A script that runs on a-1."""
    ledger.waiting = {"a-1"}
    return await fleet.order(RunScript(script="backup"), "id=a-1")


async def collected(output: AsyncIterator[bytes]) -> bytes:
    return b"".join([data async for data in output])


async def test_output_is_followed_to_its_last_byte(running: Command, ledger: Ledger) -> None:
    following = asyncio.create_task(collected(running.output("a-1")))
    for start in range(0, len(DATA), 1700):
        await ledger.put(running.id, "a-1", DATA[start : start + 1700])
    await ledger.put(running.id, "a-1", b"", complete=True)
    assert await asyncio.wait_for(following, 30) == DATA


async def test_output_can_be_read_from_any_offset(running: Command, ledger: Ledger) -> None:
    await ledger.put(running.id, "a-1", DATA, complete=True)
    for offset in (0, 1, 999, 1000, 1001, len(DATA) - 1, len(DATA)):
        assert await collected(running.output("a-1", offset=offset)) == DATA[offset:]


async def test_output_so_far_does_not_wait_for_more(running: Command, ledger: Ledger) -> None:
    await ledger.put(running.id, "a-1", b"begun")
    assert await asyncio.wait_for(collected(running.output("a-1", follow=False)), 30) == b"begun"


async def test_output_of_a_command_that_printed_nothing_ends_with_it(
    running: Command, ledger: Ledger
) -> None:
    following = asyncio.create_task(collected(running.output("a-1")))
    await ledger.end(running.id, "a-1")
    assert await asyncio.wait_for(following, 30) == b""


@pytest.mark.usefixtures("looking_often")
async def test_output_that_does_not_come_is_told_and_not_waited_for_for_ever(
    running: Command, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "OUTPUT_PATIENCE_SECONDS", 0.2)
    await ledger.put(running.id, "a-1", b"begun")
    await ledger.end(running.id, "a-1", output_bytes=9)
    with pytest.raises(Incomplete, match="5 of 9 bytes"):
        await asyncio.wait_for(collected(running.output("a-1")), 30)


async def test_output_of_an_agent_it_was_not_meant_for_is_not_found(running: Command) -> None:
    for follow in (True, False):
        with pytest.raises(NotFound, match="it was not meant for that agent"):
            await collected(running.output("a-2", follow=follow))


def chunk(data: bytes, offset: int = 0, /, *, packed: bool = False, **changes: Any) -> Chunk:
    told = {
        "offset": offset,
        "length": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "encoding": "gzip" if packed else "identity",
        "data": base64.b64encode(gzip.compress(data) if packed else data).decode(),
        **changes,
    }
    return Chunk.model_validate(told)


def test_packed_chunks_are_unpacked_and_what_was_read_is_passed_over() -> None:
    reader = Reader("a-1", "output/1", offset=3)
    assert reader.take(Chunks(chunks=[chunk(b"hello", packed=True)], size=9)) == b"lo"
    assert reader.take(Chunks(chunks=[chunk(b"hello"), chunk(b" you", 5)], size=9, complete=True)) == b" you"
    assert (reader.offset, reader.complete) == (9, True)


@given(
    pieces=st.lists(st.binary(min_size=1, max_size=50), max_size=20),
    begin=st.integers(0, 200),
    back=st.lists(st.integers(0, 3), min_size=40, max_size=40),
    packed=st.booleans(),
)
def test_however_a_stream_was_cut_and_wherever_answers_begin_each_byte_is_read_once(
    pieces: list[bytes], begin: int, back: list[int], packed: bool
) -> None:
    whole, starts = b"".join(pieces), [sum(map(len, pieces[:place])) for place in range(len(pieces))]
    begin = min(begin, len(whole))
    reader, read = Reader("a-1", "output/1", begin), b""
    digest = hashlib.sha256(whole).hexdigest()
    for earlier in back:
        # An answer begins somewhere at or before where the reader is, and has four chunks at most.
        first = max([place for place, start in enumerate(starts) if start <= reader.offset], default=0)
        first = max(first - earlier, 0)
        chunks = [chunk(pieces[at], starts[at], packed=packed) for at in range(len(pieces))]
        answer = Chunks(chunks=chunks[first : first + 4], size=len(whole), complete=True, sha256=digest)
        read += reader.take(answer)
    assert (read, reader.complete) == (whole[begin:], True)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Chunks(chunks=[chunk(b"hello", sha256="0" * 64)], size=5), "not what its digest says"),
        (Chunks(chunks=[chunk(b"hello", length=6)], size=5), "not what its digest says"),
        (Chunks(chunks=[chunk(b"hello", 3)], size=8), "bytes 0 to 3 are left out"),
        (Chunks(chunks=[chunk(b"hello", encoding="gzip")], size=5), "cannot be unpacked"),
        (Chunks(chunks=[chunk(b"hello", data="?")], size=5), "cannot be unpacked"),
        (Chunks(chunks=[chunk(b"hello")], size=5, complete=True, sha256="0" * 64), "digest of the whole"),
    ],
)
def test_a_stream_that_was_altered_is_refused(answer: Chunks, why: str) -> None:
    with pytest.raises(Damaged, match=why):
        Reader("a-1", "output/1").take(answer)


# Packages ----------------------------------------------------------------------------------------


@pytest.fixture
async def machine(ground: Ground, agent: Bus) -> Machine:
    made = Machine("a-1")
    await made.listen(agent)
    return made


async def test_packages_come_from_the_hosts_and_who_is_silent_is_named(
    fleet: Fleet, registry: Registry, machine: Machine
) -> None:
    machine.packages = {name: package(name) for name in ("db", "queue", "web")}
    registry.agents["a-3"] = row("a-3", state="lost", reason="silence")
    registry.agents["k-1"] = row("k-1", kind="cluster")
    found = await fleet.packages(within=5)
    assert [(agent, one.name) for agent, one in found] == [("a-1", "db"), ("a-1", "queue"), ("a-1", "web")]
    assert found.silent == {"a-2": "it does not answer", "a-3": "it is lost (silence)"}
    assert (found.agents_with("web"), found.names) == (["a-1"], ["db", "queue", "web"])


async def test_one_package_its_files_and_its_log_are_asked_for(fleet: Fleet, machine: Machine) -> None:
    machine.logs["web"] = ["one", "two"]
    assert (await fleet.package("a-1", "web")).package.pid == 4711
    assert (await fleet.configuration("a-1", "web", "main")).content == "port = 80\n"
    assert [line async for line in fleet.package_log("a-1", "web", lines=1)] == ["two"]
    with pytest.raises(AskFailed):
        await fleet.package("a-1", "wub")


async def test_a_log_is_followed_line_by_line(
    fleet: Fleet, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machines, "LOG_LOOK_SECONDS", 0.01)
    machine.logs["web"] = ["one"]
    log = fleet.package_log("a-1", "web", follow=True)
    async with asyncio.timeout(30):
        assert await anext(log) == "one"
        machine.logs["web"] += ["two", "three"]
        assert [await anext(log), await anext(log)] == ["two", "three"]
