"""What people decide about what is ill: who looks after it, what is worked on; and a test of the channels."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from muster_client.cli import health_asking
from muster_client.cli.command import moment_of
from muster_client.cli.common import FAILED, Directory
from muster_client.cli.health_asking import AnyPackage, Name, OneAgent
from muster_client.cli.listing import ListByDefault
from muster_client.cli.ordering import Agents, On, Whom
from muster_client.cli.running import Json, emit, length_of_time, note, now, run

if TYPE_CHECKING:
    from uuid import UUID

    from muster_client.fleet import Fleet
    from muster_contracts.health.v1 import Maintenance

SHORTEST_PREFIX = 4

Text = Annotated[str, typer.Option("--text", metavar="TEXT", help="Why, for the others.")]
For = Annotated[str | None, typer.Option("--for", metavar="TIME", help="For how long: 45s, 5m, 2h, 7d.")]


def register(health: typer.Typer) -> None:
    """Add the commands."""
    health.command()(ack)
    maintenance = typer.Typer(cls=ListByDefault, help="Times in which somebody works on something.")
    maintenance.command("list")(list_maintenance)
    maintenance.command("set")(set_maintenance)
    maintenance.command("end")(end_maintenance)
    health.add_typer(maintenance, name="maintenance")
    health.command("notify-test")(notify_test)


# Acknowledgements ------------------------------------------------------------------------------------


def ack(
    package: Name,
    *,
    agent: OneAgent = None,
    text: Text = "",
    retry: Annotated[
        bool, typer.Option("--retry", help="Begin recovery anew, if it gave up on the package.")
    ] = False,
    json: Json = False,
    directory: Directory = None,
) -> None:
    """Say that you look after an ill package: nobody is notified of it any more, but for its end."""
    acknowledge("health-ack", package, agent, text, directory, retry=retry, json=json)


def acknowledge(
    command: str, package: str, agent: str | None, text: str, directory: Directory, *, retry: bool, json: bool
) -> None:
    """Acknowledge, and tell what it did: what two commands have in common."""

    async def work(fleet: "Fleet") -> None:
        where = await health_asking.where_is(fleet, package, agent)
        told = await fleet.health.acknowledge(where, package, text=text, retry=retry)
        if json:
            emit(command, told)
        elif told.incidents or told.retried:
            from muster_client import render, render_health  # noqa: PLC0415

            render.show(*render_health.acknowledged(told, f"{package}@{where}"))
        else:
            note(f"{package}@{where} has no open incident, and recovery did not give up on it")

    run(work, directory, about=agent)


# Maintenance -----------------------------------------------------------------------------------------


def list_maintenance(json: Json = False, directory: Directory = None) -> None:
    """Show what is worked on, or will be."""

    async def work(fleet: "Fleet") -> None:
        _print("health-maintenance-list", await fleet.health.maintenance(), json=json)

    run(work, directory)


def set_maintenance(
    *,
    agents: Agents = None,
    on: On = None,
    package: AnyPackage = None,
    lasting: For = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Until when, in place of --for: 2026-01-31T14:05.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="From when on; by default now: 2026-01-31T12:05.")
    ] = None,
    text: Text = "",
    json: Json = False,
    directory: Directory = None,
) -> None:
    """Say that somebody works on these: nothing is notified, and nothing done about them, meanwhile.

    For example: muster health maintenance set --on role=db --for 2h --text 'new kernel'
    """
    selector = Whom(agents, on).given
    if selector is None:
        raise typer.BadParameter("cannot tell what is worked on: name agents with --agent, or whom with --on")
    begin = moment_of(since)
    end = end_of(lasting, until)
    if end is None:
        raise typer.BadParameter("cannot tell how long it takes: say --for 2h, or --until with a time")

    async def work(fleet: "Fleet") -> None:
        from muster_contracts.selector import parse  # noqa: PLC0415

        parse(selector)
        windows = await fleet.health.set_maintenance(selector, end, package=package, since=begin, text=text)
        _print("health-maintenance-set", windows, json=json)

    run(work, directory)


def end_of(lasting: str | None, until: str | None) -> datetime | timedelta | None:
    """``--for`` or ``--until``, of which at most one may be given; None where neither was.

    Raises:
        typer.BadParameter: both were, or one cannot be read.
    """
    if lasting is not None and until is not None:
        raise typer.BadParameter("cannot take both --for and --until: say how long, or until when")
    if lasting is not None:
        return timedelta(seconds=length_of_time(lasting))
    if until is not None and "-" not in until:
        raise typer.BadParameter(f"cannot read {until!r} as a time; write 2026-01-31T14:05, or --for {until}")
    return moment_of(until)


def end_maintenance(
    window: Annotated[str, typer.Argument(metavar="ID", help="The window's id, or how it begins.")],
    json: Json = False,
    directory: Directory = None,
) -> None:
    """Say that the work is done, or does not happen."""

    async def work(fleet: "Fleet") -> None:
        windows = await fleet.health.maintenance()
        known = [one.id for one in windows]
        chosen = one_of(known, window, "maintenance", "muster health maintenance")
        _print("health-maintenance-end", await fleet.health.end_maintenance(chosen), json=json)

    run(work, directory)


def one_of(known: "Sequence[UUID]", text: str, what: str, see: str) -> "UUID":
    """The one of these ids that begins so.

    Raises:
        NotFound: none does.
        Usage: several do, or it is too short to tell.
    """
    from muster_client.errors import NotFound, Usage  # noqa: PLC0415

    begin = [one for one in known if str(one).startswith(text.lower())]
    if len(text) < SHORTEST_PREFIX or len(begin) > 1:
        raise Usage(f"cannot choose: {len(begin)} ids of {what} begin with {text!r}; write more of the id")
    if not begin:
        raise NotFound(f"cannot find {what} that begins with {text}; see: {see}")
    return begin[0]


def _print(command: str, windows: "list[Maintenance]", *, json: bool) -> None:
    if json:
        emit(command, windows)
    elif not windows:
        note("nothing is worked on")
    else:
        from muster_client import render, render_health  # noqa: PLC0415

        render.show(render_health.maintenance(windows, now()))


# Notifications ---------------------------------------------------------------------------------------


def notify_test(
    channel: Annotated[
        str | None,
        typer.Argument(metavar="[CHANNEL]", help="As health-recovery's settings name it; all by default."),
    ] = None,
    json: Json = False,
    directory: Directory = None,
) -> None:
    """Send a test notification through one channel, or all, and show what became of it.

    Exit codes: 0 every channel took it, 1 one did not, 3 there is no such channel.
    """

    async def work(fleet: "Fleet") -> None:
        told = await fleet.health.test_notification(channel)
        if json:
            emit("health-notify-test", told)
        elif not told:
            note("no channels; add some to the settings of health-recovery")
        else:
            from muster_client import render, render_health  # noqa: PLC0415

            render.show(render_health.deliveries(told))
        if not all(one.ok for one in told):
            raise typer.Exit(FAILED)

    run(work, directory)
