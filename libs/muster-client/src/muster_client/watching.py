"""Watching facts: several taps read as one, decoded, until the watcher has seen enough."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Generic, Self, TypeVar, cast

from muster_bus.link import Link
from muster_bus.permissions import wildcard
from muster_bus.streams import stream_of
from muster_client.decode import Heard, judge
from muster_client.outputs import Verdict
from muster_client.taps import LiveTap, StreamTap, Tap
from muster_contracts.message import Delivery, Message, Subject

M = TypeVar("M", bound=Message)

WAITING = 10_000
"""Messages read and not yet taken; beyond it a stream waits, and live messages are dropped and counted."""


def moment(since: datetime | timedelta | None) -> datetime | None:
    """A length of time before now, or a moment, as a moment."""
    return datetime.now(UTC) - since if isinstance(since, timedelta) else since


def taps_of(
    client: Link, contracts: Sequence[type[Message]], agent: str | None, since: datetime | None, *, live: bool
) -> list[Tap]:
    """One tap per stream, and one for all that is live.

    With ``live``, and nothing to look back to, durable contracts are heard as they go by as well: in
    the order and the versions in which they are said, good or not.
    """
    kept = [one for one in contracts if one.DELIVERY is Delivery.DURABLE and not (live and since is None)]
    others = [address(one, agent, any_version=True) for one in contracts if one not in kept]
    subjects: dict[str, list[str]] = {}
    for one in kept:
        subjects.setdefault(stream_of(one), []).append(address(one, agent))
    streams = [StreamTap(client, stream, some, since) for stream, some in subjects.items()]
    return [*streams, *([LiveTap(client, others, WAITING)] if others else [])]


def address(contract: type[Message], agent: str | None, *, any_version: bool = False) -> str:
    """The subject of a contract: of one agent, or of everyone; of its own version, or of any."""
    subject = Subject(wildcard(contract.SUBJECT)) if any_version else contract.SUBJECT
    return subject.bound(agent) if agent and "{agent_id}" in subject else subject.pattern


class Listening:
    """Messages of several taps, in the order in which they come; use it as ``async with``."""

    def __init__(self, taps: Sequence[Tap]) -> None:
        self.taps = taps
        self._heard: asyncio.Queue[Heard | Exception] = asyncio.Queue(WAITING)
        self._pumps: list[asyncio.Task[None]] = []

    async def open(self) -> Self:
        """From now on nothing is missed; returns when the broker has taken the subscriptions."""
        for tap in self.taps:
            await tap.open()
        self._pumps = [asyncio.create_task(self._pump(tap), name="watch") for tap in self.taps]
        return self

    async def close(self) -> None:
        """Stop listening."""
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        for tap in self.taps:
            await tap.close()

    def look_again(self) -> None:
        """The connection came back: read what the streams kept meanwhile."""
        for tap in self.taps:
            if isinstance(tap, StreamTap):
                tap.look_again()

    @property
    def dropped(self) -> int:
        """Live messages that came faster than they were taken."""
        return sum(tap.dropped for tap in self.taps if isinstance(tap, LiveTap))

    async def heard(self) -> Heard:
        """The next message, as it came."""
        if not self._pumps:
            await self.open()
        one = await self._heard.get()
        if isinstance(one, Exception):
            raise one
        return one

    async def _pump(self, tap: Tap) -> None:
        try:
            while True:
                await self._heard.put(await tap.next())
        except Exception as error:  # noqa: BLE001  (whatever it is, it is the watcher's to know)
            await self._heard.put(error)

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class Watch(Listening, Generic[M]):
    """Facts as they become known; what cannot be read is skipped and counted in ``skipped``."""

    def __init__(self, taps: Sequence[Tap]) -> None:
        super().__init__(taps)
        self.skipped = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> M:
        while True:
            verdict, message, _ = judge(await self.heard())
            if verdict is Verdict.OK:
                return cast("M", message)
            self.skipped += 1
