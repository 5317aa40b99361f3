"""Waiting for something to become true, instead of sleeping and hoping."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

T = TypeVar("T")


@overload
async def until(condition: Callable[[], Awaitable[T]], seconds: float = ..., every: float = ...) -> T: ...
@overload
async def until(condition: Callable[[], T], seconds: float = ..., every: float = ...) -> T: ...
async def until(condition: Callable[[], T | Awaitable[T]], seconds: float = 10.0, every: float = 0.01) -> T:
    """Poll ``condition`` until it is truthy and return what it gave.

    Raises:
        TimeoutError: it was not within ``seconds``.
    """
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        outcome = condition()
        value: T = await outcome if inspect.isawaitable(outcome) else outcome
        if value:
            return value
        if asyncio.get_running_loop().time() > deadline:
            wanted = inspect.getsource(condition).strip()
            raise TimeoutError(f"cannot wait longer than {seconds} s for {wanted}")
        await asyncio.sleep(every)
