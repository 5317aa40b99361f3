"""What agents say, turned into signs: whose run it is, what broke before it, what is to be answered."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from fleet_registry.counting import NEWS_DROPPED
from fleet_registry.domain.agent import Sign
from fleet_registry.domain.holds import Holds
from fleet_registry.domain.pace import SECONDS_PER_RUN, Pace
from fleet_registry.domain.presence import Signal
from fleet_registry.granting import Grants
from fleet_registry.ports import Addresses, Beat, Goodbye, Goodbyes, Index, News, Unavailable
from fleet_registry.roll import AT_ONCE, Decided, Roll
from muster_bus import Retry
from muster_contracts.agent.v1 import Heartbeat, Hello, LeaveReason, Left, Welcome
from muster_contracts.fleet.v1 import Reason
from muster_contracts.ids import boot_of, start_of
from muster_runtime import Clock, logger

REASONS = {
    LeaveReason.SHUTDOWN: Reason.SHUTDOWN,
    LeaveReason.RESTART: Reason.RESTART,
    LeaveReason.UPGRADE: Reason.UPGRADE,
}

log = logger(__name__)


AGENTS_WAITING = 200_000
"""Agents whose news may wait at once; twice the largest fleet."""
RUNS_WAITING = 2

Told = tuple[News, Heartbeat]
"""News and the heartbeat that brought it."""


@dataclass(frozen=True, slots=True)
class Noted:
    """A batch of heartbeats after the index has taken it."""

    runs: int
    """Different runs that spoke."""
    news: list[Told]
    """What needs a decision."""
    to_adopt: list[str]
    """The agents to be told of the granted interval."""


@dataclass(slots=True, kw_only=True)
class Hearing:
    """Takes what agents say to the roll."""

    roll: Roll
    index: Index
    grants: Grants
    holds: Holds
    goodbyes: Goodbyes
    addresses: Addresses
    clock: Clock
    pace: Pace = field(default_factory=Pace)

    async def heartbeats(self, beats: Sequence[Heartbeat]) -> list[str]:
        """Note a batch of heartbeats and decide what is news; returns whom to ask for a hello."""
        noted = await self.note(beats)
        return await self.decide(noted.news)

    async def note(self, beats: Sequence[Heartbeat]) -> Noted:
        """Note a batch of heartbeats; quick, however many of them are news."""
        newest = {(beat.agent_id, beat.epoch): beat for beat in beats}
        judged_by, name_of = self.grants.judged_by, self.roll.name_of
        noted = [
            Beat(name_of(beat.agent_id, beat.epoch), beat.epoch, judged_by(beat.interval_seconds))
            for beat in newest.values()
        ]
        news = await self.index.beat(noted)
        if self.holds:
            # News is of another run, or not known to be of the same one: the sign itself settles it.
            self.holds.spoke({one.agent_id for one in noted} - {one.beat.agent_id for one in news})
        stated = ((beat.agent_id, beat.interval_seconds) for beat in newest.values())
        to_adopt = self.grants.to_tell(stated, self.clock.monotonic())
        said = {(name_of(*key), key[1]): beat for key, beat in newest.items()} if news else {}
        with_beats = [(one, said[one.beat.agent_id, one.beat.epoch]) for one in news]
        return Noted(len(newest), with_beats, to_adopt)

    async def decide(self, news: Sequence[Told]) -> list[str]:
        """Decide and record what is news; returns whom to ask for a hello."""
        signs = [replace(self._sign(one, beat.agent_id), kind=beat.kind) for one, beat in news]
        return _to_introduce(await self._take(signs)) if signs else []

    async def hello(self, hello: Hello) -> Welcome:
        """Note that an agent introduced itself, and grant it an interval.

        Raises:
            Retry: the agent begins too many runs.
        """
        if not self.pace.allows(hello.agent_id, hello.epoch, self.clock.monotonic()):
            text = (
                f"cannot welcome {hello.agent_id}: it begins too many runs; does it restart again and again?"
            )
            raise Retry(text, after=SECONDS_PER_RUN)
        name = self.roll.name_of(hello.agent_id, hello.epoch)
        beat = Beat(name, hello.epoch, self.grants.judged_by(hello.interval_seconds))
        news = next(iter(await self.index.beat([beat])), News(beat))
        sign = replace(
            self._sign(news, hello.agent_id),
            reason=Reason.HELLO,
            kind=hello.kind,
            agent_version=hello.agent_version,
            labels=hello.labels,
        )
        await self._take([sign])
        return Welcome(
            agent_id=self.roll.name_of(hello.agent_id, hello.epoch),
            interval_seconds=self.grants.interval_seconds,
            deadline_seconds=self.grants.deadline_seconds,
        )

    async def left(self, left: Left) -> None:
        """Note a goodbye."""
        # The goodbye of an earlier run says nothing of the connection that the present one has lost.
        if self.index.live_epoch(left.agent_id) in {None, left.epoch}:
            self.holds.judged(left.agent_id)
        goodbye = Goodbye(left.epoch, left.reason, left.occurred_at)
        await self.roll.take([self.farewell(left.agent_id, goodbye)])

    def farewell(self, agent_id: str, goodbye: Goodbye) -> Sign:
        """A goodbye as a sign; its time is the agent's own, as far as that can be."""
        at = min(goodbye.occurred_at, self.clock.now())
        return Sign(agent_id, Signal.GOODBYE, at, REASONS[LeaveReason(goodbye.reason)], goodbye.epoch)

    async def _take(self, signs: Sequence[Sign]) -> Decided:
        replaced = self._replaced(signs)
        decided = await self.roll.take([*await self._farewells(replaced), *signs])
        # A hold is over once the next run has begun, or the same one has spoken through a new connection.
        for agent_id in replaced:
            self.holds.judged(agent_id)
        self.holds.spoke(sign.agent_id for sign in signs)
        return decided

    def _sign(self, news: News, said_by: str) -> Sign:
        return Sign(
            said_by,
            Signal.BEAT,
            self.clock.now(),
            Reason.HEARTBEAT,
            news.beat.epoch,
            address=self.addresses.address(said_by),
            interval_seconds=news.beat.interval_seconds,
            disconnected_at=self.holds.dropped_at(said_by),
            contest_since=news.contest_since,
            known_spoke=news.known_spoke,
        )

    def _replaced(self, signs: Iterable[Sign]) -> dict[str, str]:
        """The agents of which another run speaks than the one known to live, with the latter's epoch."""
        known = {sign.agent_id: self.index.live_epoch(sign.agent_id) for sign in signs}
        return {
            sign.agent_id: epoch for sign in signs if (epoch := known[sign.agent_id]) and epoch != sign.epoch
        }

    async def _farewells(self, replaced: dict[str, str]) -> list[Sign]:
        """The goodbyes of runs that others are about to replace; they may be still on their way here."""
        if not replaced:
            return []
        try:
            found = await self.goodbyes.last(list(replaced))
        except ConnectionError as error:
            # The goodbye will be delivered, and then correct the session it belongs to.
            log.warning("cannot look for goodbyes", why=str(error))
            return []
        return [self.farewell(one, said) for one, said in found.items() if said.epoch == replaced[one]]


class Newsroom:
    """News that waits for its decision, so that a flood of newcomers does not keep the known ones waiting.

    However often and under however many runs one agent speaks, it takes two places: one for the machine that
    came first, one for whichever other machine spoke last. Newer runs take the place of older ones.
    """

    def __init__(self, hearing: Hearing) -> None:
        self._hearing = hearing
        self._waiting: dict[str, dict[str, Told]] = {}
        self._some = asyncio.Event()

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def put(self, news: Iterable[Told]) -> None:
        """Take news in, as far as there is room; what is dropped is news again with the next heartbeat."""
        for told in news:
            agent_id, epoch = told[1].agent_id, told[1].epoch
            if agent_id not in self._waiting and len(self._waiting) >= AGENTS_WAITING:
                NEWS_DROPPED.add("full")
                continue
            runs = self._waiting.setdefault(agent_id, {})
            boot = boot_of(epoch)
            if boot not in runs and len(runs) >= RUNS_WAITING:
                runs.popitem()
                NEWS_DROPPED.add("superseded")
            if boot not in runs or start_of(epoch) >= start_of(runs[boot][1].epoch):
                runs[boot] = told
        if self._waiting:
            self._some.set()

    async def work(self) -> list[str]:
        """Wait for news and decide some of it; returns whom to ask for a hello.

        Raises:
            Unavailable: the database cannot be used; the news taken out is dropped.
        """
        await self._some.wait()
        news = self._next()
        if not self._waiting:
            self._some.clear()
        try:
            return await self._hearing.decide(news)
        except Unavailable:
            raise
        except Exception as error:  # noqa: BLE001  (one of them spoilt it for all)
            log.warning("cannot decide news together, so one by one", why=repr(error))
            return [stranger for one in news for stranger in await self._decide_alone(one)]

    def _next(self) -> list[Told]:
        """Some of what waits, without the runs of agents that begin too many."""
        now, found = self._hearing.clock.monotonic(), list[Told]()
        while self._waiting and len(found) < AT_ONCE:
            agent_id = next(iter(self._waiting))
            for told in self._waiting.pop(agent_id).values():
                if self._hearing.pace.allows(agent_id, told[1].epoch, now):
                    found.append(told)
                else:
                    NEWS_DROPPED.add("too many runs")
        return found

    async def _decide_alone(self, told: Told) -> list[str]:
        try:
            return await self._hearing.decide([told])
        except Unavailable:
            raise
        except Exception:
            NEWS_DROPPED.add("failed")
            log.exception("cannot decide what one agent says", agent_id=told[1].agent_id)
            return []


def _to_introduce(decided: Decided) -> list[str]:
    """The agents whose run the registry did not know; they are asked under the id they listen to."""
    found = (decision.agent for _, decision in decided if decision.introduce)
    return list(dict.fromkeys(agent.speaks_as or agent.id for agent in found))
