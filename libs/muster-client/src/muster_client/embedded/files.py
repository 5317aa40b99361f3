"""Files that nobody but their owner may read, written in one step."""

import os
from pathlib import Path
from typing import IO


def keep(path: Path, text: str) -> None:
    """Write a file that its owner alone may read, in one step."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text.rstrip() + "\n")
    fresh.replace(path)


def open_own(path: Path) -> IO[str]:
    """Append to a file that its owner alone may read."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "a")
