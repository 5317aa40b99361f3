"""One agent at a time in a state directory; the lock ends with the process, however it ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from muster_runtime import ConfigurationError


@contextmanager
def only_one_in(state_dir: Path) -> Iterator[None]:
    """Hold the state directory.

    Raises:
        ConfigurationError: another agent holds it; two of them under one id would look like a clone.
    """
    with (state_dir / "running").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            other = file.read(16).strip() or "unknown"
            raise ConfigurationError(
                [f"cannot use {state_dir}: the host-agent with pid {other} does; stop it, or use another"]
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
