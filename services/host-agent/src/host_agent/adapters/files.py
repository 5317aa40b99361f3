"""Reading the kernel's small files as cheaply as Python can."""

import os


def read(path: str, limit: int = 1 << 20) -> str:
    """The text of a file of the kernel's making, at most ``limit`` bytes of it.

    Raises:
        OSError: it is not there, or not for us.
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        chunks = []
        while limit > 0 and (chunk := os.read(handle, min(limit, 1 << 16))):
            chunks.append(chunk)
            limit -= len(chunk)
    finally:
        os.close(handle)
    return b"".join(chunks).decode(errors="replace")


def read_or_nothing(path: str, limit: int = 1 << 16) -> str:
    """The text of a file that may be missing; then nothing."""
    try:
        return read(path, limit)
    except OSError:
        return ""


def names_in(path: str) -> list[str]:
    """The entries of a directory that may be missing, in order."""
    try:
        return sorted(os.listdir(path))  # noqa: PTH208  (no path objects on the way to a sample)
    except OSError:
        return []
