"""Times in which somebody works on something."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from muster_contracts.health.v1 import Maintenance
from muster_contracts.selector import Facts, Selector

LONGEST = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class Window:
    """One maintenance window, its selector read."""

    told: Maintenance
    selector: Selector

    @property
    def id(self) -> UUID:
        """Names it."""
        return self.told.id

    def is_open(self, at: datetime) -> bool:
        """Whether the work is under way."""
        return self.told.since <= at < self.told.until

    def covers(self, agent: Facts, package: str | None) -> bool:
        """Whether it is about this package; with None, whether it is about all of the agent."""
        if self.told.package is not None and self.told.package != package:
            return False
        return self.selector.matches(agent)


def covered(windows: Iterable[Window], agent: Facts, package: str | None) -> bool:
    """Whether somebody works on it."""
    return any(one.covers(agent, package) for one in windows)
