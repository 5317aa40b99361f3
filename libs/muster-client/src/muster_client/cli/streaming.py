"""What commands print, as they print it: one agent's bytes as they are, several agents' line by line."""

import asyncio
import codecs
import sys
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import typer

from muster_client.cli.following import leaving
from muster_client.cli.ordering import Terms, give, judge
from muster_client.commands import Command, TargetEnded
from muster_client.errors import Incomplete
from muster_client.humanise import visible

if TYPE_CHECKING:
    from muster_client.fleet import Fleet
    from muster_contracts.command.v1 import Body, Target

READ_AT_ONCE = 32
"""So many agents' output is followed at a time; the others' is kept until there is room."""


async def run_and_print(fleet: "Fleet", body: "Body", selector: str, terms: Terms) -> None:
    """Order it, print what it prints on every agent, and judge how it ended.

    Raises:
        typer.Exit: 1 where a target did not succeed.
    """
    command = await give(fleet, body, selector, terms)
    agents = [target.agent async for target in fleet.targets(command=command.id)]
    room = asyncio.Semaphore(READ_AT_ONCE)

    async def copy(agent: str) -> None:
        async with room:
            await print_output(command, agent, follow=True, prefix=f"{agent} | " if len(agents) > 1 else "")

    with leaving(command):
        copies = asyncio.gather(*(copy(agent) for agent in agents), return_exceptions=True)
        targets, copied = await asyncio.gather(_ends(command), copies)
    for failed in copied:
        if isinstance(failed, Incomplete):
            typer.echo(str(failed), err=True)
        elif failed is not None:
            raise failed
    judge(command, targets)


async def _ends(command: Command) -> "list[Target]":
    ended = [event.target async for event in command.life() if isinstance(event, TargetEnded)]
    return sorted(ended, key=lambda target: target.agent)


async def print_output(command: Command, agent: str, *, follow: bool, prefix: str = "") -> None:
    """Print what the command printed on one agent.

    A pipe gets its bytes; a terminal, and whoever reads several agents at once, gets lines without power over
    the terminal.
    """
    output = command.output(agent, follow=follow)
    if not prefix and not sys.stdout.isatty():
        async for data in output:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        return
    async for line in lines_of(output):
        typer.echo(prefix + visible(line))
        sys.stdout.flush()


async def lines_of(output: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """Bytes as lines of text, each as soon as it is whole; the last one may lack its end."""
    decoder, rest = codecs.getincrementaldecoder("utf-8")("backslashreplace"), ""
    async for data in output:
        *whole, rest = (rest + decoder.decode(data)).split("\n")
        for line in whole:
            yield line.removesuffix("\r")
    if rest := rest + decoder.decode(b"", final=True):
        yield rest
