"""A web service of forty lines: it greets whoever asks, and reads its settings again at SIGHUP."""

import json
import os
import signal
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


class Greeter(BaseHTTPRequestHandler):
    """Answers every GET."""

    def do_GET(self) -> None:
        """Greet."""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(greeting.encode() + b"\n")


if __name__ == "__main__":
    if "--check" in sys.argv:
        read(sys.argv[-1])
        sys.exit(0)
    reread()
    signal.signal(signal.SIGHUP, reread)
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Greeter)
    print("listening on port", os.environ["PORT"])
    server.serve_forever()
