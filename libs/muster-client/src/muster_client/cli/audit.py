"""``muster audit``: who ordered what of whom, and whether that record is whole."""

from typing import TYPE_CHECKING, Annotated

import typer

from muster_client.cli.agents import SCREENFUL
from muster_client.cli.common import FAILED, Directory
from muster_client.cli.listing import ListByDefault
from muster_client.cli.running import Json, emit, note, run

if TYPE_CHECKING:
    from muster_client.fleet import Fleet
    from muster_client.outputs import AuditVerdict


def register(app: typer.Typer) -> None:
    """Add the commands."""
    audit = typer.Typer(cls=ListByDefault, help="Who ordered what of whom, and whether that record is whole.")
    audit.command("list")(list_entries)
    audit.command()(verify)
    app.add_typer(audit, name="audit")


def list_entries(
    after: Annotated[int, typer.Option(min=0, help="Only entries with a greater number.")] = 0,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help=f"The last so many; by default {SCREENFUL}, or all with --json."),
    ] = None,
    json: Json = False,
    directory: Directory = None,
) -> None:
    """Show who wanted what and what was decided, oldest first."""
    count = limit or (None if json else SCREENFUL)

    async def work(fleet: "Fleet") -> None:
        begin = max(after, await fleet.audited() - count) if count else after
        entries = [entry async for entry in fleet.audit(begin)]
        if json:
            emit("audit-list", entries)
        elif not entries:
            note("no entries")
        else:
            from muster_client import render, render_orders  # noqa: PLC0415

            render.show(render_orders.audit(entries, render.console().width))

    run(work, directory)


def verify(json: Json = False, directory: Directory = None) -> None:
    """Recompute the chain over all entries, and hold it against the anchors in the stream AUDIT.

    Exit codes: 0 it is whole, 1 it is not: an entry was altered, cut out, or written anew.
    """

    async def work(fleet: "Fleet") -> None:
        from muster_client.auditing import verify_audit  # noqa: PLC0415

        verdict = await verify_audit(fleet)
        if json:
            emit("audit-verify", verdict)
        elif verdict.intact:
            typer.echo(in_words(verdict))
        if not verdict.intact:
            note(in_words(verdict))
            raise typer.Exit(FAILED)

    run(work, directory)


def in_words(verdict: "AuditVerdict") -> str:
    """The verdict as a sentence."""
    from muster_client.humanise import clock  # noqa: PLC0415

    if not verdict.intact:
        return f"cannot trust the audit from entry {verdict.bad_sequence} on: {verdict.problem}"
    entries = f"{verdict.entries} {'entry' if verdict.entries == 1 else 'entries'}, intact"
    if verdict.anchored_at is None:
        return f"{entries}, not anchored yet"
    return f"{entries}, anchored at {clock(verdict.anchored_at)} up to entry {verdict.anchored_sequence}"
