"""The last goodbye of an agent, straight from the stream: it may be there before it was delivered here."""

import asyncio
from collections.abc import Sequence

from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError

from fleet_registry.ports import Goodbye
from muster_bus import Bus
from muster_bus.streams import stream_of
from muster_contracts.agent.v1 import Left

AT_ONCE = 64


class StreamGoodbyes:
    """See ``ports.Goodbyes``; one direct read per agent, many at a time."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._gate = asyncio.Semaphore(AT_ONCE)

    async def last(self, agent_ids: Sequence[str]) -> dict[str, Goodbye]:
        """Of those that have said one.

        Raises:
            ConnectionError: the broker cannot be asked just now.
        """
        try:
            found = await asyncio.gather(*(self._last(agent_id) for agent_id in agent_ids))
        except (NatsError, TimeoutError, OSError) as error:
            why = str(error) or type(error).__name__
            raise ConnectionError(f"cannot read the last goodbyes: {why}") from error
        return {agent_id: one for agent_id, one in zip(agent_ids, found, strict=True) if one}

    async def _last(self, agent_id: str) -> Goodbye | None:
        async with self._gate:
            try:
                message = await self._bus.client.jetstream().get_last_msg(
                    stream_of(Left), Left.SUBJECT.bound(agent_id), direct=True
                )
            except NotFoundError:
                return None
        try:
            left = Left.model_validate_json(message.data or b"")
        except ValueError:
            return None
        return Goodbye(left.epoch, left.reason, left.occurred_at)
