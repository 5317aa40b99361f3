"""Saying what must not be lost, in the order it happened, again and again until the spool has it."""

import asyncio

from host_agent.ports import Voice
from muster_bus.errors import MusterError
from muster_contracts.message import DurableFact
from muster_runtime import logger

SAY_AGAIN_SECONDS = 1.0
"""Until the next try to say what the spool could not keep."""

UNSAID = 10_000
"""Facts kept while they cannot be said; then the oldest go."""

log = logger(__name__)


class News:
    """Facts on their way to the spool; whoever tells one does not wait for the disk."""

    def __init__(self, voice: Voice) -> None:
        self._voice = voice
        self._unsaid: list[DurableFact] = []
        self._told = asyncio.Event()

    def tell(self, fact: DurableFact) -> None:
        """Have it said."""
        self._unsaid.append(fact)
        del self._unsaid[:-UNSAID]
        self._told.set()

    async def run(self) -> None:
        """Say what is told, for ever."""
        while True:
            await self._told.wait()
            try:
                await self.say_all()
            except MusterError as error:
                log.error("cannot say what changed: trying again", reason=str(error))  # noqa: TRY400
                await asyncio.sleep(SAY_AGAIN_SECONDS)

    async def say_all(self) -> None:
        """Say all that was told and not said yet.

        Raises:
            MusterError: the spool cannot keep it; it is not forgotten.
        """
        self._told.clear()
        while batch := self._unsaid[:100]:
            del self._unsaid[:100]
            said = False
            try:
                await self._voice.say(*batch)
                said = True
            finally:
                if not said:  # cancelled as well: whoever closes says it once more
                    self._unsaid[:0] = batch
