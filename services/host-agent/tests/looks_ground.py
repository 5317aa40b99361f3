"""Where looks are tried: a package that runs nowhere or here, and servers that say what a test wants."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any

from memory_driver import MemoryDriver

from host_agent.adapters.looks import make_look
from host_agent.adapters.script_runner import SessionRunner
from host_agent.domain.look import Seen
from host_agent.domain.package import Loaded, Run
from host_agent.ports import Driver, Look, LookContext
from muster_contracts.package.specification import Check, Specification

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def loaded(directory: Path, **more: Any) -> Loaded:
    """A package whose package.json lies in ``directory``."""
    spec = Specification.model_validate({"name": "web", "command": ["sleep", "600"]} | more)
    return Loaded(spec, directory / "package.json", "a" * 64)


def context(package: Loaded, driver: Driver | None = None, run: Run | None = None) -> LookContext:
    """What a look has to know; by default of a package that is not there."""
    return LookContext(package, driver or MemoryDriver(), lambda: run, SessionRunner())


def check(kind: str, *, timeout_seconds: float = 20.0, **more: Any) -> Check:
    """A check of a kind, as package.json says it."""
    return Check.model_validate(
        {"name": "it", "timeout_seconds": timeout_seconds, "check": {"kind": kind} | more}
    )


def look_at(directory: Path, kind: str, **more: Any) -> Look:
    """A look at a package that needs nothing of it."""
    return make_look(check(kind, **more), context(loaded(directory)))


async def seen(directory: Path, kind: str, **more: Any) -> Seen:
    """What one such look sees."""
    return await look_at(directory, kind, **more).look()


@contextlib.asynccontextmanager
async def serving(talk: Talk, tls: ssl.SSLContext | None = None) -> AsyncGenerator[int]:
    """A server on a free port that talks so with each who connects; at the end it talks with nobody."""
    talking: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(_talked(talk, reader, writer))
        talking.add(task)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in talking:
            task.cancel()
        await asyncio.gather(*talking, return_exceptions=True)


async def _talked(talk: Talk, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await talk(reader, writer)
    finally:
        writer.close()


def says(*chunks: bytes, stays: bool = False, heard: list[bytes] | None = None) -> Talk:
    """A talk: hear a request's head, say this, and close, or stay and say no more."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        if heard is not None:
            heard.append(request)
        writer.writelines(chunks)
        await writer.drain()
        if stays:
            await reader.read()  # returns when the other side hangs up

    return talk


def repeats(beginning: bytes, chunk: bytes, count: list[int]) -> Talk:
    """A talk that never ends: how many chunks were taken is counted."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(beginning)
        while True:
            writer.write(chunk)
            await writer.drain()
            count.append(len(chunk))
            await asyncio.sleep(0)

    return talk


def descriptors() -> set[str]:
    """What this process has open, but for what is being listed with."""
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(f"{link.name} {link.readlink()}")
    return {one for one in found if "/proc/" not in one}
