"""What handlers say while nothing can be kept."""

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import TypeVar

from health_recovery.ports import Fenced, Unavailable
from muster_bus import Retry

M = TypeVar("M")
R = TypeVar("R")


def patient(handler: Callable[[M], Awaitable[R]]) -> Callable[[M], Awaitable[R]]:
    """While the database cannot be used, or another replica leads by now, a durable message waits.

    Who asks is told to try again.
    """

    @wraps(handler)
    async def handle(message: M) -> R:
        try:
            return await handler(message)
        except (Unavailable, Fenced) as error:
            raise Retry(str(error) or "cannot answer now: another replica leads") from error

    return handle
