"""The ledger in SQL: everything that is written, many at once, in one transaction after another.

What an item needs is read first, what becomes of it is decided by ``domain``, and the page writes it at the
end: a target's row, the fact that it has ended, and the entry in the audit are one, or are not.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, cast
from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from muster_bus import AskError, Letter, Reject
from muster_contracts.chunk.v1 import PutChunk
from muster_contracts.command.v1 import CancelCommand, CommandState, Ended, Progressed, Submit
from muster_runtime import Clock
from muster_sql import Database, Outbox
from state_store.adapters.group_commit import GroupCommit, Results
from state_store.adapters.page import Page
from state_store.adapters.stream_writer import StreamWriter
from state_store.adapters.submitting import Submissions
from state_store.adapters.tables import CHUNKS, COMMANDS, STREAMS, TARGETS
from state_store.domain import target as targets
from state_store.domain.audit import Act
from state_store.domain.orders import ALLOWED, CANCEL, REFUSED, Order, detail, terms
from state_store.domain.streams import Piece
from state_store.domain.target import Kept, Key, Outcome, Patience
from state_store.ports import Cancelled, Limits, Push, Stored, Taken

Told = Callable[[list[Kept], int], None]
"""Told of targets that have ended and of how many reports came late, once it is on disk."""


class SqlLedger:
    """See ``ports.Ledger``. ``start`` it before, ``stop`` it after use."""

    def __init__(
        self,
        database: Database,
        outbox: Outbox,
        clock: Clock,
        *,
        patience: Patience,
        limits: Limits,
        told: Told = lambda _ended, _late: None,
        on_letters: Callable[[list[Letter]], None] = lambda _: None,
    ) -> None:
        self.on_letters = on_letters
        """Told of the letters that are in the outbox from now on."""
        self._database, self._outbox, self._clock = database, outbox, clock
        self._patience, self._told = patience, told
        self._untidy = True  # who ran before may have been killed before it tidied up
        self._streams = StreamWriter(limits)
        self._submissions = Submissions(patience, limits)
        self._kinds: dict[str, Callable[[Page, list[Any]], Awaitable[Results]]] = {
            "submit": self._submissions.write,
            "pushed": self._pushed,
            "progressed": self._progressed,
            "ended": self._ended,
            "cancel": self._cancel,
            "hand out": self._hand_out,
            "note": self._note,
            "chunk": self._streams.write,
            "claim": self._claim,
            "hasten": self._hasten,
            "overdue": self._overdue,
            "anchor": self._anchor,
            "delivered": self._delivered,
            "forget": self._forget,
        }
        self._commit = GroupCommit(
            database,
            list(self._kinds),
            page=self._page,
            write=lambda page, kind, items: self._kinds[kind](page, items),
            close=Page.close,
            committed=self._committed,
        )

    def start(self) -> None:
        """Begin to write."""
        self._commit.start()

    async def stop(self) -> None:
        """Write what waits, and end."""
        await self._commit.stop()

    # What others call: each waits for the commit.

    async def submit(self, submit: Submit, agents: Sequence[str]) -> Taken:
        """Keep a command with a target for each agent, or find that it is there already.

        Raises:
            AskError: "conflict" where its id or key stands for another command; "too-large" beyond a limit.
        """
        return cast("Taken", await self._commit.do("submit", (submit, agents)))

    async def note(self, act: Act) -> None:
        """Write an act into the audit."""
        await self._commit.do("note", act)

    async def cancel(self, wanted: CancelCommand) -> Cancelled:
        """Stop what has not ended.

        Raises:
            AskError: "not-found" if there is no such command, or it was not meant for that agent.
        """
        return cast("Cancelled", await self._commit.do("cancel", wanted))

    async def pushed(self, key: Key, outcome: Outcome) -> None:
        """Keep what became of an attempt.

        Till an order that arrived is kept as such, it is kept as one that may have: no end depends on it, so
        it waits for the next commit. Of one that did not arrive, a cancel and its deadline make another end.
        """
        what = (key, outcome, self._clock.now())
        if outcome in {Outcome.ACCEPTED, Outcome.RUNNING}:
            await asyncio.shield(self._commit.at_leisure("pushed", what))
        else:
            await self._commit.do("pushed", what)

    async def progressed(self, news: Sequence[Progressed]) -> None:
        """Keep that agents have commands, or have begun."""
        await self._commit.do("progressed", news)

    async def ended(self, report: Ended) -> None:
        """End a target.

        Raises:
            Reject: there is no such target, or the report is of no end.
        """
        await self._commit.do("ended", report)

    async def hand_out(self, keys: Iterable[Key]) -> list[Kept]:
        """Keep that these go out in a backlog, so may have arrived; returns them as they are by now."""
        return cast("list[Kept]", await self._commit.do("hand out", list(keys)))

    async def put_chunk(self, put: PutChunk, piece: Piece | None) -> Stored:
        """Keep some bytes and, if it is told, the end.

        Raises:
            AskError: "not-found" where the stream belongs to nothing; "conflict" where the end is not this.
        """
        return cast("Stored", await self._commit.do("chunk", (put, piece)))

    async def claim_pushes(self, limit: int) -> list[Push]:
        """What is due to be pushed again; noted as under way."""
        return cast("list[Push]", await self._commit.do("claim", limit))

    async def hasten_pushes(self) -> None:
        """Make all that no agent has taken due now."""
        await self._commit.do("hasten", None)

    async def end_overdue(self, limit: int) -> int:
        """End targets whose deadline has passed; returns how many were looked at."""
        return cast("int", await self._commit.do("overdue", limit))

    def delivered(self, ids: list[str]) -> "asyncio.Future[None]":
        """Take letters out of the outbox that their stream has, at leisure: sent again they are repeats."""
        return self._commit.at_leisure("delivered", ids)

    async def anchor(self) -> None:
        """Say how far the audit is, if it has grown."""
        await self._commit.do("anchor", None)

    async def forget(self, before: datetime, limit: int) -> int:
        """Delete ended commands submitted before, with their targets and output; returns how many."""
        return cast("int", await self._commit.do("forget", (before, limit)))

    async def tidy(self) -> None:
        """Take off the disk what was scrubbed since the last time; if it cannot be now, the next time."""
        if self._untidy:
            self._untidy = False
            self._untidy = not await self._database.tidy() or self._untidy

    # Inside of a transaction.

    def _page(self, connection: AsyncConnection) -> Page:
        return Page(connection, self._outbox, self._clock.now(), is_sqlite=self._database.is_sqlite)

    def _committed(self, page: Page) -> None:
        self._streams.committed(page)
        self._untidy |= page.scrubbed
        self._told(page.ended, page.late)
        if page.letters:
            self.on_letters(page.letters)

    async def _note(self, page: Page, acts: list[Act]) -> Results:
        page.acts += acts
        return [None] * len(acts)

    async def _pushed(self, page: Page, items: list[tuple[Key, Outcome, datetime]]) -> Results:
        await page.load(key for key, _, _ in items)
        for key, outcome, at in items:
            if kept := page.get(key):
                page.set(targets.pushed(kept, outcome, at, self._patience))
        return [None] * len(items)

    async def _progressed(self, page: Page, items: list[Sequence[Progressed]]) -> Results:
        news = [one for some in items for one in some]
        await page.load((one.command_id, one.agent_id) for one in news)
        for one in news:
            if kept := page.get((one.command_id, one.agent_id)):
                page.set(targets.heard(kept, one.state, page.now, self._patience))
        return [None] * len(items)

    async def _ended(self, page: Page, reports: list[Ended]) -> Results:
        await page.load((one.command_id, one.agent_id) for one in reports)
        return [self._ended_one(page, report) for report in reports]

    def _ended_one(self, page: Page, report: Ended) -> Reject | None:
        kept = page.get((report.command_id, report.agent_id))
        if kept is None:
            return Reject(f"cannot end {report.command_id} on {report.agent_id}: it was never ordered there")
        try:
            after = targets.reported(kept, report, page.now)
        except ValueError as error:
            return Reject(str(error))
        page.late += after.reported_late is not kept.reported_late
        page.set(after)
        return None

    async def _cancel(self, page: Page, wanted: list[CancelCommand]) -> Results:
        return [await self._cancel_one(page, one) for one in wanted]

    async def _cancel_one(self, page: Page, wanted: CancelCommand) -> Cancelled | AskError:
        columns = TARGETS.c
        mine = select(TARGETS).where(columns.command_id == wanted.command_id)
        if wanted.agent_id:
            mine = mine.where(columns.agent == wanted.agent_id)
        found = await page.take(mine.order_by(columns.position))
        order = (await page.orders([wanted.command_id])).get(wanted.command_id)
        if order is None or not found:
            where = f" on {wanted.agent_id}" if wanted.agent_id else ""
            page.acts.append(_cancelling(wanted, REFUSED, why="not-found"))
            text = (
                f"cannot cancel {wanted.command_id}{where}: no such command; 'muster command list' shows all"
            )
            return AskError("not-found", text)
        page.acts.append(_cancelling(wanted, ALLOWED, verb=order.verb, targets=len(found)))
        return await self._stop(page, order, found)

    async def _stop(self, page: Page, order: Order, found: list[Kept]) -> Cancelled:
        counts = await counts_of(page.connection, order.id)
        living, to_tell = order.living, []
        for before in found:
            after = targets.cancelled(before, page.now, self._patience)
            page.set(after)
            counts[before.state] -= 1
            counts[after.state] = counts.get(after.state, 0) + 1
            living -= after.ended and not before.ended
            if after.cancel_requested and not after.ended:
                to_tell.append(after.agent)
        what = terms(order)
        shown = detail(order, counts).model_copy(update={"ended": living == 0})
        return Cancelled(shown, [Push(agent, what, execute=False, cancel=True) for agent in to_tell])

    async def _hand_out(self, page: Page, items: list[list[Key]]) -> Results:
        await page.load(key for keys in items for key in keys)
        return [self._hand_out_some(page, keys) for keys in items]

    def _hand_out_some(self, page: Page, keys: list[Key]) -> list[Kept]:
        found = [kept for key in keys if (kept := page.get(key))]
        out = [targets.handed_out(kept, self._patience) for kept in found]
        for kept in out:
            page.set(kept)
        return out

    async def _claim(self, page: Page, limits: list[int]) -> Results:
        columns = TARGETS.c
        due = select(TARGETS).where(columns.ended_at.is_(None), columns.push_at <= page.now)
        found = await page.take(due.order_by(columns.push_at).limit(max(limits)), skip_locked=True)
        orders = await page.orders(one.command_id for one in found)
        pushes = []
        for kept in found:
            after = targets.tried_again(kept, page.now, self._patience)
            page.set(after)
            if after.push_at and not after.ended:
                execute = after.state is CommandState.PENDING
                what = terms(orders[kept.command_id])
                pushes.append(Push(kept.agent, what, execute=execute, cancel=kept.cancel_requested))
        return [pushes, *([] for _ in limits[1:])]

    async def _hasten(self, page: Page, items: list[None]) -> Results:
        columns = TARGETS.c
        waiting = (columns.ended_at.is_(None), columns.push_at > page.now)
        pending = columns.state == CommandState.PENDING
        await page.connection.execute(update(TARGETS).where(*waiting, pending).values(push_at=page.now))
        return [None] * len(items)

    async def _overdue(self, page: Page, limits: list[int]) -> Results:
        columns = TARGETS.c
        due = select(TARGETS).where(columns.ended_at.is_(None), columns.deadline <= page.now)
        found = await page.take(due.order_by(columns.deadline).limit(max(limits)), skip_locked=True)
        for kept in found:
            page.set(targets.overdue(kept, page.now))
        return [len(found)] * len(limits)

    async def _anchor(self, page: Page, items: list[None]) -> Results:
        page.anchor = True
        return [None] * len(items)

    async def _delivered(self, page: Page, items: list[list[str]]) -> Results:
        await self._outbox.forget_in(page.connection, [one for ids in items for one in ids])
        return [None] * len(items)

    async def _forget(self, page: Page, items: list[tuple[datetime, int]]) -> Results:
        before, limit = items[0]
        columns = COMMANDS.c
        old = select(columns.id).where(columns.submitted_at < before, columns.living == 0)
        ids = list(await page.connection.scalars(old.order_by(columns.submitted_at).limit(limit)))
        if ids:
            await _delete(page.connection, ids)
        return [len(ids)] * len(items)


async def counts_of(connection: AsyncConnection, command_id: UUID) -> dict[CommandState, int]:
    """How many targets of a command are in which state."""
    columns = TARGETS.c
    query = select(columns.state, func.count()).where(columns.command_id == command_id)
    rows = await connection.execute(query.group_by(columns.state))
    return {CommandState(state): number for state, number in rows}


async def _delete(connection: AsyncConnection, ids: list[UUID]) -> None:
    streams = select(STREAMS.c.id).where(STREAMS.c.command_id.in_(ids))
    await connection.execute(delete(CHUNKS).where(CHUNKS.c.stream_id.in_(streams)))
    await connection.execute(delete(STREAMS).where(STREAMS.c.command_id.in_(ids)))
    await connection.execute(delete(TARGETS).where(TARGETS.c.command_id.in_(ids)))
    await connection.execute(delete(COMMANDS).where(COMMANDS.c.id.in_(ids)))


def _cancelling(wanted: CancelCommand, decision: str, **more: Any) -> Act:
    where = {"agent": wanted.agent_id} if wanted.agent_id else {}
    return Act(
        actor=wanted.issuer,
        action=CANCEL,
        decision=decision,
        subject=str(wanted.command_id),
        detail={**where, **more},
    )
