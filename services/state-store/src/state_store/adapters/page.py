"""One transaction of the ledger: what was read in it, what is to be written at its end, in which order."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import fields
from datetime import datetime
from itertools import islice
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

from sqlalchemy import Select, bindparam, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from muster_bus import Letter, TooLarge, letter_of
from muster_contracts.audit.v1 import Anchored
from muster_contracts.command.v1 import STORE, CommandState
from muster_sql import Outbox, insert_rows
from state_store.adapters.pairs import by_pairs, given
from state_store.adapters.tables import AUDIT, CHUNKS, COMMANDS, HEAD, STREAMS, TARGETS
from state_store.domain.audit import Act, Head, chained
from state_store.domain.orders import SENSITIVE, Order, without_secrets
from state_store.domain.target import Kept, Key, settled

KEYS_AT_ONCE = 400

FIXED = {
    "position",
    "command_id",
    "agent",
    "verb",
    "about",
    "issuer",
    "submitted_at",
    "not_after",
    "start_seconds",
    "run_seconds",
}
CHANGING = [one.name for one in fields(Kept) if one.name not in FIXED]
INSERTED = [one.name for one in fields(Kept) if one.name != "position"]
UPDATE = (
    update(TARGETS)
    .where(TARGETS.c.position == bindparam("at_position"))
    .values({name: bindparam(f"new_{name}") for name in CHANGING})
)
# Statements are built once: to build one takes longer than to run it.
INSERT = insert(TARGETS)
FEWER = (
    update(COMMANDS)
    .where(COMMANDS.c.id == bindparam("at_id"))
    .values(living=COMMANDS.c.living - bindparam("ended"))
)
READ_HEAD = select(HEAD)
READ_AND_LOCK_HEAD = READ_HEAD.with_for_update()
WRITE_HEAD = update(HEAD).values(
    {name: bindparam(f"new_{name}") for name in ("sequence", "hash", "anchored")}
)
ORDERS = select(COMMANDS).where(COMMANDS.c.id.in_(bindparam("ids", expanding=True)))


class Page:
    """Targets are read (and locked) by ``load``, changed by ``set``, and written by ``close``."""

    def __init__(
        self, connection: AsyncConnection, outbox: Outbox, now: datetime, *, is_sqlite: bool
    ) -> None:
        self.connection, self.now = connection, now
        self.acts: list[Act] = []
        self.anchor = False
        """Whether to say how far the audit is."""
        self.chunks: list[dict[str, Any]] = []
        self.streams: dict[int, dict[str, Any]] = {}
        self.hashers: dict[int, tuple[int, Any]] = {}
        self.ended: list[Kept] = []
        """What has come to its end in this transaction."""
        self.late = 0
        """How many reports came after their end."""
        self.letters: list[Letter] = []
        """What is said of it, in the outbox with it."""
        self.scrubbed = False
        """Whether something was taken out that may be secret."""
        self._outbox, self._is_sqlite = outbox, is_sqlite
        self._was: dict[Key, Kept] = {}
        self._now: dict[Key, Kept] = {}

    # Targets.

    async def load(self, keys: Iterable[Key]) -> None:
        """Read and lock these, unless they are here already."""
        wanted = iter(dict.fromkeys(key for key in keys if key not in self._now))
        query = by_pairs(self.connection, TARGETS, (TARGETS.c.command_id, TARGETS.c.agent))
        if not self._is_sqlite:
            # Everybody locks in one order, so that nobody waits for one who waits for them.
            query = query.order_by(TARGETS.c.position)
        while some := list(islice(wanted, KEYS_AT_ONCE)):
            await self.take(query, given(self.connection, some))

    async def take(
        self, query: Select[Any], parameters: dict[str, Any] | None = None, *, skip_locked: bool = False
    ) -> list[Kept]:
        """Read and lock what a query of targets finds, and return it as it is by now."""
        if not self._is_sqlite:  # SQLite has one writer, and this is it
            query = query.with_for_update(skip_locked=skip_locked)
        found = [kept_of(row._asdict()) for row in await self.connection.execute(query, parameters)]
        for one in found:
            self._was.setdefault(one.key, one)
            self._now.setdefault(one.key, one)
        return [self._now[one.key] for one in found]

    def get(self, key: Key) -> Kept | None:
        """A target that was loaded; None if there is none."""
        return self._now.get(key)

    def set(self, kept: Kept) -> None:
        """The target as it is from now on."""
        before = self._now[kept.key]
        self._now[kept.key] = kept
        if kept.ended and not before.ended:
            self.ended.append(kept)

    # Commands.

    async def orders(self, ids: Iterable[UUID]) -> dict[UUID, Order]:
        """Commands by id."""
        return await orders(self.connection, ids)

    # The end.

    async def close(self) -> None:
        """Write what has changed, the facts that follow, and the audit, whose head is locked last."""
        changed = [one for key, one in self._now.items() if one is not self._was[key]]
        if changed:
            await self.connection.execute(UPDATE, [_changes(one) for one in changed])
        await self._count_ended()
        await self._write_streams()
        self.letters = [_news(one) for one in self.ended]
        if self.acts or self.anchor:
            self.letters += await self._append()
        await self._outbox.put_in(self.connection, self.letters)

    async def _count_ended(self) -> None:
        counts = Counter(one.command_id for one in self.ended)
        if not counts:
            return
        ids = sorted(counts)
        await self.connection.execute(FEWER, [{"at_id": one, "ended": counts[one]} for one in ids])
        if any(SENSITIVE.get(one.verb) for one in self.ended):
            await self._scrub(ids)

    async def _scrub(self, ids: list[UUID]) -> None:
        """Nobody needs what may be secret any more where every target has ended."""
        columns = COMMANDS.c
        done = select(columns.id, columns.verb, columns.body).where(
            columns.id.in_(ids), columns.living == 0, columns.sensitive
        )
        for row in (await self.connection.execute(done)).all():
            self.scrubbed = True
            clean = {"body": without_secrets(row.verb, row.body), "sensitive": False}
            await self.connection.execute(update(COMMANDS).where(columns.id == row.id).values(clean))

    async def _write_streams(self) -> None:
        await self.write_chunks()
        if self.streams:
            grown = update(STREAMS).where(STREAMS.c.id == bindparam("at_id"))
            names = ("size", "complete", "sha256")
            grown = grown.values({name: bindparam(f"new_{name}") for name in names})
            rows = [
                {"at_id": id_, **{f"new_{name}": row[name] for name in names}}
                for id_, row in sorted(self.streams.items())
            ]
            await self.connection.execute(grown, rows)

    async def write_chunks(self) -> None:
        """Write the chunks that were gathered so far."""
        chunks, self.chunks = self.chunks, []
        await insert_rows(self.connection, CHUNKS, chunks)

    async def _append(self) -> list[Letter]:
        """Chain the acts to the audit; returns the fact that says how far it is, if that is wanted."""
        row = (await self.connection.execute(READ_HEAD if self._is_sqlite else READ_AND_LOCK_HEAD)).one()
        head, rows = Head(row.sequence, row.hash), []
        for act in self.acts:
            entry = chained(head, act, self.now)
            head = Head(entry.sequence, entry.hash)
            rows.append(entry.model_dump())
        await insert_rows(self.connection, AUDIT, rows)
        letters = []
        anchored = row.anchored
        if self.anchor and head.sequence > anchored:
            anchored = head.sequence
            letters.append(letter_of(_anchor(head, self.now)))
        now = {"new_sequence": head.sequence, "new_hash": head.hash, "new_anchored": anchored}
        await self.connection.execute(WRITE_HEAD, now)
        return letters


async def orders(connection: AsyncConnection, ids: Iterable[UUID]) -> dict[UUID, Order]:
    """Commands by id."""
    wanted, found = iter(dict.fromkeys(ids)), {}
    while some := list(islice(wanted, KEYS_AT_ONCE)):
        for row in await connection.execute(ORDERS, {"ids": some}):
            found[row.id] = Order(**row._asdict())
    return found


async def insert_targets(connection: AsyncConnection, targets: Iterable[Kept]) -> None:
    """Write new targets; their positions follow their order."""
    rows = [_row(one) for one in targets]
    for start in range(0, len(rows), 1000):
        await connection.execute(INSERT, rows[start : start + 1000])


def kept_of(row: Mapping[str, Any]) -> Kept:
    """The target of a row."""
    late = row["reported_late"]
    return Kept(
        **{
            **row,
            "state": CommandState(row["state"]),
            "reported_late": CommandState(late) if late else None,
        }
    )


def _row(kept: Kept) -> dict[str, Any]:
    return {name: getattr(kept, name) for name in INSERTED}


def _changes(kept: Kept) -> dict[str, Any]:
    return {"at_position": kept.position, **{f"new_{name}": getattr(kept, name) for name in CHANGING}}


def _news(kept: Kept) -> Letter:
    """The letter that says that a target has ended; without its result, should that make it too large."""
    try:
        return letter_of(settled(kept))
    except TooLarge:
        return letter_of(settled(kept, with_result=False))


def _anchor(head: Head, at: datetime) -> Anchored:
    return Anchored(
        message_id=uuid5(NAMESPACE_OID, f"anchored {head.sequence} {head.hash}"),
        occurred_at=at,
        service=STORE,
        sequence=head.sequence,
        hash=head.hash,
    )
