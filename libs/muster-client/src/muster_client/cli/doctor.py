"""``muster doctor``: whether all is well on this machine, and what to do if not."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from muster_client.cli.common import FAILED, Directory, told

if TYPE_CHECKING:
    from muster_client.outputs import DoctorOutput

_MARKS = {"ok": ("✓", "32"), "warn": ("!", "33"), "fail": ("✗", "31")}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(doctor)


def doctor(
    directory: Directory = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs; contracts/cli/doctor.json.")] = False,
) -> None:
    """Check machine, directory, keys, broker, streams, Redis, services and agent.

    Exit codes: 0 nothing failed (there may be warnings), 1 something did.
    """
    import asyncio  # noqa: PLC0415  (the doctor is heavy, the other commands are not)

    from muster_client import outputs  # noqa: PLC0415
    from muster_client.embedded.doctor import examine  # noqa: PLC0415
    from muster_client.embedded.layout import Layout  # noqa: PLC0415
    from muster_client.hush import hush_libraries  # noqa: PLC0415

    hush_libraries()  # what cannot be reached is a finding
    with told():
        found = asyncio.run(examine(Layout.at(directory)))
        if as_json:
            typer.echo(outputs.as_json("doctor", found))
        else:
            _print(found)
        raise typer.Exit(FAILED if found.verdict == "fail" else 0)


def _print(found: "DoctorOutput") -> None:
    from muster_client.embedded import view  # noqa: PLC0415
    from muster_client.humanise import clean  # noqa: PLC0415

    colour = view.has_colour(sys.stdout)
    fits = (sys.stdout.encoding or "").lower().startswith("utf")
    for check in found.checks:
        mark, code = _MARKS[check.verdict]
        sign = view.paint(mark if fits else check.verdict.value, code, colour=colour)
        typer.echo(f"{sign} {check.name:<15} {clean(check.text)}", color=colour)
        if check.advice:
            typer.echo(f"  {'':<15} → {check.advice}" if fits else f"  {'':<15} -> {check.advice}")
    failed = sum(check.verdict == "fail" for check in found.checks)
    typer.echo(f"\n{failed} of {len(found.checks)} checks failed." if failed else "\nNothing failed.")
