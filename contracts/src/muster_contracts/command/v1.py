"""Commands: ordered of many agents at once, delivered later or never, started at most once, always ended.

An operator submits a command to state-store, which keeps one row for each agent it is meant for (a *target*),
pushes it to the agent, and has it ready when the agent asks for its backlog. The agent writes down that it is
about to start before it starts; a command it knows is never run again. Every target ends in exactly one of
``ENDS``, by the deadline that state-store keeps for it; an end is final.
"""

from enum import StrEnum
from typing import Annotated, Any, ClassVar
from uuid import UUID, uuid4

from pydantic import AwareDatetime, Field

from muster_contracts.fleet.v1 import Selector
from muster_contracts.ids import AgentId, Epoch, Sha256
from muster_contracts.message import Answer, Ask, DurableFact, LiveFact, Order, Part, Role, Subject
from muster_contracts.package.v1 import PackageBody, PackageState, RunScript

STORE = "state-store"


class CommandState(StrEnum):
    """How far one target is; the last eight are ends."""

    PENDING = "pending"
    """Written down; the agent has not said that it has it."""
    ACCEPTED = "accepted"
    """The agent has written it down."""
    RUNNING = "running"
    """The agent has begun."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """It ran to its end and did not do what it should."""
    TIMED_OUT = "timed_out"
    """It was not started, or not done, within its time; what ran was stopped."""
    EXPIRED = "expired"
    """It was not begun by its ``not_after``, and never will be."""
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    """The agent would not: its policy, a precondition, or no such thing there. Nothing was done."""
    INTERRUPTED = "interrupted"
    """The agent died while it ran; it may have had an effect, and is not run again."""
    LOST = "lost"
    """Nothing was heard of it by its deadline; whether it had an effect is not known."""


ENDS = frozenset(CommandState) - {CommandState.PENDING, CommandState.ACCEPTED, CommandState.RUNNING}
"""The eight ways in which a target ends."""

CommandId = Annotated[UUID, Field(description="The command's id: one for all its targets.")]
Issuer = Annotated[
    str,
    Field(min_length=1, max_length=200, description="Who ordered it, as they say of themselves: ann@laptop."),
]
Body = Annotated[PackageBody | RunScript, Field(discriminator="verb", description="What is to be done.")]
"""Every verb there is; a new one is added at the end."""

LONGEST_RUN_SECONDS = 86_400.0


class Precondition(Part):
    """What has to hold when an agent is about to start; else it rejects the command."""

    epoch: Epoch | None = Field(default=None, description="Only in this run of the agent.")
    package_version: str | None = Field(default=None, description="Only if the package has this version.")
    package_states: list[PackageState] = Field(
        default_factory=list, description="Only if the package is in one of these; empty: in any."
    )


class Terms(Part):
    """One command as an agent gets it: what to do, until when, and for how long."""

    command_id: CommandId
    issuer: Issuer
    submitted_at: AwareDatetime = Field(description="When it was ordered, by state-store's clock.")
    verb: str = Field(max_length=100, description="Such as package.restart.")
    body: dict[str, Any] = Field(
        description="One of the bodies of Submit. Open, so that an agent that does not know the verb can "
        "reject it in words."
    )
    not_after: AwareDatetime = Field(description="Not to be begun later than this.")
    start_seconds: float = Field(gt=0, description="Longer may it not wait for its turn once accepted.")
    run_seconds: float = Field(gt=0, description="Longer may it not run; then it is stopped.")
    precondition: Precondition = Field(default_factory=Precondition)


# Between state-store and agents ----------------------------------------------------------------------


class Accepted(Answer):
    """The agent has the command, fsynced; what becomes of it follows as Ended."""

    command_id: CommandId
    state: CommandState = Field(description="How far it is: a repeat is told what became of the first.")


class Execute(Ask[Accepted]):
    """An order to one agent, pushed live. Asked, so that 'nobody is there' is told from 'no word came back'.

    A repeat is answered from the agent's journal and never run again.
    """

    SUBJECT: ClassVar[Subject] = Subject("muster.command.v1.{agent_id}.execute")
    SAID_BY = (Role.STATE_STORE,)
    HEARD_BY = (Role.AGENT,)
    ANSWER = Accepted

    agent_id: AgentId
    terms: Terms


class Cancel(Order):
    """Stop a command, or do not begin it; an agent that never saw it remembers not to."""

    SUBJECT: ClassVar[Subject] = Subject("muster.command.v1.{agent_id}.cancel")
    SAID_BY = (Role.STATE_STORE,)
    HEARD_BY = (Role.AGENT,)

    agent_id: AgentId
    command_id: CommandId


class Backlog(Answer):
    """What an agent has not yet ended, as far as state-store knows; oldest first."""

    orders: list[Terms]
    cancelled: list[UUID] = Field(
        default_factory=list, description="Those among them that are to be stopped, or not to be begun."
    )
    next: UUID | None = Field(
        default=None, description="Ask again with this as ``after``; null on the last page."
    )


class GetBacklog(Ask[Backlog]):
    """What is there to do for this agent? Asked at its start and after each reconnect."""

    SUBJECT: ClassVar[Subject] = Subject("muster.command.v1.{agent_id}.get-backlog")
    SAID_BY = (Role.AGENT,)
    HEARD_BY = (Role.STATE_STORE,)
    ANSWER = Backlog

    agent_id: AgentId
    epoch: Epoch
    after: UUID | None = Field(default=None, description="The ``next`` of the page before.")


class Progressed(LiveFact):
    """How far a command is on one agent just now."""

    SUBJECT: ClassVar[Subject] = Subject("muster.command.v1.{agent_id}.progressed")
    SAID_BY = (Role.AGENT,)
    HEARD_BY = (Role.STATE_STORE, Role.OPERATOR)
    MAX_BYTES = 4096

    agent_id: AgentId
    command_id: CommandId
    state: CommandState = Field(description="accepted or running.")
    percent: float | None = Field(
        default=None, ge=0, le=100, description="How much is done, if that is known."
    )
    text: str | None = Field(default=None, max_length=500, description="What it is at, for people.")
    output_bytes: int = Field(default=0, ge=0, description="How much it has printed so far.")


class Ended(DurableFact):
    """A command has ended on one agent; said once for each, whatever happens to the agent."""

    SUBJECT: ClassVar[Subject] = Subject("muster.command.v1.{agent_id}.ended")
    SAID_BY = (Role.AGENT,)
    HEARD_BY = (Role.STATE_STORE, Role.OPERATOR)

    agent_id: AgentId
    epoch: Epoch
    command_id: CommandId
    verb: str = Field(max_length=100, description="Such as package.restart.")
    state: CommandState = Field(description="One of the ends.")
    reason: str = Field(
        max_length=100,
        description="Why, for programs: done, exit, policy, precondition, not-found, run-time, …",
    )
    text: str = Field(
        default="", max_length=2000, description="The same for people; starts with 'cannot' if so."
    )
    exit_code: int | None = Field(
        default=None, description="Of the process it was about, if it ended by itself."
    )
    result: dict[str, Any] | None = Field(default=None, description="What it gave back, by verb; small.")
    accepted_at: AwareDatetime | None = Field(
        default=None, description="By the agent's clock, as those below."
    )
    started_at: AwareDatetime | None = Field(default=None, description="Null if it never began.")
    output_bytes: int = Field(default=0, ge=0, description="Size of all it printed.")
    output_sha256: Sha256 | None = Field(default=None, description="Of all it printed; null if nothing.")


# What operators see ------------------------------------------------------------------------------------


class Target(Part):
    """One command on one agent, as the ledger knows it."""

    id: CommandId
    agent: AgentId
    verb: str = Field(description="Such as package.restart.")
    subject: str | None = Field(default=None, description="What it is about there: the package, the script.")
    state: CommandState
    reason: str | None = Field(
        default=None, description="Why it ended so, for programs; null before the end."
    )
    text: str | None = Field(default=None, description="The same for people.")
    issuer: Issuer
    submitted_at: AwareDatetime = Field(description="When it was ordered.")
    not_after: AwareDatetime = Field(description="When it expires, if it was not begun.")
    accepted_at: AwareDatetime | None = Field(default=None, description="When the agent had written it down.")
    started_at: AwareDatetime | None = Field(default=None, description="When the agent began.")
    ended_at: AwareDatetime | None = Field(default=None, description="When it ended.")
    cancel_requested: bool = Field(default=False, description="Whether somebody asked to stop it.")
    exit_code: int | None = Field(
        default=None, description="Of the process it was about, if it ended by itself."
    )
    result: dict[str, Any] | None = Field(default=None, description="What it gave back, by verb.")
    output_bytes: int = Field(default=0, description="Size of all it printed.")
    reported_late: CommandState | None = Field(
        default=None,
        description="What the agent said of it after the ledger had ended it as lost; the end stays.",
    )


class Settled(DurableFact):
    """A target has ended in the ledger; said exactly once for each, by whatever way it ended."""

    SUBJECT: ClassVar[Subject] = Subject("muster.command.v1.{agent_id}.settled")
    SAID_BY = (Role.STATE_STORE,)
    HEARD_BY = (Role.OPERATOR, Role.HEALTH_RECOVERY)

    agent_id: AgentId
    target: Target


class Submitted(Answer):
    """The command is in the ledger, fsynced, with a row for each agent."""

    command_id: CommandId = Field(description="The first one's, where the idempotency key was used before.")
    targets: int = Field(description="How many agents it is meant for.")
    repeated: bool = Field(
        default=False, description="Whether it was there already; then nothing is done again."
    )


class Submit(Ask[Submitted]):
    """Have the agents that match the selector now do something.

    Submitting twice with one ``command_id``, or one issuer and ``idempotency_key``, is submitting once.
    """

    SUBJECT: ClassVar[Subject] = Subject("muster.command.v1.state-store.submit")
    SAID_BY = (Role.OPERATOR, Role.HEALTH_RECOVERY)
    HEARD_BY = (Role.STATE_STORE,)
    ANSWER = Submitted

    command_id: UUID = Field(default_factory=uuid4, description="Chosen by whoever submits.")
    idempotency_key: str | None = Field(
        default=None, min_length=1, max_length=200, description="The issuer's own name for this very act."
    )
    issuer: Issuer
    selector: Selector
    body: Body
    not_after: AwareDatetime = Field(description="Agents that come back later than this do not begin.")
    start_seconds: float = Field(
        default=300,
        gt=0,
        le=LONGEST_RUN_SECONDS,
        description="Longer may it not wait for its turn on an agent.",
    )
    run_seconds: float = Field(
        default=300, gt=0, le=LONGEST_RUN_SECONDS, description="Longer may it not run; then it is stopped."
    )
    precondition: Precondition = Field(default_factory=Precondition)


class CommandDetail(Answer):
    """One command and how far its targets are."""

    id: CommandId
    verb: str = Field(description="Such as package.restart.")
    body: dict[str, Any] = Field(description="As submitted, without contents that may be secret.")
    selector: str = Field(description="Whom it was meant for.")
    issuer: Issuer
    idempotency_key: str | None = Field(default=None, description="The issuer's own name for it, if given.")
    submitted_at: AwareDatetime = Field(description="When it was ordered.")
    not_after: AwareDatetime = Field(description="When it expires where it was not begun.")
    start_seconds: float
    run_seconds: float
    targets: int = Field(description="How many agents it is meant for.")
    by_state: dict[CommandState, int] = Field(
        description="How many targets are in which state; none left out."
    )
    ended: bool = Field(description="Whether every target has ended.")


class GetCommand(Ask[CommandDetail]):
    """How far is this command?"""

    SUBJECT: ClassVar[Subject] = Subject("muster.command.v1.state-store.get-command")
    SAID_BY = (Role.OPERATOR, Role.HEALTH_RECOVERY)
    HEARD_BY = (Role.STATE_STORE,)
    ANSWER = CommandDetail

    command_id: CommandId


class TargetPage(Answer):
    """Targets, newest first."""

    targets: list[Target]
    next: str | None = Field(
        default=None, description="Ask again with this as ``before``; null on the last page."
    )


class FindTargets(Ask[TargetPage]):
    """What was ordered, of whom, and what became of it?"""

    SUBJECT: ClassVar[Subject] = Subject("muster.command.v1.state-store.find-targets")
    SAID_BY = (Role.OPERATOR, Role.HEALTH_RECOVERY)
    HEARD_BY = (Role.STATE_STORE,)
    ANSWER = TargetPage

    command_id: UUID | None = Field(default=None, description="Only of this command.")
    agent_id: AgentId | None = Field(default=None, description="Only on this agent.")
    states: list[CommandState] = Field(default_factory=list, description="Only in these; empty: in any.")
    issuer: str | None = Field(default=None, max_length=200, description="Only ordered by them.")
    verb: str | None = Field(default=None, max_length=100, description="Only this verb.")
    since: AwareDatetime | None = Field(default=None, description="Only submitted at or after this.")
    until: AwareDatetime | None = Field(default=None, description="Only submitted before this.")
    before: str | None = Field(
        default=None, description="The ``next`` of the page before; null for the newest."
    )
    limit: int = Field(default=50, ge=1, le=200, description="At most this many on one page.")


class CancelCommand(Ask[CommandDetail]):
    """Stop a command where it runs, and do not begin it where it does not. Targets that ended stay ended."""

    SUBJECT: ClassVar[Subject] = Subject("muster.command.v1.state-store.cancel-command")
    SAID_BY = (Role.OPERATOR,)
    HEARD_BY = (Role.STATE_STORE,)
    ANSWER = CommandDetail

    command_id: CommandId
    agent_id: AgentId | None = Field(default=None, description="Only there; null: everywhere.")
    issuer: Issuer
