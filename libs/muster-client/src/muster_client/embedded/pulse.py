"""Whether a process that runs still answers; one that hangs does not die by itself."""

import asyncio

from muster_client.embedded.readiness import Probe

EVERY_SECONDS = 5.0
MISSES = 3
"""In a row. With the 2 s that each miss may take, a pause of 15 s is tolerated and one of 21 s is not."""


async def until_it_stops(probe: Probe) -> None:
    """Return once ``probe`` was missed ``MISSES`` times in a row."""
    missed = 0
    while missed < MISSES:
        await asyncio.sleep(EVERY_SECONDS)
        missed = 0 if await probe() else missed + 1
