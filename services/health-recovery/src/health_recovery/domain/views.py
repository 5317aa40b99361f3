"""The picture as answers show it."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields

from health_recovery.domain.assessing import told
from health_recovery.domain.facts import Check
from health_recovery.domain.hearing import present
from health_recovery.domain.judging import RANK
from health_recovery.domain.keys import Key
from health_recovery.domain.maintenance import covered
from health_recovery.domain.picture import ILL, Picture, Tally
from health_recovery.domain.records import Host, Package
from muster_contracts.agent.v1 import AgentKind
from muster_contracts.health.v1 import (
    CheckHealth,
    Counts,
    FindHosts,
    FindPackages,
    Health,
    HostHealth,
    HostHealthDetail,
    HostHealthPage,
    PackageHealth,
    PackageHealthPage,
    Rollup,
)
from muster_contracts.selector import STATE, Selector

PACKAGES_OF_ANSWER = 500
CHECKED_OF_ANSWER = 100
"""Ill packages of one agent whose checks an answer has room for."""

Decorate = Callable[[PackageHealth], PackageHealth]
"""Adds what incidents and recovery know of a package."""


# The fleet -------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Sum:
    """A roll-up being added up."""

    agents: Tally
    packages: Tally

    def add(self, health: Health, tally: Tally) -> None:
        setattr(self.agents, health.value, getattr(self.agents, health.value) + 1)
        for one in fields(Tally):
            setattr(self.packages, one.name, getattr(self.packages, one.name) + getattr(tally, one.name))

    def rollup(self) -> Rollup:
        return Rollup(
            health=_worst(self.agents), agents=_counts(self.agents), packages=_counts(self.packages),
            suppressed=self.packages.suppressed,
        )  # fmt: skip


def rollups(picture: Picture) -> tuple[Rollup, dict[str, Rollup], dict[AgentKind, Rollup]]:
    """The fleet, its groups and its kinds of agents."""
    fleet = _Sum(Tally(), Tally())
    groups: dict[str, _Sum] = {}
    kinds: dict[AgentKind, _Sum] = {}
    for host in picture.hosts.values():
        if not present(host) or host.verdict is None:
            continue
        tally, health = picture.tally(host.id), host.verdict.health
        fleet.add(health, tally)
        kinds.setdefault(host.kind, _Sum(Tally(), Tally())).add(health, tally)
        for group in host.groups:
            groups.setdefault(group, _Sum(Tally(), Tally())).add(health, tally)
    return (
        fleet.rollup(),
        {name: groups[name].rollup() for name in sorted(groups)},
        {kind: kinds[kind].rollup() for kind in sorted(kinds)},
    )


def _worst(tally: Tally) -> Health:
    healths = [health for health in Health if getattr(tally, health.value)]
    return max(healths, key=RANK.__getitem__, default=Health.UNKNOWN)


def _counts(tally: Tally) -> Counts:
    return Counts(ok=tally.ok, warning=tally.warning, critical=tally.critical, unknown=tally.unknown)


# Agents ----------------------------------------------------------------------------------------------


def selected(picture: Picture, selector: Selector) -> list[Host]:
    """Agents that match, by id; the retired ones only where the selector asks for a state."""
    any_state = selector.uses(STATE)
    found = [
        host
        for host in picture.hosts.values()
        if (any_state or present(host)) and host.verdict is not None and selector.matches(host.facts)
    ]
    return sorted(found, key=lambda host: host.id)


def host_health(picture: Picture, host: Host) -> HostHealth:
    """One agent as lists show it."""
    assert host.verdict
    assert host.since
    tally = picture.tally(host.id)
    return HostHealth(
        agent=host.id, kind=host.kind, presence=host.presence, health=host.verdict.health, since=host.since,
        reason=host.verdict.reason, culprit=host.verdict.culprit, packages=_counts(tally),
        suppressed=tally.suppressed, flapping=tally.flapping,
        maintenance=covered(picture.open_windows, host.facts, None),
    )  # fmt: skip


def host_page(picture: Picture, ask: FindHosts, selector: Selector) -> HostHealthPage:
    """Agents in the order of their ids."""
    wanted = set(ask.health)
    found = [
        host
        for host in selected(picture, selector)
        if not wanted or (host.verdict and host.verdict.health in wanted)
    ]
    start = bisect_right(found, ask.after, key=lambda host: host.id) if ask.after else 0
    page = found[start : start + ask.limit]
    more = start + len(page) < len(found)
    return HostHealthPage(
        hosts=[host_health(picture, host) for host in page],
        total=len(found),
        next=page[-1].id if more else None,
    )


def host_detail(picture: Picture, host: Host, decorate: Decorate) -> HostHealthDetail:
    """One agent, its packages, and the checks of those that are not ok; the ill ones first if too many."""
    found = sorted(picture.of_agent(host.id).values(), key=lambda one: (-RANK[one.health], one.key))
    shown = sorted(found[:PACKAGES_OF_ANSWER], key=lambda one: one.key)
    ill = [one for one in found[:CHECKED_OF_ANSWER] if one.health is not Health.OK and one.checks]
    return HostHealthDetail(
        host=host_health(picture, host),
        packages=[decorate(told(one, one.judged)) for one in shown],
        checks={one.key.package: checks(one) for one in ill},
    )


# Packages --------------------------------------------------------------------------------------------


def package_page(
    picture: Picture, ask: FindPackages, selector: Selector, decorate: Decorate
) -> PackageHealthPage:
    """Packages by agent and name; ``after`` is ``agent/package``."""
    found = sorted(_wanted(picture, ask, selector), key=lambda one: one.key)
    after = Key(*ask.after.split("/", 1)) if ask.after and "/" in ask.after else None
    start = bisect_right(found, after, key=lambda one: one.key) if after else 0
    page = found[start : start + ask.limit]
    last = page[-1].key if page and start + len(page) < len(found) else None
    return PackageHealthPage(
        packages=[decorate(told(one, one.judged)) for one in page],
        total=len(found),
        next=f"{last.agent}/{last.package}" if last else None,
    )


def _wanted(picture: Picture, ask: FindPackages, selector: Selector) -> Iterator[Package]:
    healths = set(ask.health)
    for one in _candidates(picture, ask, selector, healths):
        if ask.package is not None and one.key.package != ask.package:
            continue
        if healths and one.health not in healths:
            continue
        if ask.flapping is None or one.judged.flapping is ask.flapping:
            yield one


def _candidates(
    picture: Picture, ask: FindPackages, selector: Selector, healths: set[Health]
) -> Iterator[Package]:
    """As few as an index allows: mostly the ill ones are asked for."""
    keys: Iterable[Key] | None = None
    if healths and healths <= ILL:
        keys = picture.ill
    elif ask.flapping:
        keys = picture.flapping
    if keys is None:
        for host in selected(picture, selector):
            yield from picture.of_agent(host.id).values()
        return
    agents = {host.id for host in selected(picture, selector)} if selector.requirements else None
    for key in keys:
        package = picture.get(key)
        if package and (key.agent in agents if agents is not None else present(picture.host(key.agent))):
            yield package


def checks(package: Package) -> list[CheckHealth]:
    """The checks of a package, by name."""
    return [_check(one) for one in package.checks]


def _check(one: Check) -> CheckHealth:
    return CheckHealth(
        check=one.name, kind=one.kind, purpose=one.purpose, health=one.health, since=one.since,
        reason=one.reason, text=one.text,
    )  # fmt: skip
