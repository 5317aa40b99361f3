"""Packages that are containers of a local engine.

- The container of package ``web`` is ``muster-web``; labels name the package, the run and the digest of
  what it was made from. It is made anew at each start, so that secrets and files are read anew; the one
  before is kept as ``muster-web.previous`` for the sake of its log, the one before that is removed.
- The engine restarts nothing (policy ``no``): the agent does (decision 3). Containers run on while it is
  away.
- No image is pulled: one that is missing is an error that says so. A start should take no time that
  depends on a network, and which registries are trusted is for the machine's administrator to say.
- Ports are opened on loopback only. The engine keeps environment and secrets in its own files, readable
  by root and by everybody who may use the engine. ``umask`` has no meaning here.
- A main process is process 1 of its container and ignores a signal it has no handler for, SIGTERM too:
  then it is killed once the stop's timeout is over.
- Offsets of the log are the engine's time stamps in microseconds since 1970.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any
from uuid import uuid4

from host_agent.adapters import cgroup_processes, pidfd
from host_agent.adapters.docker_engine import Engine
from host_agent.adapters.variables import variables
from host_agent.domain.container import (
    DIGEST_LABEL,
    MICROSECONDS,
    PACKAGE_LABEL,
    RUN_LABEL,
    Container,
    entries,
    first_page,
)
from host_agent.domain.look import Seen, critical
from host_agent.domain.package import Exit, Loaded, Run, Usage
from host_agent.ports import CannotRun
from muster_contracts.package.v1 import StopSignal

POLL_SECONDS = 0.25
"""Between looks at a container whose main process cannot be watched."""

SETTLE_SECONDS = 0.02
"""Between looks until the engine has noticed what the kernel told us."""

KILL_SECONDS = 30.0
"""What hangs in the kernel does not end by SIGKILL either."""

ENGINE_AWAY_SECONDS = 1.0
"""Between tries while the engine does not answer."""


class DockerDriver:
    """Containers of one engine; ``host`` as in DOCKER_HOST, None where the environment says."""

    def __init__(self, host: str | None = None) -> None:
        self._engine = Engine(host)

    def close(self) -> None:
        """Close the connections to the engine; containers run on."""
        self._engine.close()

    async def start(self, package: Loaded) -> Run:
        """Make the container and start it; one that runs and was made of something else is replaced."""
        found = await self._look(package)
        if found and found.running:
            if found.digest == package.digest:
                return _run(found, adopted=True)
            await self.stop(package, _run(found, adopted=True))
        options = await asyncio.to_thread(_options, package)
        if found:
            await self._set_aside(package)
        run = uuid4().hex
        await self._make(package, run, options)
        made = await self._look(package)
        if made is None or made.run != run:
            raise CannotRun(f"cannot start package {package.name}: somebody removed its container")
        return _run(made, adopted=False)

    async def find(self, package: Loaded) -> Run | None:
        """The container that runs, whatever it was made of; the run's digest tells."""
        found = await self._look(package)
        return _run(found, adopted=True) if found and found.running else None

    async def wait(self, package: Loaded, run: Run) -> Exit:
        """Return when the container has ended. An engine that is away is waited for."""
        while True:
            try:
                found = await self._look(package)
            except CannotRun:
                await asyncio.sleep(ENGINE_AWAY_SECONDS)
                continue
            if found is None or found.run != run.id:
                return Exit(None)
            if not found.running:
                return found.exit
            await _change(found)

    async def stop(self, package: Loaded, run: Run) -> Exit:
        """The stop signal, then SIGKILL to process 1: with it the kernel ends all others of the container."""
        found = await self._look(package)
        if found and found.running and found.run == run.id:
            await self._release(package, found)
            await self._send(package, package.spec.stop.signal.value)
            try:
                return await asyncio.wait_for(self.wait(package, run), package.spec.stop.timeout_seconds)
            except TimeoutError:
                await self._send(package, "KILL")
        try:
            return await asyncio.wait_for(self.wait(package, run), KILL_SECONDS)
        except TimeoutError:
            text = f"its container has not ended {KILL_SECONDS:g} s after SIGKILL"
            raise CannotRun(f"cannot stop package {package.name}: {text}") from None

    async def signal(self, package: Loaded, run: Run, signal: StopSignal) -> None:
        """Send a signal to the container's process 1."""
        await self._still(package, run)
        await self._ask(package, "signal", lambda client: client.kill(_name(package), signal.value))

    async def pause(self, package: Loaded, run: Run) -> None:
        """Freeze the container's processes."""
        if not (await self._still(package, run)).paused:
            await self._ask(package, "pause", lambda client: client.pause(_name(package)))

    async def resume(self, package: Loaded, run: Run) -> None:
        """Thaw them."""
        await self._release(package, await self._still(package, run))

    async def is_paused(self, package: Loaded, run: Run) -> bool:
        """Whether they are frozen."""
        found = await self._look(package)
        return found is not None and found.paused and found.run == run.id

    async def usage(self, package: Loaded, run: Run) -> Usage:
        """From its processes, where they are processes of this machine: the engine takes 0.7 s to tell."""
        found = await self._look(package)
        if found is None or not found.running or found.run != run.id:
            return Usage()
        pids = cgroup_processes.beside(found.pid, found.id)
        return Usage(tuple(pids), cgroup_processes.resident_bytes(pids), cgroup_processes.cpu_seconds(pids))

    async def native_health(self, package: Loaded, run: Run) -> Seen:
        """What the image's HEALTHCHECK found, by the engine."""
        found = await self._look(package)
        if found is None or found.run != run.id:
            return critical("gone", f"there is no container {_name(package)} of this run any more")
        return found.health

    async def read_log(
        self, package: Loaded, lines: int, from_offset: int | None
    ) -> tuple[list[str], int, bool]:
        """What the container printed, and the one before it."""
        if from_offset is None:
            page, more = await self._last_page(package, lines)
        else:
            page, more = await self._page_after(package, lines, from_offset)
        return [text for _, text in page], page[-1][0] if page else from_offset or 0, more

    # The container -----------------------------------------------------------------------------------

    async def _look(self, package: Loaded) -> Container | None:
        inspected = await self._engine.inspect(_name(package))
        return Container.parse(inspected) if inspected else None

    async def _still(self, package: Loaded, run: Run) -> Container:
        found = await self._look(package)
        if found is None or not found.running or found.run != run.id:
            raise CannotRun(f"cannot reach package {package.name}: run {run.id} has ended")
        return found

    async def _set_aside(self, package: Loaded) -> None:
        """Keep the container that has ended under another name, in place of the one kept before."""
        name, aside = _name(package), _aside(package)
        if await self._engine.inspect(aside):
            await self._ask(package, "clean up", lambda client: client.remove_container(aside, force=True))
        await self._ask(package, "set aside", lambda client: client.rename(name, aside))

    async def _make(self, package: Loaded, run: str, options: Mapping[str, Any]) -> None:
        """Create and start it, or leave nothing behind."""
        making = asyncio.ensure_future(self._create_and_start(package, run, options))
        try:
            await asyncio.shield(making)
        except BaseException:
            # The engine cannot be told to forget a call: see it through, then undo it.
            await asyncio.wait([making])
            await self._discard(package, run)
            raise

    async def _create_and_start(self, package: Loaded, run: str, options: Mapping[str, Any]) -> None:
        labels = {PACKAGE_LABEL: package.name, RUN_LABEL: run, DIGEST_LABEL: package.digest}
        await self._ask(package, "create", partial(_create, package, labels, options))
        await self._ask(package, "start", lambda client: client.start(_name(package)))

    async def _discard(self, package: Loaded, run: str) -> None:
        found = await self._look(package)
        if found and found.run == run:
            await self._ask(
                package, "clean up", lambda client: client.remove_container(found.id, v=True, force=True)
            )

    async def _send(self, package: Loaded, signal: str) -> None:
        """A signal; nothing, if nobody is left to get it."""
        try:
            await self._ask(package, "stop", lambda client: client.kill(_name(package), signal))
        except CannotRun:
            found = await self._look(package)
            if found and found.running:
                raise

    async def _release(self, package: Loaded, found: Container) -> None:
        if found.paused:
            await self._ask(package, "resume", lambda client: client.unpause(_name(package)))

    # The log -----------------------------------------------------------------------------------------

    async def _last_page(self, package: Loaded, lines: int) -> tuple[list[tuple[int, str]], bool]:
        log: list[tuple[int, str]] = []
        for name in (_name(package), _aside(package)):
            if len(log) <= lines and await self._engine.inspect(name):
                last = partial(_last, name, lines + 1 - len(log))
                log = await self._ask(package, "read the log of", last) + log
        return log[-lines:], len(log) > lines

    async def _page_after(
        self, package: Loaded, lines: int, offset: int
    ) -> tuple[list[tuple[int, str]], bool]:
        log: list[tuple[int, str]] = []
        for name in (_aside(package), _name(package)):
            if await self._engine.inspect(name):
                page, more = await self._ask(
                    package, "read the log of", partial(_after, name, lines - len(log), offset)
                )
                log += page
                if more:
                    return log, more
        return log, False

    async def _ask(self, package: Loaded, verb: str, ask: Any) -> Any:
        doing = f"{verb} container {_name(package)} of package {package.name} (image {package.spec.image})"
        return await self._engine.call(doing, ask)


def _name(package: Loaded) -> str:
    return f"muster-{package.name}"


def _aside(package: Loaded) -> str:
    """No package has this name: there is no dot in names of packages."""
    return f"{_name(package)}.previous"


def _run(found: Container, *, adopted: bool) -> Run:
    return Run(found.run, found.started_at, found.pid or None, found.digest, adopted)


async def _change(found: Container) -> None:
    """Return when the container has probably changed."""
    pid, ours = found.pid, partial(cgroup_processes.is_in, found.pid, found.id)
    if ours() and await pidfd.ended(pid, ours):
        await asyncio.sleep(SETTLE_SECONDS)
    else:
        await asyncio.sleep(POLL_SECONDS)


def _options(package: Loaded) -> dict[str, Any]:
    """What the container is made of, in the words of the engine's library, but for what needs its types.

    Raises:
        CannotRun: a file of secrets or variables cannot be read.
    """
    spec = package.spec
    whom = f"{spec.user or ''}:{spec.group}" if spec.group else spec.user
    return {
        "image": spec.image,
        "command": spec.command or None,
        "working_dir": spec.directory,
        "environment": variables(package, for_another=True),
        "user": whom,
        "stop_signal": f"SIG{spec.stop.signal.value}",
        "ports": [tuple(inside.split("/", 1)) for inside in spec.ports],
    }


def _create(package: Loaded, labels: Mapping[str, str], options: Mapping[str, Any], client: Any) -> None:
    from docker.types import LogConfig  # noqa: PLC0415  (loaded when first used)

    log = package.spec.log
    config = client.create_host_config(
        restart_policy={"Name": "no"},
        port_bindings={inside: ("127.0.0.1", outside) for inside, outside in package.spec.ports.items()},
        mounts=[_mount(package, here, inside) for here, inside in package.spec.volumes.items()],
        log_config=LogConfig(
            type=LogConfig.types.JSON,
            config={"max-size": str(log.max_bytes), "max-file": str(log.keep_files + 1)},
        ),
    )
    client.create_container(name=_name(package), labels=dict(labels), host_config=config, **options)


def _mount(package: Loaded, here: str, inside: str) -> Any:
    """A mount and no volume: for a volume the engine would make a missing path, as root, and say nothing."""
    from docker.types import Mount  # noqa: PLC0415  (loaded when first used)

    read_only = inside.endswith(":ro")
    return Mount(inside.removesuffix(":ro"), str(package.path(here)), type="bind", read_only=read_only)


def _last(name: str, lines: int, client: Any) -> list[tuple[int, str]]:
    frames = client.logs(name, timestamps=True, stream=True, follow=False, tail=lines)
    return list(deque(entries(frames), lines))


def _after(name: str, lines: int, offset: int, client: Any) -> tuple[list[tuple[int, str]], bool]:
    """The engine begins at the whole second, and we at the offset."""
    since = max(1, offset // MICROSECONDS)
    frames: Iterable[bytes] = client.logs(name, timestamps=True, stream=True, follow=False, since=since)
    log = entries(frames)
    page = first_page(log, lines, offset)
    deque(log, 0)  # read to its end: the library has no other way to give the connection back
    return page
