"""``muster up`` and ``muster down``: a whole fleet on this machine, started and stopped."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from muster_client.cli.common import Directory, told

if TYPE_CHECKING:
    from muster_client.embedded.layout import Layout
    from muster_client.embedded.view import View


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(up)
    app.command()(down)
    app.command()(provision)


def up(
    directory: Directory = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when ready; keep running behind.")
    ] = False,
    demo: Annotated[
        bool, typer.Option("--demo", help="Lay sample packages into the fleet's directory.")
    ] = False,
) -> None:
    """Start broker, Redis, services and an agent for this machine, or what of them has stopped.

    In the foreground until Ctrl-C, which stops everything in order. Exit codes: 0 done, 1 cannot start.
    """
    import os  # noqa: PLC0415

    from muster_client.embedded import launch  # noqa: PLC0415  (not needed by any other command)
    from muster_client.embedded.files import open_standard_streams  # noqa: PLC0415
    from muster_client.embedded.layout import Layout  # noqa: PLC0415
    from muster_client.embedded.view import View  # noqa: PLC0415

    os.umask(0o077)
    open_standard_streams()
    with told():
        layout = Layout.at(directory)
        layout.create()
        view = View()
        if demo:
            _lay_samples(layout, view)
        if launch.is_running(layout):
            view.say(f"Already running in {layout.root}; starting what has stopped, if anything.")
            view.ready(layout, launch.wake(layout, view.show))
        elif detach:
            view.ready(layout, launch.in_background(layout, view.show))
        else:
            launch.in_foreground(layout)


def _lay_samples(layout: "Layout", view: "View") -> None:
    from muster_client.embedded import demo  # noqa: PLC0415  (not needed by any other command)
    from muster_client.embedded.errors import CannotStart  # noqa: PLC0415

    try:
        laid = demo.lay(layout)
    except OSError as error:
        raise CannotStart(f"cannot lay the samples into {layout.packages}: {error.strerror}") from error
    names = ", ".join(laid) or "they were there already"
    view.say(f"Samples in {layout.packages}: {names}. See them with: muster packages")


def down(directory: Directory = None) -> None:
    """Stop everything in order: agent, services, Redis, broker. What they know stays in the directory.

    Exit codes: 0 nothing runs any more (or did before), 1 something did not end.
    """
    from muster_client.embedded import launch  # noqa: PLC0415  (not needed by any other command)
    from muster_client.embedded.layout import Layout  # noqa: PLC0415

    with told():
        layout = Layout.at(directory)
        stopped = launch.stop(layout)
        if stopped:
            typer.echo(f"Stopped {', '.join(stopped)}. The next muster up finds everything as it was.")
        else:
            typer.echo(f"Nothing runs in {layout.root}.")


def provision(
    server: Annotated[str, typer.Option("--server", help="Of the broker, for example nats://broker:4222.")],
    seed: Annotated[
        Path, typer.Option("--seed", exists=True, dir_okay=False, help="The provisioner's nkey seed.")
    ],
    replicas: Annotated[int, typer.Option(min=1, max=5, help="Copies of each stream; 3 in a cluster.")] = 1,
) -> None:
    """Make streams and consumers as they should be, on a broker that muster up does not run.

    Only adds; run it again as often as you like. Exit codes: 0 done, 1 cannot.
    """
    import asyncio  # noqa: PLC0415  (not needed by the other commands here)

    from muster_client.embedded.provision import provision as reconcile  # noqa: PLC0415
    from muster_client.hush import hush_libraries  # noqa: PLC0415

    hush_libraries()
    with told():
        changed = asyncio.run(reconcile([server], seed, replicas=replicas))
        for change in changed:
            typer.echo(change)
        typer.echo("Streams and consumers are as they should be.")
