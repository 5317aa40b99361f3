"""What commands print, kept in a file each until the store has all of it."""

import asyncio
import hashlib
import os
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar
from uuid import UUID

from muster_agent.obedience.limits import Limits
from muster_bus.metrics import Counters
from muster_contracts.chunk.v1 import LARGEST_CHUNK
from muster_runtime.logs import logger

T = TypeVar("T")

READ_BYTES = 1 << 20

log = logger(__name__)


class Output:
    """One command's output: bytes in a file, their count and digest, and how far the store has them."""

    def __init__(self, path: Path, limit: int, thread: Executor, news: Callable[["Output"], None]) -> None:
        self.path = path
        self.size = 0
        self.uploaded = 0
        """How far the store has it, as far as this agent knows."""
        self.unsure = False
        """Whether the store has to be asked how far it has it."""
        self.finished = False
        self.gone = False
        """Whether the store has all of it, or nobody will."""
        self.last_put = -1e9
        """When the last chunk went, by the loop's clock."""
        self._digest = hashlib.sha256()
        self._limit = limit
        self._thread = thread
        self._news = news
        self._full = False
        self._touched = False
        """Whether anything was ever written: then there may be a file."""
        self._file: int | None = None

    @property
    def stream(self) -> str:
        """The name of the stream it is uploaded to."""
        return f"output/{self.path.name}"

    @property
    def sha256(self) -> str | None:
        """The digest of all of it; None if there is nothing."""
        return self._digest.hexdigest() if self.size else None

    async def write(self, data: bytes) -> None:
        """Add bytes; beyond the limit they are dropped, and a note says so."""
        if self._full or self.finished or not data:
            return
        room = self._limit - self.size
        if len(data) > room:
            self._full = True
            data = data[:room] + f"\n[truncated: the output is limited to {self._limit} bytes]\n".encode()
        self._touched = True
        try:
            await self._run(lambda: self._append(data))
        except OSError as error:
            # A command is not to fail because what it says cannot be kept.
            self._full = True
            log.warning("cannot keep a command's output", file=str(self.path), error=error.strerror)
        self._news(self)

    async def finish(self) -> None:
        """All is written; it survives a power cut once this returns."""
        self.finished = True
        if not self._touched and not self.size:
            return
        try:
            await self._run(self._close)
        except OSError as error:
            log.warning("cannot keep a command's output", file=str(self.path), error=error.strerror)
        if self.size:
            self._news(self)

    async def read(self) -> bytes:
        """The next chunk that the store does not have; empty if it has all there is now."""
        return await self._run(self._read)

    async def remove(self) -> None:
        """Forget the file: the store has it, or nobody will."""
        self.gone = self._full = True
        await self._run(lambda: self.path.unlink(missing_ok=True))

    async def recover(self) -> None:
        """Find what an earlier run left: it is finished, and the store knows how far it has it."""
        await self._run(self._measure)
        self.finished = self.unsure = True
        self._news(self)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _append(self, data: bytes) -> None:
        if self._file is None:
            self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        while data:
            written = os.write(self._file, data)
            self._digest.update(data[:written])
            self.size += written
            data = data[written:]

    def _close(self) -> None:
        if self._file is not None:
            os.fsync(self._file)
            os.close(self._file)
            self._file = None

    def _read(self) -> bytes:
        with self.path.open("rb") as file:
            file.seek(self.uploaded)
            return file.read(min(LARGEST_CHUNK, self.size - self.uploaded))

    def _measure(self) -> None:
        with self.path.open("rb") as file:
            while data := file.read(READ_BYTES):
                self._digest.update(data)
                self.size += len(data)


class Outputs:
    """The outputs the store does not have yet, oldest first; bounded, for a store may be away for long."""

    def __init__(self, directory: Path, limits: Limits, counts: Counters) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.news = asyncio.Event()
        self.waiting: dict[str, Output] = {}
        """Those that have something for the store, by the name of their file."""
        self._directory = directory
        self._limits = limits
        self._counts = counts
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="output")

    def of(self, command_id: UUID) -> Output:
        """The output of a command: what an earlier run of the agent left of it, else a new one."""
        name = str(command_id)
        return self.waiting.get(name) or self._output(name)

    async def recover(self) -> None:
        """Find what an earlier run left, oldest first."""
        outputs = [path for path in self._directory.iterdir() if _is_output(path)]
        left = sorted(outputs, key=lambda path: path.stat().st_mtime)
        for path in left:
            await self._output(path.name).recover()
        await self.bound()

    async def done(self, output: Output) -> None:
        """The store has all of it."""
        self.waiting.pop(output.path.name, None)
        await output.remove()

    async def drop(self, output: Output, why: str) -> None:
        """Nobody will have the rest of it."""
        self._counts.add("outputs_dropped")
        log.warning("a command's output is dropped", command_id=output.path.name, why=why)
        await self.done(output)

    async def bound(self) -> None:
        """Drop the oldest that are finished while they are more than may wait."""
        finished = [one for one in self.waiting.values() if one.finished]
        over = sum(one.size for one in finished) - self._limits.waiting_output_bytes
        for output in finished:
            if over <= 0:
                return
            over -= output.size
            await self.drop(output, "more outputs wait for the store than may")

    def close(self) -> None:
        """Write no more; what waits is uploaded by the next run."""
        self._thread.shutdown()

    def _output(self, name: str) -> Output:
        return Output(self._directory / name, self._limits.output_bytes, self._thread, self._has_news)

    def _has_news(self, output: Output) -> None:
        if not output.gone:
            self.waiting[output.path.name] = output
            self.news.set()


def _is_output(path: Path) -> bool:
    """Whether a file is named by a command; what somebody else left here is none of ours."""
    try:
        return path.name == str(UUID(path.name)) and path.is_file()
    except ValueError:
        return False
