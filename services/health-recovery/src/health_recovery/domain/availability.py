"""How much of a time a package worked, from the stretches of its history."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from muster_contracts.health.v1 import Health

WELL = frozenset({Health.OK, Health.WARNING})


@dataclass(frozen=True, slots=True)
class Stretch:
    """For how long a package was judged one way; stretches follow one another without a gap."""

    begin: datetime
    end: datetime
    health: Health | None
    """Null: there was no such package."""
    maintenance: bool


@dataclass(frozen=True, slots=True)
class Figures:
    """What became of the time."""

    well_seconds: float
    ill_seconds: float
    unknown_seconds: float
    maintenance_seconds: float
    failures: int
    repaired_seconds: tuple[float, ...]
    """Of each failure that is over: how long it was critical within the time."""

    @property
    def percent(self) -> float | None:
        """Well time of all time that is neither unknown nor in maintenance; null if there is none."""
        known = self.well_seconds + self.ill_seconds
        return 100.0 * self.well_seconds / known if known > 0 else None

    @property
    def mean_to_recovery(self) -> float | None:
        """Seconds from falling ill to being well; null if no failure is over."""
        return sum(self.repaired_seconds) / len(self.repaired_seconds) if self.repaired_seconds else None

    @property
    def mean_between_failures(self) -> float | None:
        """Well seconds for each failure; null if there was none."""
        return self.well_seconds / self.failures if self.failures else None


def figures(stretches: Iterable[Stretch]) -> Figures:
    """Add up stretches, oldest first.

    A failure is a spell of being critical outside of maintenance: it begins where that begins, also at the
    edge of the time, and is over when the package is well again. What is unknown in between neither ends
    nor begins one, and counts for none of its seconds.
    """
    sums = dict.fromkeys(("well", "ill", "unknown", "maintenance"), 0.0)
    failures, spell, repaired = 0, None, []
    for one in stretches:
        kind = _kind(one)
        sums[kind] += (one.end - one.begin).total_seconds()
        if kind == "ill":
            failures += spell is None
            spell = (spell or 0.0) + (one.end - one.begin).total_seconds()
        elif kind == "well" and spell is not None:
            repaired.append(spell)
            spell = None
        elif kind == "maintenance":
            spell = None  # what somebody works on is no failure any more, and nothing that repaired itself
    return Figures(sums["well"], sums["ill"], sums["unknown"], sums["maintenance"], failures, tuple(repaired))


def _kind(one: Stretch) -> str:
    if one.health in {None, Health.UNKNOWN}:
        return "unknown"  # also in maintenance: nobody can tell
    if one.maintenance:
        return "maintenance"
    return "well" if one.health in WELL else "ill"
