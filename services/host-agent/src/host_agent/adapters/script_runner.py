"""Running scripts and checks to their end, never by a shell, in the way packages are run.

A script carries a mark of its own (``MUSTER_RUN``), so that nobody of its tree escapes: neither by a session
of its own nor by a double fork.
"""

import asyncio
import contextlib
import os
from functools import partial
from io import FileIO
from typing import Any
from uuid import uuid4

from host_agent.adapters import spawning
from host_agent.adapters.held_process import Held
from host_agent.adapters.process_tree import MARK
from host_agent.adapters.spawning import PATH, Plan, Spawner
from host_agent.ports import CannotRun, Task, Write

CHUNK = 64 * 1024


class SessionRunner:
    """Implements ``host_agent.ports.ScriptRunner``.

    When it ends, by itself or cancelled, every process of its tree that is left is killed.
    """

    def __init__(self) -> None:
        self._spawner: Spawner | None = None
        self._mains: set[int] = set()

    async def run(self, task: Task, write: Write) -> int:
        """Run it and write what it prints; its exit code, or minus a signal's number.

        Raises:
            CannotRun: it could not be executed.
        """
        out, into = os.pipe()
        pipe = os.fdopen(out, "rb", buffering=0)
        try:
            held = await self._start(task, into)
        except BaseException:
            pipe.close()
            raise
        finally:
            os.close(into)
        reading = asyncio.create_task(_copy(pipe, write))
        try:
            await _ended(held, reading)
            await asyncio.shield(held.over)
            # Nobody is left who could print: what is in the pipe is the end.
            await reading
        finally:
            await asyncio.shield(held.kill())
            reading.cancel()
            await asyncio.wait([reading])
            pipe.close()
        code = held.over.result().code
        assert code is not None, "it is our child"
        return code

    async def _start(self, task: Task, into: int) -> Held:
        """It, executed; called off meanwhile, nothing of it is left."""
        plan = await asyncio.to_thread(_plan, task)
        self._spawner = self._spawner or Spawner()
        work = partial(self._spawner.spawn, plan, into)
        spawning_it = asyncio.get_running_loop().run_in_executor(self._spawner.thread, work)
        called_off = False
        try:
            await asyncio.shield(spawning_it)
        except asyncio.CancelledError:
            called_off = True
            await asyncio.wait([spawning_it])
        spawned = spawning_it.result()
        run = plan.environment[MARK]
        held = Held(run, spawned.process, spawned.handle, child=True, mains=self._mains, at_end=_nothing)
        if task.thorough:
            held.be_thorough()
        if called_off:
            await asyncio.shield(held.kill())
            raise asyncio.CancelledError
        return held


def _plan(task: Task) -> Plan:
    """Everything its process needs.

    Raises:
        CannotRun: something of it is missing.
    """
    what = f"run {task.argv[0]}"
    who = spawning.identity(what, task.user, task.group)
    if not task.directory.is_dir():
        raise CannotRun(f"cannot {what}: there is no directory {task.directory}", "no-directory")
    usual = who.variables() if task.at_home else {"PATH": PATH}
    environment = {**usual, **(task.environment or {}), MARK: uuid4().hex}
    program = spawning.executable(what, task.argv[0], task.directory, environment["PATH"])
    return Plan(what, task.argv, program, task.directory, environment, who)


async def _ended(held: Held, reading: "asyncio.Task[None]") -> None:
    """Return when the program has ended, or its output cannot be kept."""
    either: list[asyncio.Future[Any]] = [held.ended, reading]
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if reading.done():
        reading.result()
        await asyncio.shield(held.ended)  # it closed its output and goes on


async def _copy(pipe: FileIO, write: Write) -> None:
    stream = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), pipe
    )
    with contextlib.closing(transport):
        while chunk := await stream.read(CHUNK):
            await write(chunk)


def _nothing() -> None:
    """Nothing was written down of it."""
