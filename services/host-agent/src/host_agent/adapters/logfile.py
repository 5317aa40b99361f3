"""A log file that is turned over when it has grown, so that an unattended agent never fills a disk."""

import io
from pathlib import Path

TURN_AT_BYTES = 10 << 20
KEPT = 3


class LogFile(io.TextIOBase):
    """Appends to ``path``; at 10 MiB it becomes ``path.1``, that one ``path.2``, and so on up to three.

    Raises:
        OSError: the file cannot be made.
    """

    def __init__(self, path: Path, *, turn_at_bytes: int = TURN_AT_BYTES) -> None:
        super().__init__()
        self._path = path
        self._turn_at = turn_at_bytes
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)

    def write(self, text: str) -> int:
        """Write whole lines; they are in the file when this returns."""
        raw = text.encode(errors="replace")
        if self._file.tell() + len(raw) > self._turn_at:
            self._turn_over()
        self._file.write(raw)
        return len(text)

    def writable(self) -> bool:
        """Always."""
        return True

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()

    def _turn_over(self) -> None:
        self._file.close()
        for number in range(KEPT - 1, 0, -1):
            older = self._numbered(number)
            if older.exists():
                older.replace(self._numbered(number + 1))
        self._path.replace(self._numbered(1))
        self._file = self._path.open("ab", buffering=0)

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")
