"""The ledger of orders, asked of state-store over the bus."""

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from health_recovery.recovery_ports import NotTaken, NoWord
from muster_bus import AskFailed, Bus, NoAnswer
from muster_contracts.command.v1 import FindTargets, Submit, Target

ANSWER_SECONDS = 5.0
PASSING = frozenset({"unavailable", "internal"})
"""Problems that may be over when it is asked again."""


class StateStore:
    """See ``recovery_ports.Ledger``."""

    def __init__(self, bus: Callable[[], Bus], now: Callable[[], datetime]) -> None:
        self._bus, self._now = bus, now

    async def submit(self, order: Submit) -> None:
        """Return once the order is in the ledger; the same one again is the same order.

        Raises:
            NotTaken: it is not, and never will be.
            NoWord: nobody knows.
        """
        try:
            await self._bus().ask(order, timeout=ANSWER_SECONDS)
        except AskFailed as error:
            raise (NoWord if error.code in PASSING else NotTaken)(str(error)) from error
        except NoAnswer as error:
            raise NoWord(str(error)) from error

    async def find(self, command: UUID, agent: str) -> Target | None:
        """How far an order is; null if the ledger does not know it.

        Raises:
            NoWord: no answer.
        """
        question = FindTargets(occurred_at=self._now(), command_id=command, agent_id=agent, limit=1)
        try:
            page = await self._bus().ask(question, timeout=ANSWER_SECONDS)
        except (AskFailed, NoAnswer) as error:
            raise NoWord(str(error)) from error
        return page.targets[0] if page.targets else None
