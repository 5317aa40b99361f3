"""What a machine may be told to do, by its own word: the veto of whoever keeps the machine."""

from fnmatch import fnmatchcase
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Pattern = Annotated[str, StringConstraints(pattern=r"^[a-z*?][a-z.*?-]{0,99}$")]
Argument = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$", max_length=4096)]
ScriptName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


class Script(BaseModel):
    """A script that may be run by command."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    command: list[Argument] = Field(min_length=1, description="The program and its arguments; no shell.")
    directory: Annotated[str, StringConstraints(pattern=r"^/[^\x00\n]*$")] = "/"
    user: str | None = Field(
        default=None, max_length=64, description="Whom it runs as; by default the agent."
    )
    environment: dict[str, Argument] = Field(default_factory=dict, description="Its only variables but PATH.")
    arguments: bool = Field(default=False, description="Whether whoever orders it may append arguments.")
    run_seconds: float = Field(default=86_400, gt=0, le=86_400, description="Longer may it not run.")


class Policy(BaseModel):
    """Which verbs and queries are obeyed, a denial over a permission; and which scripts there are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    allow: list[Pattern] = Field(default=["*"], max_length=100, description="Such as package.*, script.run.")
    deny: list[Pattern] = Field(default_factory=list, max_length=100)
    scripts: dict[ScriptName, Script] = Field(default_factory=dict, max_length=500)

    def allows(self, verb: str) -> bool:
        """Whether a verb or a query may be obeyed."""
        return _any(self.allow, verb) and not _any(self.deny, verb)


NOTHING = Policy(allow=[], scripts={})
"""What holds while the policy cannot be read."""


def _any(patterns: list[str], verb: str) -> bool:
    return any(fnmatchcase(verb, pattern) for pattern in patterns)
