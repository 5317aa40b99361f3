"""A web service of sixty lines: it greets whoever asks, and counts them in the database.

At SIGHUP it reads its settings again. While the database does not answer, it answers 503.
"""

import json
import os
import signal
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SETTINGS = "settings.json"
greeting = ""


def read(path: str) -> str:
    """The greeting in a settings file; exits where there is none."""
    told = json.loads(Path(path).read_text()).get("greeting")
    if not isinstance(told, str):
        sys.exit(f"cannot use {path}: it needs the text 'greeting'")
    return told


def reread(*_: object) -> None:
    """Take over what the settings say now."""
    global greeting  # noqa: PLW0603  (a sample should be short)
    greeting = read(SETTINGS)
    print("settings read, greeting:", greeting)


def visit() -> int:
    """How many visits there were, this one among them."""
    place = ("127.0.0.1", int(os.environ["DATABASE_PORT"]))
    with socket.create_connection(place, timeout=1) as database:
        database.sendall(b"visits\n")
        return int(database.makefile().readline())


class Greeter(BaseHTTPRequestHandler):
    """Answers every GET."""

    def do_GET(self) -> None:
        """Greet."""
        try:
            code, text = 200, f"{greeting}, visitor {visit()}\n"
        except (OSError, ValueError) as error:
            code, text = 503, f"the database does not answer: {error}\n"
        self.send_response(code)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Visits are no news."""


if __name__ == "__main__":
    if "--check" in sys.argv:
        read(sys.argv[-1])
        sys.exit(0)
    reread()
    signal.signal(signal.SIGHUP, reread)
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ["WEB_PORT"])), Greeter)
    print("listening on port", os.environ["WEB_PORT"])
    server.serve_forever()
