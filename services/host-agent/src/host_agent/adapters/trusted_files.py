"""Opening a file as root for somebody else: what may be written by others leads nowhere."""

import errno
import os
import stat
from collections import deque
from pathlib import Path, PurePosixPath
from typing import NoReturn

MOST_LINKS = 40
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


def open_trusted(path: Path, home: Path) -> int:
    """Open a regular file that nobody but root and this process can have put another file in place of.

    From ``home``, or the root directory, one directory after the other is opened. Symbolic links are followed
    as long as only root or this process may write to where they lie; from the first directory to which
    others may write none is, and the file may have no other name there.

    Raises:
        OSError: it cannot be opened, or is refused; ``strerror`` says why.
    """
    inside = path.is_relative_to(home)
    handle = os.open(home if inside else "/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    parts = deque(path.relative_to(home).parts if inside else path.parts[1:])
    others = False
    links = 0
    try:
        while parts:
            others = others or for_others(os.fstat(handle))
            part = parts.popleft()
            if (target := _link(part, handle)) is None:
                handle = _replaced(handle, os.open(part, DIRECTORY if parts else FILE, dir_fd=handle))
                continue
            links += 1
            if others or links > MOST_LINKS:
                _refuse_link()
            if target.is_absolute():
                handle = _replaced(handle, os.open("/", DIRECTORY))
            parts.extendleft(
                reversed(target.relative_to("/").parts if target.is_absolute() else target.parts)
            )
        _check(os.fstat(handle), others=others)
    except BaseException:
        os.close(handle)
        raise
    return handle


def for_others(status: os.stat_result) -> bool:
    """Whether anybody but root and this process may write there."""
    return writers(status) is not None or status.st_uid not in {0, os.geteuid()}


def writers(status: os.stat_result) -> tuple[str, str] | None:
    """Who may write there without owning it, and what to give to chmod so that they may not."""
    if status.st_mode & stat.S_IWOTH:
        return "everybody", "o-w"
    if status.st_mode & stat.S_IWGRP and status.st_gid != 0:
        return f"group {status.st_gid}", "g-w"
    return None


def _refuse_link() -> NoReturn:
    raise OSError(errno.ELOOP, "a symbolic link where others may write is not followed")


def _link(name: str, handle: int) -> PurePosixPath | None:
    try:
        return PurePosixPath(os.readlink(name, dir_fd=handle))
    except OSError as error:
        if error.errno == errno.EINVAL:  # it is none
            return None
        raise


def _replaced(handle: int, following: int) -> int:
    os.close(handle)
    return following


def _check(status: os.stat_result, *, others: bool) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file")
    if others and status.st_nlink != 1:
        raise OSError(errno.EMLINK, "it has other names (hard links), so it may be somebody else's file")
