"""Files that nobody but their owner may read: written in one step, and opened without following a link."""

import errno
import os
import secrets
import shutil
import stat
import sys
from pathlib import Path
from typing import IO

from muster_client.embedded.errors import CannotStart

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def keep(path: Path, text: str) -> None:
    """Write a file that its owner alone may read, in one step.

    Raises:
        CannotStart: it cannot be written; says why and what to do.
    """
    try:
        replace_whole(path, text.rstrip() + "\n")
    except OSError as error:
        raise CannotStart(cannot_write(path, error)) from error


def replace_whole(path: Path, text: str) -> None:
    """Put a new file in the place of ``path``: readers see the old one or the new one.

    Raises:
        OSError: it cannot be written; nothing is left beside it then.
    """
    # A name nobody can guess, which must not exist: a link planted there would be written through.
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def cannot_write(path: Path, error: OSError) -> str:
    """Why ``path`` could not be written, and what to do about it."""
    advice = {errno.EISDIR: "move that directory away"} | dict.fromkeys(_NO_ROOM, "free some space")
    what = advice.get(error.errno or 0, "see that its directory can be written to")
    return f"cannot write {path}: {(error.strerror or str(error)).lower()}; {what}"


def open_private(path: Path, flags: int) -> int:
    """A descriptor of an ordinary file, made for its owner alone if ``flags`` say so; links are not followed.

    Raises:
        CannotStart: it is a symbolic link, or no ordinary file.
        OSError: it cannot be opened.
    """
    try:
        # Not to block: somebody may have put a pipe there.
        handle = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if path.is_symlink():
            raise CannotStart(f"cannot open {path}: it is a symbolic link; remove it") from error
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise CannotStart(f"cannot open {path}: it is no ordinary file; move it away")
    return handle


def open_own(path: Path) -> IO[str]:
    """Append to a file that its owner alone may read.

    Raises:
        CannotStart: it cannot be opened; says why and what to do.
    """
    try:
        return os.fdopen(open_private(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "a")
    except OSError as error:
        raise CannotStart(cannot_write(path, error)) from error


def put_aside(path: Path) -> Path:
    """Rename what cannot be used to ``NAME.damaged``, in the place of what was damaged before.

    Raises:
        OSError: it cannot be renamed.
    """
    aside = path.with_name(f"{path.name}.damaged")
    if aside.is_dir() and not aside.is_symlink():
        shutil.rmtree(aside)
    else:
        aside.unlink(missing_ok=True)
    return path.rename(aside)


def distrust(path: Path) -> str:
    """Why a directory is not safe from others, and what to do; nothing if it is.

    Raises:
        OSError: it cannot be looked at.
    """
    seen = path.lstat()
    if stat.S_ISLNK(seen.st_mode):
        return f"cannot use {path}: it is a symbolic link, do put the directory itself there"
    if not stat.S_ISDIR(seen.st_mode):
        return f"cannot use {path}: it is no directory, do move it away"
    if seen.st_uid != os.geteuid():
        return (
            f"cannot use {path}: it belongs to user {seen.st_uid} and you are {os.geteuid()}, "
            "do run this as its owner, or give a directory of your own with --dir"
        )
    if seen.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"cannot use {path}: others may write to it, do chmod go-w {path}"
    return ""


def exposed(path: Path) -> str:
    """Which directory above ``path`` lets others replace it, and what to do; nothing if none does.

    Raises:
        OSError: one cannot be looked at.
    """
    for above in path.parents:
        mode = above.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            return f"cannot use {path}: others may replace it, do chmod o-w {above}"
    return ""


def open_standard_streams() -> None:
    """Have the standard streams go nowhere where they were closed, so that no file takes their place."""
    for name, descriptor, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        try:
            os.fstat(descriptor)
        except OSError:
            lead_nowhere(descriptor)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(descriptor, mode, closefd=False))


def lead_nowhere(descriptor: int) -> None:
    """Point ``descriptor`` at /dev/null, whatever it was."""
    nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    if nowhere != descriptor:
        os.dup2(nowhere, descriptor)
        os.close(nowhere)
    os.set_inheritable(descriptor, True)  # noqa: FBT003  (positional only)
