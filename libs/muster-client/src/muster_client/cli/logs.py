"""``muster logs``: what the processes of the fleet on this machine have written."""

from typing import TYPE_CHECKING, Annotated

import typer

from muster_client.cli.common import NOT_RUNNING, Directory, told

if TYPE_CHECKING:
    from muster_client.embedded.layout import Layout

_LOOK_SECONDS = 0.2


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(logs)


def _complete(incomplete: str) -> list[str]:
    from muster_client.embedded.plan import NAMES  # noqa: PLC0415

    return [name for name in (*NAMES, "supervisor") if name.startswith(incomplete)]


def logs(
    directory: Directory = None,
    service: Annotated[
        list[str] | None,
        typer.Option(
            "--service", "-s", help="Whose; may be repeated. All by default.", autocompletion=_complete
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what is written, until Ctrl-C.")
    ] = False,
    count: Annotated[
        int, typer.Option("--lines", "-n", min=0, help="How many of the last lines of each.")
    ] = 50,
    raw: Annotated[bool, typer.Option("--raw", help="As written, one JSON object per line.")] = False,
) -> None:
    """Print the last lines of the logs, made readable.

    Exit codes: 0 done, 3 there is no such log.
    """
    from muster_client.embedded import plan  # noqa: PLC0415  (the other commands need none of it)
    from muster_client.embedded.layout import Layout  # noqa: PLC0415

    with told():
        layout = Layout.at(directory)
        known = (*plan.NAMES, "supervisor")
        wanted = service or [name for name in known if layout.log(name).exists()]
        if not wanted:
            typer.echo(
                f"cannot show logs: there are none in {layout.logs}; start a fleet with muster up", err=True
            )
            raise typer.Exit(NOT_RUNNING)
        for name in wanted:
            if not layout.log(name).exists():
                there = f"there is no log {name} in {layout.logs}; known: {', '.join(known)}"
                typer.echo(f"cannot show {name}: {there}", err=True)
                raise typer.Exit(NOT_RUNNING)
        _print(layout, wanted, count, follow=follow, raw=raw)


def _print(layout: "Layout", names: list[str], count: int, *, follow: bool, raw: bool) -> None:
    from time import sleep  # noqa: PLC0415

    from muster_client.embedded.logfiles import Follower, tail  # noqa: PLC0415

    followers = {name: Follower(layout.log(name)) for name in names}
    last = [(name, text) for name in names for text in tail(layout.log(name), count)]
    for name, text in _by_time(last):
        _line(name, text, several=len(names) > 1, raw=raw)
    while follow:
        fresh = [(name, text) for name in names for text in followers[name].lines()]
        for name, text in _by_time(fresh):
            _line(name, text, several=len(names) > 1, raw=raw)
        sleep(_LOOK_SECONDS)


def _by_time(lines: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Merged by their times; a line without one stays behind the line before it."""
    from muster_client.embedded.logfiles import Line  # noqa: PLC0415

    at, keyed = "", []
    for place, (name, text) in enumerate(lines):
        at = Line.parse(text).at or at if place and lines[place - 1][0] == name else Line.parse(text).at
        keyed.append((at, place, (name, text)))
    return [line for _, _, line in sorted(keyed)]


def _line(name: str, text: str, *, several: bool, raw: bool) -> None:
    from muster_client.embedded.logfiles import Line  # noqa: PLC0415
    from muster_client.humanise import clean  # noqa: PLC0415

    shown = text if raw else "\n".join(clean(line) for line in Line.parse(text).readable().split("\n"))
    typer.echo(f"{name:<15} {shown}" if several and not raw else shown)
