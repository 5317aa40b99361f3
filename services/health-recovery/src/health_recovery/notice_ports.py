"""What notifications need of the world beside ``ports``."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

from health_recovery.domain.incidents import Case, Incident
from health_recovery.domain.keys import Key
from health_recovery.domain.notice import Notice
from health_recovery.domain.notices import Telling
from muster_contracts.health.v1 import FindIncidents, IncidentPage
from muster_contracts.message import DurableFact


class CannotSend(Exception):
    """A channel did not take a notice. Its text holds no secret.

    Args:
        text: for people; begins with "cannot" and names the channel.
        again: whether the same may work later.
        after: seconds that the receiver asks to be left alone for.
    """

    def __init__(self, text: str, *, again: bool, after: float | None = None) -> None:
        super().__init__(text)
        self.again, self.after = again, after


class Channel(Protocol):
    """One way out of Muster."""

    async def send(self, notice: Notice) -> None:
        """Hand over a notice once; the same id again is the same notice.

        Raises:
            CannotSend: it was not taken.
        """
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class Acts(Protocol):
    """What recovery did about packages, and what it can be told."""

    async def tried(self, key: Key) -> list[str]:
        """What was done in this illness, for people, oldest first; may raise ``Unavailable``."""
        ...

    def gave_up(self, key: Key) -> bool:
        """Whether it does no more by itself."""
        ...

    async def retry(self, key: Key, by: str) -> bool:
        """Begin anew where it gave up; whether it had. May raise ``Unavailable`` and ``Fenced``."""
        ...


TellingKey = tuple[str, UUID]
"""A channel and an incident."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A notice with what becomes of it."""

    notice: Notice
    groups: tuple[str, ...]
    told: tuple[UUID, ...]
    """Every incident it tells of, those it only counts too."""
    next_at: datetime
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Kept:
    """What a leader finds."""

    cases: Mapping[Key, Case] = field(default_factory=dict)
    ended: Sequence[Incident] = ()
    """Over for long, but some channel has not been told so."""
    tellings: Mapping[TellingKey, Telling] = field(default_factory=dict)
    outgoing: Sequence[Outgoing] = ()
    """Not sent yet, oldest first."""
    flushed: Mapping[tuple[str, str], datetime] = field(default_factory=dict)
    """When a channel was last told of a group."""
    planned: Mapping[str, Sequence[datetime]] = field(default_factory=dict)
    """When a channel was given notices within the last minute."""


@dataclass(frozen=True, slots=True)
class End:
    """What recovery had done when an incident was over."""

    tried: tuple[str, ...] = ()
    gave_up: bool = False


class NoticeStore(Protocol):
    """Incidents and notices on disk. What writes is fenced and may raise ``Fenced`` and ``Unavailable``."""

    async def load(self, at: datetime, keep_seconds: float) -> Kept:
        """All that is not over for longer than ``keep_seconds``, or of which somebody is still to be told."""
        ...

    async def write_cases(
        self, cases: Mapping[Key, Case], facts: Sequence[DurableFact], ends: Mapping[UUID, End]
    ) -> None:
        """Keep incidents as they are now, and say these facts."""
        ...

    async def write_notices(
        self, notices: Sequence[Outgoing], tellings: Mapping[TellingKey, Telling], at: datetime
    ) -> None:
        """Keep notices before they are sent, and what will have been told by them."""
        ...

    async def claim(self, notice: UUID) -> None:
        """Make sure that this replica still leads, and count the attempt."""
        ...

    async def sent(self, notice: UUID, at: datetime) -> None:
        """It was taken."""
        ...

    async def again(self, notice: UUID, next_at: datetime, why: str) -> None:
        """It was not taken; it is tried again."""
        ...

    async def dropped(self, notice: UUID, at: datetime, why: str, lost: Mapping[TellingKey, Telling]) -> None:
        """It was not taken, and is not tried again."""
        ...

    async def find(self, ask: FindIncidents) -> IncidentPage:
        """A page of incidents; raises ``AskError`` for a cursor that is none."""
        ...

    async def forget(self, incidents: datetime, notices: datetime, limit: int) -> int:
        """Delete incidents and notices that ended before these moments; returns how many."""
        ...


def no_channels(names: Iterable[str]) -> str:
    """For errors: which channels there are."""
    return ", ".join(sorted(names)) or "none"
