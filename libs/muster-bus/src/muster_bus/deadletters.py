"""Dead letters: what could not be taken, kept with its reason; the consumer goes on."""

import base64
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from muster_bus.errors import MusterError
from muster_bus.metrics import Counters
from muster_contracts.bus.v1 import DeadLettered, DeadReason

log = logging.getLogger("muster.bus")

KEPT_BYTES = 6000
"""How much of a payload is kept; base64 makes it 8,000 characters."""
MAX_PER_MINUTE = 600
"""More dead letters than this from one process are only counted: one broken sayer must not fill a stream."""

Say = Callable[[DeadLettered], Awaitable[None]]


class DeadLetters:
    """Says a ``DeadLettered`` fact for each message a hearer of this process could not take.

    Only services may say them; elsewhere (``say`` is None) they are counted and logged.
    """

    def __init__(self, service: str, counters: Counters, say: Say | None) -> None:
        self._service = service
        self._counters = counters
        self._say = say
        self._minute = (0, 0)

    async def bury(
        self,
        subject: str,
        payload: bytes,
        reason: DeadReason,
        detail: str,
        *,
        contract_name: str | None = None,
        deliveries: int = 1,
    ) -> bool:
        """Keep one message that cannot be taken; False if it could not be kept just now."""
        self._counters.add("dead_letters", reason)
        log.warning("kept a dead letter: %s on %s: %s", reason.value, subject, detail)
        if self._say is None or not self._within_budget():
            return True
        fact = DeadLettered(
            occurred_at=datetime.now(UTC),
            service=self._service,
            original_subject=subject[:500],
            reason=reason,
            detail=detail[:2000],
            contract_name=contract_name[:200] if contract_name else None,
            size_bytes=len(payload),
            payload=base64.b64encode(payload[:KEPT_BYTES]).decode(),
            deliveries=deliveries,
        )
        return await self._keep(fact)

    async def _keep(self, fact: DeadLettered) -> bool:
        assert self._say
        try:
            await self._say(fact)
        except MusterError:
            log.exception("cannot keep a dead letter of %s", fact.original_subject)
            self._counters.add("dead_letters_not_kept")
            return False
        return True

    def _within_budget(self) -> bool:
        now = int(datetime.now(UTC).timestamp()) // 60
        minute, count = self._minute
        self._minute = (now, count + 1 if now == minute else 1)
        within = self._minute[1] <= MAX_PER_MINUTE
        if not within:
            self._counters.add("dead_letters_not_kept")
        return within
