"""``muster packages``: the services that machines look after: how they are, and what they should do."""

from typing import TYPE_CHECKING, Annotated

import typer

from muster_client.cli import completing, packages_acting, packages_config
from muster_client.cli.agents_live import Selecting
from muster_client.cli.common import Directory
from muster_client.cli.listing import ListByDefault
from muster_client.cli.ordering import some
from muster_client.cli.packages_asking import Name, OneAgent, asking, where_is
from muster_client.cli.running import Json, emit, emit_line, note, now, run

if TYPE_CHECKING:
    from muster_client.fleet import Fleet
    from muster_client.machines import Inventory
    from muster_client.outputs import PackageLine


def register(app: typer.Typer) -> None:
    """Add the commands."""
    packages = typer.Typer(cls=ListByDefault, help="The services that machines look after, and what they do.")
    packages.command("list")(list_packages)
    packages.command()(show)
    packages_acting.register(packages)
    packages.command()(logs)
    packages_config.register(packages)
    app.add_typer(packages, name="packages")


def list_packages(
    selector: Selecting = "",
    agent: Annotated[
        str | None,
        typer.Option("--agent", metavar="ID", autocompletion=completing.agent_ids, help="Only on this one."),
    ] = None,
    json: Json = False,
    directory: Directory = None,
) -> None:
    """Show the packages of every host that matches and answers, and what is wrong with them."""

    async def work(fleet: "Fleet") -> None:
        from muster_client.outputs import PackageLine  # noqa: PLC0415

        found = await _found(fleet, selector, agent)
        lines = [PackageLine(**dict(one), agent=where) for where, one in found]
        _tell_silent(found)
        if json:
            emit("packages-list", lines)
        elif lines:
            _print_list(lines)
        elif found.packages or not found.silent:
            note("no packages on those that answer" if found.silent else "no packages")
        _need_an_answer(found)

    run(work, directory, about=agent)


def _need_an_answer(found: "Inventory") -> None:
    """Say that nobody answered, which is not the same as that there are no packages.

    Raises:
        NotFound: there are hosts that match, and none of them answered.
    """
    from muster_client.errors import NotFound  # noqa: PLC0415

    if found.silent and not found.packages:
        raise NotFound("cannot tell what packages there are: no host that matches answered")


async def _found(fleet: "Fleet", selector: str, agent: str | None) -> "Inventory":
    """The packages of those who match, or of the one agent, which has to answer."""
    from muster_client.errors import NotFound, Usage  # noqa: PLC0415
    from muster_contracts.selector import parse  # noqa: PLC0415

    if agent is None:
        parse(selector)
        return await fleet.packages(selector)
    if selector:
        raise Usage("cannot take both a selector and --agent: --agent is the selector id=…")
    await fleet.agent(agent)
    found = await fleet.packages(f"id={agent}")
    if agent not in found.packages:
        why = found.silent.get(agent, "it is no host that is in the fleet now")
        raise NotFound(f"cannot ask {agent} about its packages: {why}")
    return found


def _tell_silent(found: "Inventory") -> None:
    """Who is not in the list, and why; those with one reason together."""
    by_reason: dict[str, list[str]] = {}
    for agent, why in sorted(found.silent.items()):
        by_reason.setdefault(why, []).append(agent)
    for why, agents in by_reason.items():
        note(f"without {some(agents)}: {why}")


def _print_list(lines: "list[PackageLine]") -> None:
    from muster_client import render, render_orders  # noqa: PLC0415

    render.show(*render_orders.packages(lines, render.console().width))


def show(name: Name, agent: OneAgent = None, json: Json = False, directory: Directory = None) -> None:
    """Show all that is known of one package: its processes, its files, what it needs and who needs it."""

    async def work(fleet: "Fleet") -> None:
        where = await where_is(fleet, name, agent)
        async with asking(fleet, where, name):
            detail = await fleet.package(where, name)
        if json:
            emit("packages-show", detail)
            return
        from muster_client import render, render_orders  # noqa: PLC0415

        render.show(render_orders.package(detail, now()))

    run(work, directory, about=agent)


def logs(
    name: Name,
    *,
    agent: OneAgent = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=1000, help="So many of the last.")] = 100,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what is printed, until Ctrl-C.")
    ] = False,
    json: Json = False,
    directory: Directory = None,
) -> None:
    """Show what a package printed lately."""

    async def work(fleet: "Fleet") -> None:
        where = await where_is(fleet, name, agent)
        async with asking(fleet, where, name):
            async for line in fleet.package_log(where, name, lines=lines, follow=follow):
                _print_line(where, name, line, json=json)

    run(work, directory, about=agent)


def _print_line(agent: str, package: str, line: str, *, json: bool) -> None:
    from muster_client.humanise import visible  # noqa: PLC0415
    from muster_client.outputs import LogLine  # noqa: PLC0415

    if json:
        emit_line("packages-logs", LogLine(agent=agent, package=package, line=line))
    else:
        typer.echo(visible(line))
