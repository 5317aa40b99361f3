"""``muster health``: how the fleet is, since when, why, and how it was."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from muster_client.cli import completing, health_asking, health_deciding
from muster_client.cli.agents import SCREENFUL, Limit, first
from muster_client.cli.agents_live import AgentId, Count, Selecting, Since, since_of
from muster_client.cli.command import OneTarget, moment_of
from muster_client.cli.common import Directory
from muster_client.cli.health_asking import AnyPackage, Name, OneAgent, known_healths
from muster_client.cli.listing import ListByDefault
from muster_client.cli.running import Json, emit, emit_line, note, now, run

if TYPE_CHECKING:
    from muster_client.fleet import Fleet
    from muster_client.outputs import HealthLine, HealthListed
    from muster_contracts.health.v1 import PackageHealth
    from muster_contracts.message import Message

Healths = Annotated[
    list[str] | None,
    typer.Option(
        "--health",
        metavar="HEALTH",
        autocompletion=completing.among(health_asking.HEALTHS),
        callback=known_healths,
        help=f"Only in these; may be repeated: {', '.join(health_asking.HEALTHS)}.",
    ),
]
From = Annotated[
    str | None, typer.Option("--since", metavar="TIME", help="Only since: 45s, 2h, 7d, 2026-01-31T14:05.")
]
Until = Annotated[str | None, typer.Option("--until", metavar="TIME", help="Only before.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    health = typer.Typer(cls=ListByDefault, help="How the fleet is, since when, and why.")
    health.command("list")(list_hosts)
    for command in (show, why, packages, flapping, incidents, history, availability, checks, watch):
        health.command()(command)
    health_deciding.register(health)
    app.add_typer(health, name="health")


# The fleet -------------------------------------------------------------------------------------------


def list_hosts(
    selector: Selecting = "",
    *,
    healths: Healths = None,
    limit: Limit = None,
    everyone: Annotated[bool, typer.Option("--all", help="Show every one, however many there are.")] = False,
    json: Json = False,
    directory: Directory = None,
) -> None:
    """Show how the fleet is: in numbers, agent by agent with the ill ones first, and group by group."""
    count = None if everyone else limit or (None if json else SCREENFUL)

    async def work(fleet: "Fleet") -> None:
        told = await _listed(fleet, selector, healths or [], count)
        if json:
            emit("health-list", told)
            return
        from muster_client import render, render_health  # noqa: PLC0415

        render.show(render_health.fleet(told, now(), render.console().width))
        if not told.hosts:
            note("no agent matches")

    run(work, directory)


async def _listed(fleet: "Fleet", selector: str, healths: Sequence[str], count: int | None) -> "HealthListed":
    """The fleet in numbers, and the first ``count`` agents, or all: the ill ones first."""
    from muster_client.outputs import HealthListed  # noqa: PLC0415
    from muster_contracts.health.v1 import Health, HostHealth  # noqa: PLC0415
    from muster_contracts.selector import parse  # noqa: PLC0415

    parse(selector)
    summary = await fleet.health.summary()
    hosts: list[HostHealth] = []
    for health in health_asking.WORST_FIRST:
        if healths and health not in healths:
            continue
        # One more than is listed tells that there are more.
        left = None if count is None else count + 1 - len(hosts)
        if left == 0:
            break
        hosts += await first(fleet.health.hosts(selector, [Health(health)]), left)
    return HealthListed(fleet=summary, hosts=hosts[:count], more=count is not None and len(hosts) > count)


def show(agent_id: AgentId, json: Json = False, directory: Directory = None) -> None:
    """Show one agent as a tree: its packages, and the checks of those that are not well."""

    async def work(fleet: "Fleet") -> None:
        told = await fleet.health.host(agent_id)
        if json:
            emit("health-show", told)
            return
        from muster_client import render, render_health  # noqa: PLC0415

        render.show(render_health.host(told, now()))

    run(work, directory, about=agent_id)


def why(package: Name, agent: OneAgent = None, json: Json = False, directory: Directory = None) -> None:
    """Explain why a package is as it is: what is seen, what causes it, and what is done about it."""

    async def work(fleet: "Fleet") -> None:
        where = await health_asking.where_is(fleet, package, agent)
        told = await fleet.health.why(where, package)
        if json:
            emit("health-why", told)
            return
        from muster_client import render, render_health  # noqa: PLC0415

        render.show(render_health.explanation(told, now()))

    run(work, directory)


def packages(
    selector: Selecting = "",
    *,
    agent: OneTarget = None,
    package: AnyPackage = None,
    healths: Healths = None,
    limit: Limit = None,
    json: Json = False,
    directory: Directory = None,
) -> None:
    """Show how packages are: of every agent that matches, or of one."""

    async def work(fleet: "Fleet") -> None:
        from muster_contracts.health.v1 import Health  # noqa: PLC0415

        found = fleet.health.packages(
            _selector(selector, agent), package=package, health=[Health(word) for word in healths or []]
        )
        count = limit or (None if json else SCREENFUL)
        _print_packages("health-packages", await first(found, count), "no package matches", json=json)

    run(work, directory)


def flapping(
    selector: Selecting = "", *, agent: OneTarget = None, json: Json = False, directory: Directory = None
) -> None:
    """Show the packages that change their health too often to be told each time."""

    async def work(fleet: "Fleet") -> None:
        found = fleet.health.packages(_selector(selector, agent), flapping=True)
        _print_packages("health-flapping", await first(found, None), "nothing flaps", json=json)

    run(work, directory)


def _selector(selector: str, agent: str | None) -> str:
    """What was selected, or the one agent that was named.

    Raises:
        Usage: both were given.
        SelectorError: it cannot be read.
    """
    from muster_client.errors import Usage  # noqa: PLC0415
    from muster_contracts.selector import parse  # noqa: PLC0415

    if agent is None:
        parse(selector)
        return selector
    if selector:
        raise Usage("cannot take both a selector and --agent: --agent is the selector id=…")
    return f"id={agent}"


def _print_packages(command: str, found: "list[PackageHealth]", none: str, *, json: bool) -> None:
    if json:
        emit(command, found)
    elif not found:
        note(none)
    else:
        from muster_client import render, render_health  # noqa: PLC0415

        render.show(render_health.packages(found, now()))


# How it was ------------------------------------------------------------------------------------------


def incidents(
    *,
    agent: OneTarget = None,
    package: AnyPackage = None,
    over: Annotated[bool, typer.Option("--over", help="Those that are over.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Those that are over, too.")] = False,
    limit: Limit = None,
    json: Json = False,
    directory: Directory = None,
) -> None:
    """Show what is ill by itself: since when, what it makes ill, what was tried, who looks after it."""

    async def work(fleet: "Fleet") -> None:
        lasting = None if everything else not over
        found = fleet.health.incidents(lasting=lasting, agent=agent, package=package)
        told = await first(found, limit or (None if json else SCREENFUL))
        if json:
            emit("health-incidents", told)
        elif not told:
            note("no incidents" if everything or over else "no incident is open")
        else:
            from muster_client import render, render_health  # noqa: PLC0415

            render.show(render_health.incidents(told, now()))

    run(work, directory)


def history(
    *,
    agent: OneTarget = None,
    package: AnyPackage = None,
    since: From = None,
    until: Until = None,
    limit: Limit = None,
    json: Json = False,
    directory: Directory = None,
) -> None:
    """Show how the health of packages and agents changed, newest first."""
    count = limit or (None if json else SCREENFUL)
    begin, end = moment_of(since), moment_of(until)

    async def work(fleet: "Fleet") -> None:
        found = fleet.health.history(
            agent=agent, package=package, since=begin, until=end, page=min((count or 500) + 1, 500)
        )
        # One more than is shown tells that there are more.
        events = await first(found, count + 1 if count else None)
        if json:
            emit("health-history", events[:count])
        elif not events:
            note("nothing has changed that matches")
        else:
            from muster_client import render, render_health  # noqa: PLC0415

            render.show(render_health.history(events[:count]))
            if count and len(events) > count:
                note(f"the newest {count}; --limit shows more")

    run(work, directory)


def availability(
    package: Name,
    *,
    agent: OneTarget = None,
    since: Annotated[
        str, typer.Option(metavar="TIME", help="From when on: 2h, 7d, 2026-01-31T14:05.")
    ] = "1d",
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Until when; by default now.")] = None,
    json: Json = False,
    directory: Directory = None,
) -> None:
    """Show how much of a time a package worked, on each agent that has it: of the last day by default."""
    begin, end = moment_of(since), moment_of(until)

    async def work(fleet: "Fleet") -> None:
        agents = [agent] if agent else await health_asking.agents_with(fleet, package)
        told = [await fleet.health.availability(one, package, begin, end) for one in agents]
        if json:
            emit("health-availability", told)
            return
        from muster_client import render, render_health  # noqa: PLC0415

        render.show(render_health.availability(told))

    run(work, directory)


# Just now --------------------------------------------------------------------------------------------


def checks(
    agent_id: AgentId,
    *,
    package: AnyPackage = None,
    json: Json = False,
    directory: Directory = None,
) -> None:
    """Show what the checks of one machine hold, as its own agent tells it; works without health-recovery."""

    async def work(fleet: "Fleet") -> None:
        told = await health_asking.checks_of(fleet, agent_id, package)
        if json:
            emit("health-checks", told)
        elif not told:
            note(f"no checks on {agent_id}; a package.json lists them under 'checks'")
        else:
            from muster_client import render, render_health  # noqa: PLC0415

            render.show(render_health.checks(told, now()))

    run(work, directory, about=agent_id)


def watch(
    *,
    agent: OneTarget = None,
    looks: Annotated[bool, typer.Option("--checks", help="Each look of each check as well.")] = False,
    since: Since = None,
    count: Count = None,
    json: Json = False,
    directory: Directory = None,
) -> None:
    """Show changes of health, incidents and acts of recovery as they happen, one line each, until Ctrl-C."""
    start = since_of(since)

    async def work(fleet: "Fleet") -> None:
        from muster_client.health import NEWS  # noqa: PLC0415
        from muster_client.health_news import lines_of  # noqa: PLC0415
        from muster_contracts.health.v1 import ChecksRan  # noqa: PLC0415

        left = count
        contracts: tuple[type[Message], ...] = (*NEWS, ChecksRan) if looks else NEWS
        async with fleet.watch(*contracts, agent=agent, since=start) as facts:
            async for fact in facts:
                for line in lines_of(fact):
                    # An incident is said by health-recovery, of whichever agent its cause is on.
                    if agent not in {None, line.agent_id}:
                        continue
                    _print_news(line, json=json)
                    if left is not None and (left := left - 1) == 0:
                        return

    run(work, directory)


def _print_news(line: "HealthLine", *, json: bool) -> None:
    if json:
        emit_line("health-watch", line)
        return
    from muster_client import render, render_health  # noqa: PLC0415

    render.show(render_health.news(line))
