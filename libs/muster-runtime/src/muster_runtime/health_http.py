"""The HTTP side of the health server; imported only by processes that serve it."""

import json
import socket
import time
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from muster_runtime import metrics
from muster_runtime.logs import logger

if TYPE_CHECKING:
    from muster_runtime.health import HealthServer

log = logger(__name__)


SEATS = 16
"""As many requests are served at once; who comes when all seats are taken is sent away."""
REQUEST_SECONDS = 5.0
"""For the whole of one request, from connecting to the last byte of the answer."""

_SENT_AWAY = b"HTTP/1.0 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"


class Server(ThreadingHTTPServer):
    """Serves each request in a thread of its own, a few at a time and none for long."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 32

    def __init__(self, address: tuple[str, int], health: "HealthServer") -> None:
        self.health = health
        self._until: dict[socket.socket, float] = {}  # taken and given back in one step each: no lock
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give it a seat and a deadline, or send it away at once."""
        if len(self._until) < SEATS:
            self._until[request] = time.monotonic() + REQUEST_SECONDS
            super().process_request(request, client_address)
            return
        with suppress(OSError):
            request.settimeout(0)  # this is the thread that accepts: it waits for nobody
            request.send(_SENT_AWAY)
        self.shutdown_request(request)

    def shutdown_request(self, request: Any) -> None:
        """Whatever became of it, its seat is free again."""
        self._until.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Called many times a second: whose time is up is cut off, and its thread wakes with an error."""
        now = time.monotonic()
        for request, until in self._until.copy().items():
            if until < now:
                with suppress(OSError):
                    request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002  (the base class's names)
        """A client that goes away is no news."""
        log.debug("health request failed", client=str(client_address))


class _Handler(BaseHTTPRequestHandler):
    server: Server
    timeout = REQUEST_SECONDS
    server_version = "muster"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer one of the three paths."""
        path = self.path.partition("?")[0]
        if path == "/livez":
            self._verdict(*self.server.health.liveness())
        elif path == "/readyz":
            self._verdict(*self.server.health.readiness())
        elif path == "/metrics":
            self._metrics()
        else:
            body = b"not found: try /livez, /readyz or /metrics\n"
            self._send(HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", body)

    do_HEAD = do_GET  # noqa: N815  (http.server looks for this name)

    def _verdict(self, well: bool, body: dict[str, Any]) -> None:
        status = HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE
        self._send(status, "application/json", json.dumps(body, indent=2).encode() + b"\n")

    def _metrics(self) -> None:
        from prometheus_client.exposition import choose_encoder  # noqa: PLC0415  (3 MiB, only when scraped)

        generate, content_type = choose_encoder(self.headers.get("Accept", ""))
        self._send(HTTPStatus.OK, content_type, generate(metrics.expose()))

    def _send(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the name is the base class's)
        """Probes come every few seconds: they are not logged."""
