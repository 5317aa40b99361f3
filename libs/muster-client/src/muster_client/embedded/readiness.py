"""Whether a server is ready, asked over its own protocol; never by waiting a while and hoping."""

import asyncio
from collections.abc import Awaitable, Callable

from muster_client.embedded.ports import LOOPBACK

Probe = Callable[[], Awaitable[bool]]
"""True once ready; False while not, whatever the reason."""
_SECONDS = 2.0


def http(port: int, path: str) -> Probe:
    """Ready when a GET of ``path`` answers 200."""
    request = f"GET {path} HTTP/1.0\r\nHost: {LOOPBACK}:{port}\r\nConnection: close\r\n\r\n".encode()
    return lambda: _answers(port, request, lambda reply: reply.split(b" ", 2)[1:2] == [b"200"])


def nats(port: int) -> Probe:
    """Ready when the broker greets: it listens to clients only once JetStream is there."""
    return lambda: _answers(
        port, b"", lambda reply: reply.startswith(b"INFO ") and b'"jetstream":true' in reply
    )


def redis(port: int, password: str) -> Probe:
    """Ready when a PING is answered: it has loaded its data, and the password is right."""
    request = f"AUTH {password}\r\nPING\r\n".encode()
    return lambda: _answers(port, request, lambda reply: reply == b"+OK\r\n", lines=2, last=b"+PONG\r\n")


async def _answers(
    port: int, request: bytes, good: Callable[[bytes], bool], *, lines: int = 1, last: bytes | None = None
) -> bool:
    """Send ``request`` and judge the first line of the reply, and the last one where it matters."""
    try:
        async with asyncio.timeout(_SECONDS):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            try:
                writer.write(request)
                replies = [await reader.readline() for _ in range(lines)]
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):
        return False
    return good(replies[0]) and (last is None or replies[-1] == last)
