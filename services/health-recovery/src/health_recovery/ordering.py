"""Acts on their way: each is ordered of state-store, again with the same id until that is known to be kept.

What became of it comes as ``Settled``; should that be long overdue, the ledger is asked.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from health_recovery.domain.acts import Ordered, Terms
from health_recovery.ports import Fenced, Unavailable
from health_recovery.recovery_ports import Ledger, NotTaken, NoWord, RecoveryStore
from muster_contracts.command.v1 import ENDS, CommandState
from muster_runtime import Clock, failpoints, logger

AT_ONCE = 32
AGAIN_SECONDS = 2.0
LOOK_SECONDS = 30.0
OVERDUE = timedelta(seconds=60)
"""state-store ends every order by its deadline; its word may take a while."""

log = logger(__name__)


@dataclass(frozen=True, slots=True)
class End:
    """How an act ended; without a state it was not ordered, and never will be."""

    state: CommandState | None
    reason: str
    text: str


Ended = Callable[[UUID, End], Awaitable[None]]


@dataclass(slots=True)
class Open:
    """An act whose command has not ended."""

    ordered: Ordered
    next_at: datetime
    """When it is sent, or the ledger is asked."""
    busy: bool = False


class Ordering:
    """All acts whose command has not ended."""

    def __init__(
        self, *, ledger: Ledger, store: RecoveryStore, clock: Clock, terms: Terms, ended: Ended
    ) -> None:
        self._ledger, self._store, self._clock, self._terms, self._ended = ledger, store, clock, terms, ended
        self._open: dict[UUID, Open] = {}
        self._woken = asyncio.Event()

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Ordered]:
        return (one.ordered for one in self._open.values())

    def get(self, act: UUID) -> Ordered | None:
        """One that has not ended."""
        found = self._open.get(act)
        return found.ordered if found else None

    def begin(self, acts: Iterable[Ordered]) -> None:
        """These are to be ordered; those that may have been are asked for first."""
        at = self._clock.now()
        self._open |= {one.act.id: Open(one, at) for one in acts}
        self._woken.set()

    def over(self, act: UUID) -> None:
        """This one has ended."""
        self._open.pop(act, None)

    def clear(self) -> None:
        """Forget them all, to load them again."""
        self._open = {}

    async def run(self) -> None:
        """Send and ask whenever something is due."""
        while True:
            await self.work()
            try:
                async with asyncio.timeout(AGAIN_SECONDS / 2):
                    await self._woken.wait()
            except TimeoutError:
                pass

    async def work(self) -> None:
        """Send and ask what is due now."""
        self._woken.clear()
        at = self._clock.now()
        due = [one for one in self._open.values() if not one.busy and one.next_at <= at]
        for start in range(0, len(due), AT_ONCE):
            await asyncio.gather(*(self._attend(one) for one in due[start : start + AT_ONCE]))

    async def _attend(self, one: Open) -> None:
        one.busy = True
        try:
            await (self._send(one) if one.ordered.act.state is None else self._ask(one))
        except (NoWord, Unavailable) as error:
            log.debug("an order is not known to be kept", act=str(one.ordered.act.id), why=str(error))
            self._again(one, random.uniform(AGAIN_SECONDS / 2, AGAIN_SECONDS))  # noqa: S311  (no secret)
        except Fenced as error:
            log.info("another replica leads", why=str(error))
        finally:
            one.busy = False

    async def _send(self, one: Open) -> None:
        act = one.ordered.act
        try:
            await self._ledger.submit(one.ordered.submit)
        except NotTaken as error:
            await self._ended(act.id, End(None, "not-taken", str(error)))
            return
        failpoints.reached("recovery-ordered")
        if self._open.get(act.id) is not one:
            return  # its end was quicker
        known = act.model_copy(update={"state": CommandState.PENDING})
        await self._store.noted(known)
        one.ordered = replace(one.ordered, act=known)
        one.next_at = act.decided_at + self._terms.longest + OVERDUE

    async def _ask(self, one: Open) -> None:
        act = one.ordered.act
        target = await self._ledger.find(act.id, act.agent)
        if target is None:
            await self._ended(act.id, End(CommandState.LOST, "unknown", "the ledger does not know it"))
        elif target.state in ENDS:
            await self._ended(act.id, End(target.state, target.reason or "", target.text or ""))
        else:
            self._again(one, LOOK_SECONDS)

    def _again(self, one: Open, seconds: float) -> None:
        one.next_at = self._clock.now() + timedelta(seconds=seconds)
