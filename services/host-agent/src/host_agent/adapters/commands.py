"""Running the small programs of a system, never by a shell."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from host_agent.adapters import pidfd

PLAIN = {"LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": ""}
"""So that texts are the same everywhere."""

LONGEST_LINE = 8 << 20


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a command."""

    code: int
    out: str
    err: str


async def run(*argv: str, seconds: float = 20.0) -> Done:
    """Run a command to its end.

    Raises:
        OSError: it cannot be executed.
        TimeoutError: it took longer than ``seconds``; it was killed.
    """
    async with started(argv) as process:
        out, err = await asyncio.wait_for(process.communicate(), seconds)
    assert process.returncode is not None
    return Done(process.returncode, out.decode(errors="replace"), err.decode(errors="replace").strip())


async def first_lines(*argv: str, count: int, seconds: float = 20.0) -> tuple[list[bytes], str]:
    """The first lines a command prints, and what it complained of; it is ended once there are enough.

    Raises:
        OSError: it cannot be executed.
        TimeoutError: it took longer than ``seconds``; it was killed.
    """
    lines: list[bytes] = []
    async with started(argv) as process, asyncio.timeout(seconds):
        assert process.stdout
        assert process.stderr
        while len(lines) < count and (line := await process.stdout.readline()):
            lines.append(line)
        complaint = b"" if lines else await process.stderr.read(4096)
    return lines, complaint.decode(errors="replace").strip()


@contextlib.asynccontextmanager
async def started(argv: Sequence[str]) -> AsyncGenerator[asyncio.subprocess.Process]:
    """A command that runs, and surely runs no longer afterwards."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | PLAIN | _session(),
        limit=LONGEST_LINE,
    )
    handle = pidfd.opened(process.pid)
    try:
        yield process
    finally:
        if handle is not None:
            # Not process.kill(): that looks for the end too, and asyncio then finds nothing to wait for.
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
            os.close(handle)
        await process.wait()


def _session() -> dict[str, str]:
    """Where the user's own systemd is found, also by an agent that was started outside of a session."""
    return {} if "XDG_RUNTIME_DIR" in os.environ else {"XDG_RUNTIME_DIR": f"/run/user/{os.getuid()}"}
