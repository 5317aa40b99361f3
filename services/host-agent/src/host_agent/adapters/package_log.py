"""What a package prints: one file it appends to itself, and older pieces cut off its front.

The package holds the file open and knows nothing of this, so the file is never renamed or shortened under
it. A round copies the oldest lines into a piece of their own and then frees their blocks where they were, by
punching a hole (decision 5). Offsets in the file are therefore offsets in all that was ever printed.

``web.log`` is the live file; ``web.log.000000004096`` is the piece that begins at byte 4096. A piece is whole
once it has its name, and what is before the end of the newest piece counts as gone from the live file. So an
agent that is killed anywhere in a round has lost no line and doubled none.

A file system that cannot punch holes gets rid of the copied part at the next start, when nobody writes.
"""

import ctypes
import errno
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from muster_agent.files import sync_directory

PUNCH_HOLE_KEEP_SIZE = 3
AT_ONCE = 256 * 1024
"""Bytes of one answer, and of the log that are looked at for it."""
LONGEST_LINE = 32 * 1024
BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes that are no longer in the live file."""

    path: Path
    start: int
    end: int


class PackageLog:
    """The log of one package; methods wait for the disk and may be called from any thread."""

    def __init__(self, path: Path, *, max_bytes: int, keep_files: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._keep = keep_files
        self._lock = threading.Lock()

    def open(self, uid: int, gid: int) -> int:
        """A descriptor to append to, for a process of this user; who is closed by the caller.

        Raises:
            OSError: the file cannot be made.
        """
        with self._lock:
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            handle = os.open(self._path, flags, 0o600)
            try:
                os.fchmod(handle, 0o600)
                if os.geteuid() == 0:
                    os.fchown(handle, uid, gid)
                self._begin(handle)
            except BaseException:
                os.close(handle)
                raise
            return handle

    def rotate(self) -> None:
        """Cut pieces off the front of the live file until it is small enough.

        Raises:
            OSError: the disk is full, or gone; nothing is lost.
        """
        with self._lock, self._live() as handle:
            if handle is not None:
                while self._cut(handle, punch=True):
                    pass

    def read(self, lines: int, from_offset: int | None) -> tuple[list[str], int, bool]:
        """As ``package.v1.ReadLog``: whole lines only."""
        with self._lock, self._live() as handle:
            stream = _Stream(self._pieces(), handle)
            return _last(stream, lines) if from_offset is None else _next(stream, lines, from_offset)

    # Pieces ----------------------------------------------------------------------------------------------

    def _begin(self, handle: int) -> None:
        """Make the live file fit its pieces, and its last line whole; nobody writes now."""
        base, size = self._base(), os.fstat(handle).st_size
        if size < base:  # somebody emptied or removed it: go on behind what is known
            os.ftruncate(handle, base)
            size = base
        if size - base > self._max_bytes and not _punch(handle, base, 1, try_only=True):
            while self._cut(handle, punch=False):
                pass
            self._drop_by_copy(handle)
        if size > base and os.pread(handle, 1, size - 1) != b"\n":
            os.write(handle, b"\n")

    def _cut(self, handle: int, *, punch: bool) -> bool:
        """Make one piece, if there is too much; whether there was."""
        base, size = self._base(), os.fstat(handle).st_size
        if punch and base and not _punch(handle, 0, base):
            return False  # this file system cannot: at the next start
        if size - base <= self._max_bytes:
            return False
        self._keep_piece(handle, base, _line_end(handle, base, base + self._max_bytes))
        self._forget_old()
        return True

    def _keep_piece(self, handle: int, start: int, end: int) -> None:
        """Copy [start, end) into a file that has its name only once it is whole and on the disk."""
        making = self._path.with_name(f"{self._path.name}.making")
        target = os.open(making, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            if os.geteuid() == 0:
                status = os.fstat(handle)
                os.fchown(target, status.st_uid, status.st_gid)
            for at in range(start, end, BLOCK):
                _write_all(target, os.pread(handle, min(BLOCK, end - at), at))
            os.fsync(target)
        finally:
            os.close(target)
        making.rename(self._piece_path(start))
        sync_directory(self._path.parent)

    def _drop_by_copy(self, handle: int) -> None:
        """Without holes: put the rest behind an end of nothing that takes no blocks."""
        base, size = self._base(), os.fstat(handle).st_size
        rest = os.pread(handle, size - base, base)
        os.ftruncate(handle, 0)
        os.ftruncate(handle, base)
        os.write(handle, rest)

    def _forget_old(self) -> None:
        """Remove pieces beyond those to keep; the newest stays, emptied if need be: it says where we are."""
        pieces = self._pieces()
        for piece in pieces[: len(pieces) - max(1, self._keep)]:
            piece.path.unlink(missing_ok=True)
        if self._keep == 0 and pieces and pieces[-1].start < pieces[-1].end:
            self._piece_path(pieces[-1].end).touch(mode=0o600)
            pieces[-1].path.unlink(missing_ok=True)

    def _base(self) -> int:
        """Where the live file begins."""
        pieces = self._pieces()
        return pieces[-1].end if pieces else 0

    def _pieces(self) -> list[Piece]:
        prefix = f"{self._path.name}."
        named = ((path, path.name.removeprefix(prefix)) for path in self._path.parent.glob(f"{prefix}*"))
        found = [
            Piece(path, int(start), int(start) + path.stat().st_size)
            for path, start in named
            if start.isdigit()
        ]
        return sorted(found, key=lambda piece: (piece.start, piece.end))

    def _piece_path(self, start: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{start:012d}")

    @contextmanager
    def _live(self) -> Iterator[int | None]:
        try:
            handle = os.open(self._path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            yield None
            return
        try:
            yield handle
        finally:
            os.close(handle)


class _Stream:
    """All that is still there of what was printed, by its offset."""

    def __init__(self, pieces: list[Piece], live: int | None) -> None:
        self._pieces = pieces
        self._live = live
        self.base = pieces[-1].end if pieces else 0
        self.start = pieces[0].start if pieces else 0
        self.end = self.base if live is None else max(self.base, os.fstat(live).st_size)

    def read(self, start: int, end: int) -> bytes:
        """The bytes from ``start`` to ``end``; a gap reads as nothing."""
        found = []
        for piece in self._pieces:
            if piece.start < end and piece.end > start:
                first = max(start, piece.start)
                with piece.path.open("rb") as file:
                    file.seek(first - piece.start)
                    found.append(file.read(min(end, piece.end) - first))
        first = max(start, self.base)
        if self._live is not None and first < end:
            found.append(os.pread(self._live, end - first, first))
        return b"".join(found)


def _last(stream: _Stream, lines: int) -> tuple[list[str], int, bool]:
    start = max(stream.start, stream.end - AT_ONCE)
    raw = stream.read(start, stream.end)
    whole = raw[: raw.rfind(b"\n") + 1]
    found = whole.split(b"\n")[:-1]
    if start > stream.start and len(found) > 1:
        del found[0]  # its beginning is further back
    shown = _fitting(found[::-1], lines)[::-1]
    more = len(shown) < len(found) or start > stream.start
    return shown, start + len(whole), more


def _next(stream: _Stream, lines: int, offset: int) -> tuple[list[str], int, bool]:
    """From an offset on; one beyond the end is of a log that is gone, so from the beginning."""
    start = stream.start if offset > stream.end else max(offset, stream.start)
    raw = stream.read(start, min(stream.end, start + AT_ONCE))
    found = raw.split(b"\n")[:-1]
    if not found:
        # A line without an end: what there is of it counts as one once there is more than fits.
        return ([_text(raw)], start + len(raw), True) if len(raw) >= AT_ONCE else ([], start, False)
    shown = _fitting(found, lines)
    end = start + sum(len(line) + 1 for line in found[: len(shown)])
    more = len(shown) < len(found) or start + len(raw) < stream.end
    return shown, end, more


def _fitting(found: list[bytes], lines: int) -> list[str]:
    """As many as are wanted and fit into one answer, at least one."""
    shown: list[str] = []
    room = AT_ONCE
    for raw in found[:lines]:
        text = _text(raw)
        room -= len(json.dumps(text, ensure_ascii=False).encode()) + 1
        if shown and room < 0:
            break
        shown.append(text)
    return shown


def _text(raw: bytes) -> str:
    text = raw[:LONGEST_LINE].removesuffix(b"\r").decode(errors="replace")
    return text if len(raw) <= LONGEST_LINE else f"{text} …"


def _line_end(handle: int, start: int, end: int) -> int:
    """Behind the last line that ends before ``end``; ``end`` itself, if none does."""
    at = end
    while at > start:
        first = max(start, at - BLOCK)
        if (found := os.pread(handle, at - first, first).rfind(b"\n")) >= 0:
            return first + found + 1
        at = first
    return end


def _punch(handle: int, start: int, length: int, *, try_only: bool = False) -> bool:
    """Free the blocks of a range, the file's size unchanged; False where the file system cannot.

    Raises:
        OSError: the disk fails.
    """
    if try_only:
        start, length = 1 << 62, 1  # far behind the end: changes nothing
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.fallocate(handle, PUNCH_HOLE_KEEP_SIZE, ctypes.c_int64(start), ctypes.c_int64(length)) == 0:
        return True
    if (number := ctypes.get_errno()) in {errno.EOPNOTSUPP, errno.ENOSYS}:
        return False
    if try_only:
        return number in {errno.EFBIG, errno.EINVAL}
    raise OSError(number, os.strerror(number))


def _write_all(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
