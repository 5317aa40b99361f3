"""``muster status``: each process of the fleet on this machine, with its memory."""

from typing import TYPE_CHECKING, Annotated

import typer

from muster_client.cli.common import FAILED, NOT_RUNNING, Directory, told

if TYPE_CHECKING:
    from muster_client.outputs import ProcessStatus, StatusOutput


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(status)


def status(
    directory: Directory = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs; contracts/cli/status.json.")] = False,
) -> None:
    """Show each process of the fleet on this machine: state, pid, memory, uptime, endpoint.

    Exit codes: 0 everything runs, 1 something does not, 3 nothing does.
    """
    from muster_client import outputs  # noqa: PLC0415  (seconds count when nothing is asked of it)
    from muster_client.embedded.layout import Layout  # noqa: PLC0415
    from muster_client.embedded.status import status as look  # noqa: PLC0415

    with told():
        seen = look(Layout.at(directory))
        if as_json:
            typer.echo(outputs.as_json("status", seen))
        else:
            _print(seen)
        raise typer.Exit(_exit_code(seen))


def _exit_code(seen: "StatusOutput") -> int:
    running = [one.pid is not None for one in seen.processes]
    if not any(running):
        return NOT_RUNNING
    well = seen.supervisor.pid is not None and all(one.state == "running" for one in seen.processes)
    return 0 if well else FAILED


def _print(seen: "StatusOutput") -> None:
    import sys  # noqa: PLC0415

    from muster_client import humanise  # noqa: PLC0415
    from muster_client.embedded import view  # noqa: PLC0415

    if not any(one.pid for one in [*seen.processes, seen.supervisor]):
        typer.echo(f"Nothing runs in {seen.directory}. Start it with muster up.")
        if seen.problem and seen.phase != "abandoned":
            typer.echo(f"The last start failed: {seen.problem}")
        return
    rows = [_row(one) for one in [*seen.processes, seen.supervisor]]
    headers = ("PROCESS", "STATE", "PID", "MEMORY", "UPTIME", "RESTARTS", "ENDPOINT", "NOTE")
    lines = view.columns(headers, rows, right=(2, 3, 4, 5))
    colour = view.has_colour(sys.stdout)
    for line in lines:
        typer.echo(view.paint_state(line, colour=colour), color=colour)
    measures = {one.memory_measure for one in seen.processes if one.memory_measure}
    counted = "shared pages counted once" if measures == {"pss"} else "shared pages counted in each process"
    typer.echo(f"\nTogether {humanise.size(seen.memory_bytes)} ({counted}), in {seen.directory}.")
    if seen.problem:
        typer.echo(seen.problem[0].upper() + seen.problem[1:] + ".", err=True)


def _row(one: "ProcessStatus") -> tuple[str, ...]:
    from muster_client.humanise import NOTHING, duration, size  # noqa: PLC0415

    return (
        one.name,
        one.state.value,
        str(one.pid or NOTHING),
        size(one.memory_bytes),
        duration(one.uptime_seconds),
        str(one.restarts),
        one.endpoint or NOTHING,
        one.detail or "",
    )
