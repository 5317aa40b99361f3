"""``muster agents``: who is in the fleet, how they are, how they came and went; and ``muster summary``."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import typer

from muster_client.cli import completing
from muster_client.cli.agents_live import AgentId, Selecting, all_vitals, vitals, vitals_of, watch
from muster_client.cli.common import Directory
from muster_client.cli.listing import ListByDefault
from muster_client.cli.running import Json, emit, note, now, run

if TYPE_CHECKING:
    from muster_client.fleet import Fleet
    from muster_client.outputs import AgentLine
    from muster_contracts.fleet.v1 import AgentDetail, AgentPage, AgentRow
    from muster_contracts.host.v1 import Vitals

T = TypeVar("T")

SCREENFUL = 100
"""What a person is shown unless more is asked for; programs get everything."""

STATES = ("expected", "online", "late", "lost", "left", "retired")
"""Those of ``fleet.v1.Presence``, spelled here so that ``--help`` does without the contracts."""
Kind = Literal["host", "cluster", "runner", "opamp"]

Limit = Annotated[
    int | None, typer.Option(min=1, help=f"At most so many; by default {SCREENFUL}, or all with --json.")
]


def known_states(words: list[str]) -> list[str]:
    """The states, if they are any."""
    for word in words or []:
        if word not in STATES:
            raise typer.BadParameter(f"{word!r} is not one of {', '.join(STATES)}")
    return words


def register(app: typer.Typer) -> None:
    """Add the commands."""
    agents = typer.Typer(
        cls=ListByDefault, help="Who is in the fleet, how they are, and how they came and went."
    )
    agents.command("list")(list_agents)
    for command in (show, history, connections, watch, vitals, label, expect, retire):
        agents.command()(command)
    app.add_typer(agents, name="agents")
    app.command()(summary)


def list_agents(  # noqa: PLR0917  (each is an option of the command line)
    selector: Selecting = "",
    states: Annotated[
        list[str] | None,
        typer.Option(
            "--state",
            metavar="STATE",
            autocompletion=completing.states,
            callback=known_states,
            help=f"Only these; may be repeated: {', '.join(STATES)}.",
        ),
    ] = None,
    limit: Limit = None,
    everyone: Annotated[bool, typer.Option("--all", help="Show every one, however many there are.")] = False,
    with_vitals: Annotated[
        bool, typer.Option("--vitals/--no-vitals", help="Ask the hosts how they are.")
    ] = True,
    json: Json = False,
    directory: Directory = None,
) -> None:
    """Show the agents that match; without states all but the retired ones."""
    count = None if everyone else limit or (None if json else SCREENFUL)

    async def work(fleet: "Fleet") -> None:
        page = await _found(fleet, selector, states or [], count)
        how = await all_vitals(fleet, page.agents) if with_vitals else {}
        _print_list([_line(row, how.get(row.id)) for row in page.agents], page, json=json)

    run(work, directory)


async def _found(fleet: "Fleet", selector: str, states: Sequence[str], limit: int | None) -> "AgentPage":
    """The first ``limit`` agents, or all, as one page."""
    from muster_client.roll import PAGE  # noqa: PLC0415
    from muster_contracts.fleet.v1 import Presence  # noqa: PLC0415
    from muster_contracts.selector import parse  # noqa: PLC0415

    parse(selector)
    wanted = [Presence(state) for state in states]
    page = await fleet.find(selector, wanted, limit=limit or PAGE)
    rows = list(page.agents)
    while page.next and (limit is None or len(rows) < limit):
        left = PAGE if limit is None else limit - len(rows)
        page = await fleet.find(selector, wanted, after=page.next, limit=left)
        rows += page.agents
    return page.model_copy(update={"agents": rows})


def _line(row: "AgentRow", vitals: "Vitals | None") -> "AgentLine":
    from muster_client.outputs import AgentLine, VitalsBrief  # noqa: PLC0415

    brief = VitalsBrief.model_validate(vitals, from_attributes=True) if vitals else None
    return AgentLine(**dict(row), vitals=brief)


def _print_list(lines: "list[AgentLine]", page: "AgentPage", *, json: bool) -> None:
    if page.degraded:
        note(f"the registry is degraded: {page.degraded.text}")
    if json:
        emit("agents-list", lines)
        return
    if not lines:
        note("no agent matches" if page.total == 0 else "no agent on this page")
        return
    from muster_client import render  # noqa: PLC0415

    table = render.agents(lines, now(), render.console().width)
    render.show(table, *render.agents_footer(lines, page.total))


def show(agent_id: AgentId, json: Json = False, directory: Directory = None) -> None:
    """Show all that is known of one agent, and how its machine is just now."""

    async def work(fleet: "Fleet") -> None:
        from muster_client.outputs import AgentShown  # noqa: PLC0415

        detail, told = await asyncio.gather(fleet.agent(agent_id), vitals_of(fleet, agent_id))
        shown = AgentShown(**dict(detail), vitals=told)
        if json:
            emit("agents-show", shown)
        else:
            _show("agent", shown, now())

    run(work, directory, about=agent_id)


def history(agent_id: AgentId, limit: Limit = None, json: Json = False, directory: Directory = None) -> None:
    """Show how an agent came and went, newest first."""

    async def work(fleet: "Fleet") -> None:
        events = await first(fleet.history(agent_id), limit or (None if json else SCREENFUL))
        if json:
            emit("agents-history", events)
        else:
            _show("history", events)

    run(work, directory, about=agent_id)


def connections(
    agent_id: AgentId, limit: Limit = None, json: Json = False, directory: Directory = None
) -> None:
    """Show the sessions of an agent, newest first."""

    async def work(fleet: "Fleet") -> None:
        sessions = await first(fleet.connections(agent_id), limit or (None if json else SCREENFUL))
        if json:
            emit("agents-connections", sessions)
        else:
            _show("connections", sessions)

    run(work, directory, about=agent_id)


async def first(things: AsyncIterator[T], count: int | None) -> list[T]:
    """The first ``count`` of what comes, or all."""
    taken: list[T] = []
    async for thing in things:
        taken.append(thing)
        if len(taken) == count:
            break
    return taken


def label(
    agent_id: AgentId,
    changes: Annotated[list[str], typer.Argument(metavar="KEY=VALUE|KEY-", help="Assign, or take back.")],
    json: Json = False,
    directory: Directory = None,
) -> None:
    """Assign labels to an agent (key=value), or take assigned ones back (key-).

    They win over the labels the agent gives itself, which stay and show again when yours is taken back.
    """
    wanted = label_changes(changes)
    _decide("agents-label", lambda fleet: fleet.set_labels(agent_id, wanted), agent_id, directory, json=json)


def label_changes(words: Sequence[str]) -> dict[str, str | None]:
    """``key=value`` and ``key-`` as what is to be assigned, or taken back (None)."""
    changes: dict[str, str | None] = {}
    for word in words:
        key, sign, value = word.partition("=")
        if not sign and not word.endswith("-"):
            raise typer.BadParameter(f"cannot read {word!r}: write key=value to assign, key- to take back")
        changes[key if sign else word[:-1]] = value if sign else None
    return changes


def expect(
    agent_id: AgentId,
    kind: Annotated[Kind, typer.Option(help="What it looks after.")] = "host",
    labels: Annotated[list[str] | None, typer.Option("--label", help="key=value; may be repeated.")] = None,
    json: Json = False,
    directory: Directory = None,
) -> None:
    """Put an agent on the roll before it was ever seen, or take a retired one back."""
    assigned = {key: value for key, value in label_changes(labels or []).items() if value is not None}

    async def decide(fleet: "Fleet") -> "AgentDetail":
        from muster_contracts.agent.v1 import AgentKind  # noqa: PLC0415

        return await fleet.expect(agent_id, AgentKind(kind), assigned)

    _decide("agents-expect", decide, agent_id, directory, json=json)


def retire(agent_id: AgentId, json: Json = False, directory: Directory = None) -> None:
    """Take an agent out of the fleet; its history stays, and `muster agents expect` takes it back."""
    _decide("agents-retire", lambda fleet: fleet.retire(agent_id), agent_id, directory, json=json)


def _decide(
    command: str,
    decide: "Callable[[Fleet], Awaitable[AgentDetail]]",
    agent_id: str,
    directory: Path | None,
    *,
    json: bool,
) -> None:
    """Do what an operator decided of one agent, and show the agent as it is then."""

    async def work(fleet: "Fleet") -> None:
        detail = await decide(fleet)
        if json:
            emit(command, detail)
        else:
            from muster_client.outputs import AgentShown  # noqa: PLC0415

            _show("agent", AgentShown(**dict(detail)), now())

    run(work, directory, about=agent_id)


def summary(json: Json = False, directory: Directory = None) -> None:
    """Show the fleet in numbers: how many agents are in which state, and what needs an eye."""

    async def work(fleet: "Fleet") -> None:
        told = await fleet.summary()
        if told.degraded:
            note(f"the registry is degraded: {told.degraded.text}")
        if json:
            emit("summary", told)
        else:
            _show("summary", told)

    run(work, directory)


def _show(what: str, *values: object) -> None:
    from muster_client import render  # noqa: PLC0415  (Rich is for tables only)

    render.show(getattr(render, what)(*values))
