"""The truth in SQL: agents, their history and sessions, and the letters that tell of them.

One transaction writes the agent's row, its line of history and the letter (decision 1). The rows it
decides about are locked first (SQLite: there is one writer; PostgreSQL: SELECT FOR UPDATE), and each is
updated only if it still has the version it was read with, so that two registries cannot both decide.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import uuid4

from sqlalchemy import (
    ColumnElement,
    RowMapping,
    Select,
    and_,
    bindparam,
    case,
    delete,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from fleet_registry.adapters.tables import (
    AGENTS,
    DESCRIPTIONS,
    GROUPS,
    HISTORY,
    LABELS,
    PARTITIONS,
    REALM,
    SESSIONS,
)
from fleet_registry.adapters.translating import Reaching, translated
from fleet_registry.domain.agent import Agent, Change, Closed, Corrected, Opened, SessionEdit
from fleet_registry.domain.partition import Census, Partition
from fleet_registry.domain.presence import LIVE
from fleet_registry.ports import Ended, Entry, Page, Recorded, Ruling
from muster_bus import letter_of
from muster_contracts.agent.v1 import AgentKind
from muster_contracts.fleet.v1 import Presence, Reason
from muster_contracts.host.v1 import Described
from muster_contracts.ids import start_of
from muster_sql import Database, Outbox, insert_rows, upsert

T = TypeVar("T")

ATTEMPTS = 5
CHUNK = 1000
ASSUMED_INTERVAL_SECONDS = 5.0


class OutOfDate(Exception):
    """A row has another version than the one it was read with."""


CORRECTABLE = (Reason.DISCONNECTED, Reason.SILENCE, Reason.PARTITION, Reason.REPLACED)
"""Ends of a session that a goodbye, when it comes, knows better."""


@translated
class SqlStore(Reaching):
    """See ``ports.Store``; also the small writes that need no decision."""

    def __init__(
        self, database: Database, outbox: Outbox, told: Callable[[Recorded], None] = lambda _: None
    ) -> None:
        super().__init__()
        self._database, self._outbox, self._told = database, outbox, told

    async def work(self, job: Callable[[Page], Awaitable[T]]) -> T:
        """Run ``job`` in one transaction; again if another registry was in the way."""
        for attempt in range(1, ATTEMPTS + 1):
            recorded = Recorded()

            async def once(connection: AsyncConnection, recorded: Recorded = recorded) -> T:
                recorded.clear()
                return await job(
                    SqlPage(connection, self._outbox, recorded, lock=not self._database.is_sqlite)
                )

            try:
                result = await self._database.transact(once)
            except (IntegrityError, OutOfDate):
                # Another registry has just written the same newcomer or row: decide again on what it wrote.
                if attempt == ATTEMPTS:
                    raise
                continue
            self._told(recorded)
            return result
        raise AssertionError("unreachable")

    async def realm(self) -> str:
        """The name of this database, drawn when it is first asked for."""
        async with self._database.begin() as connection:
            await upsert(connection, REALM, [{"one": 1, "name": uuid4().hex}], ["one"], [])
            return str((await connection.execute(select(REALM.c.name))).scalar_one())

    async def entries(self) -> list[Entry]:
        """Every agent that is live or retired, for the presence index."""
        columns = AGENTS.c
        wanted = [*LIVE, Presence.RETIRED]
        query = select(
            columns.id,
            columns.epoch,
            columns.state,
            columns.interval_seconds,
            columns.version,
            columns.last_seen,
        ).where(columns.state.in_(wanted))
        async with self._database.read() as connection:
            found = (await connection.execute(query)).all()
        return [
            Entry(
                id_,
                epoch,
                Presence(state),
                interval or ASSUMED_INTERVAL_SECONDS,
                version,
                seen,
                bool(interval),
            )
            for id_, epoch, state, interval, version, seen in found
        ]

    async def aliases(self) -> list[tuple[str, str, str | None]]:
        """Every alias: its id, the id it speaks under, its epoch."""
        columns = AGENTS.c
        query = select(columns.id, columns.speaks_as, columns.epoch).where(columns.speaks_as.is_not(None))
        async with self._database.read() as connection:
            return [(row.id, row.speaks_as, row.epoch) for row in await connection.execute(query)]

    async def flapping(self) -> list[str]:
        """The ids of flapping agents."""
        async with self._database.read() as connection:
            return list(await connection.scalars(select(AGENTS.c.id).where(AGENTS.c.flapping)))

    async def remember_seen(self, entries: Sequence[Entry]) -> None:
        """Write when agents last spoke and by which interval; no change of presence, so no version counts."""
        rows = [
            {"b_id": one.agent_id, "b_seen": one.last_seen, "b_interval": one.interval_seconds}
            for one in entries
            if one.last_seen
        ]
        columns = AGENTS.c
        statement = (
            update(AGENTS)
            .where(columns.id == bindparam("b_id"))
            .where(or_(columns.last_seen.is_(None), columns.last_seen < bindparam("b_seen")))
            .values(last_seen=bindparam("b_seen"), interval_seconds=bindparam("b_interval"))
        )
        for start in range(0, len(rows), CHUNK):
            async with self._database.begin() as connection:
                await connection.execute(statement, rows[start : start + CHUNK])

    async def remember_addresses(self, addresses: dict[str, str]) -> None:
        """Write where agents connect from, into their rows, open sessions and last lines of history.

        The broker first tells the host alone, so that is what a hello may have been recorded with.
        """
        rows = [
            {"b_id": agent_id, "b_address": address, "b_host": address.rpartition(":")[0]}
            for agent_id, address in addresses.items()
        ]
        if not rows:
            return
        newest = select(func.max(HISTORY.c.id)).where(HISTORY.c.agent_id == bindparam("b_id"))
        same_host = HISTORY.c.address == bindparam("b_host")
        is_open = and_(SESSIONS.c.agent_id == bindparam("b_id"), SESSIONS.c.disconnected_at.is_(None))
        async with self._database.begin() as connection:
            for statement in (
                update(AGENTS).where(AGENTS.c.id == bindparam("b_id")),
                update(SESSIONS).where(is_open),
                update(HISTORY).where(HISTORY.c.id == newest.scalar_subquery(), same_host),
            ):
                await connection.execute(statement.values(address=bindparam("b_address")), rows)

    async def describe(self, described: Described, at: datetime) -> None:
        """Keep the newest description of an agent: of its latest run on a machine, whatever clocks say."""
        row = {
            "agent_id": described.agent_id,
            "epoch": described.epoch,
            "described_at": at,
            "body": described.model_dump(mode="json"),
        }
        async with self._database.begin() as connection:
            await upsert(connection, DESCRIPTIONS, [row], ["agent_id"], where=_is_newer_description)

    async def define_group(self, name: str, selector: str) -> None:
        """Make a group, or give it another selector."""
        async with self._database.begin() as connection:
            await upsert(connection, GROUPS, [{"name": name, "selector": selector}], ["name"])

    async def delete_group(self, name: str) -> bool:
        """Remove a group; whether there was one."""
        async with self._database.begin() as connection:
            gone = await connection.execute(delete(GROUPS).where(GROUPS.c.name == name))
            return gone.rowcount > 0

    async def forget_before(self, moment: datetime) -> int:
        """Delete history and ended sessions from before ``moment``, the oldest thousand of each."""
        # Lines of history are written as time goes by: the oldest are found without an index on it. Sessions
        # end in any order, so theirs has one; what is still open may be older than everything.
        end = SESSIONS.c.disconnected_at
        lines = select(HISTORY.c.id).order_by(HISTORY.c.id).limit(CHUNK)
        ended = select(SESSIONS.c.id).where(end < moment).order_by(end).limit(CHUNK)
        async with self._database.begin() as connection:
            one = await connection.execute(
                delete(HISTORY).where(HISTORY.c.id.in_(lines), HISTORY.c.at < moment)
            )
            two = await connection.execute(delete(SESSIONS).where(SESSIONS.c.id.in_(ended)))
            return max(0, one.rowcount) + max(0, two.rowcount)


class SqlPage:
    """One transaction; see ``ports.Page``."""

    def __init__(
        self, connection: AsyncConnection, outbox: Outbox, recorded: Recorded, *, lock: bool
    ) -> None:
        self._connection, self._outbox, self._recorded, self._lock = connection, outbox, recorded, lock
        self._before: dict[str, Agent] = {}

    async def agents(self, agent_ids: Iterable[str]) -> dict[str, Agent]:
        """The agents of these ids and the aliases of each, locked."""
        ids = list(dict.fromkeys(agent_ids))
        found: dict[str, Agent] = {}
        for start in range(0, len(ids), CHUNK):
            chunk = ids[start : start + CHUNK]
            wanted = or_(AGENTS.c.id.in_(chunk), AGENTS.c.speaks_as.in_(chunk))
            found |= {agent.id: agent for agent in await self._locked(select(AGENTS).where(wanted))}
        return found

    async def taken(self, names: Iterable[str]) -> frozenset[str]:
        """Which of the names are agents' ids."""
        query = select(AGENTS.c.id).where(AGENTS.c.id.in_(list(names)))
        return frozenset(await self._connection.scalars(query))

    async def partitions(self) -> list[Partition]:
        """The sites suspected to be cut off."""
        rows = await self._connection.execute(select(PARTITIONS))
        return [Partition(row.site, row.since, row.missing, row.known) for row in rows]

    async def census(self, site: str, recent: datetime) -> Census:
        """A site's agents that are online, late, or lost since ``recent``."""
        columns = AGENTS.c
        lost_lately = and_(columns.state == Presence.LOST, columns.since >= recent)
        counted = or_(columns.state.in_([Presence.ONLINE, Presence.LATE]), lost_lately)
        query = (
            select(columns.state, func.count().label("number"))
            .where(columns.site == site, counted)
            .group_by(columns.state)
        )
        counted_by = {row.state: row.number for row in await self._connection.execute(query)}
        online = counted_by.pop(Presence.ONLINE, 0)
        return Census(online, sum(counted_by.values()))

    async def cut_off(self, site: str) -> list[Agent]:
        """The agents that vanished while ``site`` was suspected, locked."""
        return await self._locked(select(AGENTS).where(AGENTS.c.site == site, AGENTS.c.in_partition))

    async def record(self, ruling: Ruling) -> None:
        """Write agents, history, sessions and the letters that tell of them."""
        await self._write_agents([one for one in ruling.agents if self._before.get(one.id) != one])
        await self._write_sessions(ruling.sessions)
        await insert_rows(self._connection, HISTORY, [_history_row(change) for change in ruling.changes])
        if ruling.begun:
            rows = [
                {"site": one.site, "since": one.since, "missing": one.missing, "known": one.known}
                for one in ruling.begun
            ]
            await insert_rows(self._connection, PARTITIONS, rows)
        if ruling.ended:
            await self._connection.execute(delete(PARTITIONS).where(PARTITIONS.c.site.in_(ruling.ended)))
        await self._outbox.put_in(self._connection, [letter_of(fact) for fact in ruling.facts])
        self._recorded.changes += ruling.changes
        self._recorded.sites_cut |= {one.site for one in ruling.begun}
        self._recorded.sites_back |= set(ruling.ended)

    async def _locked(self, query: Select[Any]) -> list[Agent]:
        # In one order, so that two registries never wait for each other.
        query = query.order_by(AGENTS.c.id)
        rows = (await self._connection.execute(query.with_for_update() if self._lock else query)).mappings()
        found = [agent_of(row) for row in rows]
        self._before |= {agent.id: agent for agent in found}
        return found

    async def _write_agents(self, agents: Sequence[Agent]) -> None:
        new = [one for one in agents if one.id not in self._before]
        known = [one for one in agents if one.id in self._before]
        await insert_rows(self._connection, AGENTS, [agent_row(one) for one in new])
        await self._update(known)
        self._recorded.written += [(self._before.get(one.id), one) for one in agents]
        relabelled = [
            one for one in agents if one.id not in self._before or self._before[one.id].labels != one.labels
        ]
        await self._write_labels(relabelled)

    async def _update(self, agents: Sequence[Agent]) -> None:
        columns = [column.name for column in AGENTS.c if column.name != "id"]
        statement = (
            update(AGENTS)
            .where(AGENTS.c.id == bindparam("b_id"), AGENTS.c.version == bindparam("b_version"))
            .values({name: bindparam(name) for name in columns})
        )
        for start in range(0, len(agents), CHUNK):
            chunk = agents[start : start + CHUNK]
            rows = [
                {**agent_row(one), "b_id": one.id, "b_version": self._before[one.id].version} for one in chunk
            ]
            for row in rows:
                del row["id"]
            done = await self._connection.execute(statement, rows)
            # asyncpg does not count what a batch updated; there the lock alone decides.
            if done.supports_sane_multi_rowcount() and done.rowcount not in {-1, len(rows)}:
                raise OutOfDate

    async def _write_labels(self, agents: Sequence[Agent]) -> None:
        ids = [one.id for one in agents if one.id in self._before]
        for start in range(0, len(ids), CHUNK):
            await self._connection.execute(
                delete(LABELS).where(LABELS.c.agent_id.in_(ids[start : start + CHUNK]))
            )
        rows = [
            {"agent_id": one.id, "key": key, "value": value}
            for one in agents
            for key, value in one.labels.items()
        ]
        await insert_rows(self._connection, LABELS, rows)

    async def _write_sessions(self, edits: Sequence[SessionEdit]) -> None:
        plan = _Sessions()
        for edit in edits:
            plan.take(edit)
        await self._close(plan.closed)
        for edit in plan.corrected:
            await self._correct(edit)
        await insert_rows(self._connection, SESSIONS, plan.rows)

    async def _close(self, closed: Sequence[Closed]) -> None:
        if not closed:
            return
        open_ones = and_(
            SESSIONS.c.agent_id.in_([one.agent_id for one in closed]), SESSIONS.c.disconnected_at.is_(None)
        )
        query = select(SESSIONS.c.id, SESSIONS.c.agent_id, SESSIONS.c.connected_at).where(open_ones)
        found = {row.agent_id: row for row in await self._connection.execute(query)}
        rows = []
        for one in closed:
            if row := found.get(one.agent_id):
                at = max(one.at, row.connected_at)
                rows.append({"b_id": row.id, "b_at": at, "b_reason": one.reason})
                self._recorded.ended.append(Ended(one.reason, (at - row.connected_at).total_seconds()))
        if rows:
            statement = update(SESSIONS).where(SESSIONS.c.id == bindparam("b_id"))
            statement = statement.values(disconnected_at=bindparam("b_at"), reason=bindparam("b_reason"))
            await self._connection.execute(statement, rows)

    async def _correct(self, edit: Corrected) -> None:
        same = and_(SESSIONS.c.agent_id == edit.agent_id, SESSIONS.c.epoch == edit.epoch)
        newest = (await self._connection.execute(select(func.max(SESSIONS.c.id)).where(same))).scalar()
        if newest is None:
            # The whole run passed while no registry listened; its goodbye is all there is of it.
            await insert_rows(self._connection, SESSIONS, [_unheard_row(edit)])
            return
        await self._connection.execute(
            update(SESSIONS)
            .where(SESSIONS.c.id == newest, SESSIONS.c.reason.in_(CORRECTABLE))
            .values(reason=edit.reason)
        )


class _Sessions:
    """Edits of sessions sorted into rows to insert and changes of rows that are there."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.closed: list[Closed] = []
        self.corrected: list[Corrected] = []
        self._open: dict[str, dict[str, Any]] = {}

    def take(self, edit: SessionEdit) -> None:
        match edit:
            case Opened():
                row = _session_row(edit)
                self.rows.append(row)
                self._open[edit.agent_id] = row
            case Closed() if edit.agent_id in self._open:
                row = self._open.pop(edit.agent_id)
                row["disconnected_at"], row["reason"] = max(edit.at, row["connected_at"]), edit.reason
            case Closed():
                self.closed.append(edit)
            case Corrected():
                self._correct(edit)

    def _correct(self, edit: Corrected) -> None:
        mine = [row for row in self.rows if (row["agent_id"], row["epoch"]) == (edit.agent_id, edit.epoch)]
        if mine:
            mine[-1]["reason"] = edit.reason
        else:
            self.corrected.append(edit)


def _is_newer_description(new: Any) -> ColumnElement[bool]:
    known = DESCRIPTIONS.c
    # Epochs of one boot sort by their start.
    same_boot = func.substr(known.epoch, 1, 12) == func.substr(new.epoch, 1, 12)
    by_clock = known.described_at <= new.described_at
    return case((and_(same_boot, known.epoch != new.epoch), known.epoch < new.epoch), else_=by_clock)


def _unheard_row(edit: Corrected) -> dict[str, Any]:
    started = start_of(edit.epoch) / 1000
    # Whoever says a run began after its end has a wrong clock; such a start may be no date at all.
    begun = edit.at if started >= edit.at.timestamp() else datetime.fromtimestamp(started, UTC)
    opened = _session_row(Opened(edit.agent_id, edit.epoch, begun, None, None))
    return opened | {"disconnected_at": edit.at, "reason": edit.reason}


def _session_row(edit: Opened) -> dict[str, Any]:
    return {
        "agent_id": edit.agent_id,
        "epoch": edit.epoch,
        "connected_at": edit.at,
        "disconnected_at": None,
        "address": edit.address,
        "agent_version": edit.agent_version,
        "reason": None,
    }


def _history_row(change: Change) -> dict[str, Any]:
    return {
        "agent_id": change.agent_id,
        "was": change.was,
        "now": change.now,
        "at": change.at,
        "reason": change.reason,
        "epoch": change.epoch,
        "address": change.address,
    }


def agent_row(agent: Agent) -> dict[str, Any]:
    """An agent as its row."""
    return {
        "id": agent.id,
        "kind": agent.kind,
        "state": agent.presence,
        "reason": agent.reason,
        "since": agent.since,
        "epoch": agent.epoch,
        "address": agent.address,
        "agent_version": agent.agent_version,
        "interval_seconds": agent.interval_seconds,
        "last_seen": agent.last_seen,
        "declared": dict(agent.declared),
        "assigned": dict(agent.assigned),
        "site": agent.site,
        "speaks_as": agent.speaks_as,
        "moves": [move.timestamp() for move in agent.moves],
        "flapping": agent.flapping,
        "in_partition": agent.in_partition,
        "version": agent.version,
    }


def agent_of(row: RowMapping) -> Agent:
    """A row as an agent."""
    return Agent(
        id=row["id"],
        since=row["since"],
        kind=AgentKind(row["kind"]),
        presence=Presence(row["state"]),
        reason=Reason(row["reason"]),
        epoch=row["epoch"],
        address=row["address"],
        agent_version=row["agent_version"],
        interval_seconds=row["interval_seconds"],
        last_seen=row["last_seen"],
        declared=row["declared"],
        assigned=row["assigned"],
        speaks_as=row["speaks_as"],
        moves=tuple(datetime.fromtimestamp(move, UTC) for move in row["moves"]),
        flapping=row["flapping"],
        in_partition=row["in_partition"],
        version=row["version"],
    )
