"""E-mail by SMTP. Headers are made by the standard library, which takes no line breaks in them."""

import ssl
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

import aiosmtplib

from health_recovery.adapters.templated import words
from health_recovery.adapters.templates import Template
from health_recovery.domain.notice import TITLE_CHARACTERS, Notice
from health_recovery.notice_ports import CannotSend


class Smtp:
    """See ``notice_ports.Channel``; each notice is a connection of its own."""

    def __init__(
        self,
        name: str,
        *,
        host: str,
        port: int,
        security: str,
        sender: str,
        to: list[str],
        username: str | None = None,
        password: str | None = None,
        seconds: float = 20.0,
        ca_file: Path | None = None,
        subject: Template | None = None,
        template: Template | None = None,
    ) -> None:
        self._name, self._host, self._port, self._security = name, host, port, security
        self._sender, self._to, self._username, self._password = sender, to, username, password
        self._seconds, self._subject, self._template = seconds, subject, template
        self._tls = ssl.create_default_context(cafile=ca_file)

    async def send(self, notice: Notice) -> None:
        """Hand it to the mail server once.

        Raises:
            CannotSend: it was not taken; to be tried again unless the server refused it for good.
        """
        message = await self._message(notice)
        try:
            await aiosmtplib.send(
                message,
                sender=self._sender,
                recipients=self._to,
                hostname=self._host,
                port=self._port,
                username=self._username,
                password=self._password,
                timeout=self._seconds,
                use_tls=self._security == "tls",
                start_tls=self._security == "starttls",
                tls_context=self._tls if self._security != "none" else None,
            )
        except (aiosmtplib.SMTPException, OSError) as error:
            raise self._refused(error) from None

    async def close(self) -> None:
        """Nothing is kept open."""

    async def _message(self, notice: Notice) -> EmailMessage:
        subject = await words(self._subject, notice, f"[muster] {notice.title()}")
        message = EmailMessage(policy=SMTP)
        message["From"] = _address(self._sender)
        message["To"] = [_address(one) for one in self._to]
        message["Subject"] = _one_line(subject)
        message["Date"] = notice.at
        message["Message-ID"] = f"<{notice.id}@{self._sender.rpartition('@')[2]}>"
        message["X-Muster-Notice-Id"] = str(notice.id)
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(await words(self._template, notice, notice.text()))
        return message

    def _refused(self, error: Exception) -> CannotSend:
        """The codes alone: what servers say may repeat what they were sent."""
        refused = error.recipients if isinstance(error, aiosmtplib.SMTPRecipientsRefused) else [error]
        codes = [getattr(one, "code", None) for one in refused]
        final = all(code is not None and 500 <= code < 600 for code in codes)
        said = ", ".join(str(code) for code in codes if code) or type(error).__name__
        text = f"cannot send through channel {self._name}: mail server {self._host}: {said}"
        return CannotSend(text, again=not final)


def _address(text: str) -> Address:
    local, _, domain = text.rpartition("@")
    return Address(username=local, domain=domain)


def _one_line(text: str) -> str:
    """No control signs: a header has one line."""
    plain = "".join(sign if sign.isprintable() else " " for sign in text)
    return " ".join(plain.split())[:TITLE_CHARACTERS]
