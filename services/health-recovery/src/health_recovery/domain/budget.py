"""How many may recover at once: at most a part of each group, so that healing takes nothing down.

A package is in several pools: one for each group of its agent, one for its site, and one for all packages
of its name in the fleet. An act takes a place in each of them and gives it back once it is over. Groups and
sites are counted in agents, so all acts on one agent have one place there: no machine, however ill it says
it is, can take the places of all others.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable

from health_recovery.domain.assessment import Assessment

Pool = tuple[str, str]
"""Its kind (group, site or package) and its name."""


def pools_of(seen: Assessment) -> tuple[Pool, ...]:
    """Where the acts on a package take a place."""
    site = [("site", seen.site)] if seen.site else []
    return (*(("group", name) for name in seen.groups), *site, ("package", seen.key.package))


def places(size: int, percent: float) -> int:
    """How many of so many may recover at once: never more than the part, but one always."""
    return max(1, int(size * percent / 100))


class Budget:
    """Who has a place in which pool."""

    def __init__(self, percent: float, size_of: Callable[[Pool], int]) -> None:
        self._percent, self._size_of = percent, size_of
        self._taken: defaultdict[Pool, Counter[str]] = defaultdict(Counter)
        """How many acts each agent has there."""

    def crowded(self, pools: Iterable[Pool], agent: str) -> str:
        """Which of the pools has no place for this agent, for people; empty: none."""
        for pool in pools:
            taken = self.taken(pool)
            if not taken or agent in self._taken[pool]:
                continue
            if taken >= (most := places(self._size_of(pool), self._percent)):
                kind, name = pool
                return f"{taken} of {kind} {name} recover, {most} may at once"
        return ""

    def take(self, pools: Iterable[Pool], agent: str) -> None:
        """Take a place in each, or share the agent's."""
        for pool in pools:
            self._taken[pool][agent] += 1

    def give_back(self, pools: Iterable[Pool], agent: str) -> None:
        """Give the place in each back, once nothing of the agent needs it any more."""
        for pool in pools:
            self._taken[pool][agent] -= 1
            if not self._taken[pool][agent]:
                del self._taken[pool][agent]
                if not self._taken[pool]:
                    del self._taken[pool]

    def taken(self, pool: Pool) -> int:
        """How many places are taken."""
        return len(self._taken[pool]) if pool in self._taken else 0
