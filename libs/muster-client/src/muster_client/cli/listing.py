"""Groups of commands whose first one, ``list`` as a rule, may be left out."""

from typing import Any

import typer
from typer.core import TyperGroup


class ListByDefault(TyperGroup):
    """``muster agents`` and ``muster agents --json site=ams`` mean ``muster agents list …``."""

    DEFAULT = "list"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the first command's word where it was left out."""
        first = next((word for word in args if not word.startswith("-")), "")
        if first in self.commands or {"-h", "--help"} & set(args[:1]):
            return super().parse_args(ctx, args)
        if first and args[0] == first and not set(first) & set("=!(,"):
            raise typer.BadParameter(f"there is no command {first!r}; {self._advice(first)}", ctx=ctx)
        return super().parse_args(ctx, [self.DEFAULT, *args])

    def _advice(self, word: str) -> str:
        """The command that was mistyped, or those that take the word as what they are about."""
        from muster_client.humanise import near  # noqa: PLC0415  (only where something is wrong)

        if guess := near(word, list(self.commands)):
            return guess
        if "show" not in self.commands:
            return f"there are {', '.join(self.commands)}"
        show = f"write muster {self.name} show {word}"
        default = self.commands[self.DEFAULT]
        selects = any(param.param_type_name == "argument" for param in default.params)
        return f"{show}, or muster {self.name} list {word} for a label" if selects else show


class StatusByDefault(ListByDefault):
    """``muster recovery`` means ``muster recovery status``."""

    DEFAULT = "status"
