"""The command line of host-agent."""

import sys
from dataclasses import dataclass
from pathlib import Path

COMMANDS = {
    "run": "run the agent (what happens without a command)",
    "identity": "print the agent's id and public key as JSON, making them at the first time",
    "describe": "print what the agent would say of this machine as JSON, without a broker",
    "check-config": "print what the settings amount to as JSON, or exit with 2 if they cannot be used",
    "settings": "list every setting with its variable, default and meaning",
}


@dataclass
class Options:
    """What was asked for on the command line."""

    command: str = "run"
    config: Path | None = None
    state_dir: Path | None = None


def parse(arguments: list[str] | None = None) -> Options:
    """The command and its options. Exits with 2 on misuse."""
    words = sys.argv[1:] if arguments is None else arguments
    # A service is started without a word, and spares the 0.3 MiB of the parser.
    return _parse(words) if words else Options()


def _parse(words: list[str]) -> Options:
    import argparse  # noqa: PLC0415  (see above)

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
        sentence = f"{meaning[0].upper()}{meaning[1:]}."
        commands.add_parser(name, help=meaning, description=sentence, parents=[options])
    given = {name: value for name, value in vars(parser.parse_args(words)).items() if value is not None}
    return Options(**given)
