"""Settings that follow their file while the process runs."""

import asyncio
import contextlib
import hashlib
import inspect
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

from muster_runtime.errors import ConfigurationError
from muster_runtime.logs import logger
from muster_runtime.metrics import SETTINGS_REFUSED
from muster_runtime.settings import Settings, changed_keys

S = TypeVar("S", bound=Settings)

Changed: TypeAlias = Callable[[S, S, frozenset[str]], "Awaitable[None] | None"]
"""Told the settings before, the settings now, and the dotted keys in which they differ."""

# A file written within this time may be written again without a new modification time.
_COARSE_SECONDS = 2.0

log = logger(__name__)


class Reloader(Generic[S]):
    """Looks at the settings' file every few seconds and tells who asked when its meaning has changed.

    A look costs one ``stat``; the file is read only when time, size or inode differ, and parsed only when its
    content does. A file that cannot be used leaves the settings as they were; ``error`` says why.
    """

    def __init__(self, current: S, path: Path, *, every_seconds: float = 2.0) -> None:
        self.current = current
        self.error: str | None = None
        self._path = path
        self._every = every_seconds
        self._callbacks: list[Changed[S]] = []
        self._wake = asyncio.Event()
        self._forced = False
        self._stamp: tuple[int, int, int] | None = None
        self._digest: bytes | None = None
        self._had_file = False

    def on_change(self, callback: Changed[S]) -> None:
        """Tell ``callback`` of every change, in the order of registration; one that fails stops no other."""
        self._callbacks.append(callback)

    def force(self) -> None:
        """Read the file now, whatever its time and content say; the environment is read again as well."""
        self._forced = True
        self._wake.set()

    async def run(self) -> None:
        """Watch for ever; SIGHUP forces a look. Meant for ``Tasks.spawn``."""
        with self._hangup():
            while True:
                # The first look comes at once: the file may have changed since it was read at the start.
                await self.look()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._every):
                        await self._wake.wait()
                self._wake.clear()

    async def look(self) -> bool:
        """Look once; whether the settings have changed."""
        forced, self._forced = self._forced, False
        if not self._looked() and not forced:
            return False
        try:
            new = type(self.current).load(self._path if self._had_file else None)
        except ConfigurationError as error:
            self.error = str(error)
            SETTINGS_REFUSED.add()
            log.error(  # noqa: TRY400  (the problems say it all)
                "cannot use the changed settings: keeping the old ones", problems=error.problems
            )
            return False
        self.error = None
        return await self._adopt(new)

    async def _adopt(self, new: S) -> bool:
        old, keys = self.current, changed_keys(self.current, new)
        if not keys:
            return False
        self.current = new
        log.info("settings changed", keys=sorted(keys))
        for callback in self._callbacks:
            try:
                told = callback(old, new, keys)
                if inspect.isawaitable(told):
                    await told
            except Exception:
                log.exception("cannot apply changed settings everywhere", keys=sorted(keys))
        return True

    @contextlib.contextmanager
    def _hangup(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        try:
            loop.add_signal_handler(signal.SIGHUP, self.force)
        except (ValueError, RuntimeError):
            log.debug("SIGHUP is not ours: this is not the main thread")
            yield
            return
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGHUP)

    def _looked(self) -> bool:
        """Whether the content differs from what was seen last; remembers what is there now."""
        try:
            status = self._path.stat()
            stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
            fresh = time.time() - status.st_mtime < _COARSE_SECONDS
            if stamp == self._stamp and not fresh:
                return False
            digest = hashlib.blake2b(self._path.read_bytes(), digest_size=16).digest()
            self._had_file = True
        except OSError:
            stamp, digest = None, b"unreadable"
        changed = digest != self._digest
        self._stamp, self._digest = stamp, digest
        return changed
