"""A program of Muster as a process of its own: started by name, killed, paused, started again."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self


class Program:
    """One process; its output goes to ``log_file``, its settings come by environment."""

    def __init__(self, command: str, settings: Mapping[str, str], log_file: Path, *arguments: str) -> None:
        self._argv = [str(Path(sys.executable).parent / command), *arguments]
        self._settings = dict(settings)
        self.log_file = log_file
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process that runs now."""
        assert self._process, "the program does not run"
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended by itself."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """All it has printed, over all its runs."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def start(self) -> Self:
        """Start it; returns at once."""
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                self._argv,
                env={**os.environ, **self._settings},
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        return self

    def kill(self, how: signal.Signals = signal.SIGKILL) -> int | None:
        """Send a signal, wait for the end and return the exit code; None if it did not run."""
        if self._process is None:
            return None
        if self._process.poll() is None:
            self._process.send_signal(how)
        code = self._process.wait(30)
        self._process = None
        return code

    def restart(self) -> None:
        """``kill -9``, and start again."""
        self.kill()
        self.start()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()
