"""Somebody who writes down every change of presence with the moment it was heard."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.bench.ground import Ground

from muster_bus.bus import Bus
from muster_contracts.fleet.v1 import Presence, PresenceChanged, Reason
from muster_contracts.message import Role
from muster_testing.wait import until


@dataclass(frozen=True)
class Seen:
    """One change: when it was heard (the loop's clock), and what it said."""

    at: float
    now: Presence
    reason: Reason


@dataclass
class Witness:
    """All changes heard so far, by agent."""

    bus: Bus
    changes: dict[str, list[Seen]] = field(default_factory=lambda: defaultdict(list))

    async def hear(self, change: PresenceChanged) -> None:
        """Write one down."""
        at = asyncio.get_running_loop().time()
        self.changes[change.agent_id].append(Seen(at, change.now, change.reason))

    def of(self, agent_id: str, now: Presence) -> list[Seen]:
        """The changes of one agent into one state."""
        return [seen for seen in self.changes.get(agent_id, ()) if seen.now is now]

    def count(self, now: Presence) -> int:
        """How many changes into this state there were, over all agents."""
        return sum(seen.now is now for changes in self.changes.values() for seen in changes)

    async def first(self, agent_id: str, now: Presence, seconds: float) -> Seen | None:
        """The first change of an agent into a state; None if it did not come within ``seconds``."""
        try:
            return (await until(lambda: self.of(agent_id, now), seconds, every=0.005))[0]
        except TimeoutError:
            return None


@asynccontextmanager
async def witness(here: Ground) -> AsyncIterator[Witness]:
    """A witness who listens as an operator until the block ends."""
    bus = await Bus.connect(here.settings(Role.OPERATOR), first_try_seconds=10)
    person = Witness(bus)
    try:
        await bus.hear(PresenceChanged, person.hear)
        yield person
    finally:
        await bus.close()
