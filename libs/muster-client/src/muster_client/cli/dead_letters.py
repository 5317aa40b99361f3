"""``muster dead-letters``: messages a service could not take, with the reason."""

from typing import TYPE_CHECKING, Annotated

import typer

from muster_client.cli.agents_live import since_of
from muster_client.cli.common import Directory
from muster_client.cli.running import Json, emit, note, run

if TYPE_CHECKING:
    from muster_client.decode import Heard
    from muster_client.fleet import Fleet
    from muster_client.outputs import DeadLetterLine

KEPT = "30d"
"""As long as streams keep anything."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("dead-letters")(dead_letters)


def dead_letters(  # noqa: PLR0917  (each is an option of the command line)
    since: Annotated[str, typer.Option(metavar="TIME", help="Not older than: 45s, 5m, 2h, 7d.")] = KEPT,
    service: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only what this service refused.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="The youngest so many; by default 100, or all with --json.")
    ] = None,
    payload: Annotated[bool, typer.Option("--payload", help="Show the first bytes of each.")] = False,
    json: Json = False,
    directory: Directory = None,
) -> None:
    """Show the messages that services could not take, with the reason, oldest first."""
    start = since_of(since)
    assert start

    async def work(fleet: "Fleet") -> None:
        from collections import deque  # noqa: PLC0415

        from muster_contracts.bus.v1 import DeadLettered  # noqa: PLC0415

        youngest: deque[DeadLetterLine] = deque(maxlen=limit or (None if json else 100))
        async for heard in fleet.recall(DeadLettered, start):
            if (line := dead_letter_line(heard)) and service in {None, line.service}:
                youngest.append(line)
        _print(list(youngest), payload=payload, json=json)

    run(work, directory)


def dead_letter_line(heard: "Heard") -> "DeadLetterLine | None":
    """A kept dead letter as the command shows it; None for one of a shape this version cannot read."""
    from muster_client.decode import judge  # noqa: PLC0415
    from muster_client.outputs import DeadLetterLine  # noqa: PLC0415
    from muster_contracts.bus.v1 import DeadLettered  # noqa: PLC0415

    _, letter, _ = judge(heard)
    if not isinstance(letter, DeadLettered):
        return None
    return DeadLetterLine(
        at=letter.occurred_at,
        service=letter.service,
        reason=letter.reason,
        subject=letter.original_subject,
        contract=letter.contract_name,
        detail=letter.detail,
        size_bytes=letter.size_bytes,
        deliveries=letter.deliveries,
        payload=letter.payload,
    )


def _print(lines: "list[DeadLetterLine]", *, payload: bool, json: bool) -> None:
    if json:
        emit("dead-letters", lines)
    elif not lines:
        note("no dead letters")
    else:
        from muster_client import render  # noqa: PLC0415

        render.show(render.dead_letters(lines, payload=payload))
