"""A round trip to the broker and back: what it sent before has arrived by then."""

import asyncio

from nats.errors import Error as NatsError

from muster_bus import Bus

LONGEST_SECONDS = 600
"""Long after the connection itself has noticed, as an answer nobody waits for any more ends its reading."""


async def round_trip(bus: Bus) -> bool:
    """Wait for the broker's answer, however long it takes; false once the connection is lost."""
    await bus.wait_connected()
    link = bus.client
    answered = asyncio.ensure_future(link.flush(LONGEST_SECONDS))
    lost = asyncio.ensure_future(link.down.wait())
    try:
        await asyncio.wait([answered, lost], return_when=asyncio.FIRST_COMPLETED)
        if not answered.done():
            answered.cancel()
            return False
        return _arrived(answered)
    finally:
        lost.cancel()


def _arrived(answered: "asyncio.Future[None]") -> bool:
    try:
        answered.result()
    except (NatsError, OSError):
        return False
    return True
