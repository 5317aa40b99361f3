"""What the registry needs of the world, as Protocols its adapters fulfil."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, TypeVar

from fleet_registry.domain.agent import Agent, Change, SessionEdit
from fleet_registry.domain.counts import Counts
from fleet_registry.domain.partition import Census, Partition
from muster_contracts.fleet.v1 import AgentEvent, Connection, Degraded, Presence
from muster_contracts.host.v1 import Described
from muster_contracts.message import DurableFact
from muster_contracts.selector import Selector

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
    """One agent as the index holds it; an entry of an older row ``version`` never overwrites a newer one.

    Nor does its interval overwrite a known one of the same run, unless it is ``stated`` and nothing was heard
    of the run since: what is read for a verdict or a label may be a minute old.
    """

    agent_id: str
    epoch: str | None
    presence: Presence
    interval_seconds: float
    version: int
    last_seen: datetime | None
    stated: bool = False
    """Whether the interval is what the run stated when it was last seen."""


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

    @property
    def rebuilt(self) -> int:
        """How often it had to be filled again."""

    async def beat(self, beats: Sequence[Beat]) -> list[News]:
        """Note that agents spoke; returns only what needs a decision."""

    async def put(self, entries: Sequence[Entry], judged: Judged | None = None) -> set[str]:
        """Take over what was recorded; of the ``judged`` returns those that spoke after they were judged."""

    async def claim(self, limit: int) -> list[Overdue]:
        """The agents whose silence is due; each is claimed by one caller for 30 s."""

    async def seen(self, agent_ids: Sequence[str]) -> dict[str, datetime]:
        """When agents last spoke, of those that are known."""

    def tick(self) -> None:
        """This process is not hung; to be called at least every second."""

    async def recover(self) -> None:
        """While degraded: look whether it can be used again, and fill it."""

    async def tend(self) -> int:
        """Compare it with the truth and mend what differs; returns how many agents did."""

    def live_epoch(self, agent_id: str) -> str | None:
        """The run an agent is taken to be in, if it is taken to run at all, as far as is known here."""

    def take_touched(self) -> list[Entry]:
        """The agents heard here since this was last asked."""

    def seen_here(self) -> dict[str, datetime]:
        """When each live agent last spoke, as far as is known here."""


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


@dataclass(slots=True)
class Ended:
    """A session that ended, for the metrics."""

    reason: str
    seconds: float


@dataclass(slots=True)
class Recorded:
    """What has been committed, for the metrics."""

    changes: list[Change] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)
    written: list[tuple[Agent | None, Agent]] = field(default_factory=list)
    """Each agent whose row was written, as it was and as it is."""
    sites_cut: set[str] = field(default_factory=set)
    sites_back: set[str] = field(default_factory=set)

    def clear(self) -> None:
        """Forget what was not committed after all."""
        for each in (self.changes, self.ended, self.written, self.sites_cut, self.sites_back):
            each.clear()


class Unavailable(Exception):
    """The database cannot be used just now; trying again later is right."""


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
    """The truth: agents, their history and what is still to be said.

    Raises:
        Unavailable: from any method, when the database cannot be used.
    """

    async def work(self, job: Callable[[Page], Awaitable[T]]) -> T:
        """Run ``job`` in one transaction; again if another registry was in the way."""

    async def flapping(self) -> list[str]:
        """The ids of flapping agents."""

    async def remember_seen(self, entries: Sequence[Entry]) -> None:
        """Write when agents last spoke and by which interval."""

    async def describe(self, described: Described, at: datetime) -> None:
        """Keep the newest description of an agent, given ``at``: of its latest run on a machine."""

    async def define_group(self, name: str, selector: str) -> None:
        """Make a group, or give it another selector."""

    async def delete_group(self, name: str) -> bool:
        """Remove a group; whether there was one."""

    async def forget_before(self, moment: datetime) -> int:
        """Delete some history from before ``moment``; how many rows, 0 when there is none left."""


class Queries(Protocol):
    """The questions people and programs ask of the truth.

    Raises:
        Unavailable: from any method, when the database cannot be used.
    """

    async def find(
        self, selector: Selector, states: Sequence[Presence], after: str | None, limit: int
    ) -> tuple[list[Agent], int]:
        """One page of agents in the order of their ids, and how many there are on all pages."""

    async def get(
        self, agent_id: str, now: datetime
    ) -> tuple[Agent, dict[str, Any] | None, Connection | None] | None:
        """An agent, its description and its open session; nothing if it is unknown."""

    async def exists(self, agent_id: str) -> bool:
        """Whether the agent is known."""

    async def history(
        self, agent_id: str, before: int | None, limit: int
    ) -> tuple[list[AgentEvent], str | None]:
        """One page of an agent's changes, newest first, and where the next one begins."""

    async def connections(
        self, agent_id: str, before: int | None, limit: int, now: datetime
    ) -> tuple[list[Connection], str | None]:
        """One page of an agent's sessions, newest first, and where the next one begins."""

    async def groups(self) -> dict[str, Selector]:
        """Every group's selector, by name."""

    async def members(self, groups: Mapping[str, Selector]) -> dict[str, int]:
        """How many agents match each group."""

    async def counts(self) -> Counts:
        """The fleet in numbers."""


class Letters(Protocol):
    """What is recorded and still to be said."""

    async def size(self) -> int:
        """How many letters wait."""


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
