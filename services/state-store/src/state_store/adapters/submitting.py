"""Writing submissions: each once, whoever repeats it, and none beyond the limits."""

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from muster_bus import AskError
from muster_contracts.command.v1 import Submit
from muster_sql import insert_rows
from state_store.adapters.page import Page, insert_targets
from state_store.adapters.pairs import by_pairs, given
from state_store.adapters.tables import COMMANDS, TARGETS
from state_store.domain.orders import ALLOWED, REFUSED, Order, fingerprint, ordered, submitting, terms
from state_store.domain.target import Kept, Patience, planned
from state_store.ports import Limits, Taken

AGENTS_AT_ONCE = 1000
ORDER = [one.name for one in fields(Order)]

BY_KEY = (COMMANDS.c.issuer, COMMANDS.c.idempotency_key)
BY_ID = select(COMMANDS).where(COMMANDS.c.id.in_(bindparam("ids", expanding=True)))
BURDENS = (
    select(TARGETS.c.agent, func.count().label("open"))
    .where(TARGETS.c.agent.in_(bindparam("agents", expanding=True)), TARGETS.c.ended_at.is_(None))
    .group_by(TARGETS.c.agent)
)

Name = UUID | tuple[str, str]
"""What a command is known by: its id, or its issuer and their key."""
Known = dict[Name, tuple[UUID, str, int]]
"""By name: the command's id, its fingerprint, and the number of its targets."""


class Submissions:
    """Decides each submission on what is in the ledger, and on those decided just before."""

    def __init__(self, patience: Patience, limits: Limits) -> None:
        self._patience, self._limits = patience, limits

    async def write(self, page: Page, items: list[tuple[Submit, Sequence[str]]]) -> list[Taken | AskError]:
        """Keep what is new; of what is not, tell what it was the first time."""
        known = await find_known(page.connection, [submit for submit, _ in items])
        burdens = await _burdens(page.connection, {agent for _, agents in items for agent in agents})
        results: list[Taken | AskError] = []
        orders: list[Order] = []
        kept: list[Kept] = []
        for submit, agents in items:
            try:
                if (twin := repeated(submit, known)) is not None:
                    results.append(twin)
                    continue
                self._check(submit, agents, burdens)
            except AskError as problem:
                page.acts.append(submitting(submit, REFUSED, why=problem.problem.code))
                results.append(problem)
                continue
            order = ordered(submit, len(agents), page.now)
            orders.append(order)
            kept += [self._target(order, submit, agent) for agent in agents]
            known |= dict.fromkeys(names_of(submit), (order.id, order.fingerprint, order.targets))
            for agent in agents:
                burdens[agent] = burdens.get(agent, 0) + 1
            page.acts.append(submitting(submit, ALLOWED, targets=len(agents)))
            results.append(Taken(order.id, len(agents), terms(order)))
        await insert_rows(
            page.connection, COMMANDS, [{name: getattr(one, name) for name in ORDER} for one in orders]
        )
        await insert_targets(page.connection, kept)
        return results

    def _check(self, submit: Submit, agents: Sequence[str], burdens: dict[str, int]) -> None:
        most = self._limits.targets_of_command
        if len(agents) > most:
            text = f"cannot order {submit.command_id}: '{submit.selector}' selects more than {most} agents"
            raise AskError("too-large", f"{text}; order it of fewer at once", limit=most)
        most = self._limits.open_of_agent
        full = next((agent for agent in agents if burdens.get(agent, 0) >= most), None)
        if full:
            text = f"cannot order {submit.command_id}: {full} has {most} commands that have not ended"
            raise AskError("too-large", f"{text}; wait, or cancel some", limit=most, agent=full)

    def _target(self, order: Order, submit: Submit, agent: str) -> Kept:
        new = Kept(
            command_id=order.id, agent=agent, verb=order.verb, about=submit.body.about, issuer=order.issuer,
            submitted_at=order.submitted_at, not_after=order.not_after,
            start_seconds=order.start_seconds, run_seconds=order.run_seconds,
        )  # fmt: skip
        return planned(new, self._patience)


def repeated(submit: Submit, known: Known) -> Taken | None:
    """What the ledger has of this submission, if it has it.

    Raises:
        AskError: its id or its key stands for another command.
    """
    for name in names_of(submit):
        if name not in known:
            continue
        command_id, first, targets = known[name]
        if first != fingerprint(submit):
            what = "id" if name == submit.command_id else f"key '{submit.idempotency_key}'"
            text = f"cannot order {submit.command_id}: its {what} stands for another order, {command_id}"
            raise AskError("conflict", f"{text}; choose a new one", command_id=str(command_id))
        return Taken(command_id, targets, None)
    return None


def names_of(submit: Submit) -> list[Name]:
    """All that a command is known by."""
    key = submit.idempotency_key
    return [submit.command_id, *([(submit.issuer, key)] if key else [])]


async def find_known(connection: AsyncConnection, submits: Iterable[Submit]) -> Known:
    """Those of the submissions that are in the ledger."""
    names = [name for submit in submits for name in names_of(submit)]
    ids = [name for name in names if isinstance(name, UUID)]
    keys = [name for name in names if isinstance(name, tuple)]
    looks: list[tuple[Any, dict[str, Any]]] = [(BY_ID, {"ids": ids})]
    if keys:
        looks.append((by_pairs(connection, COMMANDS, BY_KEY), given(connection, keys)))
    known: Known = {}
    for look, parameters in looks:
        for row in await connection.execute(look, parameters):
            known[row.id] = (row.id, row.fingerprint, row.targets)
            if row.idempotency_key:
                known[row.issuer, row.idempotency_key] = known[row.id]
    return known


async def _burdens(connection: AsyncConnection, agents: set[str]) -> dict[str, int]:
    """How many targets of each agent have not ended."""
    wanted = sorted(agents)
    burdens: dict[str, int] = {}
    for start in range(0, len(wanted), AGENTS_AT_ONCE):
        rows = await connection.execute(BURDENS, {"agents": wanted[start : start + AGENTS_AT_ONCE]})
        burdens |= {row.agent: row.open for row in rows}
    return burdens
