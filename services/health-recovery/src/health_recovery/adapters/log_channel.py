"""The log as a channel: a line for each incident, for who has no other channel yet."""

from health_recovery.domain.notice import Event, Notice
from muster_runtime import logger

log = logger(__name__)


class LogChannel:
    """Writes each incident of a notice as one line; takes everything."""

    async def send(self, notice: Notice) -> None:
        """Write the lines."""
        if notice.kind == "test":
            log.info("notification test", channel=notice.channel, by=notice.by, notice=str(notice.id))
        for item in notice.items:
            one = item.incident
            say = log.info if item.event is Event.RESOLVED else log.error
            say(
                f"incident {item.event}",
                incident=str(one.id),
                cause=str(one.cause),
                health=one.health.value,
                reason=one.reason,
                text=one.text,
                check=item.check,
                since=one.opened_at.isoformat(),
                until=one.resolved_at.isoformat() if one.resolved_at else None,
                why=item.why,
                site=item.site,
                affected=one.affected_count,
                tried=one.tried,
                gave_up=one.gave_up,
                notice=str(notice.id),
            )
        if notice.more:
            log.error("more incidents", more=notice.more, notice=str(notice.id))

    async def close(self) -> None:
        """Nothing to let go of."""
