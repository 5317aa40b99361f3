"""Turns: how many messages are worked on together, and which of them wait for one another."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Hashable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class _Line:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    length: int = 0


class Turns:
    """At most ``at_once`` messages at a time, begun in the order they came; those of one key one by one.

    Who waits for another of its key takes no place meanwhile. Without a key only one at a time keeps order.
    """

    def __init__(self, at_once: int, key: Callable[[Any], Hashable] | None = None) -> None:
        self._places = asyncio.Semaphore(at_once)
        self._key = key
        self._lines: dict[Hashable, _Line] = {}

    @contextlib.asynccontextmanager
    async def of(self, message: Any) -> AsyncIterator[None]:
        """Wait for the turn of a message and have it; what could not be read, an error, waits for none."""
        if self._key is None or isinstance(message, Exception):
            async with self._places:
                yield
        else:
            async with self._in_line(self._key(message)), self._places:
                yield

    @contextlib.asynccontextmanager
    async def _in_line(self, key: Hashable) -> AsyncIterator[None]:
        line = self._lines.setdefault(key, _Line())
        line.length += 1
        try:
            async with line.lock:
                yield
        finally:
            line.length -= 1
            if not line.length:
                del self._lines[key]
