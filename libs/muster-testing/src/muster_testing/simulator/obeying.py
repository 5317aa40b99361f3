"""A simulated agent that obeys: each command once, at once, remembered for as long as the process lives."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID, uuid4

from muster_contracts.command.v1 import (
    Accepted,
    Backlog,
    Cancel,
    CommandState,
    Ended,
    Execute,
    GetBacklog,
    Terms,
)
from muster_testing.simulator.stats import Stats
from muster_testing.simulator.wire import Wire

SAY_AGAIN_SECONDS = 2.0
"""An end whose stream has not acknowledged it is said again after this long."""

Effect = Callable[[str, Terms], None]
"""What obeying does to the world: told the agent's id and the command, once for each."""


class Obeying:
    """The commands of one agent: known ids are answered and never obeyed again."""

    __slots__ = ("_agent_id", "_effect", "_ends", "_epoch", "_remembers", "_stats", "_wire")

    def __init__(
        self,
        agent_id: str,
        wire: Callable[[], Wire | None],
        epoch: Callable[[], str],
        effect: Effect,
        stats: Stats,
        *,
        remembers: bool = True,
    ) -> None:
        self._agent_id = agent_id
        self._wire = wire
        self._epoch = epoch
        self._effect = effect
        self._stats = stats
        self._remembers = remembers
        self._ends: dict[UUID, Ended | None] = {}
        """Every command that is known; its end, until the stream has it."""

    @staticmethod
    def subjects(agent_id: str) -> tuple[str, ...]:
        """What an agent subscribes to be told what to do."""
        return Execute.SUBJECT.bound(agent_id), Cancel.SUBJECT.bound(agent_id)

    def up(self) -> None:
        """The connection is there (again): ask what there is to do, and say what was not acknowledged."""
        if wire := self._wire():
            question = GetBacklog(occurred_at=_now(), agent_id=self._agent_id, epoch=self._epoch())
            inbox = f"_INBOX.{self._agent_id}.backlog"
            wire.publish(question.subject, question.model_dump_json().encode(), inbox)
        for end in [end for end in self._ends.values() if end]:
            self._say(end)

    def hear(self, what: str, payload: bytes, reply: str) -> bool:
        """Take one message; whether it was about commands."""
        match what:
            case "execute":
                self._executed(Execute.model_validate_json(payload).terms, reply)
            case "backlog" if payload and b'"code"' not in payload[:20]:
                for terms in Backlog.model_validate_json(payload).orders:
                    self._obey(terms)
            case "cancel" | "backlog":
                pass  # what is obeyed at once cannot be stopped
            case _ if what.startswith("ended-"):
                self._acked(UUID(what.removeprefix("ended-")), payload)
            case _:
                return False
        return True

    def _executed(self, terms: Terms, reply: str) -> None:
        if reply and (wire := self._wire()):
            state = CommandState.SUCCEEDED if terms.command_id in self._ends else CommandState.ACCEPTED
            wire.publish(reply, Accepted(command_id=terms.command_id, state=state).model_dump_json().encode())
        self._obey(terms)

    def _obey(self, terms: Terms) -> None:
        if self._remembers and terms.command_id in self._ends:
            return
        began = _now()
        self._effect(self._agent_id, terms)
        self._stats.obeyed += 1
        end = Ended(
            message_id=uuid4(), occurred_at=_now(), agent_id=self._agent_id, epoch=self._epoch(),
            command_id=terms.command_id, verb=terms.verb, state=CommandState.SUCCEEDED, reason="done",
            accepted_at=began, started_at=began,
        )  # fmt: skip
        self._ends[terms.command_id] = end
        self._say(end)

    def _say(self, end: Ended) -> None:
        if wire := self._wire():
            headers = {"Nats-Msg-Id": str(end.message_id), "Muster-Contract": end.contract()}
            inbox = f"_INBOX.{self._agent_id}.ended-{end.command_id}"
            wire.publish_with_headers(end.subject, end.model_dump_json().encode(), inbox, headers)
            asyncio.get_running_loop().call_later(SAY_AGAIN_SECONDS, self._say_again, end.command_id)

    def _say_again(self, command_id: UUID) -> None:
        if end := self._ends.get(command_id):
            self._say(end)

    def _acked(self, command_id: UUID, payload: bytes) -> None:
        if payload and b'"error"' not in payload:
            self._ends[command_id] = None


def _now() -> datetime:
    return datetime.now(UTC)
