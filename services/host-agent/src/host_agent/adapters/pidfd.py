"""Waiting for the end of a process that is not our child."""

import asyncio
import contextlib
import os
from collections.abc import Callable


async def ended(pid: int, is_it: Callable[[], bool]) -> bool:
    """Return True when the process has ended; at once, if it is gone. False where the kernel cannot tell us.

    ``is_it`` is asked once the process is held by a descriptor: False means that the pid has another owner by
    now, so that the one meant is gone.
    """
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    except (OSError, AttributeError):  # a kernel before 5.3, or none that is Linux
        return False
    try:
        if is_it():
            await _readable(handle)
        return True
    finally:
        os.close(handle)


def opened(pid: int) -> int | None:
    """A descriptor of a child that was just made; None if it is gone already."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


async def _readable(handle: int) -> None:
    loop = asyncio.get_running_loop()
    now = asyncio.Event()
    loop.add_reader(handle, now.set)
    with contextlib.ExitStack() as afterwards:
        afterwards.callback(loop.remove_reader, handle)
        await now.wait()
