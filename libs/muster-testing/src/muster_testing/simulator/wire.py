"""One NATS connection in little memory: INFO, CONNECT, PING, PUB, HPUB, SUB and MSG, and nothing else.

A client library keeps tasks, queues and buffers for each connection; ten thousand of those do not fit beside
what they are meant to measure. This one is a single protocol object without a task.
"""

import asyncio
import json
from collections.abc import Callable, Mapping

from muster_testing.simulator.roster import Member

_HEADER = b"NATS/1.0\r\n"
_REFUSED = ("authorization violation", "authentication timeout", "user authentication")


class RefusedError(ConnectionError):
    """The broker did not let the agent in."""


class Wire(asyncio.Protocol):
    """A connection as ``member``, ready once ``ready`` is done.

    ``hear(subject, payload)`` gets every message, an empty payload for "nobody answers"; ``gone()`` the end
    of the connection unless it was ours; ``complain(text)`` what the broker refused.
    """

    __slots__ = (
        "_complain",
        "_gone",
        "_hear",
        "_loop",
        "_member",
        "_mute",
        "_rest",
        "_transport",
        "ready",
        "reply",
    )

    def __init__(
        self,
        member: Member,
        hear: Callable[[str, bytes], None],
        gone: Callable[[], None],
        complain: Callable[[str], None],
    ) -> None:
        self._member = member
        self._hear = hear
        self._gone = gone
        self._complain = complain
        self._rest = b""
        self._mute = False
        self._transport: asyncio.Transport | None = None
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.reply = ""
        """Where the message that is being heard wants its answer; empty where it wants none."""

    # What agents do with it ------------------------------------------------------------------------

    def publish(self, subject: str, payload: bytes, reply: str = "") -> None:
        """Send a message; nothing happens on a connection that is gone."""
        head = f"PUB {subject} {reply} {len(payload)}\r\n" if reply else f"PUB {subject} {len(payload)}\r\n"
        self._write(head.encode() + payload + b"\r\n")

    def publish_with_headers(
        self, subject: str, payload: bytes, reply: str, headers: Mapping[str, str]
    ) -> None:
        """Send a message with headers, for JetStream."""
        block = _HEADER + "".join(f"{key}: {value}\r\n" for key, value in headers.items()).encode() + b"\r\n"
        head = f"HPUB {subject} {reply} {len(block)} {len(block) + len(payload)}\r\n"
        self._write(head.encode() + block + payload + b"\r\n")

    def subscribe(self, *subjects: str) -> None:
        """Hear these subjects; all messages go to one callback, so the ids of subscriptions do not matter."""
        self._write("".join(f"SUB {subject} {sid}\r\n" for sid, subject in enumerate(subjects, 1)).encode())

    def abort(self) -> None:
        """Close the socket with no goodbye, as the kernel does for a process that was killed."""
        self._gone = _nothing
        if self._transport:
            self._transport.abort()

    def close(self) -> None:
        """Send what is still buffered, then close."""
        self._gone = _nothing
        if self._transport:
            self._transport.close()

    def mute(self) -> None:
        """Neither send nor read any more, not even a PONG, and keep the socket: a cut cable."""
        self._mute = True
        if self._transport:
            self._transport.pause_reading()

    def unmute(self) -> None:
        """The cable is plugged in again."""
        self._mute = False
        if self._transport and not self._transport.is_closing():
            self._transport.resume_reading()

    @property
    def open(self) -> bool:
        """Whether the socket is there."""
        return self._transport is not None and not self._transport.is_closing()

    # What asyncio does with it ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the broker's INFO."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits, and the agent unless it closed the connection itself."""
        self._transport = None
        if not self.ready.done():
            self.ready.set_exception(exc or ConnectionResetError("the broker closed the connection"))
            self.ready.exception()  # whoever waited may have given up
        self._gone()

    def data_received(self, data: bytes) -> None:
        """Take every whole operation out of the stream and keep the rest."""
        data = self._rest + data if self._rest else data
        at = 0
        while (end := data.find(b"\r\n", at)) >= 0:
            line = data[at:end]
            if line[:4] in {b"MSG ", b"HMSG"}:
                whole = end + 4 + int(line[line.rindex(b" ") + 1 :])
                if len(data) < whole:
                    break
                self._message(line, data[end + 2 : whole - 2])
                at = whole
            else:
                self._operation(line)
                at = end + 2
        self._rest = data[at:]

    def _operation(self, line: bytes) -> None:
        if line == b"PING":
            self._write(b"PONG\r\n")
        elif line == b"PONG":
            if not self.ready.done():
                self.ready.set_result(None)
        elif line.startswith(b"INFO "):
            if not self.ready.done():
                self._introduce(json.loads(line[5:]).get("nonce"))
        elif line.startswith(b"-ERR"):
            self._refused(line[5:].decode(errors="replace").strip("'").lower())

    def _introduce(self, nonce: str | None) -> None:
        options = {
            "verbose": False, "pedantic": False, "lang": "python-simulator", "version": "1", "protocol": 1,
            "headers": True, "no_responders": True, "name": self._member.agent_id,
        }  # fmt: skip
        if nonce:
            options |= {"nkey": self._member.public_key, "sig": self._member.sign(nonce)}
        self._write(f"CONNECT {json.dumps(options)}\r\nPING\r\n".encode())

    def _refused(self, text: str) -> None:
        if not self.ready.done() and text.startswith(_REFUSED):
            self.ready.set_exception(RefusedError(text))
            self.ready.exception()
        self._complain(text)

    def _message(self, line: bytes, body: bytes) -> None:
        words = line.split(b" ")
        headed = words[0] == b"HMSG"
        skip = int(words[-2]) if headed else 0
        # MSG subject sid [reply] size; HMSG has the size of its headers before that of the whole.
        self.reply = words[3].decode() if len(words) == (6 if headed else 5) else ""
        self._hear(words[1].decode(), body[skip:])

    def _write(self, data: bytes) -> None:
        if self._transport and not self._mute:
            self._transport.write(data)


def _nothing() -> None:
    """A connection we closed ourselves is no news."""
