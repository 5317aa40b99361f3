"""What the registry needs of the world, as Protocols its adapters fulfil."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

from fleet_registry.domain.agent import Agent, Change, SessionEdit
from fleet_registry.domain.partition import Census, Partition
from muster_contracts.fleet.v1 import Degraded, Presence
from muster_contracts.message import DurableFact

T = TypeVar("T")


# The presence index -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Beat:
    """One agent spoke; ``interval_seconds`` is the interval it is judged by from now on."""

    agent_id: str
    epoch: str
    interval_seconds: float


@dataclass(frozen=True, slots=True)
class News:
    """A beat the index cannot settle: the agent is unknown, not online, or another run than the known one.

    For a run from another boot the index tells since when it speaks and when the known one last did.
    """

    beat: Beat
    contest_since: datetime | None = None
    known_spoke: datetime | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One agent as the index holds it; an entry of an older row ``version`` never overwrites a newer one."""

    agent_id: str
    epoch: str | None
    presence: Presence
    interval_seconds: float
    version: int
    last_seen: datetime | None


@dataclass(frozen=True, slots=True)
class Overdue:
    """An agent that has been silent for too long; ``dead`` when past its deadline."""

    agent_id: str
    epoch: str
    last_seen: datetime | None
    dead: bool


Judged = Mapping[str, datetime | None]
"""When each agent that was judged had last spoken, as its judge knew."""


class Index(Protocol):
    """Who spoke last when, and whose silence is due: a cache that may vanish at any moment."""

    @property
    def degraded(self) -> Degraded | None:
        """What cannot be known just now."""

    async def beat(self, beats: Sequence[Beat]) -> list[News]:
        """Note that agents spoke; returns only what needs a decision."""

    async def put(self, entries: Sequence[Entry], judged: Judged | None = None) -> set[str]:
        """Take over what was recorded; of the ``judged`` returns those that spoke after they were judged."""

    async def claim(self, limit: int) -> list[Overdue]:
        """The agents whose silence is due; each is claimed by one caller for 30 s."""

    async def seen(self, agent_ids: Sequence[str]) -> dict[str, datetime]:
        """When agents last spoke, of those that are known."""


# The store ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ruling:
    """All that one transaction records and says."""

    agents: tuple[Agent, ...] = ()
    changes: tuple[Change, ...] = ()
    sessions: tuple[SessionEdit, ...] = ()
    facts: tuple[DurableFact, ...] = ()
    begun: tuple[Partition, ...] = ()
    ended: tuple[str, ...] = ()


class Page(Protocol):
    """One transaction: what is read in it stays so until it is written."""

    async def agents(self, agent_ids: Iterable[str]) -> dict[str, Agent]:
        """The agents of these ids and the aliases of each, locked."""

    async def taken(self, names: Iterable[str]) -> frozenset[str]:
        """Which of the names are agents' ids."""

    async def partitions(self) -> list[Partition]:
        """The sites suspected to be cut off."""

    async def census(self, site: str, recent: datetime) -> Census:
        """A site's agents that are online, late, or lost since ``recent``."""

    async def cut_off(self, site: str) -> list[Agent]:
        """The agents that vanished while ``site`` was suspected, locked."""

    async def record(self, ruling: Ruling) -> None:
        """Write agents, history, sessions and the letters that tell of them."""


class Store(Protocol):
    """The truth: agents, their history and what is still to be said."""

    async def work(self, job: Callable[[Page], Awaitable[T]]) -> T:
        """Run ``job`` in one transaction; again if another registry was in the way."""


# The broker's side --------------------------------------------------------------------------------------


class Goodbyes(Protocol):
    """The last goodbye of each agent that the stream keeps."""

    async def last(self, agent_ids: Sequence[str]) -> dict[str, "Goodbye"]:
        """Of those that have said one.

        Raises:
            ConnectionError: the broker cannot be asked just now.
        """


@dataclass(frozen=True, slots=True)
class Goodbye:
    """One agent's goodbye as the stream keeps it."""

    epoch: str
    reason: str
    occurred_at: datetime


class Addresses(Protocol):
    """Where agents connect from, as the broker tells."""

    def address(self, agent_id: str) -> str | None:
        """``host:port`` of an agent's newest connection, if one is known."""
