"""The state of one package, as a state machine.

``TRANSITIONS`` is the whole of it: a pair that is absent is impossible and raises.
"""

from enum import StrEnum
from types import MappingProxyType

from muster_contracts.package.v1 import PackageState


class Signal(StrEnum):
    """What can happen to a package."""

    START = "start"
    """It is to run: it is being started, or waits for what it depends on."""
    READY = "ready"
    """It runs and is ready."""
    FAIL = "fail"
    """It could not be started, or was not ready in time."""
    EXIT = "exit"
    """It ended by itself and is left so."""
    RETRY = "retry"
    """It ended by itself and will be started again after a pause."""
    LOOP = "loop"
    """The same, once too often in a row."""
    BLOCK = "block"
    """It is to run, and what it depends on does not."""
    STOP = "stop"
    """It is being stopped."""
    STAY = "stay"
    """It could not be stopped."""
    END = "end"
    """Nothing of it runs, as it should be."""
    PAUSE = "pause"
    RESUME = "resume"
    ADOPT = "adopt"
    """It was found running."""
    ADOPT_PAUSED = "adopt-paused"
    """It was found held."""
    BREAK = "break"
    """Its package.json cannot be used, and nothing of it runs."""
    MEND = "mend"
    """Its package.json can be used again."""


_S = PackageState

_DOWN = (_S.STOPPED, _S.EXITED, _S.BACKOFF, _S.CRASH_LOOP, _S.BLOCKED, _S.FAILED)
"""States without a process."""
_UP = (_S.STARTING, _S.RUNNING, _S.PAUSED)
"""States with a process; a package that is starting may still wait for one."""

_FROM_DOWN = {
    Signal.START: _S.STARTING,
    Signal.FAIL: _S.FAILED,
    Signal.EXIT: _S.EXITED,
    Signal.BLOCK: _S.BLOCKED,
    Signal.END: _S.STOPPED,
    Signal.ADOPT: _S.RUNNING,
    Signal.ADOPT_PAUSED: _S.PAUSED,
    Signal.BREAK: _S.INVALID,
}
_FROM_UP = {
    Signal.START: _S.STARTING,
    Signal.EXIT: _S.EXITED,
    Signal.RETRY: _S.BACKOFF,
    Signal.LOOP: _S.CRASH_LOOP,
    Signal.BLOCK: _S.BLOCKED,
    Signal.STOP: _S.STOPPING,
    Signal.END: _S.STOPPED,
}

TRANSITIONS = MappingProxyType(
    {(state, signal): now for state in _DOWN for signal, now in _FROM_DOWN.items()}
    | {(state, signal): now for state in _UP for signal, now in _FROM_UP.items()}
    | {
        (_S.STARTING, Signal.READY): _S.RUNNING,
        (_S.STARTING, Signal.FAIL): _S.FAILED,
        (_S.STARTING, Signal.BREAK): _S.INVALID,
        (_S.RUNNING, Signal.PAUSE): _S.PAUSED,
        (_S.PAUSED, Signal.RESUME): _S.RUNNING,
        (_S.STOPPING, Signal.END): _S.STOPPED,
        (_S.STOPPING, Signal.STAY): _S.RUNNING,
        # Stopped only to be started anew, or because it was not ready in time.
        (_S.STOPPING, Signal.START): _S.STARTING,
        (_S.STOPPING, Signal.BLOCK): _S.BLOCKED,
        (_S.STOPPING, Signal.FAIL): _S.FAILED,
        (_S.STOPPING, Signal.BREAK): _S.INVALID,
        (_S.INVALID, Signal.BREAK): _S.INVALID,
        (_S.INVALID, Signal.MEND): _S.STOPPED,
    }
)


class ImpossibleTransition(Exception):
    """The signal cannot happen to a package in this state."""


def step(name: str, state: PackageState, signal: Signal) -> PackageState:
    """The state after ``signal``.

    Raises:
        ImpossibleTransition: the pair is not in the table.
    """
    try:
        return TRANSITIONS[state, signal]
    except KeyError:
        raise ImpossibleTransition(f"cannot apply {signal} to package {name} while {state}") from None
