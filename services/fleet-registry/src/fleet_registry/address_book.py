"""Where agents connect from, on its way from the broker into the database."""

import asyncio
from collections.abc import Awaitable, Callable

from fleet_registry.ports import Unavailable
from muster_runtime import logger

PAUSE_SECONDS = 1.0

log = logger(__name__)


class AddressBook:
    """Keeps one address for each agent, the newest, until it is written; so it never outgrows the fleet."""

    def __init__(
        self, write: Callable[[dict[str, str]], Awaitable[None]], pause_seconds: float = PAUSE_SECONDS
    ) -> None:
        self._write, self._pause = write, pause_seconds
        self._unwritten: dict[str, str] = {}
        self._some = asyncio.Event()

    def note(self, addresses: dict[str, str]) -> None:
        """Take addresses, by agent."""
        self._unwritten |= addresses
        self._some.set()

    async def keep_writing(self) -> None:
        """For ever: write what was noted; what could not be written is tried again with what came since."""
        while True:
            await self._some.wait()
            try:
                await self._write_all()
            except Unavailable as error:
                log.warning("cannot write addresses", why=str(error))
                await asyncio.sleep(self._pause)

    async def _write_all(self) -> None:
        self._some.clear()
        addresses, self._unwritten = self._unwritten, {}
        try:
            await self._write(addresses)
        except BaseException:
            self.note(addresses | self._unwritten)
            raise
