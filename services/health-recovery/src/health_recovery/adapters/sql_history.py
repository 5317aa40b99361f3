"""How health was: pages of history, and the stretches that availability is reckoned from."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, Select, or_, select

from health_recovery.adapters.tables import HISTORY
from health_recovery.adapters.trouble import reading
from health_recovery.domain.availability import Stretch
from health_recovery.domain.keys import Key
from muster_bus import AskError
from muster_contracts.health.v1 import GetHealthHistory, Health, HealthEvent, HealthHistory, PackageRef
from muster_sql import Database

_AT, _ID = HISTORY.c.at, HISTORY.c.id
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class SqlHistory:
    """See ``ports.History``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, ask: GetHealthHistory) -> HealthHistory:
        """Changes, newest first."""
        async with reading(self._database) as connection:
            found = list((await connection.execute(newest(ask).limit(ask.limit + 1))).mappings())
        page = found[: ask.limit]
        more = len(found) > len(page)
        return HealthHistory(events=[_event(row) for row in page], next=_cursor(page[-1]) if more else None)

    async def stretches(self, key: Key, since: datetime, until: datetime) -> list[Stretch]:
        """How a package was between two moments, oldest first, as far as it is known."""
        of_one = select(HISTORY).where(HISTORY.c.agent == key.agent, HISTORY.c.package == key.package)
        before = of_one.where(since > _AT).order_by(_AT.desc(), _ID.desc()).limit(1)
        within = of_one.where(since <= _AT, until > _AT).order_by(_AT, _ID)
        async with reading(self._database) as connection:
            rows = [row for query in (before, within) for row in (await connection.execute(query)).mappings()]
        return _stretches(rows, since, until)


def newest(ask: GetHealthHistory) -> Select[Any]:
    """What is asked for, newest first, along an index."""
    wanted: list[ColumnElement[bool]] = []
    if ask.agent_id is not None:
        wanted.append(HISTORY.c.agent == ask.agent_id)
    if ask.package is not None:
        wanted.append(HISTORY.c.package == ask.package)
    if ask.since is not None:
        wanted.append(ask.since <= _AT)
    if ask.until is not None:
        wanted.append(ask.until > _AT)
    if ask.before is not None:
        at, number = _read(ask.before)
        # The first half is for the index, which cannot be read along an OR.
        wanted += [at >= _AT, or_(at > _AT, number > _ID)]
    return select(HISTORY).where(*wanted).order_by(_AT.desc(), _ID.desc())


def _cursor(row: RowMapping) -> str:
    return f"{(row['at'] - _EPOCH) // timedelta(microseconds=1)}-{row['id']}"


def _read(cursor: str) -> tuple[datetime, int]:
    micros, _, number = cursor.partition("-")
    try:
        return _EPOCH + timedelta(microseconds=int(micros)), int(number)
    except (ValueError, OverflowError):
        text = f"cannot go on before '{cursor}': give the 'next' of a page, or leave it out"
        raise AskError("invalid", text) from None


def _event(row: RowMapping) -> HealthEvent:
    lasted = row["ended_at"] - row["at"] if row["ended_at"] and row["now"] else None
    cause = row["cause_agent"]
    return HealthEvent(
        id=_cursor(row), agent=row["agent"], package=row["package"], at=row["at"],
        was=row["was"], now=row["now"], reason=row["reason"], text=row["text"],
        cause=PackageRef(agent=cause, package=row["cause_package"]) if cause else None,
        duration_seconds=lasted.total_seconds() if lasted is not None else None,
    )  # fmt: skip


def _stretches(rows: list[RowMapping], since: datetime, until: datetime) -> list[Stretch]:
    """Rows cut to the time; where a package was gone for a while, nobody can tell."""
    found: list[Stretch] = []
    for row in rows:
        begin, end = max(row["at"], since), min(row["ended_at"] or until, until)
        if found and begin > found[-1].end:
            found.append(Stretch(found[-1].end, begin, None, maintenance=False))
        if end > begin:
            health = Health(row["now"]) if row["now"] else None
            found.append(Stretch(begin, end, health, maintenance=bool(row["maintenance"])))
    return found
