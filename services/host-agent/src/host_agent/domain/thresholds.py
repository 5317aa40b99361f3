"""What a check holds, from what its looks see: one bad look is no illness, one good look no recovery.

| looks | what is held then |
|---|---|
| ``failures`` in a row worse than what is held | the mildest of them |
| ``successes`` in a row better than what is held | the worst of them |
| ``failures`` in a row that could not tell | unknown; the row of the others begins anew |
| fewer that could not tell, between others | as before; they neither count in a row nor end it |
| nothing is held, or unknown, and ``successes`` are ok | ok |
| nothing is held, or unknown, and ``failures`` are not ok | the mildest of them |
| in the start period: ok | counts as ever |
| in the start period: anything else | as before; it does not count |

ok < warning < critical; unknown is none of these.
"""

from dataclasses import dataclass, replace
from types import MappingProxyType

from muster_contracts.health.v1 import Health
from muster_contracts.package.specification import Check

_AS_BAD_AS = MappingProxyType({Health.OK: 0, Health.WARNING: 1, Health.CRITICAL: 2})


@dataclass(frozen=True, slots=True)
class Standing:
    """What a check holds, and the looks that may change it."""

    health: Health | None = None
    """None: nothing yet."""
    row: tuple[Health, ...] = ()
    """The last looks that could tell and counted, the newest last; as many as the thresholds ask for."""
    blind: int = 0
    """Looks in a row that could not tell."""
    seen: Health | None = None
    """By the last look; None before the first."""
    alike: int = 0
    """Looks in a row that saw that."""


def after(standing: Standing, seen: Health, check: Check, *, starting: bool = False) -> Standing:
    """What a check holds after one more look; ``starting``: the look was within the start period."""
    alike = standing.alike + 1 if seen is standing.seen else 1
    standing = replace(standing, seen=seen, alike=alike)
    if starting and seen is not Health.OK:
        return standing
    if seen is Health.UNKNOWN:
        blind = standing.blind + 1
        if blind < check.failures:
            return replace(standing, blind=blind)
        return replace(standing, blind=blind, health=Health.UNKNOWN, row=())
    row = (*standing.row, seen)[-max(check.failures, check.successes) :]
    return replace(standing, blind=0, row=row, health=_held(standing.health, row, check))


def _held(health: Health | None, row: tuple[Health, ...], check: Check) -> Health | None:
    """What is held after a row of looks that could tell."""
    worse, better = row[-check.failures :], row[-check.successes :]
    mildest, worst = min(worse, key=_AS_BAD_AS.__getitem__), max(better, key=_AS_BAD_AS.__getitem__)
    if len(worse) == check.failures and _is_worse(mildest, health):
        return mildest
    if len(better) == check.successes and _is_better(worst, health):
        return worst
    return health


def _is_worse(seen: Health, held: Health | None) -> bool:
    return _AS_BAD_AS[seen] > _AS_BAD_AS.get(held or Health.UNKNOWN, 0)


def _is_better(seen: Health, held: Health | None) -> bool:
    return _AS_BAD_AS[seen] < _AS_BAD_AS.get(held or Health.UNKNOWN, 1)
