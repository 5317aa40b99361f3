"""An Alertmanager: it is told what fires, again and again while it lasts; it groups by itself."""

import json
from datetime import timedelta

from health_recovery.adapters.alerts import posted
from health_recovery.adapters.http_post import Poster
from health_recovery.adapters.webhook import post
from health_recovery.domain.notice import Notice

LASTS = 4
"""So many intervals without word, and it takes an alert for over."""


class Alertmanager:
    """See ``notice_ports.Channel``; ``poster`` posts to its ``/api/v2/alerts``."""

    def __init__(self, name: str, poster: Poster, *, resend: timedelta, token: str | None = None) -> None:
        self._name, self._poster, self._lasts, self._token = name, poster, resend * LASTS, token

    async def send(self, notice: Notice) -> None:
        """Post its alerts once.

        Raises:
            CannotSend: they were not taken.
        """
        body = json.dumps(posted(notice, self._lasts)).encode()
        headers = {"content-type": "application/json", "x-muster-notice-id": str(notice.id)}
        await post(self._name, self._poster, body, headers, self._token)

    async def close(self) -> None:
        """Close its connections."""
        await self._poster.close()
