"""What health-recovery needs of the world, and what its parts show one another."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Protocol

from health_recovery.domain.assessment import Assessment
from health_recovery.domain.keys import Key
from muster_contracts.health.v1 import Incident, RecoveryAct, RecoveryCase


class Unavailable(Exception):
    """The database cannot be used just now; the same may work later."""


class Fenced(Exception):
    """Another replica leads by now: nothing was written, and this one has to step down."""


# Leading (RECOVERY's lease fulfils it) ----------------------------------------------------------------


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

    @property
    def holder(self) -> str | None:
        """The replica that holds it, as far as this one knows."""
        ...


# What CORE shows RECOVERY and NOTICES -----------------------------------------------------------------


class Judged(Protocol):
    """How packages are judged now; a view of the leader's picture, read within its event loop."""

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


# What RECOVERY and NOTICES show CORE, for its answers -------------------------------------------------


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
