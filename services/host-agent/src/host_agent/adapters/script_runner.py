"""Running scripts and checks to their end, each in a session of its own, never by a shell."""

import asyncio
import contextlib
import grp
import os
import pwd
import signal
from collections.abc import Mapping
from io import FileIO
from typing import Any

from host_agent.ports import CannotRun, Task, Write

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

CHUNK = 64 * 1024

END_SECONDS = 2.0
"""How long the last output may take once the program has ended: a child may hold the pipe for ever."""


class SessionRunner:
    """Implements ``host_agent.ports.ScriptRunner``.

    When it ends, by itself or cancelled, every process of its session that is left is killed. A process that
    makes a session of its own escapes.
    """

    async def run(self, task: Task, write: Write) -> int:
        """Run it and write what it prints; its exit code, or minus a signal's number.

        Raises:
            CannotRun: it could not be executed.
        """
        # A pipe of our own: asyncio's ``wait`` waits until its pipes are closed, which a child may never do.
        out, into = os.pipe()
        try:
            process = await self._start(task, into)
        except BaseException:
            os.close(out)
            raise
        finally:
            os.close(into)
        pipe = os.fdopen(out, "rb", buffering=0)
        reading = asyncio.create_task(_copy(pipe, write))
        try:
            await _ended(process, reading)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(reading), END_SECONDS)
        finally:
            _kill_session(process.pid)
            reading.cancel()
            await asyncio.wait([reading])
            pipe.close()
            await process.wait()
        if not reading.cancelled() and (error := reading.exception()):
            raise error
        assert process.returncode is not None
        return process.returncode

    async def _start(self, task: Task, into: int) -> asyncio.subprocess.Process:
        identity = _identity(task)
        try:
            return await asyncio.create_subprocess_exec(
                *task.argv,
                cwd=task.directory,
                env={"PATH": PATH, **(task.environment or {})},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=into,
                stderr=into,
                start_new_session=True,
                **identity,
            )
        except PermissionError as error:
            text = f"cannot run {task.argv[0]}: {error.strerror}".lower()
            raise CannotRun(f"{text} (as {task.user or 'the agent'})", "not-permitted") from None
        except OSError as error:
            text = f"cannot run {task.argv[0]} in {task.directory}: {error.strerror}"
            raise CannotRun(text, "no-executable") from None
        except ValueError as error:
            raise CannotRun(f"cannot run {task.argv[0]!r}: {error}", "no-executable") from None


async def _ended(process: asyncio.subprocess.Process, reading: "asyncio.Task[None]") -> None:
    """Return when the program has ended, or its output cannot be kept."""
    waiting = asyncio.create_task(process.wait())
    try:
        await asyncio.wait([waiting, reading], return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done() and not (reading.cancelled() or reading.exception()):
            await waiting  # it closed its output and goes on
    finally:
        waiting.cancel()


async def _copy(pipe: FileIO, write: Write) -> None:
    stream = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), pipe
    )
    try:
        while chunk := await stream.read(CHUNK):
            await write(chunk)
    finally:
        transport.close()


def _identity(task: Task) -> Mapping[str, Any]:
    """User, group and groups of whom it runs as; nothing where that is the agent."""
    if task.user is None:
        return {}
    try:
        user = pwd.getpwnam(task.user)
    except KeyError:
        text = f"cannot run {task.argv[0]}: there is no user {task.user}"
        raise CannotRun(text, "no-user") from None
    if user.pw_uid == os.geteuid():
        return {}
    groups = [group.gr_gid for group in grp.getgrall() if task.user in group.gr_mem]
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [user.pw_gid, *groups]}


def _kill_session(leader: int) -> None:
    """SIGKILL to every process of a session; twice, for one may have forked meanwhile."""
    for _ in range(2):
        for pid in _session(leader):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)


def _session(leader: int) -> list[int]:
    found = []
    for name in os.listdir("/proc") if os.path.isdir("/proc") else ():  # noqa: PTH112, PTH208
        with contextlib.suppress(OSError):
            if name.isdigit() and os.getsid(int(name)) == leader:
                found.append(int(name))
    return found
