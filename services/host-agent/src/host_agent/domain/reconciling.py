"""What to do about a package: the difference between what is wanted and what is seen."""

from dataclasses import dataclass
from enum import StrEnum

from muster_contracts.package.v1 import PackageState


class Needs(StrEnum):
    """How that is what a package depends on."""

    READY = "ready"
    COMING = "coming"
    """All of it is ready or on its way."""
    BROKEN = "broken"
    """Some of it does not run and is not about to."""


class Act(StrEnum):
    """What to do next."""

    NOTHING = "nothing"
    START = "start"
    HOLD = "hold"
    """Wait for what it depends on."""
    BLOCK = "block"
    REST = "rest"
    """Wait until it is due."""
    STOP = "stop"
    REPLACE = "replace"
    """Stop it to start it anew."""
    SETTLE = "settle"
    """Note that it is stopped, as it should be."""
    INVALIDATE = "invalidate"
    """Note that it cannot be used."""
    FORGET = "forget"
    """Its package.json is gone, and so is it."""


@dataclass(frozen=True, slots=True)
class Situation:
    """One package, as it is seen and as it should be."""

    state: PackageState
    described: bool = True
    """Whether its package.json is there."""
    usable: bool = True
    """Whether that can be used, now or when it was last read."""
    wanted: bool = True
    alive: bool = False
    """Whether its main process runs."""
    stale: bool = False
    """Whether it runs from another package.json."""
    again: bool = False
    """Whether a restart was ordered."""
    due_in: float = 0.0
    """Seconds until the next try."""
    needs: Needs = Needs.READY


def decide(now: Situation) -> Act:
    """The one thing to do next; nothing once what is seen is what is wanted."""
    return _of_the_living(now) if now.alive else _of_the_rest(now)


def _of_the_living(now: Situation) -> Act:
    unwanted = not now.described or not now.wanted
    # One that is held, or not ready yet, is left to end that first.
    outdated = now.again or (now.stale and now.state is PackageState.RUNNING)
    if not unwanted and not outdated:
        return Act.NOTHING
    if now.due_in > 0:
        return Act.REST  # it could not be stopped a moment ago
    return Act.STOP if unwanted else Act.REPLACE


def _of_the_rest(now: Situation) -> Act:  # noqa: PLR0911  (a list of rules, the first that fits)
    if not now.described:
        return Act.FORGET
    if not now.usable:
        return Act.INVALIDATE
    if not now.wanted:
        return Act.SETTLE
    if now.state is PackageState.EXITED and not now.again:
        return Act.NOTHING
    if now.due_in > 0:
        return Act.REST
    if now.needs is Needs.BROKEN:
        return Act.BLOCK
    if now.needs is Needs.COMING:
        # Blocked once is blocked until all is ready: else it would be news at each try of the others.
        return Act.NOTHING if now.state is PackageState.BLOCKED else Act.HOLD
    return Act.START
