"""A lease: of the replicas of a service one holds it, and another takes it over within seconds.

It is one key in the JetStream KV bucket ``leases``. Every write names the revision it follows
(compare-and-set), so of two that try one is refused. No clock is compared with another's: who waits judges
the holder by whether the revision changed for ``ttl_seconds`` of its own monotonic clock, and the holder
gives up two thirds of that after it *sent* its last renewal, which is before anybody else may take it.

A process that was stopped for long may write once more before it learns of its loss. The ``epoch`` is for
that: it grows from holder to holder, and whoever guards what is written refuses an older one (fencing).
"""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar
from uuid import uuid4

from nats import errors as nats_errors
from nats.js import JetStreamContext
from nats.js.errors import APIError, NotFoundError

from muster_bus.bus import Bus
from muster_bus.ending import end
from muster_bus.errors import MusterError, NotPermitted
from muster_bus.streams import LEASES, lease_subject

log = logging.getLogger("muster.bus")

T = TypeVar("T")

TTL_SECONDS = 6.0
EXPECTED_REVISION = "Nats-Expected-Last-Subject-Sequence"
_WRONG_REVISION = 10071
"""JetStream's error code: the last message of this subject is another one."""


class Refused(MusterError):
    """Cannot write the lease: its revision is another one by now."""


class Unreachable(MusterError):
    """Cannot tell what became of reading or writing the lease."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What the bucket has: revision 0 if nothing was ever written, no holder if it is free."""

    revision: int = 0
    holder: str | None = None


class Cell:
    """One key of the bucket, and nothing else of JetStream: a service may reach its own alone."""

    def __init__(self, bus: Bus, name: str, *, seconds: float = 1.0) -> None:
        self.subject = lease_subject(name)
        self._link = bus.client
        self._seconds = seconds

    async def read(self) -> Entry:
        """What is there now.

        Raises:
            Unreachable: no answer in time.
        """
        try:
            found = await self._reach(
                f"$JS.API.DIRECT.GET.{LEASES}.{self.subject}",
                lambda js: js.get_last_msg(LEASES, self.subject, direct=True),
            )
        except NotFoundError:
            return Entry()
        return Entry(found.seq or 0, found.data.decode(errors="replace") if found.data else None)

    async def write(self, holder: str | None, after: int) -> int:
        """Name ``holder``, or nobody, if the revision still is ``after``; returns the new revision.

        Raises:
            Refused: the revision is another one by now.
            Unreachable: it may have been written, or not.
        """
        headers = {EXPECTED_REVISION: str(after)}
        stored = await self._reach(
            self.subject, lambda js: js.publish(self.subject, (holder or "").encode(), headers=headers)
        )
        return stored.seq

    async def _reach(self, subject: str, what: Callable[[JetStreamContext], Awaitable[T]]) -> T:
        """Do it within the time a cell has for it, while the broker is there."""
        try:
            async with asyncio.timeout(self._seconds):
                await self._link.up.wait()
                return await self._link.permitted(subject, what(self._link.jetstream(timeout=self._seconds)))
        except NotFoundError:
            raise
        except (TimeoutError, nats_errors.Error, NotPermitted) as error:
            if isinstance(error, APIError) and error.err_code == _WRONG_REVISION:
                raise Refused(f"cannot write the lease {self.subject}: somebody else did") from None
            why = str(error) or "no answer" if self._link.up.is_set() else "the broker is away"
            raise Unreachable(f"cannot reach the lease {self.subject}: {why}") from error


class Lease:
    """What one replica knows of a lease, and how it waits for it and keeps it.

    From ``acquire`` until ``lost`` no other replica holds it; after ``release`` another may at once.
    """

    def __init__(self, cell: Cell, *, ttl_seconds: float = TTL_SECONDS) -> None:
        self.me = f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}"
        self.holder: str | None = None
        """The replica that holds it, as far as this one knows."""
        self.complaint: str | None = None
        """Why nothing can be told of the lease just now, for people."""
        self._cell = cell
        self._ttl = ttl_seconds
        self._keeps_for = ttl_seconds * 2 / 3
        self._pause = ttl_seconds / 12
        self._revision = 0
        self._floor = 0
        self._until = 0.0
        self._ended = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None

    @property
    def valid(self) -> bool:
        """Whether this replica holds it, by its own clock."""
        return asyncio.get_running_loop().time() < self._until

    def outgrow(self, epoch: int) -> None:
        """Let the epochs of this replica be greater than ``epoch`` from its next turn on.

        Revisions begin anew where a broker lost its disk, and whoever guards what is written still knows the
        greater epochs of before: it refuses the first holder, which then calls this.
        """
        self._floor = max(self._floor, epoch)

    async def acquire(self) -> int:
        """Wait until this replica holds the lease, begin to renew it, and return its epoch."""
        await self._take()
        self._ended.clear()
        self._keeping = asyncio.create_task(self._keep(), name=f"keep {self._cell.subject}")
        epoch = max(self._revision, self._floor + 1)
        log.info("%s is held by %s in epoch %d", self._cell.subject, self.me, epoch)
        return epoch

    async def lost(self) -> None:
        """Return once it is held no more: another has it, or it could not be renewed in time."""
        await self._ended.wait()

    async def release(self) -> None:
        """Give it back, so that nobody has to wait for it; harmless if it is not held."""
        if self._keeping:
            await end(self._keeping)
        if self.valid:
            # Where it cannot be freed, the others wait until it is not renewed.
            with contextlib.suppress(Refused, Unreachable):
                await self._after_own(None)
        self._end("it was given back")

    async def _take(self) -> None:
        seen, since = -1, 0.0
        loop = asyncio.get_running_loop()
        while True:
            try:
                entry = await self._cell.read()
                self.holder = entry.holder
                if entry.revision != seen:
                    seen, since = entry.revision, loop.time()
                # An own name was left by a write that was not known to have been stored.
                if entry.holder in (None, self.me) or loop.time() - since >= self._ttl:
                    await self._take_after(entry.revision)
                    return
                self.complaint = None
            except (Refused, Unreachable) as error:
                self._complain(error)
            await asyncio.sleep(self._pause)

    async def _keep(self) -> None:
        """Renew it until that cannot be any more."""
        try:
            while True:
                async with asyncio.timeout_at(self._until):
                    await self._renew()
        except TimeoutError:
            self._end(self.complaint or "it was not renewed in time")
        except Refused as error:
            self._end(str(error))
        except Exception:
            log.exception("cannot go on renewing %s", self._cell.subject)
            self._end("an error")

    async def _renew(self) -> None:
        """Write the own name again when it is time, as often as it takes.

        Raises:
            Refused: another replica has it.
        """
        await asyncio.sleep(self._ttl / 3)
        while True:
            began = asyncio.get_running_loop().time()
            try:
                self._revision = await self._after_own(self.me)
            except Unreachable as error:
                self._complain(error)
                await asyncio.sleep(self._pause)
            else:
                self._until, self.complaint = began + self._keeps_for, None
                return

    async def _after_own(self, holder: str | None) -> int:
        """Write after the own revision, or after what was stored though no answer came."""
        try:
            return await self._cell.write(holder, self._revision)
        except Refused:
            entry = await self._cell.read()
            self.holder = entry.holder
            if entry.holder != self.me:
                raise
            return await self._cell.write(holder, entry.revision)

    async def _take_after(self, revision: int) -> None:
        began = asyncio.get_running_loop().time()
        self._revision = await self._cell.write(self.me, revision)
        self._until = began + self._keeps_for
        self.holder, self.complaint = self.me, None

    def _end(self, why: str) -> None:
        self._until = 0.0
        if not self._ended.is_set():
            log.info("%s is held no more by %s: %s", self._cell.subject, self.me, why)
            self._ended.set()

    def _complain(self, error: MusterError) -> None:
        if str(error) != self.complaint:
            self.complaint = str(error)
            log.log(logging.DEBUG if isinstance(error, Refused) else logging.WARNING, "%s", error)
