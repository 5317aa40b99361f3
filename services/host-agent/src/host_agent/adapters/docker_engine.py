"""A container engine, by its API: short calls in threads, each with a limit, and errors with a reason.

The library ``docker`` is loaded at the first call: an agent without such packages pays nothing for it. No
call waits for a container: that is done by whoever calls, without holding a thread.
"""

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from host_agent.ports import CannotRun

T = TypeVar("T")

USUAL_HOST = "unix:///var/run/docker.sock"
CALL_SECONDS = 20.0
THREADS = 4

ENGINE_AWAY = "no engine answers at {host}: start it ('systemctl start docker'), or use another driver"
COMPLAINTS = (
    ("executable file not found", "no-executable"),
    ("no such file or directory: unknown", "no-executable"),
    ("permission denied: unknown", "no-executable"),
    ("unable to find user", "no-user"),
    ("unable to find group", "no-user"),
    ("bind source path does not exist", "no-directory"),
)
"""What the engine says in lower case, and the reason that is."""


class Engine:
    """One engine; ``host`` as in DOCKER_HOST, None where the environment says, or the usual socket."""

    def __init__(self, host: str | None = None) -> None:
        self._host = host or os.environ.get("DOCKER_HOST") or USUAL_HOST
        self._client: Any = None
        self._connecting = threading.Lock()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="docker")

    async def call(self, doing: str, ask: Callable[[Any], T]) -> T:
        """What ``ask`` makes of the engine's client.

        Raises:
            CannotRun: "cannot ``doing``: …", with the reason and what to do.
        """
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._guarded, doing, ask)

    async def inspect(self, name: str) -> Mapping[str, Any] | None:
        """All the engine knows of a container; None if there is no such container."""

        def ask(client: Any) -> Mapping[str, Any] | None:
            from docker.errors import NotFound  # noqa: PLC0415  (loaded when first used)

            try:
                found: Mapping[str, Any] = client.inspect_container(name)
            except NotFound:
                return None
            return found

        return await self.call(f"look for container {name}", ask)

    def close(self) -> None:
        """Close the connections."""
        if self._client:
            self._client.close()
            self._client = None
        self._threads.shutdown(wait=False)

    def _guarded(self, doing: str, ask: Callable[[Any], T]) -> T:
        try:
            return ask(self._connected())
        except ImportError:
            text = "the Python package docker is missing: install host-agent[docker]"
            raise CannotRun(f"cannot {doing}: {text}", "no-driver") from None
        except Exception as error:
            # What requests raises are OSErrors; not all of the library's own errors are.
            if isinstance(error, OSError) or type(error).__module__.startswith("docker."):
                raise self._refusal(doing, error) from None
            raise

    def _connected(self) -> Any:
        self._knock()
        with self._connecting:
            if self._client is None:
                from docker import APIClient  # noqa: PLC0415  (loaded when first used)

                self._client = APIClient(self._host, version="auto", timeout=CALL_SECONDS)
            return self._client

    def _knock(self) -> None:
        """Whether somebody is there: the library leaves a socket open each time there is nobody."""
        if self._host.startswith("unix://"):
            with socket.socket(socket.AF_UNIX) as door:
                door.settimeout(CALL_SECONDS)
                door.connect(self._host.removeprefix("unix://"))

    def _refusal(self, doing: str, error: Exception) -> CannotRun:
        explanation = getattr(error, "explanation", None)
        if explanation is None:
            return self._unreachable(doing, error)
        text = f"cannot {doing}: {explanation}"
        if type(error).__name__ == "ImageNotFound":
            return CannotRun(f"{text}; the agent pulls no image: get it with 'docker pull'", "no-image")
        reasons = (reason for words, reason in COMPLAINTS if words in str(explanation).lower())
        return CannotRun(text, next(reasons, "failed"))

    def _unreachable(self, doing: str, error: Exception) -> CannotRun:
        """The engine did not say anything."""
        if isinstance(error, PermissionError):
            text = f"no access to the engine at {self._host}: run the agent as root or in the group docker"
            return CannotRun(f"cannot {doing}: {text}", "not-permitted")
        return CannotRun(f"cannot {doing}: {ENGINE_AWAY.format(host=self._host)} ({error})", "no-driver")
