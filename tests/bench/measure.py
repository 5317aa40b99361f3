"""How a benchmark is measured and what it reports: alternating pairs, medians, one row per figure."""

import asyncio
import statistics
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

PAIRS = 5


@dataclass(frozen=True)
class Row:
    """One line of the table. ``met`` is None where there is nothing to hold the figure against."""

    id: str
    what: str
    muster: float
    unit: str
    target: str
    met: bool | None
    peer: float | None = None
    peer_name: str = ""
    ratio: float | None = None
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Compared:
    """Two contestants measured alternately: medians of both, and the median of the ratios within a pair."""

    first: float
    second: float
    ratio: float


def alternately(first: Callable[[], float], second: Callable[[], float], pairs: int = PAIRS) -> Compared:
    """Run the two in turn (ABAB) so that a busy moment of the machine hits both.

    The order within a pair changes with each pair; the second would else always find warm caches.
    """
    one: list[float] = []
    two: list[float] = []
    for pair in range(pairs):
        order = [(first, one), (second, two)]
        for contestant, results in order if pair % 2 == 0 else reversed(order):
            results.append(contestant())
    ratios = [a / b for a, b in zip(one, two, strict=True)]
    return Compared(statistics.median(one), statistics.median(two), statistics.median(ratios))


async def eventually(ask: Callable[[], Awaitable[bool]], seconds: float, every: float) -> None:
    """Ask until the answer is yes.

    Raises:
        TimeoutError: it was not within ``seconds``.
    """
    async with asyncio.timeout(seconds):
        while not await ask():  # noqa: ASYNC110  (the answer is in another process)
            await asyncio.sleep(every)


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that ``percent`` of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(percent / 100 * len(ordered) + 0.5) - 1))]
