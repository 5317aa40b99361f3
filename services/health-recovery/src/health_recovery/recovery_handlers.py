"""What recovery hears and is asked."""

from health_recovery.handlers import refuse_nul
from health_recovery.patience import patient
from health_recovery.recovering import Recovering
from health_recovery.recovery_ports import RecoveryStore
from muster_bus import AskError
from muster_bus.service import Routes
from muster_contracts.command.v1 import Settled
from muster_contracts.health.v1 import (
    HEALTH,
    FindRecoveries,
    GetRecoveryStatus,
    Pause,
    PauseRecovery,
    RecoveryPage,
    RecoveryStatus,
    ResumeRecovery,
)
from muster_contracts.selector import SelectorError, parse


def from_ledger(recovering: Recovering) -> Routes:
    """What became of the orders."""
    routes = Routes(HEALTH)

    @routes.hears(Settled, at_once=64, key=lambda word: word.target.id)
    @patient
    async def on_settled(word: Settled) -> None:
        """An act ends with its command; commands of others are none of its business."""
        await recovering.settled(word)

    return routes


def from_operators(recovering: Recovering, store: RecoveryStore) -> Routes:
    """What people ask and tell recovery."""
    routes = Routes(HEALTH)

    @routes.answers(FindRecoveries)
    @patient
    async def on_find(ask: FindRecoveries) -> RecoveryPage:
        """What was done, newest first, a page at a time."""
        return await store.find(ask)

    @routes.answers(GetRecoveryStatus)
    async def on_status(_: GetRecoveryStatus) -> RecoveryStatus:
        """Everything that is ill, what is done about it next, and what stands in the way."""
        return recovering.status()

    @routes.answers(PauseRecovery)
    @patient
    async def on_pause(ask: PauseRecovery) -> RecoveryStatus:
        """Recovery is held on disk before it is answered; asked twice it is one pause."""
        await recovering.pause(_pause(ask))
        return recovering.status()

    @routes.answers(ResumeRecovery)
    @patient
    async def on_resume(ask: ResumeRecovery) -> RecoveryStatus:
        """A pause is taken back, or all are."""
        refuse_nul(ask.by)
        if not await recovering.resume(ask.id, ask.by):
            raise AskError("not-found", f"cannot resume {ask.id}: there is no such pause")
        return recovering.status()

    return routes


def _pause(ask: PauseRecovery) -> Pause:
    try:
        parse(ask.selector)
    except SelectorError as error:
        raise AskError("invalid", str(error), position=error.position) from None
    refuse_nul(ask.by, ask.text)
    if ask.until and ask.until <= ask.occurred_at:
        raise AskError("invalid", f"cannot pause until {ask.until.isoformat()}: that has passed")
    return Pause(
        id=ask.message_id, selector=ask.selector, since=ask.occurred_at, until=ask.until, by=ask.by,
        text=ask.text,
    )  # fmt: skip
