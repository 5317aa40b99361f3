"""What the registry does because time has passed: one function per round."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from fleet_registry.counting import SWEEP_SECONDS
from fleet_registry.domain.agent import Sign
from fleet_registry.domain.holds import Holds
from fleet_registry.domain.presence import Signal
from fleet_registry.ear import Ear
from fleet_registry.fleet_view import FleetView
from fleet_registry.granting import Grants
from fleet_registry.hearing import Hearing, Newsroom
from fleet_registry.ports import Goodbyes, Index, Overdue, Store, Unavailable
from fleet_registry.roll import Roll
from muster_bus import Bus
from muster_contracts.agent.v1 import Introduce
from muster_contracts.fleet.v1 import Reason
from muster_runtime import Clock, Tasks, logger

CLAIM_AT_ONCE = 500
TICK_SECONDS = 0.25
SETTLE_SECONDS = 0.1
RECOVER_SECONDS = 0.5
TEND_SECONDS = 60.0
REMEMBER_SECONDS = 60.0
HOUR_SECONDS = 3600.0

log = logger(__name__)


@dataclass(slots=True, kw_only=True)
class Rounds:
    """Everything that is done again and again."""

    roll: Roll
    index: Index
    store: Store
    view: FleetView
    grants: Grants
    holds: Holds
    hearing: Hearing
    newsroom: Newsroom
    goodbyes: Goodbyes
    bus: Bus
    ear: Ear
    clock: Clock
    history_days: float

    def start(self, tasks: Tasks, sweep_seconds: float) -> None:
        """Begin every round."""
        tasks.spawn("decide news", self.decide_news)
        tasks.spawn("listen for the broker", self.ear.keep_listening)
        tasks.every("notice hangs", TICK_SECONDS, self.tick)
        tasks.every("sweep", sweep_seconds, self.sweep)
        tasks.every("settle broken connections", SETTLE_SECONDS, self.settle)
        tasks.every("recover the index", RECOVER_SECONDS, self.index.recover)
        tasks.every("tend the index", TEND_SECONDS, self.tend, first_after=TEND_SECONDS)
        tasks.every("count the fleet", 1.0, self.count)
        tasks.every("end partitions", 1.0, self.roll.end_partitions)
        tasks.every("settle flapping", 1.0, self.settle_flapping)
        tasks.every("remember last_seen", REMEMBER_SECONDS, self.remember, first_after=REMEMBER_SECONDS)
        tasks.every("forget old history", HOUR_SECONDS, self.forget, first_after=60.0)

    async def decide_news(self) -> None:
        """For ever: decide what is news, and ask for a hello those that are new."""
        while True:
            try:
                strangers = await self.newsroom.work()
            except Unavailable as error:
                # What was news will be news again with the next heartbeat.
                log.warning("cannot decide news", why=str(error))
                await asyncio.sleep(1.0)
                continue
            at = self.clock.now()
            await self.bus.say(*(Introduce(occurred_at=at, agent_id=one) for one in strangers))

    async def tick(self) -> None:
        """Show the index that this process is not hung."""
        self.index.tick()

    async def sweep(self) -> None:
        """Judge every agent whose silence is due; none while the registry itself hears nothing."""
        with SWEEP_SECONDS.time():
            while self.ear.hears() and (overdue := await self.index.claim(CLAIM_AT_ONCE)):
                await self.roll.take([self._silent(one) for one in overdue])
                if len(overdue) < CLAIM_AT_ONCE:
                    return

    async def settle(self) -> None:
        """Judge the connections that ended a moment ago and were not replaced."""
        due = self.holds.due(self.clock.monotonic())
        if not due or not self.ear.hears():
            return
        live = {
            name: (agent_id, epoch)
            for agent_id in due
            for name in self.roll.names_of(agent_id)
            if (epoch := self.index.live_epoch(name))
        }
        try:
            said = await self.goodbyes.last([*{agent_id for agent_id, _ in live.values()}])
        except ConnectionError as error:
            log.warning("cannot settle broken connections yet", why=str(error))
            return
        if not self.ear.hears():
            return  # the answer took too long; that the agents are back may wait behind it
        signs = []
        for name, (agent_id, epoch) in live.items():
            goodbye = said.get(agent_id)
            if goodbye and goodbye.epoch == epoch:
                signs.append(self.hearing.farewell(agent_id, goodbye))
            else:
                signs.append(self._broken(name, epoch, due[agent_id]))
        await self.roll.take(signs)
        # Whoever is not live has left already, or is for another registry to judge.
        for agent_id in due:
            self.holds.judged(agent_id)

    async def tend(self) -> None:
        """Compare the index with SQL, which is the truth."""
        if mended := await self.index.tend():
            log.warning("the presence index differed from the truth", agents=mended)

    async def count(self) -> None:
        """Keep the numbers fresh and grant what a fleet of this size can have."""
        await self.view.refresh()
        self.grants.review(self.view.live)

    async def settle_flapping(self) -> None:
        """Say which agents have stopped coming and going."""
        if self.view.counts.flapping and (flapping := await self.store.flapping()):
            await self.roll.settle_flapping(flapping)

    async def remember(self) -> None:
        """Write when agents last spoke."""
        await self.store.remember_seen(self.index.take_touched())

    async def forget(self) -> None:
        """Delete what is older than history is kept."""
        before = self.clock.now() - timedelta(days=self.history_days)
        while await self.store.forget_before(before):
            pass

    def _silent(self, one: Overdue) -> Sign:
        signal, reason = (Signal.SILENCE, Reason.SILENCE) if one.dead else (Signal.OVERDUE, Reason.OVERDUE)
        return Sign(one.agent_id, signal, self.clock.now(), reason, one.epoch, ended_at=one.last_seen)

    def _broken(self, agent_id: str, epoch: str, at: datetime) -> Sign:
        now = self.clock.now()
        return Sign(agent_id, Signal.DISCONNECT, now, Reason.DISCONNECTED, epoch, ended_at=min(at, now))


def learn_aliases(roll: Roll, aliases: Iterable[tuple[str, str, str | None]]) -> None:
    """Take over the names of cloned machines that were given before this process began."""
    for known_as, speaks_as, epoch in aliases:
        if epoch:
            roll.aliases[speaks_as, epoch[:12]] = known_as
