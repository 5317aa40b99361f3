"""What state-store does because time has passed: one function per round."""

from dataclasses import dataclass, field
from datetime import timedelta

from muster_contracts.command.v1 import CommandState
from muster_runtime import Clock, Tasks
from state_store.ports import Ledger, Pushes, Queries

ENDED_AT_ONCE = 500
FORGOTTEN_AT_ONCE = 50
HOUR_SECONDS = 3600.0
COUNT_SECONDS = 5.0
TIDY_SECONDS = 60.0


@dataclass(slots=True, kw_only=True)
class Rounds:
    """Everything that is done again and again. All replicas may: rows are locked or claimed."""

    ledger: Ledger
    queries: Queries
    pushes: Pushes
    clock: Clock
    pushes_per_second: int
    retention_days: float
    open: dict[CommandState, int] = field(default_factory=dict)
    """How many targets have not ended, as of the last count."""

    def start(self, tasks: Tasks, sweep_seconds: float) -> None:
        """Begin every round."""
        tasks.spawn("push what was left", self.ledger.hasten_pushes)
        tasks.every("end what is overdue", sweep_seconds, self.end_overdue)
        tasks.every("push again", 1.0, self.push_again)
        tasks.every("anchor the audit", 1.0, self.ledger.anchor)
        tasks.every("count what is open", COUNT_SECONDS, self.count)
        tasks.every("tidy up", TIDY_SECONDS, self.ledger.tidy)
        tasks.every("forget old commands", HOUR_SECONDS, self.forget, first_after=60.0)

    async def end_overdue(self) -> None:
        """End targets whose deadline has passed."""
        while await self.ledger.end_overdue(ENDED_AT_ONCE) == ENDED_AT_ONCE:
            pass

    async def push_again(self) -> None:
        """Push what may not have arrived, a bounded number each time; not while there is enough to push."""
        if (room := self.pushes_per_second - self.pushes.waiting) > 0:
            self.pushes.put(await self.ledger.claim_pushes(room))

    async def count(self) -> None:
        """Keep the numbers fresh."""
        self.open = await self.queries.open_by_state()

    async def forget(self) -> None:
        """Delete what is older than commands are kept; the audit stays."""
        before = self.clock.now() - timedelta(days=self.retention_days)
        while await self.ledger.forget(before, FORGOTTEN_AT_ONCE):
            pass
