"""One command while it is performed: what is asked, where its output goes, how far it is."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from muster_agent.obedience.output import Output
from muster_contracts.command.v1 import Terms

PROGRESS_SECONDS = 0.5
QUIET_SECONDS = 0.1
"""What ends sooner is not said to run."""
LONGEST_TEXT = 500

SayProgress = Callable[[str | None, float | None], Awaitable[None]]


class Work:
    """What ``perform`` is given."""

    def __init__(self, terms: Terms, output: Output, progress: "Progress") -> None:
        self.terms = terms
        self._output = output
        self._progress = progress

    @property
    def verb(self) -> str:
        """Such as package.restart."""
        return self.terms.verb

    @property
    def body(self) -> dict[str, Any]:
        """One of the verb's bodies, as it came."""
        return self.terms.body

    async def write(self, data: bytes) -> None:
        """Add to the command's output; what exceeds the limit is dropped, and the output says so."""
        await self._output.write(data)

    def progress(self, text: str, percent: float | None = None) -> None:
        """Tell people how far it is; said at most twice a second, the last word always."""
        self._progress.tell(text, percent)


class Progress:
    """Says how far one command is, at most every half a second; a newer word replaces one that waits."""

    def __init__(self, say: SayProgress) -> None:
        self._say = say
        self._latest: tuple[str | None, float | None] | None = None
        self._news = asyncio.Event()
        self._saying: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Say that it runs: as soon as there is a word of it, or it has not ended after a moment.

        Of what is over in that moment only the end is worth the way.
        """
        self._saying = asyncio.create_task(self._say_that_it_runs(), name="progress")

    def tell(self, text: str | None, percent: float | None = None) -> None:
        """Say it now, or when it may be said."""
        self._latest = (text[:LONGEST_TEXT] if text else None, percent)
        self._news.set()
        if self._saying is None or self._saying.done():
            self._saying = asyncio.create_task(self._say_until_told(), name="progress")

    async def close(self) -> None:
        """Say nothing any more."""
        if self._saying:
            self._saying.cancel()
            await asyncio.wait([self._saying])

    async def _say_that_it_runs(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(QUIET_SECONDS):
                await self._news.wait()
        await self._say(None, None)
        await asyncio.sleep(PROGRESS_SECONDS)
        await self._say_until_told()

    async def _say_until_told(self) -> None:
        while self._latest:
            latest, self._latest = self._latest, None
            await self._say(*latest)
            await asyncio.sleep(PROGRESS_SECONDS)
