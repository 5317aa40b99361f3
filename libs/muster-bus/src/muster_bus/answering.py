"""Answering one question: whatever happens, the asker gets an answer or a problem."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from nats.aio.client import Client
from nats.aio.msg import Msg
from pydantic import BaseModel

from muster_bus.deadletters import DeadLetters
from muster_bus.errors import AskError, Reject, Retry
from muster_bus.metrics import Counters
from muster_bus.muffling import Muffle
from muster_bus.reading import CONTRACT_HEADER, PROBLEM_HEADER, NotOurs, Reader, Unreadable
from muster_bus.tracing import continued
from muster_contracts.message import Ask, Message, Problem, Role

log = logging.getLogger("muster.bus")

ANSWERS_AT_ONCE = 64
_AGENTS = {Role.AGENT, Role.HOST_AGENT}

Q = TypeVar("Q", bound=Ask[Any])


async def answer_to(
    subject: str,
    payload: bytes,
    contract_name: str | None,
    reader: Reader[Q],
    handler: Callable[[Q], Awaitable[BaseModel]],
) -> BaseModel:
    """The handler's answer, or the problem that stands in its place; never raises but for cancellation."""
    name = reader.contract.contract()
    try:
        return await handler(reader.read(subject, payload, contract_name))
    except AskError as error:
        return error.problem
    except (Unreadable, NotOurs) as error:
        return Problem(code="invalid", text=f"cannot read the question {name}: {error}")
    except Reject as error:
        return Problem(code="invalid", text=str(error))
    except Retry as error:
        return Problem(code="unavailable", text=str(error))
    except Exception:
        log.exception("the handler of %s failed", name)
        return Problem(code="internal", text=f"cannot answer {name}: the service failed; its log says why")


class Unanswerable(Exception):
    """The question wants its answer sent where its sayer may not hear it: nobody is to be answered."""


class Doorkeeper:
    """Lets in only questions whose answers go to their sayers' own inboxes.

    Who answers may publish more than who asks: a reply subject chosen freely would have the service say, in
    its own name, what its asker may not. The broker keeps agents to their own names, so an agent's question
    tells by its subject whose inbox it must be; who else may ask is trusted with any inbox.
    """

    def __init__(self, contract: type[Message], counters: Counters) -> None:
        self._name = contract.contract()
        self._of_agents = contract.SUBJECT.who.startswith("{") and not _AGENTS.isdisjoint(contract.SAID_BY)
        self._counters = counters
        self._muffle = Muffle()

    def check(self, raw: Msg) -> None:
        """Let one question in; without a reply subject nothing is sent, so nothing can be wrong.

        Raises:
            Unanswerable: it is counted and logged already.
        """
        sayer = raw.subject.split(".")[3] + "." if self._of_agents else ""
        if not raw.reply or raw.reply.startswith(f"_INBOX.{sayer}"):
            return
        self._counters.add("answers_refused", self._name)
        if self._muffle.lets("refused"):
            log.warning(
                "a question on %s is dropped: its answer was to go to %s", raw.subject, raw.reply[:200]
            )
        raise Unanswerable


class Answering(Generic[Q]):
    """Takes questions of one contract to its handler and sends back what it says."""

    def __init__(
        self,
        contract: type[Q],
        handler: Callable[[Q], Awaitable[BaseModel]],
        client: Client,
        dead_letters: DeadLetters,
        counters: Counters,
    ) -> None:
        self._reader = Reader.of(contract)
        self._door = Doorkeeper(contract, counters)
        self._handler = handler
        self._client = client
        self._dead_letters = dead_letters
        self._counters = counters
        self._running: set[asyncio.Task[None]] = set()

    async def take(self, raw: Msg) -> None:
        """Begin to answer one question; at the limit, the next ones wait their turn."""
        try:
            self._door.check(raw)
        except Unanswerable:
            return
        while len(self._running) >= ANSWERS_AT_ONCE:
            await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
        task = asyncio.create_task(self._answer(raw))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def stop(self, seconds: float) -> None:
        """Let what is being answered end within ``seconds``; the rest the askers will ask again."""
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)
        for task in list(self._running):
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)

    async def _answer(self, raw: Msg) -> None:
        contract_name = (raw.headers or {}).get(CONTRACT_HEADER)
        with continued(raw.headers):
            answer = await answer_to(raw.subject, raw.data, contract_name, self._reader, self._handler)
        self._counters.add("answered", self._reader.contract.contract())
        headers = {PROBLEM_HEADER: answer.code} if isinstance(answer, Problem) else None
        if headers:
            self._counters.add("answered_with_problem", self._reader.contract.contract())
        if raw.reply:
            await self._client.publish(raw.reply, answer.model_dump_json().encode(), headers=headers)
