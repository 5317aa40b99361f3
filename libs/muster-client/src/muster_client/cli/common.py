"""What the commands of an embedded fleet share: the option ``--dir``, and how errors are told."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from muster_client.embedded.errors import FleetError

FAILED, NOT_RUNNING, INTERRUPTED = 1, 3, 130
"""Exit codes beside 0; 2 is a wrong command line."""

Directory = Annotated[
    Path | None,
    typer.Option(
        "--dir",
        envvar="MUSTER_DIR",
        readable=False,  # what cannot be used is told in the words of whoever tries
        help="Where the fleet lives; by default $XDG_DATA_HOME/muster or ~/.local/share/muster.",
    ),
]


@contextmanager
def told() -> Iterator[None]:
    """Turn an error meant for people into its text on standard error and exit code 1."""
    try:
        yield
    except FleetError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(FAILED) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
