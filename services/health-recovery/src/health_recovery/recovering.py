"""The leader's work on ill packages: it decides by the ladder, writes down, and has it ordered.

What is decided is on disk before it is ordered, under the id it is ordered by: a leader that dies in between
leaves it to the next one, which orders the very same thing, and the ledger takes that once.
"""

import asyncio
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID, uuid4, uuid5

from health_recovery.domain.acts import Ordered, act_of, did_something, order_of
from health_recovery.domain.assessment import Assessment
from health_recovery.domain.budget import Budget, Pool, pools_of
from health_recovery.domain.keys import Key
from health_recovery.domain.ladder import (
    Act,
    Case,
    Close,
    Draw,
    GiveUp,
    Holds,
    Wait,
    anew,
    decide,
    ended,
    retried,
    step_of,
)
from health_recovery.domain.pauses import lasting, paused_by
from health_recovery.ordering import End, Ordering
from health_recovery.ports import Judged, Unavailable
from health_recovery.recovery_ports import Changes, Ledger, Population, RecoveryStore
from health_recovery.recovery_settings import RecoverySettings
from muster_contracts.command.v1 import ENDS, CommandState, Settled, Submit
from muster_contracts.health.v1 import (
    HEALTH,
    LONGEST_TEXT,
    Health,
    Hold,
    Pause,
    RecoveryAct,
    RecoveryCase,
    RecoveryDecided,
    RecoveryEnded,
    RecoveryStatus,
    Step,
)
from muster_contracts.message import DurableFact
from muster_contracts.package.v1 import RecoveryPolicy
from muster_runtime import Clock, Count, Tasks, failpoints, logger

ACTS = Count("muster_health_recovery_acts_total", "What recovery decided, by rung.", ("step",))
ENDED = Count("muster_health_recovery_ended_total", "Acts by how their command ended.", ("state",))

TICK_SECONDS = 1.0
LEAST_SECONDS = 0.1
"""Between looks: what comes in a crowd is looked at together."""
HEARD_LATE = timedelta(seconds=15)
DOUBTED = timedelta(seconds=75)
"""What is heard of so late comes from a stream that was not read for a while: what followed is behind it, and
may be tried again only a minute later (``LONGEST_WAIT_SECONDS`` of the bus)."""
CATCH_UP = timedelta(seconds=2)
"""A new leader, and one whose database was away, first hears what waited: all may be well by now."""
MOST_SHOWN = 200
MOST_TRIED = 20
FORGOTTEN_AT_ONCE = 1000
FORGETTING_SECONDS = 600.0

log = logger(__name__)


@dataclass(slots=True)
class Plan:
    """What one look led to; nothing of it is held before it is on disk."""

    cases: dict[Key, Case | None] = field(default_factory=dict)
    acts: list[RecoveryAct] = field(default_factory=list)
    orders: dict[UUID, Submit] = field(default_factory=dict)
    facts: list[DurableFact] = field(default_factory=list)
    waits: dict[Key, Wait] = field(default_factory=dict)
    closed: list[Key] = field(default_factory=list)
    """Cases that were open, of packages that were acted upon."""

    @property
    def changes(self) -> Changes:
        """What is to be written."""
        return Changes(self.cases, self.acts, self.orders, (), self.facts)


@dataclass(slots=True)
class Place:
    """What an act takes of the budget; given back once its effect can be seen."""

    pools: tuple[Pool, ...]
    agent: str
    until: datetime | None = None
    """Null while its command has not ended."""


class Recovering:
    """Everything that a leader holds of recovery. ``load`` it, then ``start`` it."""

    def __init__(
        self,
        *,
        judged: Judged,
        store: RecoveryStore,
        ledger: Ledger,
        population: Population,
        clock: Clock,
        settings: RecoverySettings,
        draw: Draw = random.uniform,
    ) -> None:
        self._judged, self._store, self._clock, self._settings = judged, store, clock, settings
        self._population, self._draw = population, draw
        self._ordering = Ordering(
            ledger=ledger, store=store, clock=clock, terms=settings.terms, ended=self._over
        )
        self._cases: dict[Key, Case] = {}
        self._pauses: dict[UUID, Pause] = {}
        self._waits: dict[Key, Wait] = {}
        self._budget = self._empty_budget()
        self._places: dict[UUID, Place] = {}
        self._met: dict[Key, datetime] = {}
        """When this leader first saw each that is critical and has no case."""
        self._turn = asyncio.Lock()
        self._woken = asyncio.Event()
        self._stale = True
        self._kept_at: datetime | None = None
        """When the database was last seen to be there."""
        self._caught_up_at: datetime | None = None

    # What others call.

    async def load(self) -> None:
        """Take over where the leader before stopped; may raise ``Unavailable``."""
        async with self._turn:
            await self._load()

    def start(self, tasks: Tasks) -> None:
        """Work until the tasks are closed."""
        tasks.spawn("recovery", self.run)
        tasks.spawn("recovery orders", self._ordering.run)
        tasks.every("forget recoveries", FORGETTING_SECONDS, self.forget, first_after=FORGETTING_SECONDS)

    def assessed(self, keys: Iterable[Key], at: datetime) -> None:  # noqa: ARG002  (as ``ports.OnAssessed``)
        """Some are judged otherwise now, or are gone."""
        self._woken.set()

    async def settled(self, word: Settled) -> None:
        """A command has ended; it may be one of ours. May raise ``Fenced`` and ``Unavailable``."""
        target = word.target
        if target.issuer == HEALTH and target.state in ENDS:
            await self._over(target.id, End(target.state, target.reason or "", target.text or ""))

    async def retry(self, key: Key, by: str) -> bool:
        """Begin anew where recovery gave up; whether it had. May raise ``Fenced`` and ``Unavailable``."""
        async with self._turn:
            await self._refresh()
            case = self._cases.get(key)
            if case is None or case.gave_up_at is None:
                return False
            again = retried(case)
            await self._write(Changes({key: again}))
            self._cases[key] = again
        log.info("recovery begins anew", package=str(key), by=by)
        self._woken.set()
        return True

    async def pause(self, pause: Pause) -> None:
        """Hold recovery; asked twice with one id it is one pause."""
        async with self._turn:
            await self._refresh()
            if not await self._store.knows_pause(pause.id):
                await self._store.pause(pause)
                self._pauses[pause.id] = pause
        self._woken.set()

    async def resume(self, pause: UUID | None, by: str) -> bool:
        """Take back one pause, or all; whether there is, or was, such a one."""
        async with self._turn:
            await self._refresh()
            if pause and pause not in self._pauses:
                return await self._store.knows_pause(pause)
            gone = [pause] if pause else list(self._pauses)
            await self._store.resume(gone, by, self._clock.now())
            self._pauses = {name: one for name, one in self._pauses.items() if name not in gone}
        self._woken.set()
        return True

    async def forget(self) -> None:
        """Delete what ended long ago."""
        before = self._clock.now() - self._settings.kept
        try:
            while await self._store.forget(before, FORGOTTEN_AT_ONCE) >= FORGOTTEN_AT_ONCE:
                pass
        except Unavailable as error:
            log.warning("cannot forget old acts now", why=str(error))

    # What others see (``ports.Recoveries``, ``notice_ports.Acts``).

    def case_of(self, key: Key) -> RecoveryCase | None:
        """The case of this package, if it has one."""
        case, wait, seen = self._cases.get(key), self._waits.get(key), self._judged.get(key)
        if case and case.closed:
            case = None
        if case is None and (wait is None or seen is None):
            return None
        return _shown(key, case, wait, seen)

    def acting(self, key: Key) -> bool:
        """Whether something is being done about it just now."""
        case = self._cases.get(key)
        return case is not None and case.acting

    async def acts_of(self, key: Key, limit: int) -> list[RecoveryAct]:
        """What was done about it, newest first; may raise ``Unavailable``."""
        return await self._store.acts_of(key, limit)

    async def tried(self, key: Key) -> list[str]:
        """What was done in this illness, for people, oldest first; may raise ``Unavailable``."""
        case = self._cases.get(key)
        if case is None:
            return []
        acts = await self._store.acts_of(key, MOST_TRIED, case.opened_at)
        return [_told(act) for act in reversed(acts)]

    def gave_up(self, key: Key) -> bool:
        """Whether no more is done by itself."""
        wait, case = self._waits.get(key), self._cases.get(key)
        if wait is None:
            return case is not None and case.gave_up_at is not None
        return wait.hold is Hold.CRASH_LOOP

    @property
    def acting_count(self) -> int:
        """Acts whose command has not ended."""
        return len(self._ordering)

    @property
    def gave_up_count(self) -> int:
        """Packages recovery gave up on."""
        return sum(wait.hold is Hold.CRASH_LOOP for wait in self._waits.values())

    @property
    def dry_run(self) -> bool:
        """Whether it is only said what would be done."""
        return self._settings.dry_run

    def status(self) -> RecoveryStatus:
        """How recovery is with everything that is ill, what was ill first at the top."""
        keys = self._waits.keys() | {key for key, case in self._cases.items() if not case.closed}
        cases = sorted(
            (found for key in keys if (found := self.case_of(key))),
            key=lambda one: (one.opened_at, one.agent, one.package),
        )
        return RecoveryStatus(
            cases=cases[:MOST_SHOWN],
            total=len(cases),
            pauses=lasting(self._pauses, self._clock.now()),
            dry_run=self.dry_run,
        )

    # Deciding.

    async def run(self) -> None:
        """Look whenever something is judged otherwise, and each second for what time alone moves."""
        while True:
            try:
                await self.look()
            except Unavailable as error:
                log.warning("cannot recover anything now; it is looked at again", why=str(error))
            await asyncio.sleep(LEAST_SECONDS)
            try:
                async with asyncio.timeout(TICK_SECONDS):
                    await self._woken.wait()
            except TimeoutError:
                pass

    async def look(self) -> None:
        """Decide about everything that is ill or was; write it down; then have it ordered."""
        async with self._turn:
            await self._refresh()
            self._woken.clear()
            if self._catches_up(self._clock.now()):
                return
            self._stale = True  # a plan takes places: one that comes to nothing is forgotten with all else
            plan = self._plan(self._clock.now())
            await self._say_closed(plan)
            if changes := plan.changes:
                await self._store.write(changes)
                failpoints.reached("recovery-decided")
            self._adopt(plan)
            self._stale = False
            self._kept_at = self._clock.now()

    def _catches_up(self, at: datetime) -> bool:
        """Whether what waited while nobody led, or nothing could be kept, may not have been heard yet."""
        return self._caught_up_at is not None and at < self._caught_up_at

    def _plan(self, at: datetime) -> Plan:
        self._free_places(at)
        plan, pauses = Plan(), lasting(self._pauses, at)
        found = {seen.key: seen for seen in self._judged.ill()}
        for key in self._cases.keys() - found.keys():
            if seen := self._judged.get(key):
                found[key] = seen
            elif not self._cases[key].acting:
                plan.cases[key] = None
        self._meet(found.values(), at)
        for seen in sorted(found.values(), key=_urgency):
            self._decide(plan, seen, pauses, at)
        return plan

    def _meet(self, found: Iterable[Assessment], at: datetime) -> None:
        new = (one.key for one in found if one.health is Health.CRITICAL and not self._open(one.key))
        self._met = {key: self._met.get(key, at) for key in new}

    def _open(self, key: Key) -> bool:
        case = self._cases.get(key)
        return case is not None and not case.closed

    def _doubted_until(self, seen: Assessment) -> datetime | None:
        met = self._met.get(seen.key)
        return met + DOUBTED if met and met - seen.since > HEARD_LATE else None

    def _decide(self, plan: Plan, seen: Assessment, pauses: list[Pause], at: datetime) -> None:
        case, pools = self._cases.get(seen.key), pools_of(seen)
        holds = Holds(
            paused_by(pauses, seen), self._budget.crowded(pools, seen.key.agent), self.dry_run,
            self._settings.aftermath, self._settings.blame, self._doubted_until(seen),
        )  # fmt: skip
        match decide(case, seen, holds, at):
            case Act() as act:
                self._take(plan, act, seen, at)
            case GiveUp() as given_up:
                self._give_up(plan, given_up, seen, at)
            case Close(why, remembered):
                plan.cases[seen.key] = remembered
                if case and not case.closed:
                    plan.closed.append(seen.key)
                    log.info("a case is closed", package=str(seen.key), why=why)
            case Wait() as wait if seen.health is Health.CRITICAL or (case and not case.closed):
                plan.waits[seen.key] = wait

    def _take(self, plan: Plan, decided: Act, seen: Assessment, at: datetime) -> None:
        act, case = act_of(uuid4(), seen, decided.step, decided.attempt, at), decided.case
        place = Place(pools_of(seen), act.agent, self._settled(at) if self.dry_run else None)
        self._places[act.id] = place
        self._budget.take(place.pools, place.agent)
        if self.dry_run:
            act = act.model_copy(update={"dry_run": True, "ended_at": at, "text": "only said"})
            case = self._ended(case, seen.policy, at, counts=True)
        else:
            plan.orders[act.id] = order_of(act, seen, self._settings.terms)
        plan.waits[seen.key] = Wait(None, "an act is under way")
        self._put(plan, act, case)

    def _give_up(self, plan: Plan, decided: GiveUp, seen: Assessment, at: datetime) -> None:
        act = act_of(uuid4(), seen, Step.GIVE_UP, decided.case.attempts + 1, at)
        why = f"{decided.why}; {act.why}"[:LONGEST_TEXT]
        act = act.model_copy(update={"ended_at": at, "why": why, "dry_run": decided.case.dry_run})
        plan.waits[seen.key] = Wait(Hold.CRASH_LOOP, decided.why, decided.case.until)
        self._put(plan, act, decided.case)

    def _put(self, plan: Plan, act: RecoveryAct, case: Case) -> None:
        plan.cases[case.key] = case
        plan.acts.append(act)
        plan.facts.append(
            RecoveryDecided(
                message_id=uuid5(act.id, "decided"),
                occurred_at=act.decided_at,
                agent_id=act.agent,
                act=act,
            )
        )

    async def _say_closed(self, plan: Plan) -> None:
        """What was acted upon and is well again is said, with the last act."""
        at = self._clock.now()
        for key in plan.closed:
            for last in await self._store.acts_of(key, 1, self._cases[key].opened_at):
                plan.facts.append(_ended_fact(last, at, uuid5(last.id, "closed")))

    def _adopt(self, plan: Plan) -> None:
        for key, case in plan.cases.items():
            if case:
                self._cases[key] = case
            else:
                self._cases.pop(key, None)
        for act in plan.acts:
            ACTS.add(act.step)
            log.info(
                "recovery gives up" if act.step is Step.GIVE_UP else "recovery acts",
                package=f"{act.package}@{act.agent}", step=act.step, attempt=act.attempt, act=str(act.id),
                why=act.why, dry_run=act.dry_run,
            )  # fmt: skip
        self._ordering.begin(Ordered(act, plan.orders[act.id]) for act in plan.acts if act.id in plan.orders)
        self._waits = plan.waits

    # What came of it.

    async def _over(self, name: UUID, end: End) -> None:
        """An act has ended, once: whoever brings the same word again finds nothing to do."""
        async with self._turn:
            await self._refresh()
            ordered = self._ordering.get(name)
            if ordered is None:
                return
            at = self._clock.now()
            act = _after(ordered.act, end, at)
            case = self._case_after(ordered.key, end, at)
            fact = _ended_fact(act, at, uuid5(act.id, "ended"))
            await self._write(Changes({case.key: case} if case else {}, ended=[act], facts=[fact]))
            self._ordering.over(name)
            if case:
                self._cases[case.key] = case
            if place := self._places.get(name):
                place.until = self._settled(at)
        ENDED.add(str(end.state or end.reason))
        self._woken.set()

    def _case_after(self, key: Key, end: End, at: datetime) -> Case | None:
        case, seen = self._cases.get(key), self._judged.get(key)
        if case is None:
            return None
        policy = seen.policy if seen else RecoveryPolicy()
        return self._ended(case, policy, at, counts=did_something(end.state, end.reason))

    def _ended(self, case: Case, policy: RecoveryPolicy, at: datetime, *, counts: bool) -> Case:
        settle = self._settings.settle_seconds
        return ended(case, policy, at, self._draw, counts=counts, settle_seconds=settle)

    # Inside.

    async def _refresh(self) -> None:
        """Where the database did not say what became of a write, it is read again before anything else."""
        if self._stale:
            await self._load()

    async def _write(self, changes: Changes) -> None:
        self._stale = True
        await self._store.write(changes)
        self._stale = False

    async def _load(self) -> None:
        kept = await self._store.load()
        self._cases, self._pauses = dict(kept.cases), dict(kept.pauses)
        self._budget, self._places = self._empty_budget(), {}
        for one in kept.ordered:
            seen = self._judged.get(one.key)
            pools = pools_of(seen) if seen else (("package", one.key.package),)
            place = self._places[one.act.id] = Place(pools, one.key.agent)
            self._budget.take(place.pools, place.agent)
        self._ordering.clear()
        self._ordering.begin(kept.ordered)
        self._stale = False
        self._begin_to_catch_up(self._clock.now())

    def _begin_to_catch_up(self, at: datetime) -> None:
        away = at - self._kept_at if self._kept_at else CATCH_UP
        if away >= CATCH_UP and any(self._open(key) for key in self._cases):
            self._caught_up_at = at + min(away, DOUBTED)
        self._kept_at = at

    def _empty_budget(self) -> Budget:
        return Budget(self._settings.budget_percent, self._population.size_of)

    def _settled(self, at: datetime) -> datetime:
        return at + timedelta(seconds=self._settings.settle_seconds)

    def _free_places(self, at: datetime) -> None:
        for name, place in list(self._places.items()):
            if place.until and at >= place.until:
                self._budget.give_back(place.pools, place.agent)
                del self._places[name]


def _urgency(seen: Assessment) -> tuple[int, datetime, Key]:
    """What makes most others ill comes first, then what is ill for longest."""
    return -len(seen.dependents), seen.since, seen.key


def _after(act: RecoveryAct, end: End, at: datetime) -> RecoveryAct:
    text = (end.text or end.reason)[:LONGEST_TEXT]
    return act.model_copy(update={"state": end.state, "text": text, "ended_at": at})


def _ended_fact(act: RecoveryAct, at: datetime, name: UUID) -> RecoveryEnded:
    return RecoveryEnded(message_id=name, occurred_at=at, agent_id=act.agent, act=act)


def _told(act: RecoveryAct) -> str:
    """One line for people: ``restart: succeeded``."""
    if act.step is Step.GIVE_UP:
        return f"gave up: {act.why}"
    if act.dry_run:
        return f"{act.step}: only said"
    if act.ended_at is None:
        return f"{act.step}: under way"
    why = "" if act.state is CommandState.SUCCEEDED or not act.text else f", {act.text}"
    return f"{act.step}: {act.state or 'not ordered'}{why}"


def _shown(key: Key, case: Case | None, wait: Wait | None, seen: Assessment | None) -> RecoveryCase:
    opened_at = case.opened_at if case else seen.since if seen else None
    assert opened_at
    stuck = wait is not None and wait.hold in {Hold.CRASH_LOOP, Hold.DISABLED, Hold.STOPPED}
    attempts = anew(case).attempts if case else 0
    # Of what is well again nothing comes next.
    ill = seen is not None and seen.health is Health.CRITICAL
    step = step_of(attempts, seen.policy) if seen and ill and wait and not stuck else None
    return RecoveryCase(
        agent=key.agent,
        package=key.package,
        opened_at=opened_at,
        attempts=case.attempts if case else 0,
        next_step=step,
        next_at=wait.until if wait and step else None,
        hold=wait.hold if wait else None,
        hold_text=wait.text[:LONGEST_TEXT] if wait else "",
        gave_up_at=case.gave_up_at if case else None,
        until=case.until if case else None,
    )
