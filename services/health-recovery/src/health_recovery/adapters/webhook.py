"""A webhook: JSON by POST, signed so that the receiver knows who sent it and when.

The signature is that of standardwebhooks.com: the headers ``webhook-id``, ``webhook-timestamp`` and
``webhook-signature``, the HMAC-SHA256 of ``id.timestamp.body``; most languages have a library to verify it.
"""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

from health_recovery.adapters.alerts import webhook as as_alertmanager
from health_recovery.adapters.http_post import Poster, Reply, Unsent
from health_recovery.adapters.templated import words
from health_recovery.adapters.templates import Template
from health_recovery.domain.notice import Notice
from health_recovery.notice_ports import CannotSend
from muster_runtime import Clock

PREFIX = "whsec_"
LEAST_KEY = 24
MOST_BODY = 256 * 1024
SHOWN = 200


class Webhook:
    """See ``notice_ports.Channel``."""

    def __init__(
        self,
        name: str,
        poster: Poster,
        clock: Clock,
        *,
        key: bytes | None = None,
        token: str | None = None,
        format: str = "muster",  # noqa: A002  (as the settings name it)
        template: Template | None = None,
        content_type: str = "application/json",
    ) -> None:
        self._name, self._poster, self._clock = name, poster, clock
        self._key, self._token = key, token
        self._format, self._template, self._content_type = format, template, content_type

    async def send(self, notice: Notice) -> None:
        """Post it once.

        Raises:
            CannotSend: it was not taken.
        """
        body = (await words(self._template, notice, self._json(notice))).encode()
        if len(body) > MOST_BODY:
            body = self._json(notice.model_copy(update=_cut(notice))).encode()
        await post(self._name, self._poster, body, self._headers(notice, body), self._token)

    async def close(self) -> None:
        """Close its connections."""
        await self._poster.close()

    def _json(self, notice: Notice) -> str:
        return json.dumps(as_alertmanager(notice) if self._format == "alertmanager" else notice.told())

    def _headers(self, notice: Notice, body: bytes) -> dict[str, str]:
        headers = {
            "content-type": self._content_type,
            "x-muster-notice-id": str(notice.id),
            "webhook-id": str(notice.id),
        }
        if self._key:
            moment = str(int(self._clock.now().timestamp()))
            headers["webhook-timestamp"] = moment
            headers["webhook-signature"] = signature(self._key, str(notice.id), moment, body)
        return headers


async def post(name: str, poster: Poster, body: bytes, headers: Mapping[str, str], token: str | None) -> None:
    """Post for the channel ``name``.

    Raises:
        CannotSend: it was not taken; to be tried again on 429, 5xx and where nothing was answered.
    """
    who = {"user-agent": "muster"}
    allowed = {"authorization": f"Bearer {token}"} if token else {}
    try:
        reply = await poster.post(body, {**who, **headers, **allowed})
    except Unsent as error:
        raise CannotSend(f"cannot send through channel {name}: {error}", again=error.again) from None
    if not 200 <= reply.status < 300:
        raise _refused(name, poster, reply, token)


def _refused(name: str, poster: Poster, reply: Reply, token: str | None) -> CannotSend:
    again = reply.status == 429 or reply.status >= 500
    said = " ".join(reply.body.split())
    for secret in filter(None, (token, *poster.secrets)):
        said = said.replace(secret, "[redacted]")
    redirects = "; redirects are not followed, give its new URL" if 300 <= reply.status < 400 else ""
    shown = f": {said[:SHOWN]}" if said else ""
    text = f"cannot send through channel {name}: {poster.host} answered {reply.status}{redirects}{shown}"
    return CannotSend(text, again=again, after=reply.after if again else None)


def _cut(notice: Notice) -> dict[str, Any]:
    """Half of what it lists, the rest counted only; a body of this many has room."""
    kept = notice.items[: max(1, min(5, len(notice.items) // 2))]
    short = [
        item.model_copy(
            update={
                "incident": item.incident.model_copy(
                    update={"affected": item.incident.affected[:5], "tried": item.incident.tried[-3:]}
                )
            }
        )
        for item in kept
    ]
    return {"items": short, "more": notice.more + len(notice.items) - len(kept)}


def signature(key: bytes, identity: str, moment: str, body: bytes) -> str:
    """What proves that who knows the key sent this body then."""
    signed = f"{identity}.{moment}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def key_of(secret: str) -> bytes:
    """The key that a secret stands for: ``whsec_`` and base64, or the text itself.

    Raises:
        ValueError: it is too short, or no base64.
    """
    try:
        key = (
            base64.b64decode(secret[len(PREFIX) :], validate=True)
            if secret.startswith(PREFIX)
            else secret.encode()
        )
    except binascii.Error:
        raise ValueError("it is no base64 after whsec_") from None
    if len(key) < LEAST_KEY:
        raise ValueError(f"it is shorter than {LEAST_KEY} bytes")
    return key
