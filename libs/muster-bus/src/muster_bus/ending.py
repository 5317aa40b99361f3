"""Ending a background task for certain."""

import asyncio
from typing import Any

AGAIN_SECONDS = 0.5


async def end(task: "asyncio.Task[Any]") -> None:
    """Cancel a task and return once it has ended.

    Once is not enough: ``asyncio.wait_for`` before Python 3.12, which nats-py waits with, loses one that
    comes in the same step as its timeout, as when a process that was stopped goes on.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=AGAIN_SECONDS)
