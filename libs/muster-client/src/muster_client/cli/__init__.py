"""The ``muster`` command: one module per group of commands, each with a ``register(app)``.

Exit codes, the same for every command: 0 done; 1 it failed, and why is on stderr; 2 the command line
is wrong; 3 what was asked for does not run or does not exist.
"""

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

MODULES = (
    "up", "status", "doctor", "logs", "agents", "groups", "packages", "health", "recovery",
    "command", "audit", "watch", "map", "dead_letters",
)  # fmt: skip
"""Whoever registers the commands."""
ORDER = (
    "up", "down", "status", "doctor", "logs", "agents", "groups", "summary", "packages", "health",
    "recovery", "command", "audit", "watch", "map", "dead-letters", "provision",
)  # fmt: skip
"""As ``muster --help`` lists them: the fleet of this machine, who is there, what they do, what happens."""


class InOrder(TyperGroup):
    """Lists groups and commands as people look for them; stock, all groups come last."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names in their order; one that was forgotten there comes at the end."""
        names = super().list_commands(ctx)
        return sorted(names, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))


def build() -> typer.Typer:
    """The command with everything registered; the modules import what is heavy only when they run."""
    app = typer.Typer(
        name="muster",
        cls=InOrder,
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
