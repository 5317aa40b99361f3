"""How many agents and packages there are, counted in the leader's picture when somebody wants to know."""

from collections import Counter
from collections.abc import Iterator

from health_recovery.domain.budget import Pool
from health_recovery.domain.picture import Picture
from muster_contracts.fleet.v1 import Presence
from muster_runtime import Clock

COUNTED_SECONDS = 10.0
"""A count is good for so long: fleets grow slowly, and counting looks at every agent."""

GONE = frozenset({Presence.LEFT, Presence.RETIRED})


class Census:
    """See ``recovery_ports.Population``."""

    def __init__(self, picture: Picture, clock: Clock) -> None:
        self._picture, self._clock = picture, clock
        self._counted: Counter[Pool] = Counter()
        self._until = 0.0

    def size_of(self, pool: Pool) -> int:
        """Agents of a group or site, or packages of a name; 0 if there is no such pool."""
        if self._clock.monotonic() >= self._until:
            self._counted = Counter(self._pools())
            self._until = self._clock.monotonic() + COUNTED_SECONDS
        return self._counted[pool]

    def _pools(self) -> Iterator[Pool]:
        for host in self._picture.hosts.values():
            if host.presence in GONE:
                continue
            yield from (("group", name) for name in host.groups)
            yield "site", host.site
            yield from (("package", name) for name in self._picture.of_agent(host.id))
