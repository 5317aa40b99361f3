"""Orders: have agents do something, find what was ordered, and read who ordered it."""

from collections.abc import AsyncIterator, Collection
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from muster_client.asking import now
from muster_client.commands import TARGETS_OF_A_PAGE, Command, targets_of, whoami
from muster_client.roll import Roll
from muster_contracts.audit.v1 import AuditEntry, ReadAudit
from muster_contracts.command.v1 import (
    Body,
    CommandState,
    FindTargets,
    GetCommand,
    Precondition,
    Submit,
    Target,
)

ENTRIES_OF_A_PAGE = 500
SUBMIT_SECONDS = 20.0
"""So long may the ledger take to write down a command with all its targets."""
FIVE_MINUTES = timedelta(minutes=5)


class Orders(Roll):
    """What is ordered of agents, and who ordered what."""

    async def order(
        self,
        body: Body,
        selector: str = "",
        *,
        issuer: str | None = None,
        idempotency_key: str | None = None,
        expires: timedelta = FIVE_MINUTES,
        start_within: timedelta = FIVE_MINUTES,
        run_for: timedelta = FIVE_MINUTES,
        precondition: Precondition | None = None,
    ) -> Command:
        """Have every agent that matches now do something; returns when the ledger has it on disk.

        ``expires``: an agent that is away and comes back later does not begin. ``start_within``: longer does
        it not wait for its turn there. ``run_for``: longer does it not run. The ``issuer`` is by default
        ``user@host``; with an ``idempotency_key``, ordering again is ordering once.

        Raises:
            AskFailed: ``invalid`` selector, ``not-found``, or ``unavailable``.
            NoAnswer: whether it was taken is unknown; with an ``idempotency_key``, ordering again is safe.
        """
        question = Submit(
            occurred_at=now(),
            command_id=uuid4(),
            idempotency_key=idempotency_key,
            issuer=issuer or whoami(),
            selector=selector,
            body=body,
            not_after=now() + expires,
            start_seconds=start_within.total_seconds(),
            run_seconds=run_for.total_seconds(),
            precondition=precondition or Precondition(),
        )
        taken = await self.ask(question, slow=SUBMIT_SECONDS)
        return Command(self, taken.command_id, taken.targets, repeated=taken.repeated)

    async def command(self, command_id: UUID | str) -> Command:
        """A command that was submitted before, by anybody."""
        question = GetCommand(occurred_at=now(), command_id=UUID(str(command_id)))
        detail = await self.ask(question)
        return Command(self, detail.id, detail.targets)

    def targets(
        self,
        *,
        command: UUID | None = None,
        agent: str | None = None,
        states: Collection[CommandState] = (),
        issuer: str | None = None,
        verb: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        page: int = TARGETS_OF_A_PAGE,
    ) -> AsyncIterator[Target]:
        """What was ordered of whom and what became of it, newest first, page by page."""
        wanted = FindTargets(
            occurred_at=now(), command_id=command, agent_id=agent, states=list(states), issuer=issuer,
            verb=verb, since=since, until=until, limit=min(page, TARGETS_OF_A_PAGE),
        )  # fmt: skip
        return targets_of(self, wanted)

    async def audited(self) -> int:
        """The sequence of the last entry of the audit; 0 if there is none."""
        return (await self.ask(ReadAudit(occurred_at=now(), limit=1))).last

    async def audit(self, after: int = 0) -> AsyncIterator[AuditEntry]:
        """Who ordered what of whom and what was decided, oldest first, behind a sequence."""
        while True:
            page = await self.ask(ReadAudit(occurred_at=now(), after=after, limit=ENTRIES_OF_A_PAGE))
            for entry in page.entries:
                yield entry
            if not page.entries or page.entries[-1].sequence <= after:
                return
            after = page.entries[-1].sequence
