"""The supervisor's own log: one JSON object per line, in the form every Muster service writes."""

import json
from datetime import UTC, datetime
from typing import IO


class Journal:
    """Writes lines; a disk that is full does not stop the supervisor from looking after its processes."""

    def __init__(self, file: IO[str], service: str = "supervisor") -> None:
        self._file = file
        self._service = service

    def info(self, event: str, **fields: object) -> None:
        """Something happened as it should."""
        self._write("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Something happened that somebody may want to know."""
        self._write("warning", event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Something failed."""
        self._write("error", event, fields)

    def _write(self, level: str, event: str, fields: dict[str, object]) -> None:
        at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        line = {"at": at, "level": level, "service": self._service, "event": event, **fields}
        try:
            self._file.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")
            self._file.flush()
        except OSError:
            return
