"""Which run of an agent speaks: its own, an older, a newer one, or another machine's.

An epoch names a run: the machine's boot, then the start. On one boot the later start is the newer
run. Two boots cannot be ordered, so a run of another boot waits until the present one has fallen
silent; if the present one speaks again meanwhile, two machines share the id.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from fleet_registry.domain.presence import LIVE
from muster_contracts.fleet.v1 import Presence
from muster_contracts.ids import boot_of, start_of

LATE_AFTER = 1.5
"""Intervals of silence after which an agent is late."""
LOST_AFTER = 2.5
"""Intervals of silence after which an agent is lost: its deadline."""


class Standing(StrEnum):
    """What a sign of life means for the run the registry knows."""

    FIRST = "first"
    """No run was known, or the known one has ended: this one begins."""
    SAME = "same"
    """The known run goes on."""
    NEWER = "newer"
    """A later run on the same machine takes over."""
    STALE = "stale"
    """A message of an earlier run came late."""
    ENDED = "ended"
    """The run said goodbye, and this was said before."""
    CONTENDER = "contender"
    """Another machine speaks while the known one may still live; who it is shows soon."""
    SUCCESSOR = "successor"
    """Another machine speaks and the known one is silent: it takes over."""
    CLONE = "clone"
    """Two machines speak in turn under one id."""


@dataclass(frozen=True, slots=True)
class Contest:
    """What is known of a run from another boot: since when it speaks, and when the known one last did."""

    since: datetime
    known_spoke: datetime | None
    interval_seconds: float
    now: datetime


def standing(presence: Presence, known: str | None, epoch: str, contest: Contest | None = None) -> Standing:
    """Where the run ``epoch`` stands towards the ``known`` one of an agent in ``presence``."""
    if known is None:
        return Standing.FIRST
    if epoch == known:
        return Standing.ENDED if presence is Presence.LEFT else Standing.SAME
    if boot_of(epoch) == boot_of(known):
        return _on_one_machine(presence, known, epoch)
    return _from_another_machine(presence, contest)


def _on_one_machine(presence: Presence, known: str, epoch: str) -> Standing:
    if start_of(epoch) < start_of(known):
        return Standing.STALE
    return Standing.NEWER if presence in LIVE else Standing.FIRST


def _from_another_machine(presence: Presence, contest: Contest | None) -> Standing:
    if presence not in LIVE:
        return Standing.FIRST
    if contest is None:
        return Standing.CONTENDER
    if contest.known_spoke is not None and contest.known_spoke > contest.since:
        return Standing.CLONE
    patience = timedelta(seconds=LATE_AFTER * contest.interval_seconds)
    if presence is Presence.LATE or contest.now - contest.since >= patience:
        return Standing.SUCCESSOR
    return Standing.CONTENDER
