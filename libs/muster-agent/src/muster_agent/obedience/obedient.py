"""What a kind of agent has to know to obey: whether it will, whether it may now, and how."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from muster_bus.errors import MusterError
from muster_contracts.command.v1 import CommandState, Terms

if TYPE_CHECKING:
    from muster_agent.obedience.work import Work


class Refused(MusterError):
    """Cannot do it, and nothing was done: the command ends as rejected.

    ``reason`` is for programs: policy, precondition, not-found, unknown-verb, invalid, …
    """

    def __init__(self, text: str, reason: str = "refused") -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Admitted:
    """A command that will be obeyed. Those of one lane run one after the other, in the order they came."""

    lane: str
    about: str


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended: succeeded or failed, or another end that the performer itself decided on."""

    state: CommandState = CommandState.SUCCEEDED
    reason: str = "done"
    text: str = ""
    exit_code: int | None = None
    result: dict[str, Any] | None = None


class Obedient(Protocol):
    """One kind of agent's way to obey."""

    def admit(self, terms: Terms) -> Admitted:
        """Take a command on when it comes: its verb is known, its body valid, the local policy allows it.

        Raises:
            Refused: it is not; the command ends as rejected.
        """

    async def check(self, terms: Terms) -> None:
        """Look, just before the start, whether the command may begin now.

        Raises:
            Refused: a precondition does not hold; the command ends as rejected.
        """

    async def perform(self, work: "Work") -> Result:
        """Do it, once.

        It is cancelled when the command is, or has run for its ``run_seconds``; when it ends, nothing of what
        it began may run any more.

        Raises:
            Refused: it found, before it did anything, that it cannot.
        """
