"""Locks that end with the process that holds them, however it ends."""

import fcntl
import os
import stat
from pathlib import Path

from muster_client.embedded.errors import CannotStart
from muster_client.embedded.files import open_private


class Lock:
    """An flock on a file. Passed on to a child by its descriptor, it lives as long as that child does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = -1

    def take(self) -> bool:
        """Whether the lock is ours now; False while anybody else holds it.

        Raises:
            CannotStart: the file system has no locks, or the file cannot be opened.
        """
        try:
            self.descriptor = open_private(self.path, os.O_RDWR | os.O_CREAT)
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.drop()
            return False
        except OSError as error:
            self.drop()
            raise CannotStart(
                f"cannot lock {self.path}: {error.strerror}; use a directory on a local disk"
            ) from error
        return True

    def drop(self) -> None:
        """Close our descriptor; a child that was given it still holds the lock."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def holders(path: Path) -> list[int]:
    """The pids that hold the lock on ``path``; who only reads the file is none of them.

    Empty where the system does not tell.
    """
    try:
        wanted = path.lstat()
    except OSError:
        return []
    if not stat.S_ISREG(wanted.st_mode):
        return []
    found = []
    for folder in Path("/proc").glob("[0-9]*/fd"):
        try:
            if any(_same(handle, wanted) and _locks(handle) for handle in folder.iterdir()):
                found.append(int(folder.parent.name))
        except OSError:  # somebody else's process, or gone meanwhile
            continue
    return [pid for pid in found if pid != os.getpid()]


def _locks(handle: Path) -> bool:
    """Whether the lock was taken by this descriptor, or the one it was inherited from."""
    try:
        told = (handle.parents[1] / "fdinfo" / handle.name).read_text()
    except OSError:
        return False
    return any(line.startswith("lock:") and "FLOCK" in line for line in told.splitlines())


def _same(handle: Path, wanted: os.stat_result) -> bool:
    try:
        seen = handle.stat()
    except OSError:
        return False
    return (seen.st_dev, seen.st_ino) == (wanted.st_dev, wanted.st_ino)
