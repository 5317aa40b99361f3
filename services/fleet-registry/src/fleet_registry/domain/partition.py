"""When much of a site vanishes at once it is the network, not the agents: said once, not per agent."""

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class PartitionPolicy:
    """When a site is suspected to be cut off, and when that is over."""

    share: float = 0.30
    """More than this part of the known agents missing raises the suspicion."""
    least: int = 10
    """Smaller sites are never suspected: there each loss is worth its own word."""
    back_share: float = 0.15
    """At most this part still missing ends it."""
    recent_seconds: float = 120.0
    """Losses older than this are no part of a sudden one."""
    limit_seconds: float = 600.0
    """After this long the missing are taken to be lost one by one."""


@dataclass(frozen=True, slots=True)
class Census:
    """A site's agents that are there, or have vanished recently."""

    online: int
    missing: int

    @property
    def known(self) -> int:
        """All of them."""
        return self.online + self.missing


@dataclass(frozen=True, slots=True)
class Partition:
    """A site that is suspected to be cut off."""

    site: str
    since: datetime
    missing: int
    known: int


def suspected(census: Census, policy: PartitionPolicy) -> bool:
    """Whether so many are missing that the site, not its agents, must be the cause."""
    return census.known >= policy.least and census.missing > policy.share * census.known


def ended(partition: Partition, census: Census, now: datetime, policy: PartitionPolicy) -> bool:
    """Whether most agents are back, or the suspicion has lasted long enough."""
    lasted = now - partition.since
    return lasted >= timedelta(seconds=policy.limit_seconds) or (
        census.missing <= policy.back_share * max(census.known, partition.known)
    )
