"""The presence of one agent, as a state machine.

``TRANSITIONS`` is the whole of it: a pair that is absent is impossible and raises. A pair that leads
to the state it starts from is a signal that comes late or twice and changes nothing: a verdict of
silence after a goodbye, a disconnect after a loss, a beat of an agent an operator has retired.
"""

from enum import StrEnum
from types import MappingProxyType

from muster_contracts.fleet.v1 import Presence


class Signal(StrEnum):
    """What can happen to an agent's presence."""

    BEAT = "beat"
    """It spoke: a heartbeat or a hello."""
    OVERDUE = "overdue"
    """It has been silent for longer than its interval allows."""
    SILENCE = "silence"
    """It has been silent past its deadline."""
    DISCONNECT = "disconnect"
    """Its connection ended, no other took its place and it had not said goodbye."""
    GOODBYE = "goodbye"
    """It said that it leaves, and why."""
    EXPECT = "expect"
    """An operator put it on the roll."""
    RETIRE = "retire"
    """An operator took it off the roll."""


_EXPECTED, _ONLINE, _LATE = Presence.EXPECTED, Presence.ONLINE, Presence.LATE
_LOST, _LEFT, _RETIRED = Presence.LOST, Presence.LEFT, Presence.RETIRED

TRANSITIONS = MappingProxyType({
    # Nobody has heard it yet, so there is no silence to judge it by.
    (_EXPECTED, Signal.BEAT): _ONLINE,
    (_EXPECTED, Signal.DISCONNECT): _EXPECTED,
    (_EXPECTED, Signal.GOODBYE): _LEFT,
    (_EXPECTED, Signal.EXPECT): _EXPECTED,
    (_EXPECTED, Signal.RETIRE): _RETIRED,

    (_ONLINE, Signal.BEAT): _ONLINE,
    (_ONLINE, Signal.OVERDUE): _LATE,
    (_ONLINE, Signal.SILENCE): _LOST,
    (_ONLINE, Signal.DISCONNECT): _LOST,
    (_ONLINE, Signal.GOODBYE): _LEFT,
    (_ONLINE, Signal.EXPECT): _ONLINE,
    (_ONLINE, Signal.RETIRE): _RETIRED,

    (_LATE, Signal.BEAT): _ONLINE,
    (_LATE, Signal.OVERDUE): _LATE,
    (_LATE, Signal.SILENCE): _LOST,
    (_LATE, Signal.DISCONNECT): _LOST,
    (_LATE, Signal.GOODBYE): _LEFT,
    (_LATE, Signal.EXPECT): _LATE,
    (_LATE, Signal.RETIRE): _RETIRED,

    # A goodbye may be slower than the end of its connection: it turns the loss into what it was.
    (_LOST, Signal.BEAT): _ONLINE,
    (_LOST, Signal.OVERDUE): _LOST,
    (_LOST, Signal.SILENCE): _LOST,
    (_LOST, Signal.DISCONNECT): _LOST,
    (_LOST, Signal.GOODBYE): _LEFT,
    (_LOST, Signal.EXPECT): _LOST,
    (_LOST, Signal.RETIRE): _RETIRED,

    # Leave is never death.
    (_LEFT, Signal.BEAT): _ONLINE,
    (_LEFT, Signal.OVERDUE): _LEFT,
    (_LEFT, Signal.SILENCE): _LEFT,
    (_LEFT, Signal.DISCONNECT): _LEFT,
    (_LEFT, Signal.GOODBYE): _LEFT,
    (_LEFT, Signal.EXPECT): _LEFT,
    (_LEFT, Signal.RETIRE): _RETIRED,

    # Only an operator takes a retired agent back.
    (_RETIRED, Signal.BEAT): _RETIRED,
    (_RETIRED, Signal.OVERDUE): _RETIRED,
    (_RETIRED, Signal.SILENCE): _RETIRED,
    (_RETIRED, Signal.DISCONNECT): _RETIRED,
    (_RETIRED, Signal.GOODBYE): _RETIRED,
    (_RETIRED, Signal.EXPECT): _EXPECTED,
    (_RETIRED, Signal.RETIRE): _RETIRED,
})  # fmt: skip

LIVE = frozenset({Presence.ONLINE, Presence.LATE})
"""The presences in which an agent is taken to run, and its silence is measured."""


class ImpossibleTransition(Exception):
    """The signal cannot happen to an agent in this presence."""


def step(agent_id: str, presence: Presence, signal: Signal) -> Presence:
    """The presence after ``signal``.

    Raises:
        ImpossibleTransition: the pair is not in the table.
    """
    try:
        return TRANSITIONS[presence, signal]
    except KeyError:
        raise ImpossibleTransition(f"cannot apply {signal} to {agent_id} while {presence}") from None


def diagram() -> str:
    """The table as a Mermaid state diagram; signals that change nothing are left out."""
    lines = [
        f"    {before} --> {after}: {signal}"
        for (before, signal), after in TRANSITIONS.items()
        if before is not after
    ]
    return "\n".join(["stateDiagram-v2", "    [*] --> expected", *lines])
