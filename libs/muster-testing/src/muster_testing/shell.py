"""The ``muster`` command, run in a town as a shell runs it, its JSON held against what is published."""

import json
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import jsonschema
import typer
from typer.testing import CliRunner, Result

from muster_client.cli import build
from muster_client.outputs import OUTPUTS, schema_of
from muster_testing.town import Town


@cache
def app() -> typer.Typer:
    """The command; built once."""
    return build()


def invoke(*words: str, stdin: str | bytes | None = None, **environment: str) -> Result:
    """Run one command, in a thread: its ``asyncio.run`` would take pytest's own loop away."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(CliRunner().invoke, app(), words, env=environment, input=stdin).result(60)


def output_of(words: tuple[str, ...]) -> str:
    """The name of what a command prints: the longest of ``OUTPUTS`` that its words begin with."""
    names = ["-".join(words[:count]) for count in range(3, 0, -1)]
    return next(name for name in names if name in OUTPUTS)


class Shell:
    """Runs ``muster`` commands in the town."""

    def __init__(self, town: Town) -> None:
        self.town = town

    def __call__(
        self, *words: str, code: int = 0, stdin: str | bytes | None = None, **environment: str
    ) -> Result:
        """One command; its exit code must be ``code``."""
        result = invoke(*words, stdin=stdin, **{**self.town.environment, **environment})
        assert result.exit_code == code, (words, result.output, result.exception)
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result

    def json(self, *words: str, code: int = 0, stdin: str | bytes | None = None) -> Any:
        """The JSON of a command, seen to be as published."""
        told = json.loads(self(*words, "--json", code=code, stdin=stdin).stdout)
        jsonschema.validate(told, schema_of(output_of(words)))
        return told

    def lines(self, command: str, *words: str, code: int = 0) -> list[Any]:
        """The JSON lines of a command that goes on, each seen to be as published."""
        told = [json.loads(line) for line in self(*words, "--json", code=code).stdout.splitlines()]
        for line in told:
            jsonschema.validate(line, schema_of(command))
        return told
