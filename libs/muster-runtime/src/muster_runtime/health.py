"""Health over HTTP for orchestrators: is it alive, is it ready, what does it count.

The server answers from threads of its own, so that it can tell when the event loop hangs.
"""

import asyncio
import concurrent.futures
import inspect
import os
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from muster_runtime import metrics
from muster_runtime.logs import logger
from muster_runtime.secrets import hide

if TYPE_CHECKING:
    from http.server import ThreadingHTTPServer

Verdict: TypeAlias = bool | str | Sequence[str] | None
"""What a check gives: ``None``, ``True`` and an empty list are well; ``False`` and text are complaints."""
Check: TypeAlias = Callable[[], "Verdict | Awaitable[Verdict]"]

LONGEST_TICK_SECONDS = 10.0
CHECK_SECONDS = 2.0
STALL_SECONDS = 1.0

log = logger(__name__)


class HealthServer:
    """``/livez``, ``/readyz`` and ``/metrics`` on one port; everything else is not found.

    Args:
        port: 0 lets the system choose one; ``port`` then holds the choice once the server has started.
        host: loopback unless said otherwise.
        port_file: where to write the port, atomically, once the server listens; removed at the end.
    """

    def __init__(self, port: int = 0, host: str = "127.0.0.1", port_file: Path | None = None) -> None:
        self.host, self.port, self.port_file = host, port, port_file
        self._checks: dict[str, Check] = {}
        self._tick = time.monotonic()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        """Where it listens, for example ``http://127.0.0.1:8080``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def check(self, name: str, check: Check) -> None:
        """Ready only while ``check`` has no complaint; it runs on the event loop, for at most 2 s."""
        self._checks[name] = check

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the port cannot be had.
        """
        from muster_runtime.health_http import Server  # noqa: PLC0415  (1 MiB, only for who serves)

        self._loop = asyncio.get_running_loop()
        try:
            self._server = Server((self.host, self.port), self)
        except OSError as error:
            text = f"cannot serve health on {self.host}:{self.port}: {str(error.strerror).lower()}"
            raise OSError(error.errno, text) from None
        self.port = int(self._server.server_address[1])
        self._turn()
        threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="muster-health", daemon=True
        ).start()
        if self.port_file:
            write_atomically(self.port_file, f"{self.port}\n")

    async def close(self) -> None:
        """Stop listening and remove the port file."""
        if self._timer:
            self._timer.cancel()
        if self._server:
            server, self._server = self._server, None
            await asyncio.to_thread(server.shutdown)
            server.server_close()
        if self.port_file:
            self.port_file.unlink(missing_ok=True)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def liveness(self) -> tuple[bool, dict[str, Any]]:
        """Whether the event loop turns, and how long ago it last did."""
        age = time.monotonic() - self._tick
        alive = age <= LONGEST_TICK_SECONDS
        said = "ok" if alive else f"has not turned for {age:.1f} s (allowed: {LONGEST_TICK_SECONDS:.0f} s)"
        return alive, {"alive": alive, "event_loop": said, "tick_age_seconds": round(age, 3)}

    def readiness(self) -> tuple[bool, dict[str, Any]]:
        """Whether every check is content, and what each one says; called from the server's threads."""
        assert self._loop
        future = asyncio.run_coroutine_threadsafe(self._run_checks(), self._loop)
        try:
            said = future.result(CHECK_SECONDS + 1)
        except concurrent.futures.TimeoutError:
            future.cancel()
            said = {"event_loop": [f"did not answer within {CHECK_SECONDS + 1:.0f} s"]}
        except concurrent.futures.CancelledError:
            said = {"event_loop": ["is stopping"]}
        ready = not any(said.values())
        checks = {name: "; ".join(complaints) or "ok" for name, complaints in said.items()}
        return ready, {"ready": ready, "checks": checks}

    async def _run_checks(self) -> dict[str, list[str]]:
        names = list(self._checks)
        said = await asyncio.gather(*(_ask(self._checks[name]) for name in names))
        return dict(zip(names, said, strict=True))

    def _turn(self) -> None:
        assert self._loop
        now = time.monotonic()
        if self._timer and now - self._tick > 1 + STALL_SECONDS:
            metrics.LOOP_STALLS.add()
        self._tick = now
        self._timer = self._loop.call_later(1.0, self._turn)


def write_atomically(path: Path, text: str) -> None:
    """Write a small file so that a reader sees all of it or none of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(text)
    fresh.replace(path)


async def _ask(check: Check) -> list[str]:
    """The complaints of one check; failing or taking too long is a complaint as well."""
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            verdict = check()
            if inspect.isawaitable(verdict):
                verdict = await verdict
    except TimeoutError:
        return [f"no answer within {CHECK_SECONDS:.0f} s"]
    except Exception as error:  # noqa: BLE001  (a failing check is a complaint, whatever it failed with)
        return [hide(f"{type(error).__name__}: {error}")]
    if verdict is None or verdict is True:
        return []
    if verdict is False:
        return ["not ready"]
    return [verdict] if isinstance(verdict, str) and verdict else list(verdict)
