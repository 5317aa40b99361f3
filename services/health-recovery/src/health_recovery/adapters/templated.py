"""Words of a channel: by its template, or, should that fail, the built-in ones."""

from health_recovery.adapters.templates import Template, TemplateFailed
from health_recovery.domain.notice import Notice
from muster_runtime import Count, logger

FAILED = Count(
    "muster_health_templates_failed_total", "Notices sent in built-in words instead.", ("channel",)
)

log = logger(__name__)


async def words(template: Template | None, notice: Notice, otherwise: str) -> str:
    """What the template makes of the notice; ``otherwise`` without one, and where it fails."""
    if template is None:
        return otherwise
    try:
        return await template.render(notice.told())
    except TemplateFailed as error:
        FAILED.add(notice.channel)
        log.error(  # noqa: TRY400  (what failed is in its text)
            "template failed; the built-in words are sent", channel=notice.channel, why=str(error)
        )
        return otherwise
