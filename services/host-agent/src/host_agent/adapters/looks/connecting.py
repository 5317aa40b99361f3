"""Connecting to what a check names: no proxy is asked, and no resolver that hangs can hold the agent up."""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from ipaddress import ip_address

from host_agent.domain.look import Seen, Settled, critical, unknown

LOOPBACK = ("127.0.0.1", "::1")

MOST_LOOKUPS = 8
"""Threads that may wait for the system's resolver, which cannot be told to stop."""

READ_BYTES = 1 << 16
"""What a connection keeps of what nobody has read yet; then the other side has to wait."""

_room = threading.BoundedSemaphore(MOST_LOOKUPS)

LookUp = Callable[[str], Sequence[str]]


def look_up(host: str) -> list[str]:
    """The addresses of a name, by the system's resolver; may take minutes."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Connecting:
    """Connections to one host and port, one at a time.

    Names are looked up by the system in a thread of their own, because such a call cannot be called off:
    while one hangs no other is begun for this check, and only a few for all.
    """

    def __init__(self, host: str, port: int, look_up: LookUp = look_up) -> None:
        self.host = host
        self.port = port
        self.stage = "connecting"
        """What it waits for, in words."""
        self._look_up = look_up
        self._going: asyncio.Future[Sequence[str]] | None = None

    @contextlib.asynccontextmanager
    async def opened(
        self, context: ssl.SSLContext | None = None
    ) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection, closed afterwards without a word.

        Raises:
            Settled: there is none, or no TLS on it as the context wants it.
        """
        reader, writer = await self._open(context)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _open(
        self, context: ssl.SSLContext | None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        name = self.host if context else None
        trouble: OSError | None = None
        for address in await self._addresses():
            self.stage = f"connecting to {address} port {self.port}" + (" by TLS" if context else "")
            try:
                return await asyncio.open_connection(
                    address, self.port, limit=READ_BYTES, ssl=context, server_hostname=name
                )
            except ssl.SSLError as error:
                raise Settled(self._no_tls(error)) from None
            except OSError as error:
                trouble = trouble or error
        raise Settled(self._no_connection(trouble))

    async def _addresses(self) -> Sequence[str]:
        if self.host == "localhost":
            return LOOPBACK
        with contextlib.suppress(ValueError):
            return (str(ip_address(self.host)),)
        self.stage = f"waiting for the resolver to find {self.host}"
        if self._going is None:
            self._going = self._begin_look_up()
        going = self._going
        try:
            # It goes on when the look is called off, and the next look finds it.
            found = await asyncio.shield(going)
        except OSError as error:
            text = f"cannot find {self.host}: {error.strerror or error}"
            raise Settled(critical("dns", text)) from None
        finally:
            if going.done():
                self._going = None
        return found

    def _begin_look_up(self) -> "asyncio.Future[Sequence[str]]":
        if not _room.acquire(blocking=False):
            text = f"cannot look up {self.host}: {MOST_LOOKUPS} others wait for the resolver; mend it"
            raise Settled(unknown("resolver-busy", text))
        loop = asyncio.get_running_loop()
        going: asyncio.Future[Sequence[str]] = loop.create_future()
        # Of a lookup whose look was called off nobody may ever ask.
        going.add_done_callback(lambda done: done.cancelled() or done.exception())

        def settle(found: Sequence[str] | OSError) -> None:
            if not going.done():
                going.set_exception(found) if isinstance(found, OSError) else going.set_result(found)

        def work() -> None:
            found: Sequence[str] | OSError
            try:
                found = self._look_up(self.host)
            except (OSError, UnicodeError) as error:
                found = error if isinstance(error, OSError) else OSError("it is no name of a host")
            finally:
                _room.release()
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(settle, found)

        # A daemon: the agent's end waits for no resolver.
        threading.Thread(target=work, name="resolver", daemon=True).start()
        return going

    def _no_connection(self, error: OSError | None) -> Seen:
        where = f"{self.host} port {self.port}"
        match error:
            case ConnectionRefusedError():
                return critical("refused", f"{where} refused the connection")
            case ConnectionResetError() | BrokenPipeError() | ConnectionAbortedError():
                return critical("closed", f"{where} closed the connection at once")
            case None:
                return critical("dns", f"cannot find {self.host}: it has no address")
        why = error.strerror or str(error)
        return critical("unreachable", f"{where} cannot be reached: {why}")

    def _no_tls(self, error: ssl.SSLError) -> Seen:
        where = f"{self.host} port {self.port}"
        if not isinstance(error, ssl.SSLCertVerificationError):
            return critical("tls", f"{where} does not speak TLS as it should: {error.reason or error}")
        expired = error.verify_code == CERTIFICATE_HAS_EXPIRED
        reason = "tls-expiry" if expired else "tls"
        return critical(reason, f"the certificate of {where} cannot be trusted: {error.verify_message}")


CERTIFICATE_HAS_EXPIRED = 10
"""X509_V_ERR_CERT_HAS_EXPIRED."""
