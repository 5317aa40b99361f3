"""``muster watch``: messages of any contract as they go by, decoded."""

from typing import TYPE_CHECKING, Annotated

import typer

from muster_client.cli import completing
from muster_client.cli.agents_live import Count, Since, since_of
from muster_client.cli.common import Directory
from muster_client.cli.running import Json, emit_line, note, run

if TYPE_CHECKING:
    from muster_client.fleet import Fleet
    from muster_client.outputs import WatchedMessage
    from muster_client.watching import Listening
    from muster_contracts.message import Message


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(watch)


def watch(  # noqa: PLR0917  (each is an option of the command line)
    contracts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CONTRACT]...",
            autocompletion=completing.contract_names,
            help="Names or globs: agent.v1.Heartbeat, fleet.v1.*, Heartbeat; by default all but questions.",
        ),
    ] = None,
    agent: Annotated[
        str | None,
        typer.Option(metavar="ID", autocompletion=completing.agent_ids, help="Only what is of this agent."),
    ] = None,
    since: Since = None,
    count: Count = None,
    json: Json = False,
    directory: Directory = None,
) -> None:
    """Show messages as they go by, decoded, until Ctrl-C; what cannot be read is shown as such.

    With --since, durable contracts begin with what their streams kept. Questions are shown when you
    name them; answers are not: they go to whoever asked.
    """
    start = since_of(since)

    async def work(fleet: "Fleet") -> None:
        async with fleet.overhear(*_chosen(contracts or []), agent=agent, since=start) as listening:
            _tell_of_breaks(fleet)
            await _follow(listening, agent, count, json=json)

    run(work, directory)


def _chosen(names: list[str]) -> "list[type[Message]]":
    from muster_client.cataloguing import named  # noqa: PLC0415
    from muster_contracts.message import Delivery  # noqa: PLC0415

    if names:
        return named(names)
    # Listening to a question makes it look answered to whoever asks it while its service is away.
    return [one for one in named(["*"]) if one.DELIVERY is not Delivery.ASK]


def _tell_of_breaks(fleet: "Fleet") -> None:
    def tell(text: str) -> None:
        if not fleet.closing:
            note(text)

    fleet.bus.on_disconnect(lambda: tell("the broker is away; waiting for it"))
    fleet.bus.on_reconnect(lambda: tell("the broker is back"))


async def _follow(listening: "Listening", agent: str | None, count: int | None, *, json: bool) -> None:
    from muster_client.decode import watched  # noqa: PLC0415

    shown, dropped = 0, 0
    while count is None or shown < count:
        heard = await listening.heard()
        if agent and agent not in heard.subject.split("."):
            continue
        _print(watched(heard), json=json)
        shown += 1
        if listening.dropped > dropped:
            note(f"{listening.dropped - dropped} messages came too fast to be shown")
            dropped = listening.dropped


def _print(line: "WatchedMessage", *, json: bool) -> None:
    if json:
        emit_line("watch", line)
        return
    from muster_client import render  # noqa: PLC0415

    render.show(render.watched(line, render.console().width))
