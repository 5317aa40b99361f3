"""One HTTP POST to where the settings allow it: no redirects, no proxy, bounded in time and size.

The name is resolved here, once; what is connected to is the address that was allowed (so that a name that
resolves to another address a moment later gains nothing), while TLS is still verified for the name.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import httpcore

from health_recovery.domain.egress import Egress, Forbidden

MOST_READ = 16 * 1024
"""Bytes of an answer; what follows is not read."""

Resolve: TypeAlias = Callable[[str, int], Awaitable[list[str]]]


@dataclass(frozen=True, slots=True)
class Reply:
    """What a receiver answered."""

    status: int
    body: str
    """The beginning of it."""
    after: float | None
    """Seconds it asks to be left alone for."""


class Unsent(Exception):
    """Nothing was answered. Its text names the host at most; ``again``: the same may work later."""

    def __init__(self, text: str, *, again: bool) -> None:
        super().__init__(text)
        self.again = again


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host, as this machine's resolver knows them."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(where[0]) for *_, where in found))


class Poster:
    """Posts to one URL, again and again; connections are kept for a short while."""

    def __init__(
        self,
        url: str,
        egress: Egress,
        *,
        seconds: float = 10.0,
        ca_file: Path | None = None,
        resolver: Resolve = resolve,
    ) -> None:
        self._url, self._seconds = url, seconds
        parts = urlsplit(url)
        self.host = parts.hostname or ""
        self.secrets = [part for part in (url, parts.path.strip("/"), parts.query) if part]
        """What no error may repeat."""
        self._egress = egress
        secure = parts.scheme == "https" or ca_file is not None
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl.create_default_context(cafile=ca_file) if secure else None,
            max_connections=2,
            keepalive_expiry=5.0,
            network_backend=_Pinned(egress, resolver),
        )

    async def post(self, body: bytes, headers: Mapping[str, str]) -> Reply:
        """Send ``body`` and read the answer.

        Raises:
            Unsent: there was none.
        """
        try:
            self._egress.name(self.host)
            async with asyncio.timeout(self._seconds):
                return await self._post(body, headers)
        except Forbidden as error:
            raise Unsent(str(error), again=False) from None
        except TimeoutError:
            raise Unsent(f"{self.host} took longer than {self._seconds:g} s", again=True) from None
        except socket.gaierror:
            raise Unsent(f"{self.host} has no address", again=True) from None
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, OSError) as error:
            raise Unsent(f"{self.host}: {_kind(error)}", again=True) from None

    async def _post(self, body: bytes, headers: Mapping[str, str]) -> Reply:
        sent = [(name.encode(), value.encode()) for name, value in headers.items()]
        async with self._pool.stream("POST", self._url, headers=sent, content=body) as response:
            read = b""
            async for chunk in response.aiter_stream():
                read += chunk
                if len(read) >= MOST_READ:
                    break
            given = {name.lower(): value for name, value in response.headers}
            text = read[:MOST_READ].decode(errors="replace")
            return Reply(response.status, text, retry_after(given.get(b"retry-after", b"").decode("latin-1")))

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.aclose()


def retry_after(text: str) -> float | None:
    """Seconds that a Retry-After header asks for: a number of them, or a date; null for anything else."""
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
        return max(0.0, (moment - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


def _kind(error: BaseException) -> str:
    """What failed, in words that hold nothing of the URL."""
    if isinstance(error.__cause__ or error.__context__, ssl.SSLCertVerificationError):
        return "its certificate cannot be verified"
    name = type(error).__name__
    return {
        "ConnectError": "cannot be connected to",
        "ReadError": "broke the connection",
        "RemoteProtocolError": "closed the connection without an answer, or answered no HTTP",
    }.get(name, name)


class _Pinned(httpcore.AsyncNetworkBackend):
    """Resolves once, and connects to an address that is allowed."""

    def __init__(self, egress: Egress, resolver: Resolve) -> None:
        self._egress, self._resolver = egress, resolver
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  (as the base class)
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        addresses = self._egress.allowed(host, await self._resolver(host, port))
        for address in addresses[:-1]:
            try:
                return await self._network.connect_tcp(address, port, timeout, local_address, socket_options)
            except httpcore.ConnectError:
                continue
        return await self._network.connect_tcp(addresses[-1], port, timeout, local_address, socket_options)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
