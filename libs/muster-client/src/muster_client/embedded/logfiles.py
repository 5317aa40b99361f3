"""The log files of a fleet: kept small, read from their end, followed, and made readable."""

import json
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from muster_client.embedded.files import open_private

LIMIT_BYTES = 20 * 1024 * 1024
KEPT = 3
"""Older files kept beside the current one: ``NAME.log.1`` is the youngest."""
_BLOCK = 64 * 1024
_GRAVE = ("warning", "error", "critical")
_FRAME = ("at", "level", "service", "event", "logger")
"""Keys of a log line that have a place of their own; everything else is shown as ``key=value``."""


def rotate(path: Path, limit: int = LIMIT_BYTES) -> bool:
    """Put a file that outgrew ``limit`` aside before anybody writes to it; whether it was necessary."""
    if not _outgrown(path, limit):
        return False
    _make_room(path)
    path.replace(_older(path, 1))
    return True


def rotate_live(path: Path, limit: int = LIMIT_BYTES) -> bool:
    """The same while a process appends to the file: copied, then emptied; a line in between may be lost.

    Where the disk has no room for the copy the file is emptied all the same: room is what is missing.
    """
    if not _outgrown(path, limit):
        return False
    _make_room(path)
    older = _older(path, 1)
    with os.fdopen(open_private(path, os.O_RDWR), "r+b") as current:
        try:
            with os.fdopen(open_private(older, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as copy:
                shutil.copyfileobj(current, copy)
        except OSError:
            older.unlink(missing_ok=True)
        # Writers opened the file for appending, so they go on at its new end.
        current.truncate(0)
    return True


def open_log(path: Path) -> int:
    """A descriptor to append to ``path`` with; the file is its owner's alone.

    Raises:
        CannotStart: it is a link, or no ordinary file.
        OSError: it cannot be opened.
    """
    return open_private(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def tail(path: Path, count: int) -> list[str]:
    """The last ``count`` lines; none if there is no such file. Reads no more of it than necessary."""
    if count <= 0:
        return []
    try:
        with path.open("rb") as file:
            return _last_lines(file.fileno(), count)
    except OSError:
        return []


class Follower:
    """Reads what is appended to a file, also after it was put aside or emptied."""

    def __init__(self, path: Path, *, from_start: bool = False) -> None:
        self._path = path
        self._inode, size = self._look()
        self._offset = 0 if from_start else size
        self._rest = b""

    def lines(self) -> Iterator[str]:
        """The complete lines written since the last call."""
        inode, size = self._look()
        if inode != self._inode or size < self._offset:
            self._inode, self._offset, self._rest = inode, 0, b""
        if size == self._offset:
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            fresh = file.read()
        self._offset += len(fresh)
        *whole, self._rest = (self._rest + fresh).split(b"\n")
        for line in whole:
            yield line.decode(errors="replace")

    def _look(self) -> tuple[int, int]:
        try:
            seen = self._path.stat()
        except OSError:
            return 0, 0
        return seen.st_ino, seen.st_size


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a log; of a line that is no JSON only ``event`` is known."""

    event: str
    at: str = ""
    level: str = ""
    service: str = ""
    more: Mapping[str, Any] | None = None

    @classmethod
    def parse(cls, text: str) -> "Line":
        """Understand a structured line, nats-server's and Redis' own included; else keep it whole."""
        try:
            raw = json.loads(text)
        except ValueError:
            return cls(event=text)
        if not isinstance(raw, dict) or "event" not in raw:
            return cls(event=text)
        known = {key: str(raw.get(key) or "") for key in ("at", "level", "service", "event")}
        return cls(**known, more={key: value for key, value in raw.items() if key not in _FRAME})

    @property
    def is_grave(self) -> bool:
        """Whether it is a warning or worse."""
        if self.level:
            return self.level.lower() in _GRAVE
        # nats-server marks its lines [WRN], [ERR], [FTL]; Redis puts a # before warnings.
        return any(mark in self.event for mark in ("[WRN]", "[ERR]", "[FTL]", " # WARNING"))

    def brief(self) -> str:
        """On one line, of a traceback only the last: for an error that quotes a log."""
        first, *rest = self.readable().strip().splitlines() or [""]
        return f"{first}; {rest[-1].strip()}" if rest else first

    def readable(self) -> str:
        """For people: time of day on the reader's clock, level, event, then the rest as ``key=value``."""
        if not self.at:
            return self.event
        details = dict(self.more or {})
        trace = details.pop("exception", None)
        words = [_clock(self.at), f"{self.level:<8}", self.event]
        words += [f"{key}={_short(value)}" for key, value in details.items()]
        text = " ".join(words)
        return f"{text}\n{trace}" if trace else text


def _clock(at: str) -> str:
    try:
        return datetime.fromisoformat(at).astimezone().strftime("%H:%M:%S.%f")[:-3]
    except ValueError:
        return at


def _short(value: object) -> str:
    if isinstance(value, str) and value and not any(mark in value for mark in ' "\n'):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def _outgrown(path: Path, limit: int) -> bool:
    try:
        seen = path.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISREG(seen.st_mode) and seen.st_size > limit


def _older(path: Path, age: int) -> Path:
    return path.with_name(f"{path.name}.{age}")


def _make_room(path: Path) -> None:
    for age in range(KEPT - 1, 0, -1):
        if os.path.lexists(_older(path, age)):
            _older(path, age).replace(_older(path, age + 1))


def _last_lines(file: int, count: int) -> list[str]:
    end, found = os.lseek(file, 0, os.SEEK_END), b""
    while end > 0 and found.count(b"\n") <= count:
        start = max(0, end - _BLOCK)
        found = os.pread(file, end - start, start) + found
        end = start
    return [line.decode(errors="replace") for line in found.splitlines()[-count:]]
