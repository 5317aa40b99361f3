"""``muster recovery``: what is done about what is ill, why, and what holds it."""

from typing import TYPE_CHECKING, Annotated

import typer

from muster_client.cli.agents import SCREENFUL, Limit, first
from muster_client.cli.command import OneTarget
from muster_client.cli.common import Directory
from muster_client.cli.health_asking import AnyPackage, Name, OneAgent
from muster_client.cli.health_deciding import For, Text, acknowledge, end_of, one_of
from muster_client.cli.listing import StatusByDefault
from muster_client.cli.ordering import Agents, On, Whom
from muster_client.cli.running import Json, emit, note, now, run

if TYPE_CHECKING:
    from muster_client.fleet import Fleet
    from muster_contracts.health.v1 import RecoveryStatus

LATEST = 10
"""So many acts are shown beside what is ill."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    recovery = typer.Typer(cls=StatusByDefault, help="What is done about what is ill, and what holds it.")
    recovery.command()(status)
    recovery.command("list")(list_acts)
    for command in (pause, resume, ack):
        recovery.command()(command)
    app.add_typer(recovery, name="recovery")


def status(json: Json = False, directory: Directory = None) -> None:
    """Show how recovery is with everything that is ill, what holds it, and what it did last."""

    async def work(fleet: "Fleet") -> None:
        told = await fleet.recovery.status()
        await _print(fleet, "recovery-status", told, json=json)

    run(work, directory)


async def _print(fleet: "Fleet", command: str, told: "RecoveryStatus", *, json: bool) -> None:
    if json:
        emit(command, told)
        return
    from muster_client import render, render_health  # noqa: PLC0415

    latest = await first(fleet.recovery.acts(page=LATEST), LATEST)
    render.show(render_health.recovery(told, latest, now()))


def list_acts(
    *,
    agent: OneTarget = None,
    package: AnyPackage = None,
    limit: Limit = None,
    json: Json = False,
    directory: Directory = None,
) -> None:
    """Show what was done about ill packages, why, and what came of it, newest first.

    The id of an act is the id of its command: muster command show ID tells all of it.
    """
    count = limit or (None if json else SCREENFUL)

    async def work(fleet: "Fleet") -> None:
        found = fleet.recovery.acts(agent=agent, package=package, page=min((count or 200) + 1, 200))
        # One more than is shown tells that there are more.
        acts = await first(found, count + 1 if count else None)
        if json:
            emit("recovery-list", acts[:count])
        elif not acts:
            note("nothing was done that matches")
        else:
            from muster_client import render, render_health  # noqa: PLC0415

            render.show(render_health.acts(acts[:count], now()))
            if count and len(acts) > count:
                note(f"the newest {count}; --limit shows more")

    run(work, directory)


def pause(
    *,
    agents: Agents = None,
    on: On = None,
    lasting: For = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Until when, in place of --for: 2026-01-31T14:05.")
    ] = None,
    text: Text = "",
    json: Json = False,
    directory: Directory = None,
) -> None:
    """Hold recovery, for some agents or for all, for a time or until it is resumed; checks go on."""
    selector = Whom(agents, on).given or ""
    end = end_of(lasting, until)

    async def work(fleet: "Fleet") -> None:
        from muster_contracts.selector import parse  # noqa: PLC0415

        parse(selector)
        told = await fleet.recovery.pause(selector, end, text=text)
        await _print(fleet, "recovery-pause", told, json=json)

    run(work, directory)


def resume(
    pause_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="The pause, or how its id begins; all by default.")
    ] = None,
    json: Json = False,
    directory: Directory = None,
) -> None:
    """Let recovery go on."""

    async def work(fleet: "Fleet") -> None:
        chosen = None
        if pause_id is not None:
            known = [one.id for one in (await fleet.recovery.status()).pauses]
            chosen = one_of(known, pause_id, "pauses", "muster recovery")
        await _print(fleet, "recovery-resume", await fleet.recovery.resume(chosen), json=json)

    run(work, directory)


def ack(
    package: Name, *, agent: OneAgent = None, text: Text = "", json: Json = False, directory: Directory = None
) -> None:
    """Have recovery begin anew with a package it gave up on, and say that you look after it."""
    acknowledge("recovery-ack", package, agent, text, directory, retry=True, json=json)
