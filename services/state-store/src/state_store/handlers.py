"""What state-store does when a message arrives: one handler per subject."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from functools import wraps
from typing import NoReturn, TypeVar
from uuid import UUID

from muster_bus import AskError, Bus, Retry
from muster_bus.service import Routes
from muster_contracts.audit.v1 import AuditPage, ReadAudit
from muster_contracts.chunk.v1 import Chunks, ChunkStored, ChunkTaken, PutChunk, ReadChunks
from muster_contracts.command.v1 import (
    STORE,
    Backlog,
    CancelCommand,
    CommandDetail,
    CommandState,
    Ended,
    Execute,
    FindTargets,
    GetBacklog,
    GetCommand,
    Progressed,
    Submit,
    Submitted,
    TargetPage,
)
from muster_contracts.selector import SelectorError, parse
from muster_runtime import Clock, logger
from state_store.domain.orders import REFUSED, ordered, submitting, terms
from state_store.domain.pages import fitting
from state_store.domain.streams import LEAST_CHARGE, Damaged, Piece, unpacked
from state_store.domain.target import Kept
from state_store.ports import Agents, Ledger, Limits, OpenOrder, Push, Pushes, Queries, Stored, Unavailable

BACKLOG_ORDERS = 50
BACKLOG_BYTES = 512 * 1024
FURTHEST = timedelta(days=366)
"""Nobody waits longer for an agent."""
ROOM_FOR_ADDRESS = 512
"""Bytes that an order to one agent has beside its terms, at most."""

log = logger(__name__)

M = TypeVar("M")
R = TypeVar("R")


def patient(handler: Callable[[M], Awaitable[R]]) -> Callable[[M], Awaitable[R]]:
    """While the database cannot be used, a durable message waits and an ask is told to try again."""

    @wraps(handler)
    async def handle(message: M) -> R:
        try:
            return await handler(message)
        except Unavailable as error:
            raise Retry(str(error)) from error

    return handle


def from_operators(
    *, ledger: Ledger, queries: Queries, agents: Agents, pushes: Pushes, limits: Limits, clock: Clock
) -> Routes:
    """What operators order."""
    routes = Routes(STORE)

    @routes.answers(Submit, at_once=512)
    @patient
    async def on_submit(ask: Submit) -> Submitted:
        """A command is in the ledger, with a row for each agent, before it is answered; then it is pushed."""
        refuse_nul(ask.issuer, ask.idempotency_key or "")
        recipients = await _recipients(ask)
        taken = await ledger.submit(ask, recipients)
        if taken.terms:
            pushes.put(Push(agent, taken.terms) for agent in recipients)
        repeated = taken.terms is None
        return Submitted(command_id=taken.command_id, targets=taken.targets, repeated=repeated)

    async def _recipients(ask: Submit) -> list[str]:
        """Whom it is for; nobody, where it is in the ledger already and so is only to be answered again."""
        try:
            check(ask, clock.now())
            return found_by(ask, await agents.matching(ask.selector, limits.targets_of_command))
        except AskError as error:
            if await queries.known(ask):
                return []
            if error.problem.code != "unavailable":
                await ledger.note(submitting(ask, REFUSED, why=error.problem.code))
            raise

    @routes.answers(CancelCommand)
    @patient
    async def on_cancel(ask: CancelCommand) -> CommandDetail:
        """What surely never arrived is cancelled at once; of the rest the agents are told to stop it."""
        refuse_nul(ask.issuer)
        cancelled = await ledger.cancel(ask)
        pushes.put(cancelled.pushes)
        return cancelled.detail

    return routes


def from_readers(queries: Queries) -> Routes:
    """What operators ask; nothing here changes anything."""
    routes = Routes(STORE)

    @routes.answers(GetCommand)
    @patient
    async def on_get_command(ask: GetCommand) -> CommandDetail:
        """How far a command is."""
        return await queries.command(ask.command_id) or _unknown(ask)

    @routes.answers(FindTargets)
    @patient
    async def on_find_targets(ask: FindTargets) -> TargetPage:
        """What was ordered of whom and what became of it, newest first, a page at a time."""
        return await queries.targets(ask)

    @routes.answers(ReadChunks)
    @patient
    async def on_read_chunks(ask: ReadChunks) -> Chunks:
        """A stream from an offset on."""
        return await queries.chunks(ask)

    @routes.answers(ReadAudit)
    @patient
    async def on_read_audit(ask: ReadAudit) -> AuditPage:
        """The audit from a sequence on, upwards."""
        return await queries.audit(ask.after, ask.limit)

    return routes


def from_agents(*, ledger: Ledger, queries: Queries, bus: Bus, limits: Limits, clock: Clock) -> Routes:
    """What agents say and ask."""
    routes = Routes(STORE)

    # Not by agent alone: what one agent has to say of many commands goes into one commit.
    @routes.hears(Ended, at_once=512, key=lambda ended: (ended.agent_id, ended.command_id))
    @patient
    async def on_ended(ended: Ended) -> None:
        """A target ends as its agent says, once; what comes after its end is only noted."""
        await ledger.ended(ended)

    @routes.hears_batches(Progressed)
    async def on_progressed(news: list[Progressed]) -> None:
        """How far a target is; lost, the next one or its end makes up for it."""
        telling = [one for one in news if one.state in {CommandState.ACCEPTED, CommandState.RUNNING}]
        try:
            await ledger.progressed(list({(one.command_id, one.agent_id): one for one in telling}.values()))
        except Unavailable as error:
            log.warning("cannot keep how far commands are", commands=len(telling), why=str(error))

    @routes.answers(GetBacklog, at_once=128)
    @patient
    async def on_get_backlog(ask: GetBacklog) -> Backlog:
        """What an agent has not ended, oldest first; what is handed out is noted as sent before."""
        found = await queries.backlog(ask.agent_id, ask.after, BACKLOG_ORDERS + 1)
        page = fitting([one.terms for one in found[:BACKLOG_ORDERS]], BACKLOG_BYTES)
        more = len(found) > len(page)
        wanted = [one.kept.key for one in found[: len(page)] if worth_handing_out(one, clock.now())]
        kept = {one.command_id: one for one in await ledger.hand_out(wanted)} if wanted else {}
        return backlog_of(found[: len(page)], kept, more=more)

    @routes.answers(PutChunk, at_once=512)
    @patient
    async def on_put_chunk(ask: PutChunk) -> ChunkTaken:
        """Bytes are on disk before they are answered; whoever follows the stream is told."""
        stored = await ledger.put_chunk(ask, piece_of(ask))
        if stored.grew:
            await bus.say(_grown(ask, stored))
        if stored.too_large:
            most = limits.bytes_of_stream
            text = (
                f"cannot keep more than {most} bytes of {ask.stream} of {ask.agent_id}, "
                f"{LEAST_CHARGE} a chunk at least: it ends here"
            )
            raise AskError("too-large", text, limit=most, size=stored.taken.expected_offset)
        return stored.taken

    def _grown(ask: PutChunk, stored: Stored) -> ChunkStored:
        taken = stored.taken
        return ChunkStored(
            occurred_at=clock.now(), agent_id=ask.agent_id, stream=ask.stream, size=taken.expected_offset,
            complete=taken.complete,
        )  # fmt: skip

    return routes


def check(submit: Submit, now: datetime) -> None:
    """Nothing, or the problem of a command that can never be done."""
    try:
        parse(submit.selector)
    except SelectorError as error:
        raise AskError("invalid", str(error), position=error.position) from None
    if submit.not_after <= now:
        text = f"cannot order {submit.command_id}: its not_after {submit.not_after.isoformat()} has passed"
        raise AskError("invalid", text)
    if submit.not_after > now + FURTHEST:
        text = f"cannot order {submit.command_id}: its not_after is more than {FURTHEST.days} days ahead"
        raise AskError("invalid", text)
    size = len(terms(ordered(submit, 1, now)).model_dump_json()) + ROOM_FOR_ADDRESS
    if size > Execute.MAX_BYTES:
        text = f"cannot order {submit.command_id}: {size} bytes, an order may have {Execute.MAX_BYTES}"
        raise AskError("too-large", text)


def refuse_nul(*texts: str) -> None:
    """Nothing, or the problem of a name that no database and no audit can hold."""
    if any("\x00" in text for text in texts):
        raise AskError("invalid", "cannot take an issuer or key with a NUL in it; leave it out")


def found_by(submit: Submit, agents: Sequence[str]) -> list[str]:
    """Whom it is for, or a problem if that is nobody."""
    if agents:
        return list(agents)
    text = f"cannot order {submit.command_id}: no agent matches '{submit.selector}'"
    raise AskError("not-found", f"{text}; 'muster agents list' shows all", selector=submit.selector)


def worth_handing_out(one: OpenOrder, now: datetime) -> bool:
    """Whether the agent is to see it: not what never reached it and is too late by now."""
    return one.kept.may_have_arrived or one.kept.not_after > now


def backlog_of(found: Sequence[OpenOrder], kept: dict[UUID, Kept], *, more: bool) -> Backlog:
    """The page, with targets as they were when they were noted as sent: one may have been cancelled since."""
    out = [one for one in found if (now := kept.get(one.kept.command_id)) and not now.ended]
    return Backlog(
        orders=[one.terms for one in out],
        cancelled=[one.kept.command_id for one in out if kept[one.kept.command_id].cancel_requested],
        next=found[-1].kept.command_id if more else None,
    )


def piece_of(put: PutChunk) -> Piece | None:
    """The chunk's bytes, or the problem that they are not what it says."""
    try:
        return unpacked(put.chunk) if put.chunk else None
    except Damaged as error:
        raise AskError("invalid", f"{error} ({put.stream} of {put.agent_id})") from None


def _unknown(ask: GetCommand) -> NoReturn:
    text = f"cannot find the command {ask.command_id}: no such command; 'muster command list' shows all"
    raise AskError("not-found", text)
