"""One command on its way through this agent, and the lanes in which commands wait for each other."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from muster_agent.obedience.obedient import Result
from muster_agent.obedience.output import Output
from muster_contracts.command.v1 import CommandState, Terms

CLOCK_STEP_SECONDS = 0.001

CANCELLED = Result(CommandState.CANCELLED, "cancelled", "it was cancelled")
INTERRUPTED = Result(
    CommandState.INTERRUPTED, "agent-died", "cannot tell what it did: the agent died while it ran"
)
STOPPED = Result(CommandState.INTERRUPTED, "agent-stopped", "cannot finish it: the agent was stopped")


@dataclass(eq=False, slots=True)
class Order:
    """A command that has not ended; ``stop`` is how it is told to end, and with what."""

    terms: Terms
    lane: str
    accepted_at: datetime
    start_by: float
    """By the loop's clock."""
    output: Output
    stop: "asyncio.Future[Result]"
    started_at: datetime | None = None
    task: "asyncio.Task[None] | None" = field(default=None)

    @property
    def command_id(self) -> UUID:
        """Its command's id."""
        return self.terms.command_id

    def end_by(self, result: Result) -> None:
        """Have it end; the first one to say so decides as what."""
        if not self.stop.done():
            self.stop.set_result(result)

    def too_late(self, now: datetime, at: float) -> Result | None:
        """How it ends because it did not begin in time; None while it may begin.

        ``not_after`` is a wall time (``now``); the wait for a turn is measured by the loop's clock (``at``).
        """
        if now > self.terms.not_after:
            return expired(self.terms)
        if at >= self.start_by:
            return Result(
                CommandState.TIMED_OUT,
                "start-time",
                f"cannot begin: its turn did not come within {self.terms.start_seconds:g} s",
            )
        return None

    def may_wait(self, now: datetime, at: float) -> float:
        """Seconds until it may be too late."""
        left = (self.terms.not_after - now).total_seconds() + CLOCK_STEP_SECONDS
        return max(CLOCK_STEP_SECONDS, min(left, self.start_by - at))


def expired(terms: Terms) -> Result:
    """The end of a command that was not begun in time."""
    return Result(CommandState.EXPIRED, "not-after", f"cannot begin: it was to begin by {terms.not_after}")


def ran_too_long(terms: Terms) -> Result:
    """The end of a command that was stopped because its time was over."""
    return Result(
        CommandState.TIMED_OUT,
        "run-time",
        f"cannot go on: it ran for its {terms.run_seconds:g} s and was stopped",
    )


@dataclass(slots=True)
class Turn:
    """One command's turn in its lane."""

    lock: asyncio.Lock
    has_come: bool = False

    async def come(self) -> None:
        """Wait for it."""
        await self.lock.acquire()
        self.has_come = True

    def over(self) -> None:
        """Let the next one begin."""
        if self.has_come:
            self.lock.release()


class Lanes:
    """Those of one lane run one after the other, in the order in which they came; lanes run side by side."""

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}
        self._users: dict[str, int] = {}

    @asynccontextmanager
    async def place(self, lane: str) -> AsyncIterator[Turn]:
        """A lane to wait in: who had a turn in it has it until the end of this context."""
        lock = self._locks.setdefault(lane, asyncio.Lock())
        self._users[lane] = self._users.get(lane, 0) + 1
        turn = Turn(lock)
        try:
            yield turn
        finally:
            turn.over()
            self._users[lane] -= 1
            if not self._users[lane]:
                del self._locks[lane], self._users[lane]
