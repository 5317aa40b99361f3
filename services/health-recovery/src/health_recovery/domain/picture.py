"""The picture: the whole fleet in memory, with the indexes that make a change cost only what it touches.

Records are immutable; the picture holds the present ones. What a batch replaced can be put back, so that
the picture never shows for long what the database did not take (decision 4).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from health_recovery.domain.causes import causes, chain_to_cause
from health_recovery.domain.judging import absence
from health_recovery.domain.keys import Key
from health_recovery.domain.maintenance import Window
from health_recovery.domain.records import Host, Package, Verdict
from muster_contracts.health.v1 import Health
from muster_contracts.package.v1 import Reliance
from muster_contracts.selector import ID, Selector, SelectorError, parse

T = TypeVar("T")

ILL = frozenset({Health.CRITICAL, Health.WARNING})
MOST_CLUSTERS = 64
"""So many may packages of one agent rely on: each is matched with every agent that has such a package."""
MOST_IDS = 16
"""In a ``where``: each is compared by itself."""


@dataclass(slots=True, eq=False)
class Cluster:
    """The instances that one ``relies_on`` means, and who relies on them."""

    package: str
    selector: Selector | None
    """Null for one that cannot be read, or names more ids than it may: it means nobody."""
    members: set[str] = field(default_factory=set)
    """Agents that match and have the package."""
    dependents: set[Key] = field(default_factory=set)


@dataclass(slots=True)
class Tally:
    """How many packages of one agent are how."""

    ok: int = 0
    warning: int = 0
    critical: int = 0
    unknown: int = 0
    suppressed: int = 0
    flapping: int = 0

    def count(self, verdict: Verdict, by: int) -> None:
        """Count one in (1) or out (-1)."""
        match verdict.base.health:
            case Health.OK:
                self.ok += by
            case Health.WARNING:
                self.warning += by
            case Health.CRITICAL:
                self.critical += by
            case Health.UNKNOWN:
                self.unknown += by
        self.suppressed += by if verdict.cause else 0
        self.flapping += by if verdict.flapping else 0


NOTHING = Tally()


@dataclass(slots=True)
class Before:
    """What a batch replaced, as it was: to tell what is new, and to put it back."""

    packages: dict[Key, Package | None] = field(default_factory=dict)
    hosts: dict[str, Host | None] = field(default_factory=dict)
    windows: dict[UUID, Window] = field(default_factory=dict)
    open_windows: tuple[Window, ...] = ()
    sites: dict[str, datetime] | None = None
    next_event: int = 0


class Picture:
    """Every package and agent as they are held now."""

    def __init__(self) -> None:
        self.hosts: dict[str, Host] = {}
        self.windows: dict[UUID, Window] = {}
        """Maintenance that is, or is to come."""
        self.open_windows: tuple[Window, ...] = ()
        """Those under way when it was last looked."""
        self.sites: dict[str, datetime] = {}
        """Sites suspected to be cut off, and since when."""
        self.next_event = 1
        self.size = 0
        """How many packages there are."""
        self._packages: dict[str, dict[str, Package]] = {}
        self._needed_by: dict[Key, set[Key]] = {}
        """Who depends on each, on its own machine."""
        self._clusters: dict[tuple[str, str], Cluster] = {}
        self._clusters_of: dict[str, list[Cluster]] = {}
        self._relied_on_by: dict[str, Counter[tuple[str, str]]] = {}
        """The clusters of each agent's packages."""
        self._ill: set[Key] = set()
        self._caused: dict[Key, set[Key]] = {}
        self._flapping: set[Key] = set()
        self._tallies: dict[str, Tally] = {}
        self._shaken: set[Cluster] = set()
        self._before: Before | None = None

    # Reading.

    def get(self, key: Key) -> Package | None:
        """One package."""
        found = self._packages.get(key.agent)
        return found.get(key.package) if found else None

    def of_agent(self, agent: str) -> Mapping[str, Package]:
        """The packages of one agent, by name, in no order."""
        return self._packages.get(agent, {})

    def packages(self) -> Iterator[Package]:
        """Every package."""
        for found in self._packages.values():
            yield from found.values()

    def tally(self, agent: str) -> Tally:
        """How many of an agent's packages are how."""
        return self._tallies.get(agent, NOTHING)

    def host(self, agent: str) -> Host:
        """An agent; of one that is not known yet, what is assumed of it."""
        return self.hosts.get(agent) or Host(agent)

    def is_partitioned(self, host: Host) -> bool:
        """Whether its site is suspected to be cut off."""
        return bool(self.sites) and host.site in self.sites

    def missing(self, host: Host) -> str | None:
        """Why nobody can tell how its packages are; null while somebody can."""
        return absence(host.presence, partitioned=self.is_partitioned(host))

    @property
    def ill(self) -> Iterable[Key]:
        """Packages that are critical or warning."""
        return self._ill

    @property
    def flapping_count(self) -> int:
        """How many packages flap."""
        return len(self._flapping)

    @property
    def flapping(self) -> Iterable[Key]:
        """Packages that flap."""
        return self._flapping

    @property
    def causes(self) -> Iterable[Key]:
        """Packages by which others are suppressed."""
        return self._caused

    def made_ill_by(self, key: Key) -> Iterable[Key]:
        """The packages whose cause this one is."""
        return self._caused.get(key, ())

    # Who needs whom.

    def ill_needs(self, key: Key) -> list[Key]:
        """The ill packages that this one needs; those of its own machine first, the absent ones last."""
        package = self.get(key)
        if package is None or not _is_ill(package):
            return []  # who is only absent is an end: nothing on its machine can be told
        here = [Key(key.agent, name) for name in package.description.depends_on]
        found = [one for one in here if self._explains(one)]
        for reliance in package.description.relies_on:
            found += self._ill_instances(reliance)
        return [one for one in dict.fromkeys(found) if one != key]

    def above(self, key: Key) -> Iterator[Key]:
        """The ill packages that need this one directly."""
        yield from (one for one in self._needed_by.get(key, ()) if _is_ill(self.get(one)))
        for cluster in self._clusters_of.get(key.package, ()):
            if key.agent in cluster.members:
                yield from (one for one in cluster.dependents if _is_ill(self.get(one)))

    def causes_of(self, keys: Iterable[Key]) -> dict[Key, Key | None]:
        """What makes each critical one of these ill; null for one that is its own cause."""
        return causes((key for key in keys if _is_ill(self.get(key))), self.ill_needs)

    def chain(self, key: Key) -> list[Key]:
        """From what it is suppressed by to its cause."""
        package = self.get(key)
        if package is None or package.judged.cause is None:
            return []
        return chain_to_cause(key, self.ill_needs)

    def shaken(self) -> set[Key]:
        """The ill packages that rely on something whose instances are others since this was last asked."""
        clusters, self._shaken = self._shaken, set()
        return {one for cluster in clusters for one in cluster.dependents if _is_ill(self.get(one))}

    def _explains(self, key: Key) -> bool:
        package = self.get(key)
        return package is not None and package.verdict is not None and package.verdict.base.explains

    def _ill_instances(self, reliance: Reliance) -> list[Key]:
        """All instances if every one is ill or absent; a cluster with one that works explains nothing."""
        cluster = self._clusters.get((reliance.package, reliance.where))
        if cluster is None or not cluster.members:
            return []
        keys = [Key(agent, reliance.package) for agent in cluster.members]
        if not all(self._explains(one) for one in keys):
            return []
        return sorted(keys, key=lambda one: (not _is_ill(self.get(one)), one))

    # Changing.

    def put(self, package: Package) -> None:
        """Hold this record from now on."""
        key = package.key
        old = self.get(key)
        if self._before is not None:
            self._before.packages.setdefault(key, old)
        self._replace(key, old, package)

    def remove(self, key: Key) -> None:
        """There is no such package any more."""
        old = self.get(key)
        if self._before is not None:
            self._before.packages.setdefault(key, old)
        self._replace(key, old, None)

    def put_host(self, host: Host) -> None:
        """Hold this record from now on."""
        old = self.hosts.get(host.id)
        if self._before is not None:
            self._before.hosts.setdefault(host.id, old)
        self._replace_host(host.id, host)

    def set_windows(self, windows: Mapping[UUID, Window]) -> None:
        """Hold this maintenance from now on."""
        self.windows = dict(windows)

    def set_sites(self, sites: Mapping[str, datetime]) -> None:
        """These sites are suspected to be cut off."""
        if self._before is not None and self._before.sites is None:
            self._before.sites = self.sites
        self.sites = dict(sites)

    def take_event(self) -> int:
        """A number for a new line of history."""
        self.next_event += 1
        return self.next_event - 1

    def begin(self) -> Before:
        """Remember from now on what is replaced."""
        self._before = Before(
            windows=self.windows, open_windows=self.open_windows, next_event=self.next_event
        )
        return self._before

    def keep(self) -> None:
        """What was replaced since ``begin`` is replaced for good."""
        self._before = None

    def put_back(self) -> None:
        """Everything as it was at ``begin``."""
        before, self._before = self._before, None
        if before is None:
            return
        for agent, host in before.hosts.items():
            self._replace_host(agent, host)
        for key, package in before.packages.items():
            self._replace(key, self.get(key), package)
        self.windows, self.open_windows = before.windows, before.open_windows
        self.sites = self.sites if before.sites is None else before.sites
        self.next_event = before.next_event

    # Indexes.

    def _replace(self, key: Key, old: Package | None, new: Package | None) -> None:
        if new is None:
            if old is None:
                return
            found = self._packages[key.agent]
            del found[key.package]
            if not found:
                del self._packages[key.agent]
        else:
            self._packages.setdefault(key.agent, {})[key.package] = new
        if (old is None) is not (new is None):
            self.size += 1 if new else -1
            self._join_clusters(key, there=new is not None)
        self._index_dependence(key, old, new)
        self._index_reliance(key, old, new)
        self._index_verdict(key, old, new)

    def _replace_host(self, agent: str, host: Host | None) -> None:
        old = self.hosts.get(agent)
        if host is None:
            self.hosts.pop(agent, None)
        else:
            self.hosts[agent] = host
        if self._clusters and (old is None or host is None or _selected_otherwise(old, host)):
            for name in self.of_agent(agent):
                self._join_clusters(Key(agent, name), there=True)

    def _join_clusters(self, key: Key, *, there: bool) -> None:
        """Be counted in, or out, wherever others rely on a package of this name."""
        for cluster in self._clusters_of.get(key.package, ()):
            matches = there and cluster.selector and cluster.selector.matches(self.host(key.agent).facts)
            if bool(matches) is (key.agent in cluster.members):
                continue
            _hold(cluster.members, key.agent, there=bool(matches))
            self._shaken.add(cluster)

    def _index_dependence(self, key: Key, old: Package | None, new: Package | None) -> None:
        was = old.description.depends_on if old else ()
        now = new.description.depends_on if new else ()
        if was == now:
            return
        for name in set(was) - set(now):
            needed = Key(key.agent, name)
            self._needed_by[needed].discard(key)
            if not self._needed_by[needed]:
                del self._needed_by[needed]
        for name in now:
            self._needed_by.setdefault(Key(key.agent, name), set()).add(key)

    def _index_reliance(self, key: Key, old: Package | None, new: Package | None) -> None:
        was = old.description.relies_on if old else ()
        now = new.description.relies_on if new else ()
        if was == now:
            return
        for reliance in was:
            self._leave(key, reliance)
        for reliance in now:
            self._join(key, reliance)

    def _join(self, key: Key, reliance: Reliance) -> None:
        name = (reliance.package, reliance.where)
        mine = self._relied_on_by.setdefault(key.agent, Counter())
        if name not in self._clusters and len(mine) >= MOST_CLUSTERS:
            return
        cluster = self._cluster(reliance)
        if key not in cluster.dependents:
            cluster.dependents.add(key)
            mine[name] += 1

    def _leave(self, key: Key, reliance: Reliance) -> None:
        name = (reliance.package, reliance.where)
        cluster = self._clusters.get(name)
        if cluster is None or key not in cluster.dependents:
            return
        cluster.dependents.discard(key)
        mine = self._relied_on_by[key.agent]
        mine[name] -= 1
        if not mine[name]:
            del mine[name]
        if not cluster.dependents:
            self._forget_cluster(name, cluster)

    def _forget_cluster(self, name: tuple[str, str], cluster: Cluster) -> None:
        del self._clusters[name]
        others = self._clusters_of[cluster.package]
        others.remove(cluster)
        if not others:
            del self._clusters_of[cluster.package]

    def _cluster(self, reliance: Reliance) -> Cluster:
        name = (reliance.package, reliance.where)
        if name not in self._clusters:
            cluster = self._clusters[name] = Cluster(reliance.package, _read(reliance.where))
            self._clusters_of.setdefault(reliance.package, []).append(cluster)
            if cluster.selector:
                cluster.members = {
                    agent
                    for agent, found in self._packages.items()
                    if reliance.package in found and cluster.selector.matches(self.host(agent).facts)
                }
        return self._clusters[name]

    def _index_verdict(self, key: Key, old: Package | None, new: Package | None) -> None:
        was, now = old.verdict if old else None, new.verdict if new else None
        if was is now:
            return
        tally = self._tallies.setdefault(key.agent, Tally())
        if was:
            tally.count(was, -1)
        if now:
            tally.count(now, 1)
        _hold(self._ill, key, there=now is not None and now.base.health in ILL)
        _hold(self._flapping, key, there=now is not None and now.flapping)
        if was and was.cause and (now is None or now.cause != was.cause):
            self._caused[was.cause].discard(key)
            if not self._caused[was.cause]:
                del self._caused[was.cause]
        if now and now.cause:
            self._caused.setdefault(now.cause, set()).add(key)


def _is_ill(package: Package | None) -> bool:
    """Whether it is critical: only those have a cause."""
    return (
        package is not None and package.verdict is not None and package.verdict.base.health is Health.CRITICAL
    )


def _selected_otherwise(old: Host, new: Host) -> bool:
    return (
        old.labels != new.labels
        or old.groups != new.groups
        or old.presence is not new.presence
        or old.kind is not new.kind
    )


def _hold(held: set[T], key: T, *, there: bool) -> None:
    if there:
        held.add(key)
    else:
        held.discard(key)


def _read(where: str) -> Selector | None:
    try:
        selector = parse(where)
    except SelectorError:
        return None
    ids = sum(len(one.values) for one in selector.requirements if one.key == ID)
    return selector if ids <= MOST_IDS else None
