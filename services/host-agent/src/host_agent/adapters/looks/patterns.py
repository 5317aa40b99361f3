"""Regular expressions that cannot hold the agent up: RE2 is linear in the text (decision 7)."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

from host_agent.domain.look import Settled, unknown

MOST_STEPS = 1000
"""Instructions of a pattern's program; the worst takes a second or two for 64 KiB, on a thread of its own."""

MEMORY_BYTES = 1 << 20
"""What a pattern may take for its program and for what it remembers."""


class Pattern:
    """One pattern; compiled when it is first searched for."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._compiled: Any = None

    async def is_in(self, body: bytes) -> bool:
        """Whether it is found somewhere in these bytes, which should be UTF-8.

        Raises:
            Settled: it cannot be used.
        """
        return await asyncio.get_running_loop().run_in_executor(_thread(), self._search, body)

    def _search(self, body: bytes) -> bool:
        if self._compiled is None:
            self._compiled = _compile(self._text)
        return self._compiled.search(body) is not None


@cache
def _thread() -> ThreadPoolExecutor:
    """The search lets go of Python's lock, so the loop goes on meanwhile."""
    return ThreadPoolExecutor(1, "patterns")


def problem_of(text: str) -> str | None:
    """What is wrong with a pattern; none, too, where this agent cannot search for any."""
    try:
        _compile(text)
    except Settled as settled:
        return settled.seen.text if settled.seen.reason == "pattern" else None
    return None


def _compile(text: str) -> Any:
    try:
        import re2  # noqa: PLC0415  (loaded when first used: 2 MiB)
    except ImportError:
        problem = "cannot search by body_matches: install host-agent[patterns], or use body_contains"
        raise Settled(unknown("no-patterns", problem)) from None
    options = re2.Options()
    options.log_errors = False
    options.max_mem = MEMORY_BYTES
    try:
        compiled = re2.compile(text, options)
    except re2.error as error:
        why = error.args[0].decode(errors="replace") if error.args else "it is none"
        raise Settled(unknown("pattern", f"cannot use body_matches {text!r}: {why} (RE2 syntax)")) from None
    if compiled.programsize > MOST_STEPS:
        raise Settled(unknown("pattern", f"cannot use body_matches {text!r}: it repeats too much"))
    return compiled
