"""The command line of host-agent."""

import argparse
from pathlib import Path

COMMANDS = {
    "run": "run the agent (what happens without a command)",
    "identity": "print the agent's id and public key as JSON, making them at the first time",
    "describe": "print what the agent would say of this machine as JSON, without a broker",
    "check-config": "print what the settings amount to as JSON, or exit with 2 if they cannot be used",
    "settings": "list every setting with its variable, default and meaning",
}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command and its options: ``command``, ``config``, ``state_dir``. Exits with 2 on misuse."""
    options = argparse.ArgumentParser(add_help=False)
    # Suppressed defaults, or a command's own parser would overwrite what stood before the command.
    options.add_argument(
        "--config", metavar="FILE", type=Path, default=argparse.SUPPRESS, help="the settings, in YAML"
    )
    options.add_argument(
        "--state-dir", metavar="DIR", type=Path, default=argparse.SUPPRESS, help="where id, key and spool are"
    )
    parser = argparse.ArgumentParser(
        prog="host-agent", description="One machine's place in the fleet.", parents=[options]
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, meaning in COMMANDS.items():
        commands.add_parser(
            name, help=meaning, description=f"{meaning[0].upper()}{meaning[1:]}.", parents=[options]
        )
    return parser.parse_args(arguments, argparse.Namespace(command="run", config=None, state_dir=None))
