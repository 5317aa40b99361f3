"""What is known on the disk of the run of each package, so that an agent that was killed finds it again.

A record is written before the process is made, and again with its pid afterwards. It has to survive the end
of the agent, not of the machine: after a power cut no process is left either, and the boot id says so.
Therefore nothing is fsynced on the way to a process (decision 4).
"""

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from host_agent.adapters.process_tree import Process
from muster_agent.files import write_whole


@dataclass(frozen=True, slots=True)
class Record:
    """One run, about to begin or going on."""

    run: str
    boot: str
    digest: str
    started_at: float
    pid: int | None = None
    began: int | None = None
    """With ``pid``: the tick the process began at; null until it is known."""

    @property
    def process(self) -> Process | None:
        """The main process, if it is known."""
        return None if self.pid is None or self.began is None else Process(self.pid, self.began)


class RunRecords:
    """Files ``NAME.json`` in a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def read(self, name: str) -> Record | None:
        """The record of a package; None if there is none that can be read."""
        try:
            return Record(**json.loads(self._path(name).read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, name: str, record: Record) -> None:
        """Keep it; another process meets all of it or nothing.

        Raises:
            OSError: it cannot be written.
        """
        write_whole(self._path(name), json.dumps(asdict(record)).encode(), durable=False)

    def remove(self, name: str) -> None:
        """The run is over, with everything that belonged to it."""
        with contextlib.suppress(OSError):
            self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.json"
