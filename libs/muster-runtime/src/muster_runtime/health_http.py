"""The HTTP side of the health server; imported only by processes that serve it."""

import json
import socket
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from muster_runtime import metrics
from muster_runtime.logs import logger

if TYPE_CHECKING:
    from muster_runtime.health import HealthServer

log = logger(__name__)


class Server(ThreadingHTTPServer):
    """Serves each request in a thread of its own."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 32

    def __init__(self, address: tuple[str, int], health: "HealthServer") -> None:
        self.health = health
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002  (the base class's names)
        """A client that goes away is no news."""
        log.debug("health request failed", client=str(client_address))


class _Handler(BaseHTTPRequestHandler):
    server: Server
    timeout = 5.0
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
