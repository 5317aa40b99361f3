"""Dead letters: what could not be taken, kept with its reason; the consumer goes on."""

import base64
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from muster_bus.metrics import Counters
from muster_contracts.bus.v1 import DeadLettered, DeadReason

log = logging.getLogger("muster.bus")

KEPT_BYTES = 6000
"""How much of a payload is kept; base64 makes it 8,000 characters."""
MAX_PER_MINUTE = 600
"""More dead letters than this from one process are not kept, so that they do not fill a stream; live and
durable messages have a budget each. A live one is then only counted, a durable one put off."""
MAX_OF_ONE_SAYER = 10
"""More live ones in a minute of one sayer are only counted, so that it does not use up what all have
together. Durable ones have no such bound: put off, they would hold up the good ones for longer."""

Say = Callable[[DeadLettered], Awaitable[None]]


class DeadLetters:
    """Says a ``DeadLettered`` fact for each message a hearer of this process could not take.

    Only services may say them; elsewhere (``say`` is None) they are counted and logged.
    """

    def __init__(self, service: str, counters: Counters, say: Say | None) -> None:
        self._service = service
        self._counters = counters
        self._say = say
        self._live, self._durable = _Budget(MAX_OF_ONE_SAYER), _Budget(MAX_PER_MINUTE)

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
        comes_again: bool = False,
    ) -> bool:
        """Keep one message that cannot be taken; False if it could not be kept just now.

        ``size_bytes`` is the size of the whole payload where ``payload`` is only its beginning. A message
        that ``comes_again`` when this is False is put off while there is no budget, any other only counted.
        """
        over = (self._durable if comes_again else self._live).spend(subject)
        if over and comes_again and self._say:
            self._counters.add("dead_letters_put_off")
            return False
        self._counters.add("dead_letters", reason)
        if over:
            self._counters.add("dead_letters_not_kept", over)
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
        except Exception:  # whatever the outbox fails with, it must not cost the messages beside this one
            log.exception("cannot keep a dead letter of %s", fact.original_subject)
            self._counters.add("dead_letters_not_kept", "failed")
            return False
        return True


class _Budget:
    """How many a minute: ``MAX_PER_MINUTE`` of all sayers together, ``of_one`` of each."""

    def __init__(self, of_one: int) -> None:
        self._of_one = of_one
        self._minute = 0
        self._spent: Counter[str] = Counter()

    def spend(self, subject: str) -> str:
        """Spend one for the sayer of this subject; if there is none left, whose budget it was."""
        minute = int(time.monotonic()) // 60
        if minute != self._minute:
            self._minute, self._spent = minute, Counter()
        sayer = ".".join(subject.split(".")[3:4]) or subject
        if self._spent[sayer] >= self._of_one:
            return "of one sayer"
        if self._spent.total() >= MAX_PER_MINUTE:
            return "of all"
        self._spent[sayer] += 1
        if self._spent[sayer] == self._of_one:
            log.warning("more dead letters of %s are not kept, for up to a minute", sayer)
        return ""
