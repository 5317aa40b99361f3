"""What facts change in the picture: each function takes one fact and says what has to be judged again.

Facts come late, twice and out of order. Whatever is older than what is held is skipped; whatever was not
known before is made known by the first fact that names it. One agent may say much, and is held to bounds:
what it says costs the leader of all.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from health_recovery.domain.facts import Check, Description, Stamp, plain, supersedes
from health_recovery.domain.judging import CRASH_LOOP, TRANSIENT
from health_recovery.domain.keys import Key
from health_recovery.domain.picture import Picture
from health_recovery.domain.records import Host, Package
from muster_contracts.fleet.v1 import AgentRow, PartitionEnded, PartitionSuspected, Presence, PresenceChanged
from muster_contracts.health.v1 import CheckChanged
from muster_contracts.package.v1 import (
    PackageChanged,
    PackageDescribed,
    PackagesFound,
    PackageState,
    RecoveryPolicy,
    Reliance,
)

EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
"""No machine of a fleet said anything before; what reckons with the year 1 overflows."""
FASTEST = timedelta(seconds=60)
"""What a clock is ahead by more is not believed: set right, its facts would pass for old ones for as long."""
MOST_PACKAGES = 900
"""Of one agent: as many as its list can hold."""
MOST_CHECKS = 128
"""Of one package: twice as many as a package.json can hold, since new ones may come before old ones go."""

Fact = (
    CheckChanged
    | PackageChanged
    | PackageDescribed
    | PackagesFound
    | PresenceChanged
    | PartitionSuspected
    | PartitionEnded
)


@dataclass(slots=True)
class Touched:
    """What has to be judged again, and since when it may be otherwise."""

    packages: dict[Key, datetime] = field(default_factory=dict)
    hosts: dict[str, datetime] = field(default_factory=dict)

    def package(self, key: Key, at: datetime) -> None:
        """Judge this one, and its agent."""
        self.packages[key] = at
        self.hosts[key.agent] = at

    def agent(self, picture: Picture, agent: str, at: datetime) -> None:
        """Judge an agent and all its packages."""
        self.hosts[agent] = at
        for name in picture.of_agent(agent):
            self.packages[Key(agent, name)] = at


def hear(picture: Picture, fact: Fact, touched: Touched, now: datetime) -> None:
    """Change the picture by one fact; ``now`` bounds what a machine with a fast clock says."""
    said = max(EARLIEST, min(fact.occurred_at, now + FASTEST))
    if said != fact.occurred_at:
        fact = fact.model_copy(update={"occurred_at": said})
    _BY_KIND[type(fact)](picture, fact, touched, min(said, now))


def _package_changed(picture: Picture, fact: PackageChanged, touched: Touched, at: datetime) -> None:
    key, stamp = Key(fact.agent_id, fact.package), Stamp(fact.epoch, fact.occurred_at)
    package = _known(picture, key, stamp)
    if package is None or not supersedes(stamp, package.said, picture.host(key.agent).epoch):
        return
    if fact.now is None:
        _remove(picture, key, touched, at)
        return
    changed = replace(
        package,
        state=fact.now, exit_code=fact.exit_code, text=plain(fact.text), said=stamp,
        unsettled_since=_unsettled(package, fact.now, at),
    )  # fmt: skip
    _put(picture, changed, touched, at)


def _unsettled(package: Package, now: PackageState, at: datetime) -> datetime | None:
    """Since when it only starts, stops or waits for its next try; many short tries count as one.

    After a crash loop each run begins anew to prove that it lasts.
    """
    if now in TRANSIENT:
        return (package.unsettled_since if package.state in TRANSIENT else None) or at
    proving = now is PackageState.RUNNING and package.settled.reason == CRASH_LOOP
    return at if proving else None


def _package_described(picture: Picture, fact: PackageDescribed, touched: Touched, at: datetime) -> None:
    key, stamp = Key(fact.agent_id, fact.package), Stamp(fact.epoch, fact.occurred_at)
    package = _known(picture, key, stamp)
    epoch = picture.host(key.agent).epoch
    if package is None or not supersedes(stamp, package.described, epoch):
        return
    names = {one.name for one in fact.checks}
    checks = tuple(
        one for one in package.checks if one.name in names or not supersedes(stamp, one.stamp, epoch)
    )
    changed = replace(package, description=described(fact), described=stamp, checks=checks)
    _put(picture, changed, touched, at)


def described(fact: PackageDescribed) -> Description:
    """What matters of a package.json."""
    return alike(
        fact.restart_policy,
        tuple(fact.depends_on),
        tuple((one.package, one.where) for one in fact.relies_on),
        fact.recovery.model_dump_json(exclude_defaults=True),
        tuple(sorted(one.name for one in fact.checks)),
    )


@lru_cache(maxsize=4096)
def alike(
    restart_policy: str,
    depends_on: tuple[str, ...],
    relies_on: tuple[tuple[str, str], ...],
    recovery: str,
    checks: tuple[str, ...],
) -> Description:
    """One description for all packages that are described alike."""
    return Description(
        restart_policy,
        depends_on,
        tuple(Reliance(package=package, where=where) for package, where in relies_on),
        RecoveryPolicy.model_validate_json(recovery),
        checks,
    )


def _check_changed(picture: Picture, fact: CheckChanged, touched: Touched, at: datetime) -> None:
    key, stamp = Key(fact.agent_id, fact.package), Stamp(fact.epoch, fact.occurred_at)
    package = _known(picture, key, stamp)
    epoch = picture.host(key.agent).epoch
    if package is None:
        return
    held = next((one for one in package.checks if one.name == fact.check), None)
    if not supersedes(stamp, held.stamp if held else None, epoch):
        return
    if held is None and (len(package.checks) >= MOST_CHECKS or _left_out(package, fact.check, stamp, epoch)):
        return
    others = [one for one in package.checks if one.name != fact.check]
    if fact.now is not None:
        since = held.since if held and held.health is fact.now else at
        others.append(
            Check(
                fact.check, fact.kind, fact.purpose, fact.now, since, plain(fact.reason), plain(fact.text),
                stamp,
            )
        )  # fmt: skip
    checks = tuple(sorted(others, key=lambda one: one.name))
    _put(picture, replace(package, checks=checks), touched, at)


def _left_out(package: Package, check: str, stamp: Stamp, epoch: str | None) -> bool:
    """Whether it was said, then or later, that there is no such check."""
    if package.described is None or check in package.description.checks:
        return False
    return supersedes(package.described, stamp, epoch)


def _packages_found(picture: Picture, fact: PackagesFound, touched: Touched, at: datetime) -> None:
    stamp, host = Stamp(fact.epoch, fact.occurred_at), picture.host(fact.agent_id)
    if not supersedes(stamp, host.found, host.epoch):
        return
    picture.put_host(replace(host, found=stamp))
    there = set(fact.packages)
    for name, package in list(picture.of_agent(host.id).items()):
        if name not in there and supersedes(stamp, package.last_said, host.epoch):
            _remove(picture, package.key, touched, at)
    held = picture.of_agent(host.id)
    room = max(0, MOST_PACKAGES - len(held))
    for name in sorted(there - held.keys())[:room]:
        # Else word of it from before the list, still on its way, would be taken for word of what is gone.
        _put(picture, Package(Key(host.id, name)), touched, at)
    touched.hosts[host.id] = at


def _presence_changed(picture: Picture, fact: PresenceChanged, touched: Touched, at: datetime) -> None:
    host = picture.host(fact.agent_id)
    if host.presence_since and fact.occurred_at < host.presence_since:
        return
    changed = replace(
        host,
        kind=fact.kind, presence=fact.now, presence_since=fact.occurred_at, epoch=fact.epoch or host.epoch,
        labels=fact.labels,
    )  # fmt: skip
    picture.put_host(changed)
    touched.agent(picture, host.id, at)


def _partition_suspected(picture: Picture, fact: PartitionSuspected, touched: Touched, at: datetime) -> None:
    since = picture.sites.get(fact.site)
    if since is None or fact.occurred_at > since:
        picture.set_sites({**picture.sites, fact.site: fact.occurred_at})
        _touch_site(picture, fact.site, touched, at)


def _partition_ended(picture: Picture, fact: PartitionEnded, touched: Touched, at: datetime) -> None:
    since = picture.sites.get(fact.site)
    if since is not None and fact.occurred_at >= since:
        picture.set_sites({site: begin for site, begin in picture.sites.items() if site != fact.site})
        _touch_site(picture, fact.site, touched, at)


def _touch_site(picture: Picture, site: str, touched: Touched, at: datetime) -> None:
    for host in picture.hosts.values():
        if host.site == site:
            touched.agent(picture, host.id, at)


def see_agents(picture: Picture, rows: Iterable[AgentRow], touched: Touched, now: datetime) -> None:
    """Take over what the registry lists, as a whole: level, not edge."""
    for row in rows:
        host = picture.hosts.get(row.id)
        held = host or Host(row.id)
        if held.presence_since is None or row.since >= held.presence_since:
            seen = replace(held, presence=row.state, presence_since=row.since, epoch=row.epoch or held.epoch)
        else:
            seen = held
        seen = replace(seen, kind=row.kind, labels=row.labels, groups=tuple(sorted(row.groups)))
        if host is None or seen != held:
            picture.put_host(seen)
            touched.agent(picture, row.id, min(row.since, now) if seen.presence is not held.presence else now)


def forget_retired(picture: Picture, before: datetime, touched: Touched, now: datetime) -> None:
    """Let go of the packages of agents that were taken out of the fleet before: nobody asks for them."""
    for host in picture.hosts.values():
        if not present(host) and host.presence_since and host.presence_since < before:
            for name in list(picture.of_agent(host.id)):
                _remove(picture, Key(host.id, name), touched, now)


def _known(picture: Picture, key: Key, stamp: Stamp) -> Package | None:
    """The package a fact is about, a new one if it is the first; null if a later list has it no more.

    Null, too, for one more than an agent may have.
    """
    if package := picture.get(key):
        return package
    if len(picture.of_agent(key.agent)) >= MOST_PACKAGES:
        return None
    host = picture.host(key.agent)
    later_list = host.found is not None and supersedes(host.found, stamp, host.epoch)
    return None if later_list else Package(key)


def _put(picture: Picture, package: Package, touched: Touched, at: datetime) -> None:
    if package.key.agent not in picture.hosts:
        picture.put_host(Host(package.key.agent))
    picture.put(package)
    touched.package(package.key, at)


def _remove(picture: Picture, key: Key, touched: Touched, at: datetime) -> None:
    picture.remove(key)
    touched.package(key, at)


def present(host: Host) -> bool:
    """Whether it is to be counted and listed: those that were taken out of the fleet are not."""
    return host.presence is not Presence.RETIRED


_BY_KIND: dict[type, Callable[[Picture, Any, Touched, datetime], None]] = {
    PackageChanged: _package_changed,
    PackageDescribed: _package_described,
    CheckChanged: _check_changed,
    PackagesFound: _packages_found,
    PresenceChanged: _presence_changed,
    PartitionSuspected: _partition_suspected,
    PartitionEnded: _partition_ended,
}
