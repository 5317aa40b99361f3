"""The ``muster`` command: one module per group of commands, each with a ``register(app)``.

Exit codes, the same for every command: 0 done; 1 it failed, and why is on stderr; 2 the command line
is wrong; 3 what was asked for does not run or does not exist.
"""

from importlib import import_module

import typer

MODULES = ("up", "status", "doctor", "logs", "agents", "groups", "watch", "map", "dead_letters")
"""In the order ``muster --help`` lists them."""


def build() -> typer.Typer:
    """The command with everything registered; the modules import what is heavy only when they run."""
    app = typer.Typer(
        name="muster",
        help="A fleet of machines on one bus: start it, see who is there, tell it what to do.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for name in MODULES:
        import_module(f"muster_client.cli.{name}").register(app)
    return app


def main() -> None:
    """Entry point of the console script."""
    build()()
