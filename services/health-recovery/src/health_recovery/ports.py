"""What health-recovery needs of the world, and what its parts show one another."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from health_recovery.domain.assessing import Changes
from health_recovery.domain.assessment import Assessment
from health_recovery.domain.availability import Stretch
from health_recovery.domain.keys import Key
from health_recovery.domain.picture import Picture
from muster_contracts.fleet.v1 import AgentRow
from muster_contracts.health.v1 import (
    GetHealthHistory,
    HealthHistory,
    Incident,
    Maintenance,
    RecoveryAct,
    RecoveryCase,
)


class Unavailable(Exception):
    """The database cannot be used just now; the same may work later."""


class Fenced(Exception):
    """Another replica leads by now: nothing was written, and this one has to step down."""


# Leading (as muster_bus.lease) ----------------------------------------------------------------


class Lease(Protocol):
    """The right to lead: held by one replica at a time, its epoch grows with each holder."""

    async def acquire(self) -> int:
        """Wait until it is held by this replica, and return its epoch."""
        ...

    async def lost(self) -> None:
        """Return once it is, or may be, held no more."""
        ...

    async def release(self) -> None:
        """Give it back at once, so that another need not wait; harmless if it is not held."""
        ...

    def outgrow(self, epoch: int) -> None:
        """Have greater epochs than this one from the next turn on."""
        ...

    @property
    def complaint(self) -> str | None:
        """Why nothing can be told of it just now, for people."""
        ...


# What is shown to recovery and notifications --------------------------------------------------------


class Judged(Protocol):
    """How packages are judged now; a view of the leader's picture, read within its event loop.

    A package that is not there (its agent is lost, say) is unknown, and no illness; but where others are ill
    for want of it, it is shown as critical, with its reason (agent-lost, …): else nobody would be told.
    """

    def ill(self) -> Iterable[Assessment]:
        """Packages that are critical or warning, suppressed ones and those in maintenance too."""
        ...

    def get(self, key: Key) -> Assessment | None:
        """One package; null if it is not known (any more)."""
        ...


OnAssessed = Callable[[Sequence[Key], datetime], None]
"""Called in the leader's loop once a batch is committed, with what is judged otherwise now or is gone.

It must not block and must not raise: it notes the keys and wakes whoever works on them.
"""


# What those two show, for answers -------------------------------------------------


class Incidents(Protocol):
    """Which incidents last."""

    def open_of(self, key: Key) -> Incident | None:
        """The open incident that this package caused or is affected by."""
        ...

    @property
    def open_count(self) -> int:
        """How many last."""
        ...


class Recoveries(Protocol):
    """How recovery is with ill packages."""

    def case_of(self, key: Key) -> RecoveryCase | None:
        """The case of this package, if it has one."""
        ...

    def acting(self, key: Key) -> bool:
        """Whether something is being done about it just now."""
        ...

    async def acts_of(self, key: Key, limit: int) -> list[RecoveryAct]:
        """What was done about it, newest first; may raise ``Unavailable``."""
        ...

    @property
    def acting_count(self) -> int:
        """Acts whose command has not ended."""
        ...

    @property
    def gave_up_count(self) -> int:
        """Packages recovery gave up on."""
        ...

    @property
    def dry_run(self) -> bool:
        """Whether it is only said what would be done."""
        ...


# What the leader needs --------------------------------------------------------------------------------


class Store(Protocol):
    """Where the picture is kept. What returns is on disk; whatever writes may raise ``Fenced``."""

    async def load(self) -> Picture:
        """The whole picture as it was last written; may raise ``Unavailable``."""
        ...

    async def write(self, changes: Changes) -> None:
        """Keep what a batch changed, and what is said of it; ``Unavailable``: nothing was written."""
        ...

    async def add_window(self, told: Maintenance) -> None:
        """Keep a maintenance window; one that is there already stays as it is."""
        ...

    async def end_window(self, window: UUID, at: datetime) -> None:
        """Let a window end then, if it would last longer."""
        ...

    async def forget(self, before: datetime) -> bool:
        """Delete some history that ended before; returns whether there may be more."""
        ...


class History(Protocol):
    """How health was. Each may raise ``Unavailable``."""

    async def page(self, ask: GetHealthHistory) -> HealthHistory:
        """Changes, newest first; raises ``AskError`` for a cursor that is none."""
        ...

    async def stretches(self, key: Key, since: datetime, until: datetime) -> list[Stretch]:
        """How a package was between two moments, oldest first, as far as it is known."""
        ...


class Fleet(Protocol):
    """Who is in the fleet, by fleet-registry."""

    async def agents(self) -> list[AgentRow]:
        """Every agent, the retired ones too.

        Raises:
            Away: the registry does not answer.
        """
        ...


class Away(Exception):
    """Whoever was asked does not answer just now."""
