"""Cases, acts and pauses in SQL; everything is written in the leader's fenced transactions."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, delete, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from health_recovery.adapters.recovery_tables import ACTS, CASES, PAUSES
from health_recovery.adapters.trouble import reading
from health_recovery.adapters.writer import Writer
from health_recovery.domain.acts import Ordered
from health_recovery.domain.keys import Key
from health_recovery.domain.ladder import Case
from health_recovery.recovery_ports import Changes, Kept
from muster_bus import AskError
from muster_bus.bus import letter_of
from muster_contracts.command.v1 import Submit
from muster_contracts.health.v1 import FindRecoveries, Pause, RecoveryAct, RecoveryPage
from muster_sql import Database, Outbox, insert_rows, upsert

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
CHUNK = 400

SHOWN = (
    ACTS.c.id, ACTS.c.agent, ACTS.c.package, ACTS.c.step, ACTS.c.attempt, ACTS.c.decided_at, ACTS.c.why,
    ACTS.c.dry_run, ACTS.c.state, ACTS.c.text, ACTS.c.ended_at,
)  # fmt: skip


class SqlRecovery:
    """See ``recovery_ports.RecoveryStore``."""

    def __init__(self, database: Database, writer: Writer, outbox: Outbox) -> None:
        self._database, self._writer, self._outbox = database, writer, outbox

    async def load(self) -> Kept:
        """All that is not over; may raise ``Unavailable``."""
        waiting = select(ACTS).where(ACTS.c.ended_at.is_(None)).order_by(ACTS.c.position)
        async with reading(self._database) as connection:
            ordered = [
                Ordered(_act(row), Submit.model_validate(row.submission))
                for row in await connection.execute(waiting)
            ]
            acting = {one.key for one in ordered}
            cases = [_case(row, acting) for row in await connection.execute(select(CASES))]
            pauses = await connection.execute(select(PAUSES).where(PAUSES.c.resumed_at.is_(None)))
            return Kept(
                cases={case.key: case for case in cases},
                ordered=ordered,
                pauses={row.id: _pause(row) for row in pauses},
            )

    async def write(self, changes: Changes) -> None:
        """Keep all of it, and say the facts."""
        letters = [letter_of(fact) for fact in changes.facts]
        cases = [_case_row(case) for case in changes.cases.values() if case]
        gone = [key for key, case in changes.cases.items() if case is None]
        acts = [_act_row(act, changes.orders.get(act.id)) for act in changes.decided]

        async def work(connection: AsyncConnection) -> None:
            await upsert(connection, CASES, cases, ["agent", "package"])
            await _delete_cases(connection, gone)
            await insert_rows(connection, ACTS, acts)
            for act in changes.ended:
                await _note(connection, act)
            await self._outbox.put_in(connection, letters)

        await self._writer.transact(work)

    async def noted(self, act: RecoveryAct) -> None:
        """Keep how far an act is."""
        await self._writer.transact(lambda connection: _note(connection, act))

    async def acts_of(self, key: Key, limit: int, since: datetime | None = None) -> list[RecoveryAct]:
        """What was done about a package, newest first; may raise ``Unavailable``."""
        query = select(*SHOWN).where(ACTS.c.agent == key.agent, ACTS.c.package == key.package)
        if since:
            query = query.where(ACTS.c.decided_at >= since)
        async with reading(self._database) as connection:
            rows = await connection.execute(query.order_by(ACTS.c.position.desc()).limit(limit))
            return [_act(row) for row in rows]

    async def find(self, ask: FindRecoveries) -> RecoveryPage:
        """A page of acts; raises ``AskError`` for a cursor that is none."""
        query = select(ACTS.c.position, *SHOWN)
        if ask.agent_id:
            query = query.where(ACTS.c.agent == ask.agent_id)
        if ask.package:
            query = query.where(ACTS.c.package == ask.package)
        if ask.before:
            query = query.where(ACTS.c.position < _position(ask.before))
        async with reading(self._database) as connection:
            found = await connection.execute(query.order_by(ACTS.c.position.desc()).limit(ask.limit + 1))
            rows = found.all()
        page = rows[: ask.limit]
        return RecoveryPage(
            acts=[_act(row) for row in page], next=str(page[-1].position) if len(rows) > len(page) else None
        )

    async def pause(self, pause: Pause) -> None:
        """Keep a pause; one of this id is kept once, also if it was taken back."""
        row = pause.model_dump() | {"resumed_at": None, "resumed_by": None}

        async def work(connection: AsyncConnection) -> None:
            await upsert(connection, PAUSES, [row], ["id"], update=[])

        await self._writer.transact(work)

    async def resume(self, pauses: Sequence[UUID], by: str, at: datetime) -> None:
        """Take pauses back."""
        lasting = update(PAUSES).where(PAUSES.c.id.in_(pauses), PAUSES.c.resumed_at.is_(None))

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(lasting.values(resumed_at=at, resumed_by=by))

        await self._writer.transact(work)

    async def knows_pause(self, pause: UUID) -> bool:
        """Whether there is, or was, such a pause; may raise ``Unavailable``."""
        async with reading(self._database) as connection:
            return bool(await connection.scalar(select(PAUSES.c.id).where(PAUSES.c.id == pause)))

    async def forget(self, before: datetime, limit: int) -> int:
        """Delete acts and pauses that ended before; returns how many."""
        acts = select(ACTS.c.position).where(ACTS.c.ended_at < before).limit(limit)
        over = or_(PAUSES.c.resumed_at < before, PAUSES.c.until < before)

        async def work(connection: AsyncConnection) -> int:
            gone = await connection.execute(delete(ACTS).where(ACTS.c.position.in_(acts)))
            gone_too = await connection.execute(delete(PAUSES).where(over))
            return gone.rowcount + gone_too.rowcount

        return await self._writer.transact(work)


async def _delete_cases(connection: AsyncConnection, keys: Iterable[Key]) -> None:
    wanted = [(key.agent, key.package) for key in keys]
    for start in range(0, len(wanted), CHUNK):
        some = tuple_(CASES.c.agent, CASES.c.package).in_(wanted[start : start + CHUNK])
        await connection.execute(delete(CASES).where(some))


async def _note(connection: AsyncConnection, act: RecoveryAct) -> None:
    values = {"state": act.state, "text": act.text, "ended_at": act.ended_at}
    # What has ended stays as it ended.
    lasting = update(ACTS).where(ACTS.c.id == act.id, ACTS.c.ended_at.is_(None))
    await connection.execute(lasting.values(values))


def _position(cursor: str) -> int:
    if not cursor.isdecimal() or len(cursor) > 18:
        raise AskError("invalid", f"cannot go on before {cursor!r}: give the next of the page before")
    return int(cursor)


def _act_row(act: RecoveryAct, order: Submit | None) -> dict[str, Any]:
    submission = order.model_dump(mode="json") if order else None
    return {**act.model_dump(), "submission": submission}


def _act(row: Any) -> RecoveryAct:
    return RecoveryAct.model_validate({name: getattr(row, name) for name in RecoveryAct.model_fields})


def _case_row(case: Case) -> dict[str, Any]:
    return {
        "agent": case.key.agent,
        "package": case.key.package,
        "opened_at": case.opened_at,
        "attempts": case.attempts,
        "acts": [(one - EPOCH) // MICROSECOND for one in case.acts],
        "next_at": case.next_at,
        "gave_up_at": case.gave_up_at,
        "until": case.until,
        "rounds": case.rounds,
        "dry_run": case.dry_run,
        "closed": case.closed,
    }


def _case(row: Row[Any], acting: set[Key]) -> Case:
    key = Key(row.agent, row.package)
    return Case(
        key=key,
        opened_at=row.opened_at,
        attempts=row.attempts,
        acts=tuple(EPOCH + timedelta(microseconds=one) for one in row.acts),
        acting=key in acting,
        next_at=row.next_at,
        gave_up_at=row.gave_up_at,
        until=row.until,
        rounds=row.rounds,
        dry_run=row.dry_run,
        closed=row.closed,
    )


def _pause(row: Row[Any]) -> Pause:
    return Pause(id=row.id, selector=row.selector, since=row.since, until=row.until, by=row.by, text=row.text)
