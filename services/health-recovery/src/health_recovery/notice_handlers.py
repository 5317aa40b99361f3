"""What health-recovery answers about incidents and notifications; asked of the leader."""

from health_recovery.domain.keys import Key
from health_recovery.handlers import refuse_nul
from health_recovery.notice_ports import Acts, NoticeStore
from health_recovery.notifying import Notifying
from health_recovery.patience import patient
from muster_bus import AskError
from muster_bus.service import Routes
from muster_contracts.health.v1 import (
    HEALTH,
    Acknowledge,
    Acknowledged,
    FindIncidents,
    Incident,
    IncidentPage,
    NotificationTested,
    TestNotification,
)
from muster_runtime import logger

log = logger(__name__)


def notice_routes(*, notifying: Notifying, store: NoticeStore, acts: Acts) -> Routes:
    """The questions of operators about incidents."""
    routes = Routes(HEALTH)

    @routes.answers(FindIncidents)
    @patient
    async def on_find_incidents(ask: FindIncidents) -> IncidentPage:
        """What was or is ill by itself, newest first, a page at a time."""
        page = await store.find(ask)
        shown = [await _with_acts(one) for one in page.incidents]
        return page.model_copy(update={"incidents": shown})

    async def _with_acts(one: Incident) -> Incident:
        """Of what lasts recovery knows best what was tried; of what is over it is kept with it."""
        if one.resolved_at:
            return one
        key = Key.of(one.cause)
        return one.model_copy(update={"tried": (await acts.tried(key))[-20:], "gave_up": acts.gave_up(key)})

    @routes.answers(Acknowledge)
    @patient
    async def on_acknowledge(ask: Acknowledge) -> Acknowledged:
        """Of the open incident of this package only the end is told; with retry, recovery begins anew."""
        refuse_nul(ask.by, ask.text)
        key = Key(ask.agent_id, ask.package)
        incidents = await notifying.acknowledge(key, ask.by, ask.text)
        causes = [one.cause for one in incidents] or [key]
        retried = [cause for cause in causes if ask.retry and await acts.retry(cause, ask.by)]
        if not incidents and not retried:
            text = f"cannot acknowledge {key}: it is part of no open incident, and nothing gave up on it"
            raise AskError("not-found", text)
        log.info("acknowledged", by=ask.by, package=str(key), retried=[str(one) for one in retried])
        return Acknowledged(incidents=[one.id for one in incidents], retried=[cause.ref for cause in retried])

    @routes.answers(TestNotification)
    async def on_test(ask: TestNotification) -> NotificationTested:
        """A test went through the channels, at once, and this became of it."""
        log.info("notifications are tested", by=ask.by, channel=ask.channel)
        return NotificationTested(deliveries=await notifying.test(ask.channel, ask.by))

    return routes
