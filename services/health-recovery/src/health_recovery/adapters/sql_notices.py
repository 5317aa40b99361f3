"""Incidents, tellings and notices in SQL; everything is written in the leader's fenced transactions."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, Uuid, delete, literal, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from health_recovery.adapters.notice_rows import (
    case_of,
    incident_of,
    incident_row,
    notice_row,
    outgoing,
    shown,
    telling,
    telling_row,
)
from health_recovery.adapters.notice_tables import INCIDENTS, NOTICES, TELLINGS
from health_recovery.adapters.trouble import reading
from health_recovery.adapters.writer import Writer
from health_recovery.domain.incidents import Case, Incident
from health_recovery.domain.keys import Key
from health_recovery.domain.notices import MINUTE, Status, Telling
from health_recovery.notice_ports import End, Kept, Outgoing, TellingKey
from muster_bus import AskError
from muster_bus.bus import letter_of
from muster_contracts.health.v1 import FindIncidents, IncidentPage
from muster_contracts.health.v1 import Incident as Shown
from muster_contracts.message import DurableFact
from muster_sql import Database, Outbox, UtcDateTime, insert_rows, upsert

PAGE_BYTES = 512 * 1024
"""Of one answer: the broker takes no message beyond 1 MiB."""
GROUPS_REMEMBERED = timedelta(hours=1)
WHY_CHARACTERS = 500


class SqlNotices:
    """See ``notice_ports.NoticeStore``."""

    def __init__(self, database: Database, writer: Writer, outbox: Outbox) -> None:
        self._database, self._writer, self._outbox = database, writer, outbox

    async def load(self, at: datetime, keep_seconds: float) -> Kept:
        """All that is not over for longer than ``keep_seconds``, or of which somebody is still to be told."""
        since = at - timedelta(seconds=keep_seconds)
        async with reading(self._database) as connection:
            recent = or_(INCIDENTS.c.resolved_at.is_(None), INCIDENTS.c.moved_at > since)
            newest_last = select(INCIDENTS).where(recent).order_by(INCIDENTS.c.moved_at)
            cases = {
                Key(row.agent, row.package): case_of(row) for row in await connection.execute(newest_last)
            }
            ended = await _ended_untold(connection, since)
            wanted = [case.incident.id for case in cases.values() if case.incident] + [
                one.id for one in ended
            ]
            flushed, planned = await _lately(connection, at)
            return Kept(
                cases=cases,
                ended=ended,
                tellings=await _tellings(connection, wanted),
                outgoing=await _waiting(connection),
                flushed=flushed,
                planned=planned,
            )

    async def write_cases(
        self, cases: Mapping[Key, Case], facts: Sequence[DurableFact], ends: Mapping[UUID, End]
    ) -> None:
        """Keep incidents as they are now, and say these facts."""
        rows = [incident_row(case, ends.get(case.incident.id)) for case in cases.values() if case.incident]
        letters = [letter_of(fact) for fact in facts]

        async def work(connection: AsyncConnection) -> None:
            await upsert(connection, INCIDENTS, rows, ["id"])
            await self._outbox.put_in(connection, letters)

        await self._writer.transact(work)

    async def write_notices(
        self, notices: Sequence[Outgoing], tellings: Mapping[TellingKey, Telling], at: datetime
    ) -> None:
        """Keep notices before they are sent, and what will have been told by them."""
        rows = [notice_row(one, at) for one in notices]

        async def work(connection: AsyncConnection) -> None:
            await insert_rows(connection, NOTICES, rows)
            await _upsert_tellings(connection, tellings)

        await self._writer.transact(work)

    async def claim(self, notice: UUID) -> None:
        """Make sure that this replica still leads, and count the attempt."""
        await self._change(notice, attempts=NOTICES.c.attempts + 1)

    async def sent(self, notice: UUID, at: datetime) -> None:
        """It was taken."""
        await self._change(notice, state="sent", ended_at=at, why=None)

    async def again(self, notice: UUID, next_at: datetime, why: str) -> None:
        """It was not taken; it is tried again."""
        await self._change(notice, next_at=next_at, why=why[:WHY_CHARACTERS])

    async def dropped(self, notice: UUID, at: datetime, why: str, lost: Mapping[TellingKey, Telling]) -> None:
        """It was not taken, and is not tried again."""
        change = update(NOTICES).where(NOTICES.c.id == notice)

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(change.values(state="dropped", ended_at=at, why=why[:WHY_CHARACTERS]))
            await _upsert_tellings(connection, lost)

        await self._writer.transact(work)

    async def find(self, ask: FindIncidents) -> IncidentPage:
        """A page of incidents, newest first.

        Raises:
            AskError: ``before`` is not the ``next`` of a page.
        """
        async with reading(self._database) as connection:
            rows = (await connection.execute(_page(ask))).all()
        page: list[Shown] = []
        room = PAGE_BYTES
        for row in rows[: ask.limit]:
            one = shown(row)
            room -= len(one.model_dump_json())
            if page and room < 0:
                break
            page.append(one)
        last = rows[len(page) - 1] if len(rows) > len(page) else None
        return IncidentPage(incidents=page, next=f"{last.opened_at.isoformat()}/{last.id}" if last else None)

    async def forget(self, incidents: datetime, notices: datetime, limit: int) -> int:
        """Delete incidents, with what was told of them, and notices that ended before; returns how many."""
        sent = select(NOTICES.c.id).where(NOTICES.c.ended_at < notices).limit(limit)
        over = select(INCIDENTS.c.id).where(INCIDENTS.c.resolved_at < incidents).limit(limit)

        async def work(connection: AsyncConnection) -> int:
            old = list((await connection.execute(over)).scalars())
            gone = await connection.execute(delete(NOTICES).where(NOTICES.c.id.in_(sent)))
            await connection.execute(delete(TELLINGS).where(TELLINGS.c.incident_id.in_(old)))
            await connection.execute(delete(INCIDENTS).where(INCIDENTS.c.id.in_(old)))
            return gone.rowcount + len(old)

        return await self._writer.transact(work)

    async def _change(self, notice: UUID, **values: Any) -> None:
        change = update(NOTICES).where(NOTICES.c.id == notice).values(**values)

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(change)

        await self._writer.transact(work)


async def _ended_untold(connection: AsyncConnection, since: datetime) -> list[Incident]:
    """Over for long, while a channel was told that they fire and not yet that they are over."""
    told = select(TELLINGS.c.incident_id).where(TELLINGS.c.status == Status.FIRING.value)
    query = select(INCIDENTS).where(
        INCIDENTS.c.resolved_at.is_not(None), INCIDENTS.c.moved_at <= since, INCIDENTS.c.id.in_(told)
    )
    return [incident_of(row) for row in await connection.execute(query)]


async def _tellings(connection: AsyncConnection, incidents: list[UUID]) -> dict[TellingKey, Telling]:
    found: dict[TellingKey, Telling] = {}
    for start in range(0, len(incidents), 500):
        query = select(TELLINGS).where(TELLINGS.c.incident_id.in_(incidents[start : start + 500]))
        found |= {(row.channel, row.incident_id): telling(row) for row in await connection.execute(query)}
    return found


async def _waiting(connection: AsyncConnection) -> list[Outgoing]:
    query = select(NOTICES).where(NOTICES.c.state == "waiting").order_by(NOTICES.c.created_at)
    return [outgoing(row) for row in await connection.execute(query)]


async def _lately(
    connection: AsyncConnection, at: datetime
) -> tuple[dict[tuple[str, str], datetime], dict[str, list[datetime]]]:
    """When each group was told of last, and when each channel was given its notices of the last minute."""
    flushed: dict[tuple[str, str], datetime] = {}
    planned: dict[str, list[datetime]] = {}
    columns = NOTICES.c
    query = select(columns.channel, columns.groups, columns.created_at)
    query = query.where(columns.created_at > at - GROUPS_REMEMBERED).order_by(columns.created_at)
    for row in await connection.execute(query):
        flushed |= {(row.channel, group): row.created_at for group in row.groups}
        if at - row.created_at < MINUTE:
            planned.setdefault(row.channel, []).append(row.created_at)
    return flushed, planned


async def _upsert_tellings(connection: AsyncConnection, tellings: Mapping[TellingKey, Telling]) -> None:
    rows = [telling_row(key, one) for key, one in tellings.items()]
    await upsert(connection, TELLINGS, rows, ["channel", "incident_id"])


def _page(ask: FindIncidents) -> Select[Any]:
    columns = INCIDENTS.c
    query = select(INCIDENTS).order_by(columns.opened_at.desc(), columns.id.desc()).limit(ask.limit + 1)
    if ask.open is not None:
        query = query.where(columns.resolved_at.is_(None) if ask.open else columns.resolved_at.is_not(None))
    if ask.agent_id:
        query = query.where(columns.agent == ask.agent_id)
    if ask.package:
        query = query.where(columns.package == ask.package)
    return query.where(_before(ask.before)) if ask.before else query


def _before(cursor: str) -> ColumnElement[bool]:
    moment, _, incident = cursor.partition("/")
    try:
        opened = literal(datetime.fromisoformat(moment).astimezone(UTC), UtcDateTime())
        identity = literal(UUID(incident), Uuid())
    except (ValueError, OverflowError):
        text = f"cannot find incidents before {cursor!r}: give the next of a page"
        raise AskError("invalid", text) from None
    return tuple_(INCIDENTS.c.opened_at, INCIDENTS.c.id) < tuple_(opened, identity)
