"""What agents said of their packages, as it is held: immutable, small, and stamped with when it was so."""

from dataclasses import dataclass
from datetime import datetime

from muster_contracts.health.v1 import LONGEST_TEXT, Health
from muster_contracts.ids import start_of
from muster_contracts.package.v1 import CheckKind, Purpose, RecoveryPolicy, Reliance

USUAL = RecoveryPolicy()


@dataclass(frozen=True, slots=True)
class Stamp:
    """When something was so, by the clock of its machine, and in which run of its agent it was said."""

    epoch: str
    at: datetime


def supersedes(new: Stamp, held: Stamp | None, current_epoch: str | None) -> bool:
    """Whether ``new`` is to take the place of what is held.

    Within one run of an agent the later one counts; of two, one that says the same moment is taken, since
    a repeat changes nothing. Of two runs the one that the registry knows to be present counts, whatever the
    machine's clock says of them; else the one that began later.
    """
    if held is None:
        return True
    if new.epoch == held.epoch:
        return new.at >= held.at
    if current_epoch in {new.epoch, held.epoch}:
        return new.epoch == current_epoch
    return start_of(new.epoch) > start_of(held.epoch)


@dataclass(frozen=True, slots=True)
class Check:
    """One check and what it holds by its thresholds."""

    name: str
    kind: CheckKind
    purpose: Purpose
    health: Health
    since: datetime
    reason: str
    text: str
    stamp: Stamp


@dataclass(frozen=True, slots=True)
class Description:
    """What a package.json says that matters here. Equal ones are one object: fleets repeat themselves."""

    restart_policy: str = "always"
    depends_on: tuple[str, ...] = ()
    relies_on: tuple[Reliance, ...] = ()
    recovery: RecoveryPolicy = USUAL
    checks: tuple[str, ...] = ()
    """Their names."""


def plain(text: str | None) -> str:
    """A text as it can be kept and said again: not too long, and with nothing in it but what can be printed.

    No database holds a NUL, and what steers a terminal or turns the order of writing round deceives people.
    """
    cut = (text or "")[:LONGEST_TEXT]
    return cut if cut.isprintable() else "".join(sign if sign.isprintable() else " " for sign in cut)
