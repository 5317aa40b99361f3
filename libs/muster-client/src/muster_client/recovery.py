"""What is done about what is ill: ``fleet.recovery`` tells it, holds it, and lets it go on."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from uuid import UUID

from muster_client.asking import Asking, now
from muster_client.commands import whoami
from muster_contracts.health.v1 import (
    FindRecoveries,
    GetRecoveryStatus,
    PauseRecovery,
    RecoveryAct,
    RecoveryStatus,
    ResumeRecovery,
)

PAGE = 200


class Recovery:
    """``fleet.recovery``: questions to health-recovery about its acts."""

    def __init__(self, fleet: Asking) -> None:
        self._fleet = fleet

    async def status(self) -> RecoveryStatus:
        """How recovery is with everything that is ill, and what holds it."""
        return await self._fleet.ask(GetRecoveryStatus(occurred_at=now()))

    async def acts(
        self, *, agent: str | None = None, package: str | None = None, page: int = PAGE
    ) -> AsyncIterator[RecoveryAct]:
        """What was done and why, newest first; an act's id is also the id of its command."""
        before: str | None = None
        while True:
            wanted = FindRecoveries(
                occurred_at=now(), agent_id=agent, package=package, before=before, limit=min(page, PAGE)
            )
            told = await self._fleet.ask(wanted)
            for act in told.acts:
                yield act
            if (before := told.next) is None:
                return

    async def pause(
        self,
        selector: str = "",
        until: datetime | timedelta | None = None,
        *,
        text: str = "",
        by: str | None = None,
    ) -> RecoveryStatus:
        """Do nothing about packages of these agents, or of any, until then or until it is resumed."""
        end = now() + until if isinstance(until, timedelta) else until
        wanted = PauseRecovery(occurred_at=now(), selector=selector, until=end, by=by or whoami(), text=text)
        return await self._fleet.ask(wanted)

    async def resume(self, pause: UUID | None = None, *, by: str | None = None) -> RecoveryStatus:
        """Take back one pause, or all."""
        return await self._fleet.ask(ResumeRecovery(occurred_at=now(), id=pause, by=by or whoami()))
