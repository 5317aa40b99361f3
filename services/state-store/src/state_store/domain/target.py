"""One command on one agent: what each sign makes of it. Values in, values out.

``sent`` is the heart of it: whether the order may have reached the agent. It is assumed while an attempt is
under way (``pushing``) and taken back only when the broker says that nobody was there. What surely never
reached its agent can expire or be cancelled; of what may have, only the agent can say that nothing was done.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

from muster_contracts.command.v1 import ENDS, CommandState, Ended, Settled, Target
from state_store.domain.states import REPORTS, Signal, step

Key = tuple[UUID, str]
"""Command and agent."""
LARGEST_NUMBER = 2**63 - 1


class Outcome(StrEnum):
    """What became of one attempt to push an order to its agent."""

    UNREACHABLE = "unreachable"
    """Nobody listened: it surely was not delivered."""
    UNKNOWN = "unknown"
    """No word came back: it may have been delivered."""
    ACCEPTED = "accepted"
    RUNNING = "running"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the ledger waits, and how often it tries."""

    grace: timedelta = timedelta(seconds=60)
    """After a target's time is over, so long may word of it be on its way."""
    push_again: timedelta = timedelta(seconds=30)
    """Before the second attempt; it doubles with each that follows."""
    longest_push_again: timedelta = timedelta(seconds=600)
    cancel_again: timedelta = timedelta(seconds=5)
    """As ``push_again``, for the order to stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One target as the ledger keeps it."""

    command_id: UUID
    agent: str
    verb: str
    about: str | None
    issuer: str
    submitted_at: datetime
    not_after: datetime
    start_seconds: float
    run_seconds: float
    position: int | None = None
    state: CommandState = CommandState.PENDING
    reason: str | None = None
    text: str | None = None
    accepted_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    cancel_requested: bool = False
    exit_code: int | None = None
    result: dict[str, Any] | None = None
    output_bytes: int = 0
    reported_late: CommandState | None = None
    sent: bool = False
    """Whether an earlier attempt may have delivered it."""
    pushing: bool = True
    """Whether an attempt is under way, or was when its process died."""
    pushes: int = 1
    deadline: datetime | None = None
    """When the ledger ends it by itself; null once it has ended."""
    push_at: datetime | None = None
    """When it is tried again; null where there is nothing to tell the agent."""

    @property
    def key(self) -> Key:
        """Command and agent."""
        return self.command_id, self.agent

    @property
    def ended(self) -> bool:
        """Whether it has come to one of the eight ends."""
        return self.state in ENDS

    @property
    def may_have_arrived(self) -> bool:
        """Whether the agent may have it."""
        return self.sent or self.pushing or self.state is not CommandState.PENDING


def deadline_of(kept: Kept, patience: Patience) -> datetime | None:
    """When the ledger ends this target by itself."""
    running = timedelta(seconds=kept.run_seconds)
    if kept.ended:
        return None
    if kept.started_at:
        return kept.started_at + running + patience.grace
    if kept.accepted_at:
        begun = min(kept.not_after, kept.accepted_at + timedelta(seconds=kept.start_seconds))
        return begun + running + patience.grace
    return kept.not_after + patience.grace if kept.may_have_arrived else kept.not_after


def planned(kept: Kept, patience: Patience) -> Kept:
    """A new target with its deadline; its first push is under way."""
    kept = replace(kept, push_at=kept.submitted_at + patience.push_again)
    return replace(kept, deadline=deadline_of(kept, patience))


def heard(kept: Kept, state: CommandState, at: datetime, patience: Patience) -> Kept:
    """The agent says that it has it, or has begun; what has ended already stays as it is."""
    if kept.ended:
        return kept
    begun = state is CommandState.RUNNING
    now = step(kept.state, Signal.BEGIN if begun else Signal.ACCEPT)
    if now is kept.state and not kept.pushing:
        return kept
    again = kept.push_at if kept.cancel_requested else None
    kept = replace(
        kept,
        state=now,
        sent=True,
        pushing=False,
        accepted_at=kept.accepted_at or at,
        started_at=kept.started_at or (at if begun else None),
        push_at=again,
    )
    return replace(kept, deadline=deadline_of(kept, patience))


def pushed(kept: Kept, outcome: Outcome, at: datetime, patience: Patience) -> Kept:
    """What became of an attempt."""
    if outcome in {Outcome.ACCEPTED, Outcome.RUNNING}:
        return heard(kept, CommandState(outcome), at, patience)
    if kept.state is not CommandState.PENDING:
        return kept
    sent = kept.sent or outcome is Outcome.UNKNOWN
    kept = replace(kept, pushing=False, sent=sent)
    if kept.cancel_requested and not sent:
        return _withdrawn(kept, at)
    return replace(kept, deadline=deadline_of(kept, patience))


def handed_out(kept: Kept, patience: Patience) -> Kept:
    """It goes out in a backlog: from now on it may have arrived."""
    if kept.sent or kept.state is not CommandState.PENDING:
        return kept
    kept = replace(kept, sent=True)
    return replace(kept, deadline=deadline_of(kept, patience))


def tried_again(kept: Kept, at: datetime, patience: Patience) -> Kept:
    """Another attempt begins. One that was under way and of which nothing came back may have arrived."""
    pending = kept.state is CommandState.PENDING
    if pending and not kept.cancel_requested and kept.not_after <= at:
        return replace(kept, push_at=None)
    base = patience.cancel_again if kept.cancel_requested else patience.push_again
    wait = min(base * 2.0 ** min(kept.pushes, 20), patience.longest_push_again)
    kept = replace(
        kept,
        sent=kept.sent or kept.pushing,
        pushing=pending,
        pushes=kept.pushes + 1,
        push_at=at + wait,
    )
    # What never arrived may arrive now, so it has until its grace is over.
    return replace(kept, deadline=deadline_of(kept, patience))


def cancelled(kept: Kept, at: datetime, patience: Patience) -> Kept:
    """Somebody wants it stopped: at once if it surely never arrived, else the agent has to say so."""
    if kept.ended or kept.cancel_requested:
        return kept
    if not kept.may_have_arrived:
        return _withdrawn(replace(kept, cancel_requested=True), at)
    return replace(kept, cancel_requested=True, push_at=at + patience.cancel_again, pushes=0)


def overdue(kept: Kept, at: datetime) -> Kept:
    """Its deadline has passed: expired if it surely never arrived, else lost."""
    if kept.ended or kept.deadline is None or kept.deadline > at:
        return kept
    if not kept.may_have_arrived:
        text = f"cannot have begun: it did not reach {kept.agent} by its not_after"
        return _ended(kept, Signal.EXPIRE, at, "not-after", text)
    text = f"cannot tell what became of it: nothing was heard from {kept.agent} by its deadline"
    return _ended(kept, Signal.SILENCE, at, "silence", text)


def reported(kept: Kept, report: Ended, at: datetime) -> Kept:
    """What the agent says became of it. A repeat changes nothing; what contradicts an end is noted as late.

    Raises:
        ValueError: the report is of no end that an agent can report.
    """
    if report.state not in REPORTS:
        raise ValueError(f"cannot end {kept.command_id} on {kept.agent} as {report.state}: no agent says so")
    if kept.ended:
        contradicts = kept.state is not report.state and kept.reported_late is None
        return replace(kept, reported_late=report.state) if contradicts else kept
    ended = _ended(
        kept, REPORTS[report.state], _within(kept, report.occurred_at, at), _storable(report.reason), None
    )
    return replace(
        ended,
        text=_storable(report.text) or None,
        accepted_at=_within(kept, report.accepted_at or kept.accepted_at or at, at),
        started_at=_within(kept, report.started_at, at) if report.started_at else kept.started_at,
        exit_code=None if report.exit_code is None else _countable(report.exit_code),
        result=report.result,
        output_bytes=max(kept.output_bytes, _countable(report.output_bytes)),
    )


def shown(kept: Kept) -> Target:
    """The target as operators see it."""
    return Target(
        id=kept.command_id, agent=kept.agent, verb=kept.verb, subject=kept.about, state=kept.state,
        reason=kept.reason, text=kept.text, issuer=kept.issuer, submitted_at=kept.submitted_at,
        not_after=kept.not_after, accepted_at=kept.accepted_at, started_at=kept.started_at,
        ended_at=kept.ended_at, cancel_requested=kept.cancel_requested, exit_code=kept.exit_code,
        result=kept.result, output_bytes=kept.output_bytes, reported_late=kept.reported_late,
    )  # fmt: skip


def settled(kept: Kept, *, with_result: bool = True) -> Settled:
    """The fact that it has ended; its id follows from the target, so a repeat is the same message."""
    assert kept.ended_at
    target = shown(kept)
    return Settled(
        message_id=uuid5(NAMESPACE_OID, f"settled {kept.command_id} {kept.agent}"),
        occurred_at=kept.ended_at,
        agent_id=kept.agent,
        target=target if with_result else target.model_copy(update={"result": None}),
    )


def _withdrawn(kept: Kept, at: datetime) -> Kept:
    return _ended(kept, Signal.CANCEL, at, "withdrawn", "It was taken back before it was sent.")


def _ended(kept: Kept, signal: Signal, at: datetime, reason: str, text: str | None) -> Kept:
    return replace(
        kept,
        state=step(kept.state, signal),
        reason=reason,
        text=text,
        ended_at=at,
        pushing=False,
        deadline=None,
        push_at=None,
    )


def _storable(text: str) -> str:
    """Without NULs, which PostgreSQL takes in no text; a report is worth more than they are."""
    return text.replace("\x00", "")


def _countable(number: int) -> int:
    """The nearest number that a database can hold, for the same reason."""
    return max(-LARGEST_NUMBER, min(number, LARGEST_NUMBER))


def _within(kept: Kept, moment: datetime, at: datetime) -> datetime:
    """A moment by an agent's clock, which may be wrong: never before it was ordered, never after now."""
    return max(kept.submitted_at, min(moment, at))
