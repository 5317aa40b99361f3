"""A Docker engine for tests: the machine's own if it answers, else a private one that all tests share.

The private engine needs root and ``dockerd``. Socket, pid file and data are in the user's cache
directory, so that images are still there the next time. Whoever uses it holds a shared lock; who finds at
the end that nobody else does, stops it. Locks end with their processes: what a killed run left is found
and used by the next.
"""

import contextlib
import fcntl
import functools
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Generator
from pathlib import Path

WHERE = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
START_SECONDS = 60.0
STOP_SECONDS = 20.0


def cache() -> Path:
    """Where tests keep what is expensive to make: ``muster`` below the user's cache directory."""
    above = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(above) / "muster"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@functools.cache
def is_to_be_had() -> bool:
    """Whether ``running`` would give an engine: one answers, or root can start one. Asked once."""
    return answers(None) or (os.geteuid() == 0 and all(map(_program, ("docker", "dockerd", "iptables"))))


def answers(host: str | None) -> bool:
    """Whether an engine answers at ``host``; None is where the environment says, or the usual place."""
    argv = ["docker", *(["--host", host] if host else []), "version", "--format", "{{.Server.Version}}"]
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        return subprocess.run(argv, capture_output=True, check=False, timeout=20).returncode == 0
    return False


@contextlib.contextmanager
def running() -> Generator[str]:
    """The address of an engine that runs, as in DOCKER_HOST.

    Raises:
        RuntimeError: the private engine does not start; its log is in the text.
    """
    if answers(None):
        yield _usual_host()
        return
    engine = _PrivateEngine(cache() / "engine")
    engine.begin_to_use()
    try:
        yield engine.host
    finally:
        engine.end_to_use()


def _usual_host() -> str:
    """Where the docker command goes by itself."""
    argv = ["docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"]
    return subprocess.check_output(argv, text=True).strip()


class _PrivateEngine:
    """A dockerd of our own in one folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._users = (folder / "users.lock").open("w")
        self.host = f"unix://{folder / 'docker.sock'}"

    def begin_to_use(self) -> None:
        with self._turn():
            if not answers(self.host):
                self._start()
            fcntl.flock(self._users, fcntl.LOCK_SH)

    def end_to_use(self) -> None:
        with self._turn(), self._users:
            fcntl.flock(self._users, fcntl.LOCK_UN)
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._stop()

    @contextlib.contextmanager
    def _turn(self) -> Generator[None]:
        """Only one process at a time starts or stops it."""
        with (self._folder / "turn.lock").open("w") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            yield

    def _start(self) -> None:
        (self._folder / "docker.pid").unlink(missing_ok=True)  # of an engine that was killed
        # setsid --fork: it belongs to no process group of ours, and to no worker that ends before the others.
        subprocess.run(["setsid", "--fork", "sh", "-c", 'exec "$@" >"$0" 2>&1', *self._command()], check=True)
        deadline = time.monotonic() + START_SECONDS
        while not answers(self.host):
            if time.monotonic() > deadline:
                log = (self._folder / "log").read_text(errors="replace")
                raise RuntimeError(f"cannot start dockerd within {START_SECONDS:g} s: {log[-2000:]}")
            time.sleep(0.1)

    def _command(self) -> list[str]:
        folder = self._folder
        return [
            str(folder / "log"),
            _program("dockerd") or "dockerd",
            f"--host={self.host}",
            f"--data-root={folder / 'data'}",
            f"--exec-root={folder / 'exec'}",
            f"--pidfile={folder / 'docker.pid'}",
        ]

    def _stop(self) -> None:
        """SIGTERM, and SIGKILL if that is not enough."""
        with contextlib.suppress(OSError, ValueError):
            pid = int((self._folder / "docker.pid").read_text())
            handle = os.pidfd_open(pid)
            try:
                self._end(pid, handle)
            finally:
                os.close(handle)

    def _end(self, pid: int, handle: int) -> None:
        if b"dockerd" not in Path(f"/proc/{pid}/cmdline").read_bytes():
            return
        for how in (signal.SIGTERM, signal.SIGKILL):
            signal.pidfd_send_signal(handle, how)
            if select.select([handle], [], [], STOP_SECONDS)[0]:
                return


def _program(name: str) -> str | None:
    return shutil.which(name, path=WHERE)
