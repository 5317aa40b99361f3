"""Hearing one live contract: read, hand over, and never let one message stop the next."""

import logging
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from nats.aio.msg import Msg

from muster_bus.deadletters import DeadLetters
from muster_bus.errors import Reject
from muster_bus.metrics import Counters
from muster_bus.reading import CONTRACT_HEADER, NotOurs, Reader, Unreadable
from muster_contracts.bus.v1 import DeadReason
from muster_contracts.message import Message

log = logging.getLogger("muster.bus")

M = TypeVar("M", bound=Message)


class Hearing(Generic[M]):
    """Takes messages of one contract to its handler, in order."""

    def __init__(
        self,
        contract: type[M],
        handler: Callable[[M], Awaitable[None]],
        dead_letters: DeadLetters,
        counters: Counters,
    ) -> None:
        self._reader = Reader.of(contract)
        self._name = contract.contract()
        self._handler = handler
        self._dead_letters = dead_letters
        self._counters = counters

    async def take(self, raw: Msg) -> None:
        """Take one message from the broker. It is live and not repeated, so no error leads to another try."""
        contract_name = (raw.headers or {}).get(CONTRACT_HEADER)
        try:
            message = self._reader.read(raw.subject, raw.data, contract_name)
            self._counters.add("heard", self._name)
            await self._handler(message)
        except NotOurs:
            return
        except Unreadable as problem:
            await self._bury(raw, problem.reason, str(problem), contract_name)
        except Reject as problem:
            await self._bury(raw, DeadReason.REJECTED, str(problem), contract_name)
        except Exception:  # the next message has to be heard
            self._counters.add("handler_failures", self._name)
            log.exception("the handler of %s failed", self._name)

    async def _bury(self, raw: Msg, reason: DeadReason, detail: str, contract_name: str | None) -> None:
        await self._dead_letters.bury(raw.subject, raw.data, reason, detail, contract_name=contract_name)
