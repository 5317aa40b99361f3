"""The interval this agent was last granted, kept beside its identity.

A fleet of many agents that all restart must not fall back to the short interval of a small fleet.
"""

import contextlib
from pathlib import Path

from muster_agent.files import write_whole
from muster_agent.rhythm import sane
from muster_runtime.logs import logger

FILE = "granted-interval"

log = logger(__name__)


class Grants:
    """Remembers one number in the state directory; a lost or damaged memory only costs a short interval."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / FILE

    def last(self) -> float | None:
        """The last granted interval in seconds; None if there was none."""
        with contextlib.suppress(OSError, ValueError):
            seconds = float(self._path.read_text())
            return seconds if sane(seconds) else None
        return None

    def remember(self, seconds: float) -> None:
        """Keep a grant; a full or read-only disk is logged and the agent goes on."""
        try:
            write_whole(self._path, f"{seconds}\n".encode(), durable=False)
        except OSError as error:
            log.warning("cannot remember the granted interval", file=str(self._path), error=error.strerror)
