"""``muster packages config``: the configuration files of packages, to read and to replace."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from muster_client.cli.common import Directory
from muster_client.cli.ordering import (
    FIVE_MINUTES,
    Agents,
    Expires,
    NoWait,
    On,
    Terms,
    Timeout,
    Whom,
    carry_out,
)
from muster_client.cli.packages_asking import Name, OneAgent, asking, where_is
from muster_client.cli.running import Json, emit, note, now, run

if TYPE_CHECKING:
    from muster_client.fleet import Fleet

File = Annotated[str, typer.Argument(metavar="FILE", help="The name that package.json gives the file.")]


def register(packages: typer.Typer) -> None:
    """Add the commands."""
    config = typer.Typer(help="Configuration files of packages: list, show, replace.", no_args_is_help=True)
    config.command("list")(list_files)
    config.command()(show)
    config.command("apply")(apply)
    packages.add_typer(config, name="config")


def list_files(name: Name, agent: OneAgent = None, json: Json = False, directory: Directory = None) -> None:
    """Show the configuration files of a package."""

    async def work(fleet: "Fleet") -> None:
        where = await where_is(fleet, name, agent)
        async with asking(fleet, where, name):
            files = (await fleet.package(where, name)).configuration
        if json:
            emit("packages-config-list", files)
        elif not files:
            note(f"{name} on {where} has no configuration files")
        else:
            from muster_client import render, render_orders  # noqa: PLC0415

            render.show(render_orders.configuration_files(files, now()))

    run(work, directory, about=agent)


def show(
    name: Name,
    file: File,
    *,
    agent: OneAgent = None,
    previous: Annotated[bool, typer.Option("--previous", help="The version before the present one.")] = False,
    json: Json = False,
    directory: Directory = None,
) -> None:
    """Show what is in a configuration file; values under keys that name secrets are hidden."""

    async def work(fleet: "Fleet") -> None:
        where = await where_is(fleet, name, agent)
        async with asking(fleet, where, name):
            told = await fleet.configuration(where, name, file, previous=previous)
        if json:
            emit("packages-config-show", told)
            return
        from muster_client.humanise import visible  # noqa: PLC0415
        from muster_client.render_orders import configuration_note  # noqa: PLC0415

        note(configuration_note(told))
        typer.echo("\n".join(visible(line) for line in told.content.split("\n")), nl=False)

    run(work, directory, about=agent)


def apply(
    name: Name,
    file: File,
    *,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="PATH", readable=False, help="Its new content; else what is piped in."
        ),
    ] = None,
    then: Annotated[
        Literal["nothing", "reload", "restart"],
        typer.Option(help="What the package does then; restart only if it runs."),
    ] = "nothing",
    if_sha256: Annotated[
        str | None, typer.Option(metavar="DIGEST", help="Only where the present file has this SHA-256.")
    ] = None,
    agents: Agents = None,
    on: On = None,
    no_wait: NoWait = False,
    timeout: Timeout = FIVE_MINUTES,
    expires: Expires = FIVE_MINUTES,
    json: Json = False,
    directory: Directory = None,
) -> None:
    """Replace a configuration file in one step; it is checked before, and the version before is kept.

    For example: muster packages config apply web main --on role=web --then reload < main.conf
    """
    whom = Whom(agents, on)
    terms = Terms(timeout, expires, no_wait=no_wait, json=json)

    async def work(fleet: "Fleet") -> None:
        from muster_client.bodies import body_of  # noqa: PLC0415

        _need_a_name(file)
        wanted = {"package": name, "file": file, "content": content_of(source), "then": then}
        body = body_of("package.apply-configuration", {**wanted, "expected_sha256": if_sha256})
        selector = await whom.who_have(fleet, name)
        await carry_out(fleet, "packages-config-apply", body, selector, terms)

    run(work, directory)


def _need_a_name(file: str) -> None:
    """Tell whoever gave the path of the new content where only a name can be.

    Raises:
        Usage: no package.json can give a file this name.
    """
    from muster_client.errors import Usage  # noqa: PLC0415

    if "/" in file:
        why = "it is a path, not the name that package.json gives the file"
        raise Usage(f"cannot apply {file}: {why}; name the file, and give the path with --from {file}")


def content_of(source: Path | None) -> str:
    """The file at ``source``, or standard input.

    Raises:
        Usage: there is none, or it is no text.
    """
    from muster_client.errors import Usage  # noqa: PLC0415

    if source is None and sys.stdin.isatty():
        raise Usage("cannot apply nothing: give the new content with --from PATH, or by < PATH")
    try:
        data = source.read_bytes() if source else sys.stdin.buffer.read()
        return data.decode()
    except OSError as error:
        raise Usage(f"cannot read {source}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Usage(f"cannot apply {source or 'what was piped in'}: it is no UTF-8 text") from None
