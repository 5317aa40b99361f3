"""Reading the fleet: pages by selector, histories, sessions, counts. Nothing here writes.

A selector becomes conditions of the query, one per requirement, so that a page costs the same however
many agents there are; a group in a selector stands for the selector it names.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, exists, false, func, not_, or_, select, true
from sqlalchemy import Connection as SqlConnection
from sqlalchemy.ext.asyncio import AsyncConnection

from fleet_registry.adapters.sql_store import agent_of
from fleet_registry.adapters.tables import (
    AGENTS,
    DESCRIPTIONS,
    GROUPS,
    HISTORY,
    LABELS,
    PARTITIONS,
    SESSIONS,
)
from fleet_registry.adapters.translating import Reaching, translated
from fleet_registry.domain.agent import Agent
from fleet_registry.domain.counts import Counts
from muster_contracts.agent.v1 import AgentKind
from muster_contracts.fleet.v1 import AgentEvent, Connection, Presence, Reason
from muster_contracts.selector import (
    GROUP,
    STATE,
    Operator,
    Requirement,
    Selector,
    is_glob,
    like,
    parse,
)
from muster_sql import Database


@translated
class SqlQueries(Reaching):
    """The questions people and programs ask."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self._database = database

    async def find(
        self, selector: Selector, states: Sequence[Presence], after: str | None, limit: int
    ) -> tuple[list[Agent], int]:
        """One page of agents in the order of their ids, and how many there are on all pages."""

        def look(connection: SqlConnection) -> tuple[list[Agent], int]:
            groups = _groups(connection) if selector.uses(GROUP) else {}
            wanted = and_(_where(selector, groups), _in_states(selector, states))
            page = select(AGENTS).where(wanted).order_by(AGENTS.c.id).limit(limit)
            if after is not None:
                page = page.where(AGENTS.c.id > after)
            found = [agent_of(row) for row in connection.execute(page).mappings()]
            if after is None and len(found) < limit:
                return found, len(found)  # that is all of them
            total = connection.scalar(select(func.count()).select_from(AGENTS).where(wanted))
            return found, int(total or 0)

        # Orders ask this all the time: each of them waits for it.
        return await self._database.read_at_one_go(look)

    async def get(
        self, agent_id: str, now: datetime
    ) -> tuple[Agent, dict[str, Any] | None, Connection | None] | None:
        """An agent, its description and its open session; nothing if it is unknown."""
        async with self._database.read() as connection:
            known = await connection.execute(select(AGENTS).where(AGENTS.c.id == agent_id))
            row = known.mappings().first()
            if row is None:
                return None
            described = select(DESCRIPTIONS.c.body).where(DESCRIPTIONS.c.agent_id == agent_id)
            is_open = and_(SESSIONS.c.agent_id == agent_id, SESSIONS.c.disconnected_at.is_(None))
            session = (await connection.execute(select(SESSIONS).where(is_open))).first()
            body = await connection.scalar(described)
            return agent_of(row), body, _connection(session, now) if session else None

    async def exists(self, agent_id: str) -> bool:
        """Whether the agent is known."""
        async with self._database.read() as connection:
            return bool(await connection.scalar(select(exists().where(AGENTS.c.id == agent_id))))

    async def history(
        self, agent_id: str, before: int | None, limit: int
    ) -> tuple[list[AgentEvent], str | None]:
        """One page of an agent's changes, newest first, and where the next one begins."""
        query = select(HISTORY).where(HISTORY.c.agent_id == agent_id).order_by(HISTORY.c.id.desc())
        async with self._database.read() as connection:
            newer = await _begin_of_next(connection, agent_id, before)
            if before is not None:
                query = query.where(HISTORY.c.id < before)
            rows = (await connection.execute(query.limit(limit + 1))).all()
        events = []
        for row in rows[:limit]:
            events.append(_event(row, newer))
            newer = row.at
        return events, str(rows[limit - 1].id) if len(rows) > limit else None

    async def connections(
        self, agent_id: str, before: int | None, limit: int, now: datetime
    ) -> tuple[list[Connection], str | None]:
        """One page of an agent's sessions, newest first, and where the next one begins."""
        query = select(SESSIONS).where(SESSIONS.c.agent_id == agent_id).order_by(SESSIONS.c.id.desc())
        if before is not None:
            query = query.where(SESSIONS.c.id < before)
        async with self._database.read() as connection:
            rows = (await connection.execute(query.limit(limit + 1))).all()
        page = [_connection(row, now) for row in rows[:limit]]
        return page, str(rows[limit - 1].id) if len(rows) > limit else None

    async def groups(self) -> dict[str, Selector]:
        """Every group's selector, by name."""
        return await self._database.read_at_one_go(_groups)

    async def members(self, groups: Mapping[str, Selector]) -> dict[str, int]:
        """How many agents match each group; retired ones count for none."""
        numbers = {}
        async with self._database.read() as connection:
            for name, selector in groups.items():
                wanted = and_(_where(selector, groups), _in_states(selector, ()))
                number = await connection.scalar(select(func.count()).select_from(AGENTS).where(wanted))
                numbers[name] = int(number or 0)
        return numbers

    async def counts(self) -> Counts:
        """The fleet in numbers."""
        columns = AGENTS.c
        grouped = select(columns.state, columns.kind, func.count().label("number")).group_by(
            columns.state, columns.kind
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(grouped)).all()
            flapping = await connection.scalar(
                select(func.count()).select_from(AGENTS).where(columns.flapping.is_(true()))
            )
            sites = list(await connection.scalars(select(PARTITIONS.c.site).order_by(PARTITIONS.c.site)))
        counts = Counts(flapping=int(flapping or 0), partitions=sites)
        for row in rows:
            counts.add(Presence(row.state), AgentKind(row.kind), row.number)
        return counts


# Selectors as conditions -----------------------------------------------------------------------------


def _where(selector: Selector, groups: Mapping[str, Selector]) -> ColumnElement[bool]:
    return and_(true(), *(_condition(one, groups) for one in selector.requirements))


def _condition(requirement: Requirement, groups: Mapping[str, Selector]) -> ColumnElement[bool]:
    match requirement.operator:
        case Operator.IN | Operator.EXISTS:
            return _holds(requirement, groups)
        case Operator.NOT_IN | Operator.ABSENT:
            return not_(_holds(requirement, groups))


def _holds(requirement: Requirement, groups: Mapping[str, Selector]) -> ColumnElement[bool]:
    values = requirement.values
    match requirement.key:
        case "id":
            exact = [value for value in values if not is_glob(value)]
            globs = [AGENTS.c.id.like(like(value)) for value in values if is_glob(value)]
            return or_(AGENTS.c.id.in_(exact), *globs)
        case "kind":
            return AGENTS.c.kind.in_(values)
        case "state":
            return AGENTS.c.state.in_(values)
        case "group":
            named = [groups[name] for name in values or groups if name in groups]
            return or_(false(), *(_where(one, {}) for one in named))
        case key:
            label = and_(LABELS.c.agent_id == AGENTS.c.id, LABELS.c.key == key)
            return exists().where(and_(label, LABELS.c.value.in_(values)) if values else label)


def _in_states(selector: Selector, states: Sequence[Presence]) -> ColumnElement[bool]:
    if states:
        return AGENTS.c.state.in_(states)
    # Whoever asks for a state by selector means it, also the retired.
    return true() if selector.uses(STATE) else AGENTS.c.state != Presence.RETIRED


def _groups(connection: SqlConnection) -> dict[str, Selector]:
    rows = connection.execute(select(GROUPS).order_by(GROUPS.c.name))
    return {row.name: parse(row.selector) for row in rows}


# Rows as parts of answers -----------------------------------------------------------------------------


async def _begin_of_next(connection: AsyncConnection, agent_id: str, before: int | None) -> datetime | None:
    """When the change just newer than the page came: what the page's first state lasted until."""
    if before is None:
        return None
    newer = select(HISTORY.c.at).where(HISTORY.c.agent_id == agent_id, HISTORY.c.id >= before)
    moment: datetime | None = await connection.scalar(newer.order_by(HISTORY.c.id).limit(1))
    return moment


def _event(row: Row[Any], until: datetime | None) -> AgentEvent:
    return AgentEvent(
        id=str(row.id),
        event=Presence(row.now),
        was=Presence(row.was),
        at=row.at,
        reason=Reason(row.reason),
        duration_seconds=None if until is None else max(0.0, (until - row.at).total_seconds()),
        epoch=row.epoch,
        address=row.address,
    )


def _connection(row: Row[Any], now: datetime) -> Connection:
    until = row.disconnected_at or now
    return Connection(
        epoch=row.epoch,
        connected_at=row.connected_at,
        disconnected_at=row.disconnected_at,
        duration_seconds=max(0.0, (until - row.connected_at).total_seconds()),
        address=row.address,
        reason=Reason(row.reason) if row.reason else None,
        agent_version=row.agent_version,
    )
