"""How far one target is, as a state machine.

``TRANSITIONS`` is the whole of it: a pair that is absent is impossible and raises. Nothing leads out of an
end. What came too late to be a signal is noted beside the end, never in its place.
"""

from enum import StrEnum
from itertools import groupby

from muster_contracts.command.v1 import ENDS, CommandState


class Signal(StrEnum):
    """What an agent, an operator or the clock can do to a target."""

    ACCEPT = "accept"
    """The agent has written it down."""
    BEGIN = "begin"
    """The agent has begun."""
    SUCCEED = "succeed"
    FAIL = "fail"
    TIME_OUT = "time out"
    EXPIRE = "expire"
    """The agent says so; or its time has passed and it surely never reached the agent."""
    CANCEL = "cancel"
    """The agent says so; or it was taken back and surely never reached the agent."""
    REJECT = "reject"
    INTERRUPT = "interrupt"
    SILENCE = "silence"
    """It may have reached the agent, and nothing was heard by its deadline."""


REPORTS = {
    CommandState.SUCCEEDED: Signal.SUCCEED,
    CommandState.FAILED: Signal.FAIL,
    CommandState.TIMED_OUT: Signal.TIME_OUT,
    CommandState.EXPIRED: Signal.EXPIRE,
    CommandState.CANCELLED: Signal.CANCEL,
    CommandState.REJECTED: Signal.REJECT,
    CommandState.INTERRUPTED: Signal.INTERRUPT,
}
"""The ends an agent can report: all but lost, which only the ledger can find."""

LIVING = tuple(state for state in CommandState if state not in ENDS)

TRANSITIONS: dict[tuple[CommandState, Signal], CommandState] = {
    (CommandState.PENDING, Signal.ACCEPT): CommandState.ACCEPTED,
    (CommandState.PENDING, Signal.BEGIN): CommandState.RUNNING,
    (CommandState.ACCEPTED, Signal.ACCEPT): CommandState.ACCEPTED,
    (CommandState.ACCEPTED, Signal.BEGIN): CommandState.RUNNING,
    # A push that is repeated is answered while it runs; that does not take it back.
    (CommandState.RUNNING, Signal.ACCEPT): CommandState.RUNNING,
    (CommandState.RUNNING, Signal.BEGIN): CommandState.RUNNING,
    **{(state, signal): end for state in LIVING for end, signal in REPORTS.items()},
    **{(state, Signal.SILENCE): CommandState.LOST for state in LIVING},
}


class ImpossibleTransition(Exception):
    """The signal cannot happen to a target in this state."""


def step(state: CommandState, signal: Signal) -> CommandState:
    """The state after ``signal``.

    Raises:
        ImpossibleTransition: the table has no such pair.
    """
    try:
        return TRANSITIONS[state, signal]
    except KeyError:
        raise ImpossibleTransition(f"cannot apply {signal} to a target that is {state}") from None


def diagram() -> str:
    """The table as a Mermaid state diagram, for the README."""
    lines = ["stateDiagram-v2", "    [*] --> pending"]
    moves = [(was, now, signal) for (was, signal), now in TRANSITIONS.items() if was is not now]
    for (was, now), same in groupby(moves, key=lambda move: move[:2]):
        lines.append(f"    {was} --> {now}: {', '.join(move[2] for move in same)}")
    lines += [f"    {end} --> [*]" for end in CommandState if end in ENDS]
    return "\n".join(lines)
