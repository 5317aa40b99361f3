"""Outputs on their way to the store: live while a command runs, and on from any cut."""

import asyncio
import base64
import gzip
import hashlib
import random

from muster_agent.obedience.output import Output, Outputs
from muster_agent.ports import ObedientBus
from muster_bus.errors import AskFailed, MusterError
from muster_bus.metrics import Counters
from muster_contracts.chunk.v1 import LARGEST_CHUNK, Chunk, ChunkTaken, Encoding, PutChunk, StreamEnd
from muster_runtime.clock import Clock
from muster_runtime.logs import logger

AT_ONCE = 8
LIVE_SECONDS = 0.1
"""What is smaller than a chunk waits at most so long for more."""
ASK_SECONDS = 3.0
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 10.0
FINAL = frozenset({"invalid", "not-found", "conflict", "forbidden", "too-large"})
"""Problems that asking again does not solve."""

log = logger(__name__)


class Uploading:
    """Puts whatever outputs have to their streams, several side by side, each in order."""

    def __init__(
        self, bus: ObedientBus, agent_id: str, outputs: Outputs, clock: Clock, counts: Counters
    ) -> None:
        self._bus = bus
        self._agent_id = agent_id
        self._outputs = outputs
        self._clock = clock
        self._counts = counts
        self._hurry = asyncio.Event()
        self._patience: set[asyncio.Timeout] = set()

    def hurry(self) -> None:
        """The broker is back: wait no longer, least of all for answers that went to the old connection."""
        self._hurry.set()
        for patience in self._patience:
            patience.reschedule(asyncio.get_running_loop().time())

    async def run(self) -> None:
        """Upload for ever; a store that is away is asked again with growing pauses."""
        failures = 0
        while True:
            ready = self._ready()
            if not ready:
                await self._rest()
                continue
            went = await asyncio.gather(*(self._put(one) for one in ready))
            await self._outputs.bound()
            failures = 0 if any(went) else failures + 1
            if failures:
                await self._pause(failures)

    def _ready(self) -> list[Output]:
        now = asyncio.get_running_loop().time()
        due = [one for one in self._outputs.waiting.values() if _is_due(one, now)][:AT_ONCE]
        for one in due:  # to the end of the row, so that a long output does not keep short ones waiting
            self._outputs.waiting[one.path.name] = self._outputs.waiting.pop(one.path.name)
        return due

    async def _rest(self) -> None:
        """Until there is news; not long while something smaller than a chunk waits."""
        self._outputs.news.clear()
        if any(one.uploaded < one.size for one in self._outputs.waiting.values()):
            await asyncio.sleep(LIVE_SECONDS)
        else:
            await self._outputs.news.wait()

    async def _pause(self, failures: int) -> None:
        longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(failures, 10))
        self._hurry.clear()
        try:
            async with asyncio.timeout(random.uniform(longest / 2, longest)):  # noqa: S311  (jitter, no secret)
                await self._hurry.wait()
        except TimeoutError:
            return

    async def _put(self, output: Output) -> bool:
        """One step of one output; whether the store answered."""
        try:
            await self._step(output)
        except AskFailed as error:
            output.unsure = True
            if error.code not in FINAL:
                return False
            await self._outputs.drop(output, str(error))
        except TimeoutError:  # first of all, for it is an OSError
            output.unsure = True
        except OSError as error:
            await self._outputs.drop(output, f"cannot read it: {error.strerror}")
        except MusterError:
            output.unsure = True  # it may have been taken: the store has to say
            return False
        return True

    async def _step(self, output: Output) -> None:
        output.last_put = asyncio.get_running_loop().time()
        question = await self._question(output)
        async with asyncio.timeout(2 * ASK_SECONDS) as patience:
            self._patience.add(patience)
            try:
                taken = await self._bus.ask(question, timeout=ASK_SECONDS)
            finally:
                self._patience.discard(patience)
        self._counts.add("output_bytes_uploaded", count=max(0, taken.expected_offset - output.uploaded))
        await self._heed(output, taken)

    async def _question(self, output: Output) -> PutChunk:
        """The next chunk, with the end if it is the last; or a question where that is not known."""
        data = b"" if output.unsure else await output.read()
        last = output.finished and not output.unsure and output.uploaded + len(data) == output.size
        return PutChunk(
            occurred_at=self._clock.now(),
            agent_id=self._agent_id,
            stream=output.stream,
            chunk=packed(data, output.uploaded) if data else None,
            end=StreamEnd(size=output.size, sha256=output.sha256 or "") if last else None,
        )

    async def _heed(self, output: Output, taken: ChunkTaken) -> None:
        output.unsure = False
        output.uploaded = taken.expected_offset
        if taken.complete:
            await self._outputs.done(output)
        elif taken.expected_offset > output.size:
            await self._outputs.drop(output, "the store has more of it than this machine")


def _is_due(output: Output, now: float) -> bool:
    unsent = output.size - output.uploaded
    if output.finished or output.unsure or unsent >= LARGEST_CHUNK:
        return True
    return unsent > 0 and now - output.last_put >= LIVE_SECONDS


def packed(data: bytes, offset: int) -> Chunk:
    """A chunk of these bytes, compressed if that is smaller."""
    small = gzip.compress(data, compresslevel=1, mtime=0)
    encoding, sent = (Encoding.GZIP, small) if len(small) < len(data) else (Encoding.IDENTITY, data)
    return Chunk(
        offset=offset,
        length=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        encoding=encoding,
        data=base64.b64encode(sent).decode(),
    )
