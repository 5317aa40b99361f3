"""Leading: of all replicas one at a time is in office; the others wait for it (decision 1).

``Leader.run`` is the whole life: wait for the lease, begin a term, serve until the lease is lost or a later
leader's fence is met, end the term, and wait again. ``main`` makes terms: each loads the picture anew and
opens a bus of its own, so that only the leader hears anything.
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from health_recovery.ports import Fenced, Lease, Unavailable
from muster_runtime import logger

PAUSE_SECONDS = 1.0
"""After a term that could not begin: others may have more luck meanwhile."""

log = logger(__name__)


class Term(Protocol):
    """One time in office."""

    async def over(self) -> int:
        """Return when it has to end whatever the lease says, with the epoch of the leader that followed."""
        ...

    def complaints(self) -> list[str]:
        """What is wrong now, for people; empty when all is well."""
        ...


Terms = Callable[[int], AbstractAsyncContextManager[Term]]
"""Makes the term of an epoch; to enter it may raise ``Unavailable`` and ``Fenced``."""


class Leader:
    """One replica's part in it."""

    def __init__(self, lease: Lease, terms: Terms, pause_seconds: float = PAUSE_SECONDS) -> None:
        self._lease, self._terms, self._pause = lease, terms, pause_seconds
        self.term: Term | None = None
        """Null while another replica leads, or none."""
        self.complaint: str | None = None
        """Why the last term could not begin; null if it could."""

    async def run(self) -> None:
        """Take office again and again, for ever; the owner cancels it."""
        while True:
            epoch = await self._lease.acquire()
            try:
                await self._serve(epoch)
                self.complaint = None
            except (Unavailable, Fenced) as error:
                self.complaint = f"cannot lead: {error}"
                log.warning("cannot lead", epoch=epoch, why=str(error))
            finally:
                await self._lease.release()
            if self.complaint:
                await asyncio.sleep(self._pause)

    def complaints(self) -> list[str]:
        """What is wrong now, for people; empty when all is well, also when another replica leads."""
        mine = [one for one in (self.complaint, self._lease.complaint) if one]
        return mine + (self.term.complaints() if self.term else [])

    async def _serve(self, epoch: int) -> None:
        lost = asyncio.create_task(self._lease.lost(), name="the lease is lost")
        try:
            async with self._terms(epoch) as term:
                self.term, self.complaint = term, None
                log.info("leads", epoch=epoch)
                await self._until_over(term, lost)
        finally:
            self.term = None
            lost.cancel()
            log.info("leads no more", epoch=epoch)

    async def _until_over(self, term: Term, lost: "asyncio.Task[None]") -> None:
        over = asyncio.create_task(term.over(), name="the term is over")
        try:
            await asyncio.wait([lost, over], return_when=asyncio.FIRST_COMPLETED)
            if over.done() and not over.cancelled():
                self._lease.outgrow(over.result())
        finally:
            over.cancel()
