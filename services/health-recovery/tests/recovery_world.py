"""Packages to recover, for the tests of the ladder and of what carries it out."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from health_recovery.domain.acts import Ordered
from health_recovery.domain.assessment import Assessment
from health_recovery.domain.budget import Pool, pools_of
from health_recovery.domain.keys import Key
from health_recovery.domain.ladder import Case, Draw
from health_recovery.ports import Unavailable
from health_recovery.recovering import Recovering
from health_recovery.recovery_ports import Changes, Kept, NotTaken, NoWord
from health_recovery.recovery_settings import RecoverySettings
from muster_contracts.command.v1 import CommandState, Settled, Submit, Target
from muster_contracts.fleet.v1 import Presence
from muster_contracts.health.v1 import FindRecoveries, Health, Pause, RecoveryAct, RecoveryPage, Step
from muster_contracts.message import DurableFact
from muster_contracts.package.v1 import PackageState, RecoveryPolicy
from muster_runtime import Clock, Tasks
from muster_testing.loop_time import LoopClock

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
WEB = Key("web-1", "web")
QUICK = RecoveryPolicy(
    restarts=2,
    with_dependents=1,
    delay_seconds=4,
    longest_delay_seconds=60,
    acts_per_window=5,
    window_seconds=600,
    stable_seconds=30,
    cooldown_seconds=300,
)


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def ill(key: Key = WEB, **changes: Any) -> Assessment:
    """A package that runs and whose liveness check is critical."""
    made = Assessment(
        key=key, health=Health.CRITICAL, since=NOON, reason="check", text="http: 500", check="http",
        live=True, cause=None, flapping=False, maintenance=False, state=PackageState.RUNNING,
        restart_policy="always", policy=QUICK, dependents=(), presence=Presence.ONLINE, site="",
        partitioned=False, groups=(), labels={},
    )  # fmt: skip
    return replace(made, **changes)


def well(key: Key = WEB, **changes: Any) -> Assessment:
    """The same, as it should be."""
    return replace(
        ill(key), **{"health": Health.OK, "reason": "running", "text": "", "check": None} | changes
    )


class Patients:
    """How packages are judged, as the test says; see ``ports.Judged``."""

    def __init__(self, *seen: Assessment) -> None:
        self.seen = {one.key: one for one in seen}
        self._counted, self._sizes = 0, Counter[Pool]()

    def ill(self) -> list[Assessment]:
        return [one for one in self.seen.values() if one.health in {Health.CRITICAL, Health.WARNING}]

    def get(self, key: Key) -> Assessment | None:
        return self.seen.get(key)

    def put(self, *seen: Assessment) -> None:
        self.seen |= {one.key: one for one in seen}

    def size_of(self, pool: Pool) -> int:
        if self._counted != len(self.seen):
            self._counted = len(self.seen)
            self._sizes = Counter(pool for one in self.seen.values() for pool in pools_of(one))
        return self._sizes[pool]


class MemoryStore:
    """See ``recovery_ports.RecoveryStore``; ``down`` it is unavailable, before or after what it is asked."""

    def __init__(self) -> None:
        self.cases: dict[Key, Case] = {}
        self.acts: dict[UUID, RecoveryAct] = {}
        self.orders: dict[UUID, Submit] = {}
        self.pauses: dict[UUID, Pause] = {}
        self.known: set[UUID] = set()
        self.facts: list[DurableFact] = []
        self.down = ""

    def _reach(self, when: str) -> None:
        if self.down == when:
            raise Unavailable("cannot use the database just now")

    async def load(self) -> Kept:
        self._reach("before")
        lasting = [act for act in self.acts.values() if act.ended_at is None]
        acting = {Key(act.agent, act.package) for act in lasting}
        return Kept(
            {key: replace(case, acting=key in acting) for key, case in self.cases.items()},
            [Ordered(act, self.orders[act.id]) for act in lasting],
            dict(self.pauses),
        )

    async def write(self, changes: Changes) -> None:
        self._reach("before")
        for key, case in changes.cases.items():
            if case:
                self.cases[key] = case
            else:
                self.cases.pop(key, None)
        self.acts |= {act.id: act for act in (*changes.decided, *changes.ended)}
        self.orders |= changes.orders
        self.facts += changes.facts
        self._reach("after")

    async def noted(self, act: RecoveryAct) -> None:
        self._reach("before")
        if self.acts[act.id].ended_at is None:
            self.acts[act.id] = act

    async def acts_of(self, key: Key, limit: int, since: datetime | None = None) -> list[RecoveryAct]:
        found = [
            act
            for act in self.acts.values()
            if Key(act.agent, act.package) == key and (since is None or act.decided_at >= since)
        ]
        return found[::-1][:limit]

    async def find(self, ask: FindRecoveries) -> RecoveryPage:
        return RecoveryPage(acts=list(self.acts.values())[::-1][: ask.limit])

    async def pause(self, pause: Pause) -> None:
        self.pauses[pause.id] = pause
        self.known.add(pause.id)

    async def resume(self, pauses: Sequence[UUID], by: str, at: datetime) -> None:
        for name in pauses:
            del self.pauses[name]

    async def knows_pause(self, pause: UUID) -> bool:
        return pause in self.known

    async def forget(self, before: datetime, limit: int) -> int:
        return 0


class FakeLedger:
    """See ``recovery_ports.Ledger``: orders take ``takes`` seconds and then end as ``ends`` says."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.takes = 1.0
        self.state, self.reason = CommandState.SUCCEEDED, "done"
        self.away = self.refuses = self.forgets_to_answer = False
        self.orders: dict[UUID, Submit] = {}
        self.submissions = 0
        self.begun: dict[UUID, datetime] = {}
        self.tell: Callable[[Settled], Awaitable[None]] | None = None
        self.effect: Callable[[Submit], None] = lambda order: None
        self._tasks: set[asyncio.Task[None]] = set()

    async def submit(self, order: Submit) -> None:
        if self.away:
            raise NoWord("no answer")
        if self.refuses:
            raise NotTaken("cannot order it: no agent matches")
        self.submissions += 1
        if order.command_id not in self.orders:
            self.orders[order.command_id] = order
            self.begun[order.command_id] = self._clock.now()
            task = asyncio.create_task(self._run(order))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if self.forgets_to_answer:
            raise NoWord("no answer")

    async def _run(self, order: Submit) -> None:
        await asyncio.sleep(self.takes)
        self.effect(order)
        if self.tell:
            await self.tell(Settled(occurred_at=self._clock.now(), agent_id="x", target=self.target(order)))

    def running(self, seconds_ago: float = 0) -> list[Submit]:
        """Orders that have begun and not ended."""
        at = self._clock.now() - timedelta(seconds=seconds_ago)
        takes = timedelta(seconds=self.takes)
        return [self.orders[name] for name, begun in self.begun.items() if begun <= at < begun + takes]

    async def find(self, command: UUID, agent: str) -> Target | None:
        if self.away:
            raise NoWord("no answer")
        order = self.orders.get(command)
        return self.target(order) if order else None

    def target(self, order: Submit) -> Target:
        over = self._clock.now() >= self.begun[order.command_id] + timedelta(seconds=self.takes)
        return Target(
            id=order.command_id, agent=order.selector.removeprefix("id="), verb=order.body.verb,
            state=self.state if over else CommandState.RUNNING, reason=self.reason if over else None,
            issuer=order.issuer, submitted_at=order.occurred_at, not_after=order.not_after,
        )  # fmt: skip


@dataclass
class Ward:
    """Recovery on fake time, with all it needs; ``take_over`` is a new leader on the same store."""

    clock: LoopClock
    patients: Patients
    store: MemoryStore
    ledger: FakeLedger
    settings: RecoverySettings
    draw: Draw
    recovering: Recovering = field(init=False)
    tasks: Tasks | None = None

    async def take_over(self) -> Recovering:
        if self.tasks:
            await self.tasks.close()
        self.recovering = Recovering(
            judged=self.patients, store=self.store, ledger=self.ledger, population=self.patients,
            clock=self.clock, settings=self.settings, draw=self.draw,
        )  # fmt: skip
        self.ledger.tell = self.recovering.settled
        await self.recovering.load()
        self.tasks = Tasks()
        self.recovering.start(self.tasks)
        return self.recovering

    @property
    def steps(self) -> list[tuple[Step, float]]:
        return [
            (act.step, round((act.decided_at - NOON).total_seconds(), 1)) for act in self.store.acts.values()
        ]


@asynccontextmanager
async def ward(*seen: Assessment, draw: Draw = lambda _, most: most, **settings: Any) -> AsyncIterator[Ward]:
    clock = LoopClock(NOON)
    chosen = RecoverySettings.model_validate({"settle_seconds": 0, "budget_percent": 100} | settings)
    made = Ward(clock, Patients(*seen), MemoryStore(), FakeLedger(clock), chosen, draw)
    await made.take_over()
    try:
        yield made
    finally:
        assert made.tasks
        await made.tasks.close()
