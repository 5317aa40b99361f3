"""One simulated agent: it says hello, beats as granted, and dies, leaves or falls silent on demand."""

import asyncio
import hashlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from pydantic import ValidationError

from muster_contracts.agent.v1 import (
    AdoptInterval,
    AgentKind,
    Heartbeat,
    Hello,
    Introduce,
    LeaveReason,
    Left,
    Welcome,
)
from muster_contracts.ids import make_epoch
from muster_testing.simulator.connection import Connection, Network
from muster_testing.simulator.obeying import Effect, Obeying
from muster_testing.simulator.roster import Member
from muster_testing.simulator.wire import Wire

_HELLO_AGAIN_SECONDS = 5.0
"""An unanswered hello is repeated after this long, doubling up to a minute."""


class Condition(StrEnum):
    """What an agent is doing, as its own machine would see it."""

    OFF = "off"
    UP = "up"
    MUTE = "mute"
    """Alive, but nothing it says gets out."""
    KILLED = "killed"
    LEFT = "left"


@dataclass(frozen=True)
class Habits:
    """What all agents of a fleet have in common, and where in the interval this one beats."""

    interval: float
    phase: float
    """From 0 to 1: the part of the interval by which this agent's heartbeats are shifted."""
    version: str = "0.0.0-simulated"
    kind: AgentKind = AgentKind.HOST
    labels: tuple[tuple[str, str], ...] = ()
    says_hello: bool = True
    effect: Effect | None = None
    """With one, the agent obeys commands."""
    remembers: bool = True


class SimulatedAgent:
    """An agent that speaks over its own connection, or over one it shares with others."""

    __slots__ = (
        "_ack", "_connection", "_habits", "_hello_timer", "_member", "_network", "_obeying", "_timer",
        "condition", "epoch", "interval", "last_beat", "last_beat_at", "sequence",
    )  # fmt: skip

    def __init__(
        self, network: Network, member: Member, habits: Habits, shared: Connection | None = None
    ) -> None:
        self._network = network
        self._member = member
        self._habits = habits
        own = self.subjects(member.agent_id)
        if habits.effect:
            own += Obeying.subjects(member.agent_id)
        self._connection = shared or Connection(network, member, own, self.up, self.hear)
        self._timer: asyncio.TimerHandle | None = None
        self._hello_timer: asyncio.TimerHandle | None = None
        self._ack: asyncio.Future[None] | None = None
        self.condition = Condition.OFF
        self.interval = habits.interval
        self.sequence = 0
        self.last_beat: float | None = None
        """Time of the loop's clock of the last heartbeat that went out."""
        self.last_beat_at: datetime | None = None
        """What that heartbeat stated as its time."""
        self.epoch = self._new_epoch(after_ms=0)
        self._obeying: Obeying | None = None
        if habits.effect:
            self._obeying = Obeying(
                self.agent_id,
                lambda: self._connection.wire,
                lambda: self.epoch,
                habits.effect,
                network.stats,
                remembers=habits.remembers,
            )

    @staticmethod
    def subjects(agent_id: str) -> tuple[str, ...]:
        """What an agent subscribes: its orders and its own inbox."""
        orders = (AdoptInterval.SUBJECT, Introduce.SUBJECT)
        return (f"_INBOX.{agent_id}.>", *(order.bound(agent_id) for order in orders))

    @property
    def agent_id(self) -> str:
        """The name it speaks under."""
        return self._member.agent_id

    # The verbs ----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Connect (trying until it works) and begin to speak."""
        self.condition = Condition.UP
        if self._connection.wire:
            self.up()
        else:
            await self._connection.open()

    def kill(self) -> None:
        """Die as by ``kill -9``: the socket closes with no goodbye; on a shared connection, only silence."""
        self._hush(Condition.KILLED)
        self._network.stats.kills += 1
        if self._owns_connection:
            self._connection.abort()

    async def leave(self, reason: LeaveReason = LeaveReason.SHUTDOWN, timeout: float = 5.0) -> None:  # noqa: ASYNC109
        """Say goodbye durably, wait for the broker's ack, close.

        Raises:
            TimeoutError: no ack came; the agent is gone all the same.
        """
        self._ack = asyncio.get_running_loop().create_future()
        now = datetime.now(UTC)
        self._say_goodbye(Left(occurred_at=now, agent_id=self.agent_id, epoch=self.epoch, reason=reason))
        self._hush(Condition.LEFT)
        try:
            await asyncio.wait_for(self._ack, timeout)
        finally:
            if self._owns_connection:
                self._connection.close()

    def mute(self) -> None:
        """Fall silent and keep the socket, as behind a cut cable."""
        self._hush(Condition.MUTE)
        self._network.stats.mutes += 1
        if self._owns_connection and (wire := self._connection.wire):
            wire.mute()

    async def resume(self) -> None:
        """Speak again after ``mute``: the same run, reconnecting if the broker gave the connection up."""
        if self._owns_connection and (wire := self._connection.wire):
            wire.unmute()
        await self.start()

    async def restart(self) -> None:
        """Begin a new run with a new epoch, whatever became of the last one."""
        if self.condition in {Condition.UP, Condition.MUTE}:
            self.kill()
        self.epoch = self._new_epoch(after_ms=int(self.epoch.partition("-")[2], 16))
        self.sequence = 0
        await self.start()

    # What the bus does to it ----------------------------------------------------------------------------

    def up(self) -> None:
        """The connection is there (again): introduce yourself and beat."""
        if self.condition is not Condition.UP:
            return
        if self._habits.says_hello:
            self._say_hello(_HELLO_AGAIN_SECONDS)
        if self._obeying:
            self._obeying.up()
        self._beat()

    def hear(self, subject: str, payload: bytes) -> None:
        """An order, the answer to a hello, or the ack of a goodbye."""
        if self.condition is Condition.MUTE:
            return
        try:
            self._obey(subject, payload)
        except ValidationError as error:
            self._network.stats.error(f"cannot read {subject.rpartition('.')[2]}: {error.errors()[0]['msg']}")

    def _obey(self, subject: str, payload: bytes) -> None:
        what = subject.rpartition(".")[2]
        wire = self._connection.wire
        if self._obeying and self._obeying.hear(what, payload, wire.reply if wire else ""):
            return
        if what == "adopt-interval":
            self._adopt(AdoptInterval.model_validate_json(payload).interval_seconds)
        elif what == "introduce":
            self._network.stats.introductions += 1
            if self.condition is Condition.UP:
                self._say_hello(_HELLO_AGAIN_SECONDS)
        elif what == "welcome":
            self._welcomed(payload)
        elif what == "goodbye":
            self._acked(payload)

    def _welcomed(self, payload: bytes) -> None:
        if not payload:  # nobody serves hellos just now; the timer repeats it
            self._network.stats.error("nobody answered a hello")
            return
        welcome = Welcome.model_validate_json(payload)
        if self._hello_timer:
            self._hello_timer.cancel()
            self._hello_timer = None
        self._network.stats.welcomes += 1
        self._adopt(welcome.interval_seconds)

    def _acked(self, payload: bytes) -> None:
        if b'"error"' in payload or not payload:
            self._network.stats.error("a goodbye was not stored")
        elif self._ack and not self._ack.done():
            self._network.stats.goodbyes_acked += 1
            self._ack.set_result(None)

    def _adopt(self, interval: float) -> None:
        if interval == self.interval:
            return
        self.interval = interval
        self._network.stats.intervals_adopted += 1
        # As a real agent does: a beat at once states the new interval, and from then on its own grid counts.
        if self.condition is Condition.UP:
            self._beat()

    # What it says -----------------------------------------------------------------------------------------

    def _beat(self) -> None:
        if self._timer:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(self._next_beat(loop.time()), self._beat)
        if wire := self._connection.wire:
            self.last_beat, self.last_beat_at = loop.time(), datetime.now(UTC)
            wire.publish(Heartbeat.SUBJECT.bound(self.agent_id), self._heartbeat())
            self.sequence += 1
            self._network.stats.heartbeats += 1

    def _next_beat(self, now: float) -> float:
        """The next point of this agent's grid: all agents of one interval beat evenly spread over it."""
        shift = self._habits.phase * self.interval
        following = ((now - shift) // self.interval + 1) * self.interval + shift
        # Rounding may put the point we are on a hair into the future.
        return following if following - now > 0.01 * self.interval else following + self.interval

    def _heartbeat(self) -> bytes:
        beat = Heartbeat(
            occurred_at=self.last_beat_at or datetime.now(UTC),
            agent_id=self.agent_id,
            kind=self._habits.kind,
            epoch=self.epoch,
            sequence=self.sequence,
            interval_seconds=self.interval,
        )
        return beat.model_dump_json().encode()

    def _say_hello(self, again: float) -> None:
        if self._hello_timer:
            self._hello_timer.cancel()
        later = asyncio.get_running_loop().call_later
        self._hello_timer = later(again, self._say_hello, min(60.0, again * 2))
        if not (wire := self._connection.wire):
            return
        hello = Hello(
            occurred_at=datetime.now(UTC),
            agent_id=self.agent_id,
            kind=self._habits.kind,
            epoch=self.epoch,
            agent_version=self._habits.version,
            interval_seconds=self.interval,
            labels=dict(self._habits.labels),
        )
        wire.publish(hello.subject, hello.model_dump_json().encode(), reply=f"_INBOX.{self.agent_id}.welcome")
        self._network.stats.hellos += 1

    def _say_goodbye(self, left: Left) -> None:
        wire: Wire | None = self._connection.wire
        if not wire:
            return
        headers = {"Nats-Msg-Id": str(left.message_id), "Muster-Contract": left.contract()}
        inbox = f"_INBOX.{self.agent_id}.goodbye"
        wire.publish_with_headers(left.subject, left.model_dump_json().encode(), inbox, headers)
        self._network.stats.goodbyes += 1

    def _hush(self, condition: Condition) -> None:
        self.condition = condition
        for timer in (self._timer, self._hello_timer):
            if timer:
                timer.cancel()
        self._timer = self._hello_timer = None

    @property
    def _owns_connection(self) -> bool:
        return self._connection.member is self._member

    def _new_epoch(self, after_ms: int) -> str:
        boot = hashlib.sha256(self.agent_id.encode()).hexdigest()[:12]
        return make_epoch(boot, max(after_ms + 1, int(time.time() * 1000)))
