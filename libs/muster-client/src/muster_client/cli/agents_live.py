"""Agents as they are just now: their vitals, and the news of their coming and going."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from muster_client.cli import completing
from muster_client.cli.common import Directory
from muster_client.cli.running import Json, emit, emit_line, length_of_time, now, run

if TYPE_CHECKING:
    from muster_client.fleet import Fleet
    from muster_client.outputs import PresenceLine
    from muster_contracts.fleet.v1 import AgentRow
    from muster_contracts.host.v1 import Vitals
    from muster_contracts.message import Message

VITALS_SECONDS = 0.7
"""A list does not wait longer for an agent to say how it is."""
ASKED_AT_ONCE = 100

AgentId = Annotated[
    str, typer.Argument(metavar="ID", autocompletion=completing.agent_ids, help="The agent's id.")
]
Selecting = Annotated[
    str,
    typer.Argument(
        metavar="SELECTOR", help="For example: site=ams, 'role in (web,db)', 'id=web-*', group=canary"
    ),
]
Since = Annotated[
    str | None, typer.Option(metavar="TIME", help="Begin with what happened since then: 45s, 5m, 2h, 7d.")
]
Count = Annotated[int | None, typer.Option(min=1, help="End after so many.")]


def since_of(text: str | None) -> timedelta | None:
    """``--since`` as a length of time."""
    return None if text is None else timedelta(seconds=length_of_time(text))


# Vitals ------------------------------------------------------------------------------------------


async def all_vitals(fleet: "Fleet", rows: "Sequence[AgentRow]") -> "dict[str, Vitals]":
    """What the online hosts among ``rows`` answer in time; the rest are left out."""
    hosts = [row.id for row in rows if row.kind == "host" and row.state in {"online", "late"}]
    room = asyncio.Semaphore(ASKED_AT_ONCE)

    async def ask(agent_id: str) -> "tuple[str, Vitals | None]":
        async with room:
            return agent_id, await vitals_of(fleet, agent_id)

    asked = [asyncio.create_task(ask(agent_id)) for agent_id in hosts]
    if not asked:
        return {}
    done, late = await asyncio.wait(asked, timeout=VITALS_SECONDS)
    for task in late:
        task.cancel()
    await asyncio.gather(*late, return_exceptions=True)
    return {agent_id: told for agent_id, told in (task.result() for task in done) if told}


async def vitals_of(fleet: "Fleet", agent_id: str, within: float | None = None) -> "Vitals | None":
    """How a machine is, if its agent says so at once: one that does not listen is not worth a wait."""
    from muster_bus.errors import MusterError  # noqa: PLC0415
    from muster_contracts.host.v1 import ReadVitals  # noqa: PLC0415

    try:
        question = ReadVitals(occurred_at=now(), agent_id=agent_id)
        return await fleet.bus.ask(question, timeout=within or VITALS_SECONDS)
    except MusterError:
        return None


def vitals(
    agent_id: AgentId,
    follow: Annotated[bool, typer.Option("--watch", "-w", help="Go on, with every sample it takes.")] = False,
    count: Count = None,
    json: Json = False,
    directory: Directory = None,
) -> None:
    """Show how a machine is just now: CPU, load, memory, disks, network, sensors."""

    async def once(fleet: "Fleet") -> None:
        _print_vitals(await _answered(fleet, agent_id), json=json)

    async def on_and_on(fleet: "Fleet") -> None:
        from muster_contracts.host.v1 import Vitals  # noqa: PLC0415

        async with fleet.watch(Vitals, agent=agent_id) as samples:
            _print_vitals(await _answered(fleet, agent_id), json=json, live=True)
            for _ in range((count or 2**31) - 1):
                _print_vitals(await anext(samples), json=json, live=True)

    run(on_and_on if follow else once, directory, about=agent_id)


async def _answered(fleet: "Fleet", agent_id: str) -> "Vitals":
    from muster_client.errors import NotFound  # noqa: PLC0415

    if sample := await vitals_of(fleet, agent_id, within=2.0):
        return sample
    # Whether it is unknown or away, the registry tells better than silence does.
    known = (await fleet.agent(agent_id)).agent
    why = f"it is {known.state} ({known.reason})"
    raise NotFound(f"cannot read the vitals of {agent_id}: it does not answer, {why}")


def _print_vitals(sample: "Vitals", *, json: bool, live: bool = False) -> None:
    if json:
        (emit_line if live else emit)("agents-vitals", sample)
        return
    from muster_client import render  # noqa: PLC0415

    render.show(render.vitals_of(sample), clear=live)


# News --------------------------------------------------------------------------------------------


def watch(
    selector: Selecting = "",
    since: Since = None,
    count: Count = None,
    json: Json = False,
    directory: Directory = None,
) -> None:
    """Show agents come and go, one line each, until Ctrl-C; flapping, clones and cut-off sites too."""
    start = since_of(since)

    async def work(fleet: "Fleet") -> None:
        concerns = await _concerns(fleet, selector)
        left = count
        async with fleet.watch(*_news(), since=start) as facts:
            async for fact in facts:
                if not await concerns(fact):
                    continue
                _print_news(news_line(fact), json=json)
                if left is not None and (left := left - 1) == 0:
                    return

    run(work, directory)


def _news() -> "tuple[type[Message], ...]":
    from muster_contracts.fleet import v1  # noqa: PLC0415

    return (
        v1.PresenceChanged,
        v1.AgentFlapping,
        v1.AgentStable,
        v1.IdentityConflict,
        v1.PartitionSuspected,
        v1.PartitionEnded,
    )


async def _concerns(fleet: "Fleet", text: str) -> "Callable[[Message], Awaitable[bool]]":
    """Whether a fact is of an agent that the selector means; news of a whole site concern everybody.

    A change of presence carries what a selector asks for; of other facts the registry knows whose they are.
    """
    from muster_contracts.fleet.v1 import PresenceChanged  # noqa: PLC0415
    from muster_contracts.selector import GROUP, Facts, Selector, parse  # noqa: PLC0415

    selector = parse(text)
    groups = {g.name: parse(g.selector) for g in await fleet.groups()} if selector.uses(GROUP) else {}

    def means(one: Selector, change: PresenceChanged, of: Collection[str]) -> bool:
        return one.matches(Facts(change.agent_id, change.kind, change.now, frozenset(of), change.labels))

    async def concerns(fact: "Message") -> bool:
        if isinstance(fact, PresenceChanged):
            of = [name for name, group in groups.items() if means(group, fact, ())]
            return means(selector, fact, of)
        agent_id = getattr(fact, "agent_id", None)
        if agent_id is None or not selector.requirements:
            return True
        return (await fleet.find(f"{selector},id={agent_id}", limit=1)).total > 0

    return concerns


def news_line(fact: "Message") -> "PresenceLine":
    """A fact as one line of news."""
    from muster_client.outputs import PresenceLine  # noqa: PLC0415
    from muster_contracts.fleet.v1 import PresenceChanged  # noqa: PLC0415
    from muster_contracts.message import kebab  # noqa: PLC0415

    changed = fact if isinstance(fact, PresenceChanged) else None
    return PresenceLine(
        at=fact.occurred_at,
        event=kebab(type(fact).__name__),
        agent_id=getattr(fact, "agent_id", None),
        was=changed.was if changed else None,
        now=changed.now if changed else None,
        reason=changed.reason if changed else None,
        labels=changed.labels if changed else {},
        text=_in_words(fact),
    )


def _in_words(fact: "Message") -> str:
    from muster_client.humanise import duration  # noqa: PLC0415
    from muster_contracts.fleet import v1  # noqa: PLC0415

    match fact:
        case v1.PresenceChanged():
            text = f"{fact.now}, was {fact.was} ({fact.reason})"
        case v1.AgentFlapping():
            text = (
                f"flaps: {fact.changes} changes in {duration(fact.window_seconds)}, not told one by one now"
            )
        case v1.AgentStable():
            text = f"is stable again: {fact.presence}"
        case v1.IdentityConflict():
            text = f"two machines speak under {fact.agent_id}; the later one is {fact.known_as}"
        case v1.PartitionSuspected():
            text = f"{fact.site or '(no site)'} seems cut off: {fact.missing} of {fact.known} agents vanished"
        case v1.PartitionEnded():
            text = f"{fact.site or '(no site)'} is back after {duration(fact.lasted_seconds)}: "
            text += f"{fact.returned} returned, {fact.still_lost} lost"
        case _:
            text = str(fact)
    return text


def _print_news(line: "PresenceLine", *, json: bool) -> None:
    if json:
        emit_line("agents-watch", line)
        return
    from muster_client import render  # noqa: PLC0415

    render.show(render.presence_line(line))
