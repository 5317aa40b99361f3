"""Everything that is read. A page costs the same however many rows there are: each filter has its index."""

import base64
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Select, func, literal, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from muster_bus import AskError
from muster_contracts.audit.v1 import AuditEntry, AuditPage
from muster_contracts.chunk.v1 import Chunk, Chunks, Encoding, ReadChunks
from muster_contracts.command.v1 import CommandDetail, CommandState, FindTargets, Submit, TargetPage
from muster_sql import Database, UtcDateTime
from state_store.adapters.page import kept_of, orders
from state_store.adapters.sql_ledger import counts_of
from state_store.adapters.submitting import find_known
from state_store.adapters.tables import AUDIT, CHUNKS, STREAMS, TARGETS
from state_store.adapters.trouble import reading
from state_store.domain.orders import detail, terms
from state_store.domain.pages import fitting
from state_store.domain.states import LIVING
from state_store.domain.target import Kept, shown
from state_store.ports import OpenOrder

MOST_CHUNKS = 500
"""Of one answer: with tiny chunks it is their frames that fill it."""
PAGE_BYTES = 512 * 1024
"""Of one answer, as JSON: the broker takes no message beyond 1 MiB."""
MICROSECOND = timedelta(microseconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class SqlQueries:
    """See ``ports.Queries``; every method may raise ``Unavailable``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def known(self, submit: Submit) -> bool:
        """Whether this submission, or one under its id or key, is in the ledger."""
        async with reading(self._database) as connection:
            return bool(await find_known(connection, [submit]))

    async def command(self, command_id: UUID) -> CommandDetail | None:
        """One command and how far its targets are."""
        async with reading(self._database) as connection:
            order = (await orders(connection, [command_id])).get(command_id)
            return detail(order, await counts_of(connection, command_id)) if order else None

    async def targets(self, wanted: FindTargets) -> TargetPage:
        """A page of targets, newest first; those of one command by agent, for they are equally old.

        Raises:
            AskError: ``before`` is not the ``next`` of a page.
        """
        query = by_agent(wanted) if wanted.command_id else by_age(wanted)
        # One look per state: each is a walk along its index, which a list of states would not be.
        looks = [query.where(TARGETS.c.state == one) for one in set(wanted.states)] or [query]
        found: list[Kept] = []
        async with reading(self._database) as connection:
            for look in looks:
                rows = await connection.execute(look.limit(wanted.limit + 1))
                found += [kept_of(row._asdict()) for row in rows]
        if wanted.command_id:
            found.sort(key=lambda kept: kept.agent)
        else:
            found.sort(key=_age, reverse=True)
        page = fitting([shown(one) for one in found[: wanted.limit]], PAGE_BYTES)
        cursor = _cursor(found[len(page) - 1], wanted) if len(found) > len(page) else None
        return TargetPage(targets=page, next=cursor)

    async def backlog(self, agent: str, after: UUID | None, limit: int) -> list[OpenOrder]:
        """What an agent has not ended, oldest first."""
        columns = TARGETS.c
        mine = select(TARGETS).where(columns.agent == agent, columns.ended_at.is_(None))
        async with reading(self._database) as connection:
            if after:
                last = select(columns.position).where(columns.command_id == after, columns.agent == agent)
                mine = mine.where(columns.position > (await connection.scalar(last) or 0))
            rows = await connection.execute(mine.order_by(columns.position).limit(limit))
            kept = [kept_of(row._asdict()) for row in rows]
            known = await orders(connection, (one.command_id for one in kept))
        return [OpenOrder(one, terms(known[one.command_id])) for one in kept if one.command_id in known]

    async def chunks(self, wanted: ReadChunks) -> Chunks:
        """Some of a stream; nothing where there is none."""
        async with reading(self._database) as connection:
            columns = STREAMS.c
            named = select(STREAMS).where(columns.agent == wanted.agent_id, columns.name == wanted.stream)
            stream = (await connection.execute(named)).one_or_none()
            if stream is None:
                return Chunks(chunks=[], size=0)
            found = await _chunks(connection, stream.id, wanted) if wanted.offset < stream.size else []
        return Chunks(chunks=found, size=stream.size, complete=stream.complete, sha256=stream.sha256)

    async def audit(self, after: int, limit: int) -> AuditPage:
        """Entries of the audit, upwards."""
        columns = AUDIT.c
        query = select(AUDIT).where(columns.sequence > after).order_by(columns.sequence).limit(limit)
        async with reading(self._database) as connection:
            rows = (await connection.execute(query)).all()
            last = await connection.scalar(select(func.max(columns.sequence)))
        entries = [AuditEntry.model_validate(row._asdict()) for row in rows]
        return AuditPage(entries=fitting(entries, PAGE_BYTES), last=last or 0)

    async def open_by_state(self) -> dict[CommandState, int]:
        """How many targets have not ended."""
        columns = TARGETS.c
        query = select(columns.state, func.count()).where(columns.state.in_(LIVING)).group_by(columns.state)
        async with reading(self._database) as connection:
            return {CommandState(state): number for state, number in await connection.execute(query)}


def by_age(wanted: FindTargets) -> Select[Any]:
    """The targets of a page, newest first."""
    columns = TARGETS.c
    query = _filtered(wanted).order_by(columns.submitted_at.desc(), columns.position.desc())
    if wanted.before is None:
        return query
    micros, _, position = wanted.before.partition("-")
    if not (_is_number(micros) and _is_number(position)):
        raise _no_cursor(wanted.before)
    moment = EPOCH + int(micros) * MICROSECOND
    here = tuple_(columns.submitted_at, columns.position)
    # The plain condition beside the pair lets SQLite begin its walk at the cursor.
    there = tuple_(literal(moment, UtcDateTime()), literal(int(position), BigInteger()))
    return query.where(columns.submitted_at <= moment, here < there)


def by_agent(wanted: FindTargets) -> Select[Any]:
    """The targets of a page of one command."""
    query = _filtered(wanted).where(TARGETS.c.command_id == wanted.command_id).order_by(TARGETS.c.agent)
    return query.where(TARGETS.c.agent > wanted.before) if wanted.before else query


def _filtered(wanted: FindTargets) -> Select[Any]:
    columns, query = TARGETS.c, select(TARGETS)
    if wanted.agent_id:
        query = query.where(columns.agent == wanted.agent_id)
    if wanted.issuer:
        query = query.where(columns.issuer == wanted.issuer)
    if wanted.verb:
        query = query.where(columns.verb == wanted.verb)
    if wanted.since:
        query = query.where(columns.submitted_at >= wanted.since)
    if wanted.until:
        query = query.where(columns.submitted_at < wanted.until)
    return query


def _age(kept: Kept) -> tuple[datetime, int]:
    return kept.submitted_at, kept.position or 0


def _cursor(last: Kept, wanted: FindTargets) -> str:
    if wanted.command_id:
        return last.agent
    return f"{(last.submitted_at - EPOCH) // MICROSECOND}-{last.position}"


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 17


def _no_cursor(before: str) -> AskError:
    return AskError("invalid", f"cannot go on before {before[:100]!r}: give the 'next' of the page before")


async def _chunks(connection: AsyncConnection, stream_id: int, wanted: ReadChunks) -> list[Chunk]:
    """From the chunk on that holds the offset: at least one, then as many as fit."""
    columns = CHUNKS.c
    first = select(func.max(columns.offset)).where(
        columns.stream_id == stream_id, columns.offset <= wanted.offset
    )
    begin = await connection.scalar(first) or 0
    here = (columns.stream_id == stream_id, columns.offset >= begin)
    sizes = select(columns.offset, columns.length, func.length(columns.data).label("packed")).where(*here)
    rows = await connection.execute(sizes.order_by(columns.offset).limit(MOST_CHUNKS))
    room, last = wanted.limit, begin
    for row in rows:
        room -= max(row.length, row.packed)
        if row.offset > begin and room < 0:
            break
        last = row.offset
    found = await connection.execute(
        select(CHUNKS).where(*here, columns.offset <= last).order_by(columns.offset)
    )
    return [_chunk(row) for row in found]


def _chunk(row: Any) -> Chunk:
    return Chunk(
        offset=row.offset,
        length=row.length,
        sha256=row.sha256,
        encoding=Encoding(row.encoding),
        data=base64.b64encode(row.data).decode(),
    )
