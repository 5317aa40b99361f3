"""What tests of obedience stand on: a bus and a store in memory, and an agent that does as it is told."""

import asyncio
import base64
import gzip
import hashlib
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from muster_agent.obedience import Admitted, Limits, Obedience, Refused, Result, Work
from muster_bus.errors import NoAnswer
from muster_contracts.chunk.v1 import ChunkTaken, Encoding, PutChunk
from muster_contracts.command.v1 import (
    Accepted,
    Backlog,
    Cancel,
    Ended,
    Execute,
    GetBacklog,
    Precondition,
    Progressed,
    Terms,
)
from muster_runtime.clock import Clock
from muster_testing.loop_time import LoopClock
from muster_testing.wait import until

AGENT = "web-1"
EPOCH = "0123456789ab-018f00000000"


def some_terms(
    clock: Clock | None = None,
    *,
    verb: str = "note",
    not_after: float = 3600,
    start_seconds: float = 300,
    run_seconds: float = 300,
    command_id: UUID | None = None,
    **body: Any,
) -> Terms:
    """A command; its lane is "one" unless the body names another."""
    now = clock.now() if clock else datetime.now(UTC)
    return Terms(
        command_id=command_id or uuid4(), issuer="ann", submitted_at=now, verb=verb, body=body,
        not_after=now + timedelta(seconds=not_after), start_seconds=start_seconds, run_seconds=run_seconds,
        precondition=Precondition(),
    )  # fmt: skip


class MemoryStore:
    """Keeps streams as state-store does: in order, without gaps, a repeat changes nothing."""

    def __init__(self) -> None:
        self.streams: dict[str, bytearray] = {}
        self.complete: dict[str, str] = {}
        self.puts = 0

    async def put(self, question: PutChunk) -> ChunkTaken:
        self.puts += 1
        stream = self.streams.setdefault(question.stream, bytearray())
        if (chunk := question.chunk) and chunk.offset <= len(stream):
            data = base64.b64decode(chunk.data)
            data = gzip.decompress(data) if chunk.encoding is Encoding.GZIP else data
            assert len(data) == chunk.length
            assert hashlib.sha256(data).hexdigest() == chunk.sha256
            assert stream[chunk.offset : chunk.offset + len(data)] == data[: len(stream) - chunk.offset]
            stream += data[len(stream) - chunk.offset :]
        if question.end and question.end.size == len(stream):
            assert hashlib.sha256(stream).hexdigest() == question.end.sha256
            self.complete[question.stream] = question.end.sha256
        return ChunkTaken(expected_offset=len(stream), complete=question.stream in self.complete)


class MemoryBus:
    """Keeps what was said; answers as a ledger and a store would."""

    def __init__(self) -> None:
        self.connected = True
        self.said: list[Any] = []
        self.store = MemoryStore()
        self.backlog = Backlog(orders=[])
        self.spool_fails: Exception | None = None
        self._handlers: dict[type, Callable[[Any], Awaitable[Any]]] = {}
        self._callbacks: list[Callable[[], None]] = []

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def reconnect(self) -> None:
        self.connected = True
        for callback in self._callbacks:
            callback()

    async def say(self, *messages: Any) -> None:
        if self.spool_fails and any(isinstance(one, Ended) for one in messages):
            raise self.spool_fails
        self.said += messages

    async def say_now(self, fact: Any, timeout: float) -> None:  # noqa: ASYNC109  (the bus has it)
        await self.say(fact)

    async def settled(self) -> None:
        return

    async def ask(self, question: Any, *, timeout: float = 2.0) -> Any:  # noqa: ASYNC109  (the bus has it)
        await asyncio.sleep(0)
        if not self.connected:
            raise NoAnswer("cannot tell: the broker is away")
        if isinstance(question, PutChunk):
            return await self.store.put(question)
        assert isinstance(question, GetBacklog)
        return self.backlog

    async def answer(
        self, contract: type, handler: Callable[[Any], Awaitable[Any]], *, bound_to: str | None = None
    ) -> None:
        assert bound_to == AGENT
        self._handlers[contract] = handler

    async def hear(
        self, contract: type, handler: Callable[[Any], Awaitable[None]], *, bound_to: str | None = None
    ) -> None:
        await self.answer(contract, handler, bound_to=bound_to)

    async def order(self, terms: Terms) -> Accepted:
        question = Execute(occurred_at=terms.submitted_at, agent_id=AGENT, terms=terms)
        accepted = await self._handlers[Execute](question)
        assert isinstance(accepted, Accepted)
        return accepted

    async def cancel(self, terms: Terms) -> None:
        order = Cancel(occurred_at=terms.submitted_at, agent_id=AGENT, command_id=terms.command_id)
        await self._handlers[Cancel](order)

    def ends(self, terms: Terms) -> list[Ended]:
        return [one for one in self.said if isinstance(one, Ended) and one.command_id == terms.command_id]

    def progress(self, terms: Terms) -> list[Progressed]:
        return [
            one for one in self.said if isinstance(one, Progressed) and one.command_id == terms.command_id
        ]


class Scribe:
    """Notes what it performs; a body may ask for time, output, a refusal or a failure."""

    def __init__(self) -> None:
        self.began: list[UUID] = []
        self.cleaned_up: list[UUID] = []
        self.at_once: int = 0
        self.most_at_once: int = 0
        self.gate = asyncio.Event()
        self.gate.set()

    def admit(self, terms: Terms) -> Admitted:
        if terms.verb != "note":
            raise Refused(f"cannot do {terms.verb}: no such verb", "unknown-verb")
        return Admitted(terms.body.get("lane", "one"), "a note")

    async def check(self, terms: Terms) -> None:
        if "refuse" in terms.body:
            raise Refused("cannot begin: it is not so", "precondition")

    async def perform(self, work: Work) -> Result:
        self.began.append(work.terms.command_id)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.gate.wait()
            return await self._perform(work)
        except asyncio.CancelledError:
            self.cleaned_up.append(work.terms.command_id)
            raise
        finally:
            self.at_once -= 1

    async def _perform(self, work: Work) -> Result:
        await work.write(work.body.get("print", "").encode())
        await asyncio.sleep(work.body.get("sleep", 0))
        if "raise" in work.body:
            raise RuntimeError("the password is hunter2")
        return Result(**work.body.get("result", {}))


class Life:
    """Runs of one agent, one after the other, over one state directory and one bus."""

    def __init__(self, directory: Path, clock: Clock | None = None, limits: Limits | None = None) -> None:
        self.directory = directory
        self.clock = clock or LoopClock()
        self.limits = limits
        self.bus = MemoryBus()
        self.scribe = Scribe()
        self.epochs = 0
        self.obedience: Obedience
        self._task: asyncio.Task[None]

    async def begin(self) -> None:
        """One more run of the agent."""
        self.epochs += 1
        self.obedience = Obedience(
            self.bus, AGENT, f"{EPOCH[:-4]}{self.epochs:04x}", self.directory, self.scribe, self.clock,
            self.limits,
        )  # fmt: skip
        await self.obedience.listen()
        self._task = asyncio.create_task(self.obedience.run())
        await until(lambda: self.obedience._recovered)

    async def crash(self) -> None:
        """As kill -9: nothing is written any more, nobody cleans up."""
        self.obedience._journal.close()
        tasks = [one.task for one in self.obedience._orders.values() if one.task]
        await _cancel([self._task, *tasks])
        self.obedience._outputs.close()

    async def end(self, seconds: float = 0) -> None:
        """The agent is stopped in good order."""
        await self.obedience.stop(seconds)
        await _cancel([self._task])

    async def ended(self, *commands: Terms) -> list[Ended]:
        """The first end that was said of each."""
        await until(lambda: all(self.bus.ends(one) for one in commands), 10_000)
        return [self.bus.ends(one)[0] for one in commands]


async def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
