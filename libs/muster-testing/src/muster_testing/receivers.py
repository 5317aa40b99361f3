"""Where notifications go in tests: a webhook receiver and a mail server, real ones, on loopback."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any, Self, TypeAlias

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

MOST_BODY = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Received:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    """By their names in lower case."""
    body: bytes

    @property
    def json(self) -> Any:
        """The body, read."""
        return json.loads(self.body)

    @property
    def notice_id(self) -> str:
        """Which notice it was."""
        return self.headers.get("x-muster-notice-id", "")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a receiver does with a request."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b"ok"
    hang: bool = False
    """It never answers."""
    cut: bool = False
    """It closes the connection without an answer."""
    drip: bool = False
    """It answers so slowly that it never ends."""


OK = Answer()
Decide: TypeAlias = Callable[[Received], Answer]


class WebhookReceiver:
    """Keeps every request; ``answers`` are given one after the other, then ``then`` for ever."""

    def __init__(self, *answers: Answer, then: Answer = OK, tls: ssl.SSLContext | None = None) -> None:
        self.received: list[Received] = []
        self.connections = 0
        self.answers, self.then = list(answers), then
        self.port = 0
        self._tls = tls
        self._changed = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    def url(self, path: str = "/hook", host: str = "127.0.0.1") -> str:
        """Where it listens."""
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}{path}"

    async def wait_for(self, number: int, seconds: float = 15.0) -> list[Received]:
        """The requests, as soon as there are so many.

        Raises:
            TimeoutError: there were fewer.
        """
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(lambda: len(self.received) >= number)
        return self.received

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._one(reader, writer):
                    pass
        finally:
            writer.transport.abort()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its answer; whether the connection goes on."""
        received = await _read(reader)
        self.received.append(received)
        async with self._changed:
            self._changed.notify_all()
        answer = self.answers.pop(0) if self.answers else self.then
        if answer.hang:
            await asyncio.Event().wait()
        if answer.cut:
            return False
        if answer.drip:
            return await _drip(writer)
        lines = [f"HTTP/1.1 {answer.status} answer", f"content-length: {len(answer.body)}"]
        lines += [f"{name}: {value}" for name, value in answer.headers]
        writer.write("\r\n".join([*lines, "", ""]).encode() + answer.body)
        await writer.drain()
        return True


async def _read(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ", 2)
    pairs = (line.partition(":") for line in head[1:] if line)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    size = min(int(headers.get("content-length", "0")), MOST_BODY)
    return Received(method, path, headers, await reader.readexactly(size))


async def _drip(writer: asyncio.StreamWriter) -> bool:
    writer.write(b"HTTP/1.1 200 answer\r\ncontent-length: 1000000\r\n\r\n")
    while True:
        writer.write(b".")
        await writer.drain()
        await asyncio.sleep(0.02)


class MailSink:
    """A mail server that keeps what it is sent; ``refuse`` is what it answers instead, as ``451 later``.

    A ``login`` is asked for once STARTTLS was done; ``starttls`` false: TLS from the beginning.
    """

    def __init__(
        self,
        *,
        login: tuple[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
        starttls: bool = True,
    ) -> None:
        self.mails: list[EmailMessage] = []
        self.recipients: list[list[str]] = []
        self.logins: list[str] = []
        self.refuse: str | None = None
        self.port = 0
        self._login, self._tls, self._starttls = login, tls, starttls
        self._changed = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._sessions: list[SMTP] = []

    async def wait_for(self, number: int, seconds: float = 15.0) -> list[EmailMessage]:
        """The mails, as soon as there are so many.

        Raises:
            TimeoutError: there were fewer.
        """
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(lambda: len(self.mails) >= number)
        return self.mails

    async def handle_DATA(self, _: SMTP, __: Session, envelope: Envelope) -> str:  # noqa: N802  (aiosmtpd's name)
        """Keep a mail, or refuse it."""
        if self.refuse:
            return self.refuse
        content = envelope.content
        raw = content.encode() if isinstance(content, str) else content or b""
        self.mails.append(message_from_bytes(raw, _class=EmailMessage, policy=policy.default))
        self.recipients.append(list(envelope.rcpt_tos))
        async with self._changed:
            self._changed.notify_all()
        return "250 kept"

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        implicit = self._tls if not self._starttls else None
        self._server = await loop.create_server(self._session, "127.0.0.1", self.port, ssl=implicit)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server
        self._server.close()
        for session in self._sessions:
            if session.transport:
                session.transport.close()
            task = session._handler_coroutine  # noqa: SLF001  (aiosmtpd's own end of a session)
            if task and not task.done():
                task.cancel()
                await asyncio.wait([task])

    def _session(self) -> SMTP:
        session = SMTP(
            self,
            hostname="sink",
            tls_context=self._tls if self._starttls else None,
            require_starttls=bool(self._tls and self._starttls),
            auth_required=self._login is not None,
            authenticator=self._authenticate if self._login else None,
        )
        self._sessions.append(session)
        return session

    def _authenticate(self, _: SMTP, __: Session, ___: Envelope, ____: str, data: object) -> AuthResult:
        assert self._login
        assert isinstance(data, LoginPassword)
        name, password = data.login.decode(), data.password.decode()
        self.logins.append(name)
        return AuthResult(success=(name, password) == self._login, handled=False)
