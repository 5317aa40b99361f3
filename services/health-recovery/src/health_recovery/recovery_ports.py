"""What recovery needs of the world beside ``ports``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

from health_recovery.domain.acts import Ordered
from health_recovery.domain.budget import Pool
from health_recovery.domain.keys import Key
from health_recovery.domain.ladder import Case
from muster_contracts.command.v1 import Submit, Target
from muster_contracts.health.v1 import FindRecoveries, Pause, RecoveryAct, RecoveryPage
from muster_contracts.message import DurableFact


class NotTaken(Exception):
    """The ledger refuses an order for good: nothing was done, and nothing will be."""


class NoWord(Exception):
    """Nobody knows whether the ledger has the order: send the same one again."""


class Ledger(Protocol):
    """Where orders are kept: state-store."""

    async def submit(self, order: Submit) -> None:
        """Return once the order is in the ledger; the same one again is the same order.

        Raises:
            NotTaken: it is not, and never will be.
            NoWord: nobody knows.
        """
        ...

    async def find(self, command: UUID, agent: str) -> Target | None:
        """How far an order is; null if the ledger does not know it.

        Raises:
            NoWord: no answer.
        """
        ...


class Population(Protocol):
    """How many there are."""

    def size_of(self, pool: Pool) -> int:
        """Agents of a group or site, or packages of a name; 0 if there is no such pool."""
        ...


@dataclass(frozen=True, slots=True)
class Kept:
    """What a leader finds."""

    cases: Mapping[Key, Case] = field(default_factory=dict)
    ordered: Sequence[Ordered] = ()
    """Acts whose command has not ended, oldest first."""
    pauses: Mapping[UUID, Pause] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Changes:
    """What is written at once, or not at all."""

    cases: Mapping[Key, Case | None] = field(default_factory=dict)
    """As they are from now on; null: there is nothing to remember."""
    decided: Sequence[RecoveryAct] = ()
    orders: Mapping[UUID, Submit] = field(default_factory=dict)
    """The orders of those acts that are ordered."""
    ended: Sequence[RecoveryAct] = ()
    facts: Sequence[DurableFact] = ()

    def __bool__(self) -> bool:
        return bool(self.cases or self.decided or self.ended or self.facts)


class RecoveryStore(Protocol):
    """Cases, acts and pauses on disk. What writes is fenced and may raise ``Fenced`` and ``Unavailable``."""

    async def load(self) -> Kept:
        """All that is not over; may raise ``Unavailable``."""
        ...

    async def write(self, changes: Changes) -> None:
        """Keep all of it, and say the facts."""
        ...

    async def noted(self, act: RecoveryAct) -> None:
        """Keep how far an act is."""
        ...

    async def acts_of(self, key: Key, limit: int, since: datetime | None = None) -> list[RecoveryAct]:
        """What was done about a package, newest first; may raise ``Unavailable``."""
        ...

    async def find(self, ask: FindRecoveries) -> RecoveryPage:
        """A page of acts; raises ``AskError`` for a cursor that is none."""
        ...

    async def pause(self, pause: Pause) -> None:
        """Keep a pause; one of this id is kept once, also if it was taken back."""
        ...

    async def resume(self, pauses: Sequence[UUID], by: str, at: datetime) -> None:
        """Take pauses back."""
        ...

    async def knows_pause(self, pause: UUID) -> bool:
        """Whether there is, or was, such a pause; may raise ``Unavailable``."""
        ...

    async def forget(self, before: datetime, limit: int) -> int:
        """Delete acts and pauses that ended before; returns how many."""
        ...
