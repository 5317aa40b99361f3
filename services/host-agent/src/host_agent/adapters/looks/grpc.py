"""A look by the gRPC health checking protocol, over HTTP/2 without TLS.

HTTP/2 is the library h2's, loaded at the first such look; grpcio would take tens of MiB.
"""

import asyncio
from typing import TYPE_CHECKING, Any

from host_agent.adapters.looks.connecting import Connecting
from host_agent.domain import grpc_health
from host_agent.domain.grpc_health import CODES, Serving
from host_agent.domain.look import Seen, Settled, critical, ok, unknown
from muster_contracts.package.specification import GrpcCheck

if TYPE_CHECKING:
    from h2.connection import H2Connection

LONGEST_MESSAGE = 1 << 12
MOST_BYTES = 1 << 18
"""Of all that the server says before its answer is complete."""

READ_BYTES = 1 << 14

SETTINGS = b"\x04"
"""The type of the first frame of every server, in its fourth byte (RFC 9113, 3.4)."""


class GrpcLook:
    """Implements ``host_agent.ports.Look``."""

    def __init__(self, check: GrpcCheck) -> None:
        self._service = check.service
        self._connecting = Connecting(check.host, check.port)
        self._asked = False

    @property
    def stage(self) -> str:
        """What it waits for."""
        return "waiting for an answer" if self._asked else self._connecting.stage

    async def look(self) -> Seen:
        """Ask the server how the service is."""
        self._asked = False
        try:
            connection = _connection()
            async with self._connecting.opened() as (reader, writer):
                self._asked = True
                call = Call(connection, self._connecting.host, self._connecting.port)
                return await call.ask(self._service, reader, writer)
        except Settled as settled:
            return settled.seen


class Call:
    """One call on a connection of its own."""

    def __init__(self, connection: "H2Connection", host: str, port: int) -> None:
        self._connection = connection
        self._authority = f"{host}:{port}"
        self._where = f"{host} port {port}"
        self._headers: dict[str, str] = {}
        self._message = b""
        self._over = False

    async def ask(self, service: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Seen:
        """Say the request, hear the answer, judge it.

        Raises:
            Settled: the answer is none.
        """
        from h2.exceptions import H2Error  # noqa: PLC0415  (loaded when first used)

        self._say(service)
        received = 0
        try:
            while not self._over:
                writer.write(self._connection.data_to_send())
                data = await reader.read(READ_BYTES)
                if received == 0 and data[3:4] not in {b"", SETTINGS}:
                    # By its first bytes h2 would wait for megabytes of a frame that is none.
                    raise Settled(self._no_answer("does not speak HTTP/2 as gRPC wants it"))
                received += len(data)
                if not data:
                    raise Settled(
                        critical("closed", f"{self._where} closed the connection without an answer")
                    )
                if received > MOST_BYTES:
                    raise Settled(self._no_answer("says more than an answer takes"))
                for event in self._connection.receive_data(data):
                    self._hear(event)
        except H2Error:
            raise Settled(self._no_answer("does not speak HTTP/2 as gRPC wants it")) from None
        except OSError:
            raise Settled(critical("closed", f"{self._where} closed the connection")) from None
        return self._judged(service)

    def _say(self, service: str) -> None:
        self._connection.initiate_connection()
        headers = {
            ":method": "POST",
            ":scheme": "http",
            ":path": grpc_health.PATH,
            ":authority": self._authority,
            "te": "trailers",
            "content-type": "application/grpc",
            "user-agent": "muster-host-agent",
        }
        self._connection.send_headers(1, list(headers.items()))
        self._connection.send_data(1, grpc_health.request(service), end_stream=True)

    def _hear(self, event: Any) -> None:
        from h2 import events  # noqa: PLC0415  (loaded when first used)

        match event:
            case events.ResponseReceived() | events.TrailersReceived():
                self._headers |= {_text(name): _text(value) for name, value in event.headers or []}
            case events.DataReceived():
                self._message += event.data
                if len(self._message) > LONGEST_MESSAGE:
                    raise Settled(self._no_answer("answers by a message that is too long"))
            case events.StreamEnded():
                self._over = True
            case events.StreamReset() | events.ConnectionTerminated():
                raise Settled(critical("closed", f"{self._where} broke the call off ({event.error_code!s})"))

    def _judged(self, service: str) -> Seen:
        if (status := self._headers.get(":status")) != "200":
            return critical("status", f"{self._where} answers with HTTP status {status}, not 200")
        code = self._headers.get("grpc-status", "")
        if code != "0":
            return self._refused(int(code) if code.isdecimal() else 2, service)
        try:
            serving = grpc_health.response(self._message)
        except ValueError:
            return self._no_answer("answers by what is no HealthCheckResponse")
        what = f"service {service!r}" if service else "the server"
        match serving:
            case Serving.SERVING:
                return ok(f"{what} is SERVING")
            case Serving.UNKNOWN:
                return unknown("unknown", f"cannot tell: of {what} the server says UNKNOWN")
        return critical("not-serving", f"{what} is {serving.name}")

    def _refused(self, code: int, service: str) -> Seen:
        name = CODES[code] if code < len(CODES) else str(code)
        if code == grpc_health.UNIMPLEMENTED:
            text = f"cannot ask {self._where}: it does not speak grpc.health.v1 (UNIMPLEMENTED)"
            return unknown("unimplemented", f"{text}; have it do so, or give a check of another kind")
        about = f"it knows no service {service!r}" if code == grpc_health.NOT_FOUND else "it could not answer"
        return critical("grpc-status", f"{self._where} answers {name}: {about}")

    def _no_answer(self, how: str) -> Seen:
        return critical("protocol", f"{self._where} {how}")


def _connection() -> "H2Connection":
    try:
        from h2.config import H2Configuration  # noqa: PLC0415  (loaded when first used: 1 MiB)
        from h2.connection import H2Connection  # noqa: PLC0415
    except ImportError:
        text = "cannot ask by gRPC: install host-agent[grpc]"
        raise Settled(unknown("no-grpc", text)) from None
    return H2Connection(H2Configuration(client_side=True, header_encoding=None))


def _text(text: bytes | str) -> str:
    return text.decode("latin-1") if isinstance(text, bytes) else text
