"""The roll: signs in, decisions recorded, said and indexed. Every change of the fleet passes here.

Callers that come while a transaction runs share the next one, so that a storm of hellos costs a commit
per few hundred agents instead of one each; and within one registry everything is decided in one order.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from fleet_registry.domain.agent import Agent, Decision, Sign
from fleet_registry.domain.clones import names_for
from fleet_registry.domain.decide import Rules, fact_id, presence_changed
from fleet_registry.domain.flapping import FlappingPolicy, settled
from fleet_registry.domain.partition import Partition, PartitionPolicy, ended
from fleet_registry.domain.presence import Signal
from fleet_registry.domain.rollcall import (
    Rollcall,
    call,
    census_after,
    recent_since,
    reunite,
    suspicions,
    vanishing_sites,
)
from fleet_registry.ports import Entry, Index, Page, Ruling, Store
from muster_contracts.fleet.v1 import AgentStable, PartitionSuspected, Presence, Reason
from muster_contracts.ids import boot_of
from muster_runtime import Clock

AT_ONCE = 500
"""Signs in one transaction; a larger batch of one caller is split."""

Decided = list[tuple[Sign, Decision]]


@dataclass(frozen=True, slots=True)
class Policies:
    """What the fleet is judged by."""

    flapping: FlappingPolicy = field(default_factory=FlappingPolicy)
    partition: PartitionPolicy = field(default_factory=PartitionPolicy)


class Roll:
    """Takes signs and answers with what was decided, once it is recorded."""

    def __init__(self, store: Store, index: Index, clock: Clock, policies: Policies) -> None:
        self.on_commit: Callable[[], None] = lambda: None
        """Something was recorded, and perhaps there is something to say."""
        self.notes: Counter[str] = Counter()
        """How many signs were ignored, by why."""
        self.aliases: dict[tuple[str, str], str] = {}
        """The name a cloned machine is known by, from the id it speaks under and its boot."""
        self.is_given: Callable[[str], bool] = lambda _: False
        """Whether an agent was given this id, also if it was never seen."""
        self.commits = 0
        """Grows with every transaction; whoever keeps counts of the fleet looks at it."""
        self.realm = ""
        """The name of the store's database; set before the first sign is taken."""
        self._store, self._index, self._clock, self._policies = store, index, clock, policies
        self._waiting: deque[_Job] = deque()
        self._turn = asyncio.Lock()

    def name_of(self, agent_id: str, epoch: str) -> str:
        """The name the fleet knows the sayer by."""
        return self.aliases.get((agent_id, boot_of(epoch)), agent_id) if self.aliases else agent_id

    def names_of(self, agent_id: str) -> list[str]:
        """Every name that machines speaking under ``agent_id`` are known by."""
        return [agent_id, *(name for (spoken, _), name in self.aliases.items() if spoken == agent_id)]

    async def take(self, signs: Sequence[Sign]) -> Decided:
        """Decide, record and say what follows from the signs.

        Raises:
            Exception: the store cannot be used, or a sign cannot happen; nothing of it was recorded.
        """
        decided: Decided = []
        for start in range(0, len(signs), AT_ONCE):
            job = _Job(list(signs[start : start + AT_ONCE]))
            self._waiting.append(job)
            async with self._turn:
                while not job.outcome.done():
                    await self._settle(self._next())
            decided += job.outcome.result()
        return decided

    async def update(self, agent_id: str, change: Callable[[Agent], Agent]) -> Agent | None:
        """Change an agent without a change of presence; nothing if it is unknown."""

        async def job(page: Page) -> Agent | None:
            agent = (await page.agents([agent_id])).get(agent_id)
            if agent is None:
                return None
            now = change(agent)
            if now != agent:
                now = replace(now, version=agent.version + 1)
                await page.record(Ruling(agents=(now,)))
            return now

        async with self._turn:
            agent = await self._store.work(job)
            if agent:
                await self._index.put([_entry(agent, {})])
        self._committed()
        return agent

    async def end_partitions(self) -> None:
        """Look at every suspected site; where it is over, say so, and who is still lost."""

        async def job(page: Page) -> int:
            over = [one for one in await page.partitions() if await self._is_over(page, one)]
            for partition in over:
                await self._reunite(page, partition)
            return len(over)

        async with self._turn:
            if await self._store.work(job):
                self._committed()

    async def settle_flapping(self, agent_ids: Sequence[str]) -> None:
        """Say which of the flapping agents have kept their presence for a whole window."""
        policy = self._policies.flapping

        async def job(page: Page) -> int:
            agents = (await page.agents(agent_ids)).values()
            now = self._clock.now()
            quiet = [one for one in agents if one.flapping and settled(one.moves, now, policy)]
            calm = [replace(one, flapping=False, moves=(), version=one.version + 1) for one in quiet]
            await page.record(Ruling(agents=tuple(calm), facts=tuple(self._stable(one, now) for one in calm)))
            return len(calm)

        async with self._turn:
            if await self._store.work(job):
                self._committed()

    # Inside: one transaction for many callers --------------------------------------------------------

    def _next(self) -> list["_Job"]:
        jobs, size = [self._waiting.popleft()], 0
        size += len(jobs[0].signs)
        while self._waiting and size + len(self._waiting[0].signs) <= AT_ONCE:
            jobs.append(self._waiting.popleft())
            size += len(jobs[-1].signs)
        return jobs

    async def _settle(self, jobs: list["_Job"]) -> None:
        try:
            decided = await self._transact([sign for job in jobs for sign in job.signs])
        except Exception as error:  # noqa: BLE001  (each caller gets its own error)
            if len(jobs) == 1:
                jobs[0].fail(error)
                return
            # One sign may have spoilt it for all: each on its own then.
            for job in jobs:
                await self._settle([job])
        except BaseException:
            self._waiting.extendleft(reversed([job for job in jobs if not job.outcome.done()]))
            raise
        else:
            for job in jobs:
                job.succeed(decided)

    async def _transact(self, signs: list[Sign]) -> Decided:
        rollcall = await self._store.work(lambda page: self._rule(page, signs))
        decided = rollcall.decisions
        self._committed()
        self._note(decided)
        spoke = await self._index.put(_entries(rollcall), _judged(decided))
        if spoke:
            # They spoke between their verdict and its record: what they said comes after it.
            again = [_beat_of(rollcall.agents[one], self._clock.now()) for one in spoke]
            decided = decided + await self._transact(again)
        return decided

    async def _rule(self, page: Page, signs: list[Sign]) -> Rollcall:
        agents = await page.agents(sign.agent_id for sign in signs)
        taken = await self._taken(page, signs)
        cut = frozenset(partition.site for partition in await page.partitions())
        rules = Rules(self._policies.flapping, cut, self.realm)
        rollcall = call(agents, signs, rules, taken)
        begun = await self._suspect(page, agents, rollcall)
        if begun:
            rules = replace(rules, cut_sites=cut | {partition.site for partition, _ in begun})
            rollcall = call(agents, signs, rules, taken)
        await page.record(_ruling(rollcall, begun))
        return rollcall

    async def _taken(self, page: Page, signs: list[Sign]) -> frozenset[str]:
        """Of the names clones may need, those that are agents', or will be once these connect."""
        contested = [sign for sign in signs if sign.contest_since and sign.epoch]
        names = {name for one in contested for name in names_for(one.agent_id, one.epoch or "")}
        if not names:
            return frozenset()
        return await page.taken(names) | {name for name in names if self.is_given(name)}

    async def _suspect(
        self, page: Page, before: Mapping[str, Agent], rollcall: Rollcall
    ) -> list[tuple[Partition, PartitionSuspected]]:
        now, policy = self._clock.now(), self._policies.partition
        recent = recent_since(now, policy)
        censuses = {
            site: census_after(await page.census(site, recent), site, before, rollcall.agents, recent)
            for site in vanishing_sites(rollcall)
        }
        return suspicions(censuses, now, policy)

    async def _is_over(self, page: Page, partition: Partition) -> bool:
        # Whoever was lost since it began counts as missing for as long as it lasts.
        policy = self._policies.partition
        recent = min(partition.since, recent_since(partition.since, policy))
        return ended(partition, await page.census(partition.site, recent), self._clock.now(), policy)

    async def _reunite(self, page: Page, partition: Partition) -> None:
        members = await page.cut_off(partition.site)
        freed, fact, lost = reunite(partition, members, self._clock.now())
        losses = [presence_changed(Presence.ONLINE, agent, self.realm) for agent in lost]
        await page.record(Ruling(agents=tuple(freed), facts=(fact, *losses), ended=(partition.site,)))

    def _stable(self, agent: Agent, now: datetime) -> AgentStable:
        id_ = fact_id(agent, "stable", now, self.realm)
        return AgentStable(message_id=id_, occurred_at=now, agent_id=agent.id, presence=agent.presence)

    def _note(self, decided: Decided) -> None:
        for sign, decision in decided:
            if decision.note:
                self.notes[decision.note] += 1
            agent = decision.agent
            if agent.speaks_as and agent.epoch and sign.signal is Signal.BEAT:
                self._remember_alias((agent.speaks_as, boot_of(agent.epoch)), agent.id)

    def _remember_alias(self, machine: tuple[str, str], name: str) -> None:
        """A name is one machine's: whoever had it before is not known by it any more."""
        if self.aliases.get(machine) != name:
            for former in [one for one, known_as in self.aliases.items() if known_as == name]:
                del self.aliases[former]
            self.aliases[machine] = name

    def _committed(self) -> None:
        self.commits += 1
        self.on_commit()


class _Job:
    """The signs of one caller and what becomes of them."""

    def __init__(self, signs: list[Sign]) -> None:
        self.signs = signs
        self.outcome: asyncio.Future[Decided] = asyncio.get_running_loop().create_future()

    def succeed(self, decided: Decided) -> None:
        if not self.outcome.done():
            mine = {sign.agent_id for sign in self.signs}
            self.outcome.set_result([one for one in decided if _concerns(one, mine)])

    def fail(self, error: Exception) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(error)


def _concerns(one: tuple[Sign, Decision], agent_ids: set[str]) -> bool:
    agent = one[1].agent
    return agent.id in agent_ids or agent.speaks_as in agent_ids


def _ruling(rollcall: Rollcall, begun: list[tuple[Partition, PartitionSuspected]]) -> Ruling:
    decisions = [decision for _, decision in rollcall.decisions]
    touched = {one.agent.id: one.agent for one in decisions if one.agent.version > 0}
    return Ruling(
        agents=tuple(touched.values()),
        changes=tuple(change for one in decisions for change in one.changes),
        sessions=tuple(edit for one in decisions for edit in one.sessions),
        facts=(*(fact for _, fact in begun), *(fact for one in decisions for fact in one.facts)),
        begun=tuple(partition for partition, _ in begun),
    )


def _entries(rollcall: Rollcall) -> list[Entry]:
    """What the index is to hold: each agent as it is now, and when it spoke."""
    spoke: dict[str, Sign] = {}
    touched: dict[str, Agent] = {}
    for sign, decision in rollcall.decisions:
        touched[decision.agent.id] = decision.agent
        if sign.signal is Signal.BEAT and decision.note is None:
            spoke[decision.agent.id] = sign
    return [_entry(agent, spoke) for agent in touched.values() if agent.version > 0]


def _entry(agent: Agent, spoke: Mapping[str, Sign]) -> Entry:
    beat = spoke.get(agent.id)
    stated = beat.interval_seconds if beat else None
    interval = stated or agent.interval_seconds or 5.0
    seen = beat.at if beat else agent.last_seen
    return Entry(agent.id, agent.epoch, agent.presence, interval, agent.version, seen, stated is not None)


def _judged(decided: Decided) -> dict[str, datetime | None]:
    """The agents judged by their silence, and when their judge had last heard them."""
    return {
        decision.agent.id: sign.ended_at
        for sign, decision in decided
        if sign.signal in {Signal.OVERDUE, Signal.SILENCE} and decision.changes
    }


def _beat_of(agent: Agent, at: datetime) -> Sign:
    return Sign(agent.id, Signal.BEAT, at, Reason.HEARTBEAT, agent.epoch)
