"""One request and its answer by HTTP/1.1, with bounds on everything the other side says.

The protocol is h11's, input and output are asyncio's: an HTTP client would take more memory than all checks
together.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping

import h11

from host_agent.domain.look import Seen, Settled, critical

LONGEST_HEAD = 1 << 14
"""Of status line and headers, and of the line a chunk of the body begins with."""

LONGEST_BODY = 1 << 16

READ_BYTES = 1 << 14

HEAD_TOO_LONG = 431
"""The status a server would give for it, by which h11 names the mistake."""

MOST_INTERIM = 16
"""Interim answers (100 Continue) before the answer."""


class Exchange:
    """One request on one connection."""

    def __init__(self, where: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._where = where
        self._reader = reader
        self._writer = writer
        self._connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=LONGEST_HEAD)
        self._received = 0
        self._body = bytearray()

    @property
    def stage(self) -> str:
        """What it waits for, after "while"."""
        if self._connection.their_state is h11.SEND_BODY:
            return f"reading the body, of which {len(self._body)} bytes came"
        return f"waiting for an answer, of which {self._received} bytes came"

    async def head(self, request: h11.Request) -> h11.Response:
        """The head of the answer to this request, which has no body.

        Raises:
            Settled: nothing came that is HTTP.
        """
        self._writer.write(self._connection.send(request) or b"")
        self._writer.write(self._connection.send(h11.EndOfMessage()) or b"")
        for _ in range(MOST_INTERIM):
            event = await self._next()
            if isinstance(event, h11.Response):
                return event
        raise Settled(critical("protocol", f"{self._where} answers by nothing but interim answers"))

    async def body(self) -> bytes:
        """The beginning of the body.

        Raises:
            Settled: it is not as HTTP wants it.
        """
        while len(self._body) < LONGEST_BODY and isinstance(event := await self._next(), h11.Data):
            self._body += event.data
        return bytes(self._body[:LONGEST_BODY])

    async def _next(self) -> object:
        ended = False
        try:
            while (event := self._connection.next_event()) is h11.NEED_DATA:
                data = await self._reader.read(READ_BYTES)
                ended = not data
                self._received += len(data)
                self._connection.receive_data(data)
        except h11.RemoteProtocolError as error:
            raise Settled(self._cut_off() if ended else self._no_http(error)) from None
        except OSError:  # the connection was reset
            raise Settled(self._cut_off()) from None
        if isinstance(event, h11.ConnectionClosed):
            raise Settled(self._cut_off())
        return event

    def _cut_off(self) -> Seen:
        how = "before the answer was complete" if self._received else "without an answer"
        return critical("closed", f"{self._where} closed the connection {how}")

    def _no_http(self, error: h11.RemoteProtocolError) -> Seen:
        """Without what was received: nobody knows what is in it."""
        if error.error_status_hint == HEAD_TOO_LONG:
            how = f"does not come to the end of its headers within {LONGEST_HEAD >> 10} KiB"
        else:
            how = "answers by something that is not HTTP/1.1"
        return critical("protocol", f"{self._where} {how}")


def by_name(headers: Iterable[tuple[bytes, bytes]]) -> Mapping[str, tuple[str, ...]]:
    """Values by name in lower case."""
    found: defaultdict[str, tuple[str, ...]] = defaultdict(tuple)
    for name, value in headers:
        found[name.decode("ascii")] += (value.decode("latin-1"),)
    return found
