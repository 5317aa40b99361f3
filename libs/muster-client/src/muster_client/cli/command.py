"""``muster command``: whatever was ordered of agents, by anybody, and what became of it."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from muster_client.cli import completing
from muster_client.cli.agents import SCREENFUL, Limit, first
from muster_client.cli.common import Directory
from muster_client.cli.listing import ListByDefault
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
    judge,
    only,
)
from muster_client.cli.running import Json, emit, length_of_time, note, now, run

if TYPE_CHECKING:
    from uuid import UUID

    from muster_client.commands import Command
    from muster_client.fleet import Fleet
    from muster_contracts.command.v1 import CommandDetail, CommandState, Target

STATES = (
    "pending", "accepted", "running", "succeeded", "failed", "timed_out",
    "expired", "cancelled", "rejected", "interrupted", "lost",
)  # fmt: skip
"""Those of ``command.v1.CommandState``, spelled here so that ``--help`` does without the contracts."""
SHORTEST_PREFIX = 4
SEARCHED = 2000
"""A prefix is looked for among so many of the newest targets."""

Id = Annotated[
    str,
    typer.Argument(
        metavar="ID", autocompletion=completing.command_ids, help="The command's id, or how it begins."
    ),
]
OneTarget = Annotated[
    str | None, typer.Option("--agent", metavar="ID", autocompletion=completing.agent_ids, help="Only there.")
]


def known_states(words: list[str] | None) -> list[str]:
    """The states, if they are any."""
    for word in words or []:
        if word not in STATES:
            raise typer.BadParameter(f"{word!r} is not one of {', '.join(STATES)}")
    return words or []


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command = typer.Typer(cls=ListByDefault, help="What was ordered of agents, and what became of it.")
    command.command("list")(list_targets)
    for one in (show, watch, output, cancel, submit):
        command.command()(one)
    app.add_typer(command, name="command")


# What was ordered ------------------------------------------------------------------------------------


def list_targets(
    *,
    agent: OneTarget = None,
    states: Annotated[
        list[str] | None,
        typer.Option(
            "--state",
            metavar="STATE",
            autocompletion=completing.among(STATES),
            callback=known_states,
            help=f"Only these; may be repeated: {', '.join(STATES)}.",
        ),
    ] = None,
    issuer: Annotated[str | None, typer.Option(metavar="WHO", help="Only ordered by ann@laptop.")] = None,
    verb: Annotated[
        str | None, typer.Option(metavar="VERB", autocompletion=completing.verbs, help="Only this verb.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only ordered since: 45s, 2h, 7d, 2026-01-31T14:05."),
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Only ordered before.")] = None,
    command: Annotated[
        str | None,
        typer.Option(metavar="ID", autocompletion=completing.command_ids, help="Only of this command."),
    ] = None,
    limit: Limit = None,
    json: Json = False,
    directory: Directory = None,
) -> None:
    """Show what was ordered of whom and what became of it, one line for each agent, newest first."""
    count = limit or (None if json else SCREENFUL)
    begin, end = moment_of(since), moment_of(until)

    async def work(fleet: "Fleet") -> None:
        found = fleet.targets(
            command=await resolve(fleet, command) if command else None,
            agent=agent, states=_states(states or []), issuer=issuer, verb=verb, since=begin, until=end,
            page=min((count or 200) + 1, 200),
        )  # fmt: skip
        # One more than is shown tells that there are more.
        targets = await first(found, count + 1 if count else None)
        _print_list(targets[:count], more=bool(count) and len(targets) > (count or 0), json=json)

    run(work, directory)


def _states(words: list[str]) -> "list[CommandState]":
    from muster_contracts.command.v1 import CommandState  # noqa: PLC0415

    return [CommandState(word) for word in words]


def _print_list(targets: "list[Target]", *, more: bool, json: bool) -> None:
    if json:
        emit("command-list", targets)
        return
    if not targets:
        note("nothing was ordered that matches")
        return
    from muster_client import render, render_orders  # noqa: PLC0415

    render.show(render_orders.targets(targets, now(), render.console().width))
    if more:
        note(f"the newest {len(targets)}; --limit shows more")


def moment_of(text: str | None) -> datetime | None:
    """``2h`` ago, or a moment in ISO 8601; without an offset by this machine's own clock."""
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).astimezone() if "-" in text else _ago(text)
    except ValueError:
        raise typer.BadParameter(f"cannot read {text!r} as a time; write 2h or 2026-01-31T14:05") from None


def _ago(text: str) -> datetime:
    from datetime import timedelta  # noqa: PLC0415

    moment: datetime = now() - timedelta(seconds=length_of_time(text))
    return moment


async def resolve(fleet: "Fleet", text: str) -> "UUID":
    """An id, or the beginning of one of the newest, as the id.

    Raises:
        Usage: it is neither, or several begin so.
        NotFound: none begins so.
    """
    from uuid import UUID  # noqa: PLC0415

    from muster_client.errors import NotFound, Usage  # noqa: PLC0415

    try:
        return UUID(text)
    except ValueError:
        pass
    if len(text) < SHORTEST_PREFIX or set(text.lower()) - set("0123456789abcdef-"):
        raise Usage(f"cannot read {text!r} as a command's id; see those there are with: muster command list")
    newest = await first(fleet.targets(), SEARCHED)
    ids = {target.id for target in newest if str(target.id).startswith(text.lower())}
    if not ids:
        raise NotFound(f"cannot find a command that begins with {text}; see: muster command list")
    if len(ids) > 1:
        raise Usage(f"cannot choose: {len(ids)} commands begin with {text}; write more of the id")
    return ids.pop()


async def _known(fleet: "Fleet", text: str) -> "Command":
    return await fleet.command(await resolve(fleet, text))


def show(command_id: Id, json: Json = False, directory: Directory = None) -> None:
    """Show one command: what was ordered, by whom, on which terms, and each of its targets."""

    async def work(fleet: "Fleet") -> None:
        from muster_client.outputs import CommandShown  # noqa: PLC0415

        command = await _known(fleet, command_id)
        detail = await command.detail()
        each = [target async for target in fleet.targets(command=command.id)]
        shown = CommandShown(**dict(detail), each=sorted(each, key=lambda target: target.agent))
        if json:
            emit("command-show", shown)
            return
        from muster_client import render, render_orders  # noqa: PLC0415

        render.show(render_orders.command(shown, now()))

    run(work, directory)


# What happens to it ----------------------------------------------------------------------------------


def watch(command_id: Id, json: Json = False, directory: Directory = None) -> None:
    """Show what happens to a command until it has ended everywhere; exit code 1 unless it succeeded."""

    async def work(fleet: "Fleet") -> None:
        import sys  # noqa: PLC0415

        from muster_client.cli import following  # noqa: PLC0415

        command = await _known(fleet, command_id)
        if json or not sys.stderr.isatty():
            targets = await following.watch(command, json=json)
        else:
            targets = await following.follow(command, _title(await command.detail()), json=False)
        judge(command, targets)

    run(work, directory)


def _title(detail: "CommandDetail") -> str:
    """``restart web``."""
    about = detail.body.get("package") or detail.body.get("script") or ""
    return f"{detail.verb.rpartition('.')[2]} {about}".rstrip()


def output(
    command_id: Id,
    agent: OneTarget = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what is printed, until the command has ended.")
    ] = False,
    directory: Directory = None,
) -> None:
    """Print what a command printed on an agent; with --follow, to its last byte."""

    async def work(fleet: "Fleet") -> None:
        from muster_client.cli.streaming import print_output  # noqa: PLC0415

        command = await _known(fleet, command_id)
        agents = [target.agent async for target in fleet.targets(command=command.id)]
        where = agent or only(sorted(agents), "it was ordered of")
        await print_output(command, where, follow=follow)

    run(work, directory)


def cancel(command_id: Id, agent: OneTarget = None, json: Json = False, directory: Directory = None) -> None:
    """Stop a command where it runs, and do not begin it where it does not; what has ended stays as it is."""

    async def work(fleet: "Fleet") -> None:
        command = await _known(fleet, command_id)
        if agent:
            await command.target(agent)
        detail = await command.cancel(agent)
        if json:
            emit("command-cancel", detail)
            return
        from muster_client import render, render_orders  # noqa: PLC0415

        render.show(render_orders.cancelled(detail))

    run(work, directory)


def submit(
    verb: Annotated[
        str,
        typer.Argument(metavar="VERB", autocompletion=completing.verbs, help="Such as package.restart."),
    ],
    fields: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="What it takes; given again, a key makes a list."),
    ] = None,
    *,
    agents: Agents = None,
    on: On = None,
    issuer: Annotated[
        str | None, typer.Option(metavar="WHO", help="Who orders it; by default user@host.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(metavar="KEY", help="Your own name for this act: ordered once, if repeated.")
    ] = None,
    no_wait: NoWait = False,
    timeout: Timeout = FIVE_MINUTES,
    start_within: Annotated[
        str, typer.Option(metavar="TIME", help="Longer it does not wait for its turn on an agent.")
    ] = FIVE_MINUTES,
    expires: Expires = FIVE_MINUTES,
    json: Json = False,
    directory: Directory = None,
) -> None:
    """Order any verb there is of agents, and wait for the end.

    For example: muster command submit package.restart package=web --on site=ams --key tuesday
    """
    selector = Whom(agents, on).given
    if selector is None:
        raise typer.BadParameter("cannot order it of nobody: name agents with --agent, or whom with --on")
    terms = Terms(timeout, expires, start_within, issuer, key, no_wait, json)

    async def work(fleet: "Fleet") -> None:
        from muster_client.bodies import body_from_words  # noqa: PLC0415

        body = body_from_words(verb, fields or [])
        await carry_out(fleet, "command-submit", body, selector, terms)

    run(work, directory)
