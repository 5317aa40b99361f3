"""``muster map``: who says what to whom, from the catalogue; needs no fleet."""

from typing import Annotated

import typer

from muster_client.cli import completing
from muster_client.cli.running import Json, emit, guarded


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("map")(show_map)


def show_map(
    contract: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            autocompletion=completing.contract_names,
            help="Only this one, with its fields, or those of a glob: fleet.v1.*",
        ),
    ] = None,
    roles: Annotated[bool, typer.Option("--roles", help="By role: what each hears and says.")] = False,
    json: Json = False,
) -> None:
    """Show every contract of the bus: its subject, how it is delivered, who says it and who hears it."""
    guarded(lambda: _show(contract, roles=roles, json=json))


def _show(pattern: str | None, *, roles: bool, json: bool) -> None:
    from muster_client.cataloguing import fields_of, map_line, named  # noqa: PLC0415

    found = named([pattern or "*"])
    lines = [map_line(one) for one in found]
    if json:
        emit("map", lines)
        return
    from muster_client import render  # noqa: PLC0415

    if pattern and len(found) == 1:
        render.show(render.contract_card(lines[0], fields_of(found[0])))
    elif roles:
        render.show(render.services_table(lines))
    else:
        render.show(render.map_table(lines, render.console().width))
