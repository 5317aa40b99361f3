"""``muster groups``: named selectors; whoever matches is a member."""

from typing import TYPE_CHECKING, Annotated

import typer

from muster_client.cli import completing
from muster_client.cli.common import Directory
from muster_client.cli.running import Json, emit, note, run

if TYPE_CHECKING:
    from muster_client.fleet import Fleet
    from muster_contracts.fleet.v1 import Group

Name = Annotated[
    str, typer.Argument(metavar="NAME", autocompletion=completing.group_names, help="The group's name.")
]
Meaning = Annotated[
    str, typer.Argument(metavar="SELECTOR", help="Who is in it, for example: 'site=ams,role in (web,db)'")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    groups = typer.Typer(help="Named selectors; whoever matches now is a member.")
    groups.callback(invoke_without_command=True)(list_by_default)
    groups.command("list")(list_groups)
    groups.command()(define)
    groups.command()(delete)
    app.add_typer(groups, name="groups")


def list_by_default(ctx: typer.Context, json: Json = False, directory: Directory = None) -> None:
    """Named selectors; whoever matches now is a member."""
    if ctx.invoked_subcommand is None:
        list_groups(json, directory)


def list_groups(json: Json = False, directory: Directory = None) -> None:
    """Show every group, its selector and how many agents match it."""

    async def work(fleet: "Fleet") -> None:
        _print("groups-list", await fleet.groups(), json=json)

    run(work, directory)


def define(name: Name, selector: Meaning, json: Json = False, directory: Directory = None) -> None:
    """Make a group, or give an existing one another selector."""

    async def work(fleet: "Fleet") -> None:
        from muster_contracts.selector import parse  # noqa: PLC0415

        parse(selector)
        _print("groups-define", await fleet.define_group(name, selector), json=json)

    run(work, directory)


def delete(name: Name, json: Json = False, directory: Directory = None) -> None:
    """Remove a group; its agents stay."""

    async def work(fleet: "Fleet") -> None:
        # For the registry it is no error, since an ask may be repeated; for a person it is a typo.
        await _must_exist(fleet, name)
        _print("groups-delete", await fleet.delete_group(name), json=json)

    run(work, directory)


async def _must_exist(fleet: "Fleet", name: str) -> None:
    from muster_client.errors import NotFound  # noqa: PLC0415
    from muster_client.humanise import near  # noqa: PLC0415

    names = [group.name for group in await fleet.groups()]
    if name not in names:
        guess = near(name, names) or "see which there are with: muster groups list"
        raise NotFound(f"cannot find the group {name}; {guess}")


def _print(command: str, groups: "list[Group]", *, json: bool) -> None:
    if json:
        emit(command, groups)
    elif not groups:
        note("no groups")
    else:
        from muster_client import render  # noqa: PLC0415

        render.show(render.groups(groups))
