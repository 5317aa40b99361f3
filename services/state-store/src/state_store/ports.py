"""What state-store needs of the world."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from muster_contracts.audit.v1 import AuditPage
from muster_contracts.chunk.v1 import Chunks, ChunkTaken, PutChunk, ReadChunks
from muster_contracts.command.v1 import (
    CancelCommand,
    CommandDetail,
    CommandState,
    Ended,
    FindTargets,
    Progressed,
    Submit,
    TargetPage,
    Terms,
)
from state_store.domain.audit import Act
from state_store.domain.streams import Piece
from state_store.domain.target import Kept, Key, Outcome


class Unavailable(Exception):
    """The database cannot be used just now; the same may work later."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much there may be."""

    targets_of_command: int = 50_000
    open_of_agent: int = 10_000
    bytes_of_stream: int = 64 << 20
    """Each chunk counts as ``domain.streams.LEAST_CHARGE`` at least."""


@dataclass(frozen=True, slots=True)
class Push:
    """Something to tell one agent: to do a command, to stop it, or both, the stop first."""

    agent: str
    terms: Terms
    execute: bool = True
    cancel: bool = False


@dataclass(frozen=True, slots=True)
class Taken:
    """A submission in the ledger."""

    command_id: UUID
    targets: int
    terms: Terms | None
    """To push; null where it was there before."""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A command of which as much was stopped as could be."""

    detail: CommandDetail
    pushes: list[Push]
    """Who has to be told to stop it."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of a chunk and of its stream."""

    taken: ChunkTaken
    grew: bool
    """Whether there is news for whoever follows the stream."""
    too_large: bool = False
    """Whether the chunk was one too many: the stream has ended without it."""


@dataclass(frozen=True, slots=True)
class OpenOrder:
    """A target that has not ended, with its terms."""

    kept: Kept
    terms: Terms


class Ledger(Protocol):
    """All that writes. What returns is on disk; each may raise ``Unavailable``."""

    async def submit(self, submit: Submit, agents: Sequence[str]) -> Taken:
        """Keep a command; raises ``AskError`` where its key is used for another, or limits are passed."""
        ...

    async def note(self, act: Act) -> None:
        """Write an act into the audit."""
        ...

    async def cancel(self, wanted: CancelCommand) -> Cancelled:
        """Stop what has not ended; raises ``AskError`` if there is no such command or target."""
        ...

    async def pushed(self, key: Key, outcome: Outcome) -> None:
        """Keep what became of an attempt."""
        ...

    async def progressed(self, news: Sequence[Progressed]) -> None:
        """Keep that agents have commands, or have begun."""
        ...

    async def ended(self, report: Ended) -> None:
        """End a target; raises ``Reject`` for what can never be kept."""
        ...

    async def hand_out(self, keys: Iterable[Key]) -> list[Kept]:
        """Keep that these go out in a backlog, and return them as they are by now."""
        ...

    async def put_chunk(self, put: PutChunk, piece: Piece | None) -> Stored:
        """Keep some bytes and, if it is told, the end; raises ``AskError``."""
        ...

    async def claim_pushes(self, limit: int) -> list[Push]:
        """What is due to be pushed again; noted as under way."""
        ...

    async def hasten_pushes(self) -> None:
        """Make all that no agent has taken due now."""
        ...

    async def end_overdue(self, limit: int) -> int:
        """End targets whose deadline has passed; returns how many were looked at."""
        ...

    async def anchor(self) -> None:
        """Say how far the audit is, if it has grown."""
        ...

    async def forget(self, before: datetime, limit: int) -> int:
        """Delete ended commands submitted before, with their targets and output; returns how many."""
        ...

    async def tidy(self) -> None:
        """Take off the disk what was scrubbed since the last time."""
        ...


class Queries(Protocol):
    """All that reads."""

    async def known(self, submit: Submit) -> bool:
        """Whether this submission, or one under its key, is in the ledger."""
        ...

    async def command(self, command_id: UUID) -> CommandDetail | None:
        """One command and how far its targets are."""
        ...

    async def targets(self, wanted: FindTargets) -> TargetPage:
        """A page of targets, newest first; raises ``AskError`` for a cursor that is none."""
        ...

    async def backlog(self, agent: str, after: UUID | None, limit: int) -> list[OpenOrder]:
        """What an agent has not ended, oldest first."""
        ...

    async def chunks(self, wanted: ReadChunks) -> Chunks:
        """Some of a stream."""
        ...

    async def audit(self, after: int, limit: int) -> AuditPage:
        """Entries of the audit, upwards."""
        ...

    async def open_by_state(self) -> dict[CommandState, int]:
        """How many targets have not ended."""
        ...


class Agents(Protocol):
    """Who is in the fleet."""

    async def matching(self, selector: str, most: int) -> list[str]:
        """The ids of agents that match now; one more than ``most`` where there are more.

        Raises:
            AskError: the selector cannot be read, or the registry does not answer.
        """
        ...


class Pushes(Protocol):
    """Where what is to be told to agents goes."""

    def put(self, pushes: Iterable[Push]) -> None:
        """Push these soon, in their order; what does not fit is left to the rounds."""
        ...

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        ...
