"""Dead letters: what could not be taken, kept with its reason; the consumer goes on."""

import base64
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from muster_bus.errors import MusterError
from muster_bus.metrics import Counters
from muster_contracts.bus.v1 import DeadLettered, DeadReason

log = logging.getLogger("muster.bus")

KEPT_BYTES = 6000
"""How much of a payload is kept; base64 makes it 8,000 characters."""
MAX_PER_MINUTE = 600
"""More dead letters than this from one process are only counted, so that they do not fill a stream."""
MAX_OF_ONE_SAYER = 10
"""More in a minute of one sayer are only counted, so that it does not use up what all have together."""

Say = Callable[[DeadLettered], Awaitable[None]]


class DeadLetters:
    """Says a ``DeadLettered`` fact for each message a hearer of this process could not take.

    Only services may say them; elsewhere (``say`` is None) they are counted and logged.
    """

    def __init__(self, service: str, counters: Counters, say: Say | None) -> None:
        self._service = service
        self._counters = counters
        self._say = say
        self._minute = 0
        self._spent: Counter[str] = Counter()

    async def bury(
        self,
        subject: str,
        payload: bytes,
        reason: DeadReason,
        detail: str,
        *,
        contract_name: str | None = None,
        deliveries: int = 1,
        size_bytes: int | None = None,
    ) -> bool:
        """Keep one message that cannot be taken; False if it could not be kept just now.

        ``size_bytes`` is the size of the whole payload where ``payload`` is only its beginning.
        """
        self._counters.add("dead_letters", reason)
        if not self._within_budget(subject):
            return True
        log.warning("kept a dead letter: %s on %s: %s", reason.value, subject, detail)
        if self._say is None:
            return True
        fact = DeadLettered(
            occurred_at=datetime.now(UTC),
            service=self._service,
            original_subject=subject[:500],
            reason=reason,
            detail=detail[:2000],
            contract_name=contract_name[:200] if contract_name else None,
            size_bytes=len(payload) if size_bytes is None else size_bytes,
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
            self._counters.add("dead_letters_not_kept", "failed")
            return False
        return True

    def _within_budget(self, subject: str) -> bool:
        """Two budgets a minute: one of each sayer, and one of all together."""
        minute = int(time.monotonic()) // 60
        if minute != self._minute:
            self._minute, self._spent = minute, Counter()
        sayer = ".".join(subject.split(".")[3:4]) or subject
        if self._spent[sayer] >= MAX_OF_ONE_SAYER:
            self._counters.add("dead_letters_not_kept", "of one sayer")
            return False
        if self._spent.total() >= MAX_PER_MINUTE:
            self._counters.add("dead_letters_not_kept", "of all")
            return False
        self._spent[sayer] += 1
        if self._spent[sayer] == MAX_OF_ONE_SAYER:
            log.warning("more dead letters of %s are only counted, for up to a minute", sayer)
        return True
