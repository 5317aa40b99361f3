"""How a command that asks the fleet is run: connected, interruptible, and its errors told in one sentence.

Exit codes: 0 done, 1 it failed, 2 wrong command line, 3 not found or not running, 130 Ctrl-C.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from muster_client.cli.common import FAILED, NOT_RUNNING

if TYPE_CHECKING:
    from muster_client.fleet import Fleet

USAGE = 2
INTERRUPTED = 130
PIPE_CLOSED = 141
"""As a shell reports a program that SIGPIPE ended."""

WITHIN_SECONDS = 2.0
PATIENCE_SECONDS = 4.0

Json = Annotated[bool, typer.Option("--json", help="For programs: JSON, described in contracts/cli/.")]


def run(
    work: "Callable[[Fleet], Awaitable[None]]", directory: Path | None, *, about: str | None = None
) -> None:
    """Connect to the fleet, do ``work``, and end with the exit code that its outcome means.

    ``about`` is the agent in question: if it is not known, the likeliest ids are offered.
    """
    guarded(lambda: asyncio.run(_connected(work, directory, about)))


async def _connected(
    work: "Callable[[Fleet], Awaitable[None]]", directory: Path | None, about: str | None
) -> None:
    from muster_bus.errors import AskFailed  # noqa: PLC0415  (heavy; --help and completion do without)
    from muster_client.fleet import Fleet  # noqa: PLC0415
    from muster_client.hush import hush_libraries  # noqa: PLC0415

    hush_libraries()
    async with Fleet.connect(directory=directory, within=WITHIN_SECONDS, patience=PATIENCE_SECONDS) as fleet:
        try:
            await work(fleet)
        except AskFailed as error:
            if about is None or error.code != "not-found":
                raise
            await _offer(fleet, about, error.problem.text)


async def _offer(fleet: "Fleet", about: str, text: str) -> None:
    """Raise the error again, with the ids that the unknown one may have been meant for."""
    from muster_client.errors import NotFound  # noqa: PLC0415
    from muster_client.humanise import near  # noqa: PLC0415

    page = await fleet.find()
    guess = near(about, [agent.id for agent in page.agents]) or "see who is there with: muster agents"
    # The registry's own advice, if it gave any, makes room for the better one.
    raise NotFound(f"{text.partition(';')[0]}; {guess}")


def guarded(work: Callable[[], None]) -> None:
    """Do ``work``; turn what can go wrong into a sentence on standard error and an exit code.

    Raises:
        typer.Exit: with the code, unless all went well.
    """
    try:
        work()
        sys.stdout.flush()
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        _forget_output()
        raise typer.Exit(PIPE_CLOSED) from None
    except Exception as error:
        if (known := explain(error)) is None:
            raise
        text, code = known
        typer.echo(text, err=True)
        raise typer.Exit(code) from None


def explain(error: Exception) -> tuple[str, int] | None:
    """What an error means for a person, and its exit code; None for one that is a bug."""
    from pydantic import ValidationError  # noqa: PLC0415

    from muster_bus.errors import AskFailed, CannotConnect  # noqa: PLC0415

    if isinstance(error, CannotConnect):
        return _unreachable(str(error)), NOT_RUNNING
    if isinstance(error, AskFailed):
        return error.problem.text, {"not-found": NOT_RUNNING, "invalid": USAGE}.get(error.code, FAILED)
    if isinstance(error, ValidationError):
        return _invalid(error), USAGE
    for kind, advice, code in _meanings():
        if isinstance(error, kind):
            return f"{error}{advice}", code
    return None


def _meanings() -> list[tuple[type[Exception], str, int]]:
    """Kinds of errors, the narrower before the wider, with what a person may do about each."""
    from muster_bus import errors as bus  # noqa: PLC0415
    from muster_client import errors as client  # noqa: PLC0415
    from muster_client.cataloguing import UnknownContract  # noqa: PLC0415
    from muster_client.embedded.errors import FleetError  # noqa: PLC0415
    from muster_contracts.selector import SelectorError  # noqa: PLC0415

    return [
        (bus.NobodyAnswers, "; see what runs with: muster doctor", NOT_RUNNING),
        (bus.NoAnswer, "; see what is wrong with: muster doctor", FAILED),
        (client.NoFleet, "", NOT_RUNNING),
        (client.NotFound, "", NOT_RUNNING),
        (UnknownContract, "", NOT_RUNNING),
        (client.Usage, "", USAGE),
        (SelectorError, "", USAGE),
        (bus.MusterError, "", FAILED),
        (FleetError, "", FAILED),
    ]


def _unreachable(text: str) -> str:
    """Why the broker cannot be reached, with the advice that fits; the bus gives one for every case."""
    if "authorization violation" in text.lower():
        return f"{text.partition(';')[0]}; it does not know this key: is it the key of another fleet?"
    return f"{text.partition(';')[0]}; is the fleet running? start it with: muster up"


def _invalid(error: Any) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"cannot ask that: {where} {first['input']!r} is not allowed ({first['msg'].lower()})"


def _forget_output() -> None:
    """Whoever read us is gone: let Python's last flush go nowhere instead of complaining."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def emit(command: str, value: object) -> None:
    """Print what ``command`` promises to programs."""
    from muster_client.outputs import as_json  # noqa: PLC0415

    typer.echo(as_json(command, value))


def emit_line(command: str, value: object) -> None:
    """Print one line of a command that goes on, at once."""
    from muster_client.outputs import as_json  # noqa: PLC0415

    typer.echo(as_json(command, value, indent=None))
    sys.stdout.flush()


def note(text: str) -> None:
    """A remark for people, out of the way of what is piped."""
    typer.echo(text, err=True)


def now() -> Any:
    """The wall clock."""
    from datetime import UTC, datetime  # noqa: PLC0415

    return datetime.now(UTC)


def length_of_time(text: str) -> float:
    """``90``, ``45s``, ``5m``, ``2h`` or ``7d`` in seconds.

    Raises:
        typer.BadParameter: it is none of them.
    """
    units = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
    number, unit = (text[:-1], units[text[-1]]) if text[-1:] in units else (text, 1)
    try:
        seconds = float(number) * unit
    except ValueError:
        seconds = -1
    if not 0 <= seconds < 3650 * 86_400:
        raise typer.BadParameter(f"cannot read {text!r} as a length of time; write 45s, 5m, 2h or 7d")
    return seconds
