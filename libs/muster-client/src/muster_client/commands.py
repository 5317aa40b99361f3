"""One command that was given to many agents, and its life until every target has ended.

The ledger (state-store) knows how far each target is; facts only say sooner what it would say when asked.
So a life begins to listen, then reads the ledger, and reads it again now and then: whoever looks late, or
was cut off, misses no end.
"""

import asyncio
import getpass
import os
import socket
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from math import inf
from uuid import UUID, uuid4

from muster_bus.errors import AskFailed, NoAnswer
from muster_client.asking import Asking, now
from muster_client.chunks import Reader, read_on, read_patiently
from muster_client.errors import Incomplete, NotFound
from muster_client.watching import Watch
from muster_contracts.chunk.v1 import ChunkStored
from muster_contracts.command.v1 import (
    ENDS,
    CancelCommand,
    CommandDetail,
    CommandState,
    FindTargets,
    GetCommand,
    Progressed,
    Settled,
    Target,
    TargetPage,
)
from muster_contracts.message import Message

LOOK_AGAIN_SECONDS = 5.0
"""The ledger is read this often, whatever was heard."""
OUTPUT_PATIENCE_SECONDS = 15.0
"""So long may output be on its way after the command has ended."""
TARGETS_OF_A_PAGE = 200


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a target is; each target that has not ended is told once at the beginning."""

    agent: str
    state: CommandState
    percent: float | None = None
    text: str | None = None
    output_bytes: int = 0


@dataclass(frozen=True, slots=True)
class OutputGrew:
    """There is more output of a target to read, or all there will be."""

    agent: str
    size: int
    complete: bool


@dataclass(frozen=True, slots=True)
class TargetEnded:
    """A target has ended; told exactly once for each."""

    target: Target


Event = Progress | OutputGrew | TargetEnded


class Command:
    """One command that was submitted. ``repeated``: it was there before, under the same idempotency key."""

    def __init__(self, fleet: Asking, command_id: UUID, targets: int, *, repeated: bool = False) -> None:
        self._fleet = fleet
        self.id = command_id
        self.targets = targets
        """How many agents it is meant for."""
        self.repeated = repeated

    async def detail(self) -> CommandDetail:
        """What it is, and how many of its targets are in which state."""
        return await self._fleet.ask(GetCommand(occurred_at=now(), command_id=self.id))

    async def wait(self) -> list[Target]:
        """Wait until every target has ended; the targets by agent."""
        ended = [event.target async for event in self.life() if isinstance(event, TargetEnded)]
        return sorted(ended, key=lambda target: target.agent)

    async def life(self) -> AsyncIterator[Event]:
        """What happens to it until every target has ended, from how far they are now on."""
        async with self._fleet.watch(Settled, Progressed, ChunkStored) as facts:
            life, look_at = _Life(self.id), 0.0
            while len(life.ended) < self.targets:
                if fact := await _next(facts, look_at - _clock()) if life.began else None:
                    events = life.heard(fact)
                else:
                    events, look_at = await self._look(life), _clock() + LOOK_AGAIN_SECONDS
                for event in events:
                    yield event

    async def cancel(self, agent: str | None = None, *, issuer: str | None = None) -> CommandDetail:
        """Stop it where it runs and do not begin it where it does not: on one agent, or everywhere."""
        wanted = CancelCommand(
            occurred_at=now(), command_id=self.id, agent_id=agent, issuer=issuer or whoami()
        )
        return await self._fleet.ask(wanted)

    async def target(self, agent: str) -> Target:
        """How far it is on one agent.

        Raises:
            NotFound: it was not meant for this agent.
        """
        async for target in targets_of(self._fleet, _wanted(self.id, agent)):
            return target
        raise NotFound(f"cannot find the command {self.id} on {agent}: it was not meant for that agent")

    async def output(self, agent: str, *, offset: int = 0, follow: bool = True) -> AsyncIterator[bytes]:
        """What it printed on one agent: with ``follow`` until the last byte, else as far as it is now.

        Raises:
            NotFound: it was not meant for this agent.
            Damaged: what is kept is not what its digests say.
            Incomplete: it has ended, and the rest of its output does not come.
        """
        reader = Reader(agent, f"output/{self.id}", offset)
        if not follow:
            await self.target(agent)
        async for data in self._followed(reader) if follow else read_on(self._fleet, reader):
            yield data

    async def _followed(self, reader: Reader) -> AsyncIterator[bytes]:
        async with self._fleet.watch(ChunkStored, Settled, agent=reader.agent_id) as facts:
            target, give_up = await self.target(reader.agent_id), inf
            while True:
                async for data in read_patiently(self._fleet, reader):
                    give_up = inf
                    yield data
                if reader.complete or (target.ended_at and reader.offset >= target.output_bytes):
                    return
                if _clock() >= give_up:
                    raise _cut_short(target, reader.offset)
                if target.ended_at:
                    give_up = min(give_up, _clock() + OUTPUT_PATIENCE_SECONDS)
                target = await self._stirred(facts, target)

    async def _stirred(self, facts: Watch[Message], target: Target) -> Target:
        """Wait for news of this command on one agent, or for a while; how far it is then."""
        look_at = _clock() + LOOK_AGAIN_SECONDS
        while fact := await _next(facts, look_at - _clock()):
            if isinstance(fact, Settled) and fact.target.id == self.id:
                return fact.target
            if isinstance(fact, ChunkStored) and fact.stream == f"output/{self.id}":
                return target
        try:
            return await self.target(target.agent)
        except NoAnswer:
            return target

    async def _look(self, life: "_Life") -> list[Event]:
        """What the ledger knows beyond what was heard; nothing if it cannot answer just now.

        At first that is how far each target is, later only what has ended unheard.
        """
        try:
            if life.began and not await self._is_ahead(life):
                return []
            targets = [target async for target in self._targets(ENDS if life.began else ())]
        except (NoAnswer, AskFailed) as error:
            if isinstance(error, AskFailed) and error.code != "unavailable":
                raise
            return []
        return life.learned(targets)

    async def _is_ahead(self, life: "_Life") -> bool:
        counts = (await self.detail()).by_state
        return sum(counts.get(end, 0) for end in ENDS) > len(life.ended)

    def _targets(self, states: Collection[CommandState] = ()) -> AsyncIterator[Target]:
        return targets_of(self._fleet, _wanted(self.id, states=states))


class _Life:
    """What is known of one command's targets: pure, from facts and ledger rows to the events they mean."""

    def __init__(self, command_id: UUID) -> None:
        self.command_id = command_id
        self.ended: set[str] = set()
        self.began = False
        """Whether the ledger has told how far each target is."""

    def learned(self, targets: Collection[Target]) -> list[Event]:
        """Rows of the ledger, which may be older than what was heard."""
        self.began = True
        return [event for target in targets for event in self._of(target)]

    def heard(self, fact: Message) -> list[Event]:
        """One fact; of another command it means nothing, as does progress behind the end."""
        if isinstance(fact, Settled):
            return self._of(fact.target) if fact.target.id == self.command_id else []
        if isinstance(fact, ChunkStored) and fact.stream == f"output/{self.command_id}":
            return self._while_open(OutputGrew(fact.agent_id, fact.size, fact.complete))
        if isinstance(fact, Progressed) and fact.command_id == self.command_id:
            told = Progress(fact.agent_id, fact.state, fact.percent, fact.text, fact.output_bytes)
            return self._while_open(told)
        return []

    def _while_open(self, event: Progress | OutputGrew) -> list[Event]:
        return [] if event.agent in self.ended else [event]

    def _of(self, target: Target) -> list[Event]:
        if target.agent in self.ended:
            return []
        if target.state not in ENDS:
            return [Progress(target.agent, target.state, output_bytes=target.output_bytes)]
        self.ended.add(target.agent)
        return [TargetEnded(target)]


async def targets_of(fleet: Asking, wanted: FindTargets) -> AsyncIterator[Target]:
    """Every page of an answer."""
    while True:
        page: TargetPage = await fleet.ask(wanted)
        for target in page.targets:
            yield target
        if page.next is None:
            return
        wanted = wanted.model_copy(update={"message_id": uuid4(), "before": page.next})


def whoami() -> str:
    """``user@host``: who orders, where nothing else is said."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a user without a name, as in some containers
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"[:200]


def _wanted(command_id: UUID, agent: str | None = None, states: Collection[CommandState] = ()) -> FindTargets:
    """The question for targets of one command."""
    return FindTargets(
        occurred_at=now(),
        command_id=command_id,
        agent_id=agent,
        states=sorted(states),
        limit=TARGETS_OF_A_PAGE,
    )


def _cut_short(target: Target, arrived: int) -> Incomplete:
    return Incomplete(
        f"cannot read all that {target.agent} printed for {target.id}: {arrived} of {target.output_bytes} "
        f"bytes are there; the rest comes when the agent does: muster command output {target.id}"
    )


async def _next(facts: Watch[Message], seconds: float) -> Message | None:
    """The next fact; None when there was none for ``seconds``."""
    try:
        async with asyncio.timeout(max(seconds, 0)):
            return await anext(facts)
    except TimeoutError:
        return None


def _clock() -> float:
    return asyncio.get_running_loop().time()
