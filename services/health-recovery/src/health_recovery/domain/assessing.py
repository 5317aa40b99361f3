"""Judging again what a batch has touched: by itself, with its causes, as a whole agent; and what is said.

In two passes, so that the order of facts within a batch does not matter: first each touched package by
itself, then the cause of each whose own judgement, or that of something it needs, is another one now.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from health_recovery.domain.causes import all_above
from health_recovery.domain.flapping import FlappingPolicy, calm_at, counts, flaps, recent
from health_recovery.domain.hearing import Touched
from health_recovery.domain.judging import (
    RANK,
    SETTLE_SECONDS,
    TRANSIENT,
    Base,
    HostVerdict,
    as_seen_from_here,
    by_itself,
    of_host,
    on_probation,
    probation_ends,
)
from health_recovery.domain.keys import Key
from health_recovery.domain.maintenance import covered
from health_recovery.domain.picture import Before, Picture
from health_recovery.domain.records import Host, Package, Verdict
from muster_contracts.health.v1 import (
    Health,
    HealthFlapping,
    HealthStable,
    HostHealthChanged,
    PackageHealth,
    PackageHealthChanged,
)
from muster_contracts.message import DurableFact


@dataclass(frozen=True, slots=True)
class Event:
    """A new line of history: how something is from now on."""

    id: int
    agent: str
    package: str | None
    at: datetime
    was: Health | None
    now: Health | None
    reason: str
    text: str = ""
    cause: Key | None = None
    maintenance: bool = False


@dataclass(slots=True)
class Changes:
    """All that a batch changed: what is to be written, and what is to be said."""

    packages: dict[Key, Package | None] = field(default_factory=dict)
    hosts: dict[str, Host] = field(default_factory=dict)
    sites: dict[str, datetime] | None = None
    events: list[Event] = field(default_factory=list)
    ended: dict[int, datetime] = field(default_factory=dict)
    """Lines of history that last no more, and when they ended."""
    facts: list[DurableFact] = field(default_factory=list)
    assessed: set[Key] = field(default_factory=set)
    """Packages that are judged otherwise now, are gone, or make others ill than before."""

    @property
    def empty(self) -> bool:
        """Whether there is nothing to write."""
        nothing_held = not self.packages and not self.hosts
        return nothing_held and self.sites is None


def assess(
    picture: Picture, before: Before, touched: Touched, policy: FlappingPolicy, now: datetime
) -> Changes:
    """Judge again what was touched since ``before``, which ``picture.begin`` gave; tell all that is new."""
    shifted = [key for key, at in touched.packages.items() if _judge_by_itself(picture, key, at)]
    latest = max(touched.packages.values(), default=now)
    again = dict.fromkeys(all_above(shifted, picture.above) | picture.shaken(), latest) | touched.packages
    changes = Changes()
    causes = picture.causes_of(again)
    for key, at in again.items():
        _conclude(picture, key, before, _Ground(at, policy, changes, causes))
    hosts = dict.fromkeys((key.agent for key in again), latest) | touched.hosts
    for agent, at in hosts.items():
        _judge_host(picture, agent, at, changes)
    _collect(picture, before, changes)
    return changes


@dataclass(frozen=True, slots=True)
class _Ground:
    at: datetime
    policy: FlappingPolicy
    changes: Changes
    causes: Mapping[Key, Key | None]
    """Of all that is judged; who is missing there has none."""


def _judge_by_itself(picture: Picture, key: Key, at: datetime) -> bool:
    """Whether it is otherwise now for those who need it."""
    package = picture.get(key)
    if package is None:
        return True
    own = by_itself(package.seen, at)
    lasting = package.state is not None and package.state not in TRANSIENT and not own.stale
    base = as_seen_from_here(own, picture.missing(picture.host(key.agent)))
    old = package.verdict
    if old is not None and old.base == base and (not lasting or package.settled == own):
        return False
    verdict = replace(old, base=base) if old else Verdict(base, at)
    picture.put(replace(package, verdict=verdict, settled=own if lasting else package.settled))
    return old is None or old.base.explains is not base.explains or old.base.health is not base.health


def _conclude(picture: Picture, key: Key, before: Before, ground: _Ground) -> None:
    """Give a package its verdict, and say what is new."""
    package = picture.get(key)
    old = before.packages.get(key, package)
    if package is None:
        if old is not None and old.verdict is not None:
            _gone(picture, old, ground)
        return
    was = old.verdict if old else None
    verdict, moments = _verdict(picture, package, was, ground)
    if was and was.like(verdict) and was.flapping is verdict.flapping:
        if was != verdict or moments != package.moments:  # other words for people
            picture.put(replace(package, verdict=verdict, moments=moments))
        return
    event = package.event
    if was is None or not was.like(verdict):
        event = _new_line(picture, package, was, verdict, ground)
    picture.put(replace(package, verdict=verdict, moments=moments, event=event))
    ground.changes.assessed |= _seen_otherwise(key, was, verdict)
    ground.changes.facts += _news(package, was, verdict, moments, ground)


def _verdict(
    picture: Picture, package: Package, was: Verdict | None, ground: _Ground
) -> tuple[Verdict, tuple[datetime, ...]]:
    base = package.judged.base
    same = was is not None and was.base.health is base.health
    since = was.since if was and same else max(ground.at, was.since) if was else ground.at
    moments = package.moments
    if was and counts(was.base.health, base.health):
        moments = (*moments, since)
    moments = recent(moments, ground.at, ground.policy)
    cause = ground.causes.get(package.key)
    verdict = Verdict(
        base,
        since,
        cause,
        flaps(moments, ground.policy, before=was is not None and was.flapping),
        covered(picture.open_windows, picture.host(package.key.agent).facts, package.key.package),
        _relieved(was, base, cause, ground.at),
    )
    return verdict, moments


def _relieved(was: Verdict | None, base: Base, cause: Key | None, at: datetime) -> datetime | None:
    """When its cause was well again, of one that is still ill."""
    if was is None or cause is not None or base.health is not Health.CRITICAL:
        return None
    return at if was.cause else was.relieved_at


def _new_line(
    picture: Picture, package: Package, was: Verdict | None, verdict: Verdict, ground: _Ground
) -> int:
    key, base = package.key, verdict.base
    # Nothing ends before it begins, whatever the clocks of machines say.
    at = max(ground.at, was.since) if was else ground.at
    event = Event(
        picture.take_event(), key.agent, key.package, at, was.base.health if was else None, base.health,
        base.reason, base.text, verdict.cause, verdict.maintenance,
    )  # fmt: skip
    ground.changes.events.append(event)
    if package.event is not None:
        ground.changes.ended[package.event] = at
    return event.id


def _gone(picture: Picture, old: Package, ground: _Ground) -> None:
    key, was = old.key, old.judged
    at = max(ground.at, was.since)
    number = picture.take_event()
    ground.changes.events.append(
        Event(number, key.agent, key.package, at, was.base.health, None, "gone", "its package.json is gone")
    )
    # What is no more does not last, either.
    ground.changes.ended |= {number: at} | ({old.event: at} if old.event is not None else {})
    ground.changes.assessed |= _seen_otherwise(key, was, None)
    ground.changes.facts.append(
        PackageHealthChanged(
            occurred_at=at, agent_id=key.agent, package=key.package, was=was.base.health, now=None
        )
    )


def _news(
    package: Package, was: Verdict | None, now: Verdict, moments: tuple[datetime, ...], ground: _Ground
) -> Iterable[DurableFact]:
    """What is said of a change; while a package flaps, nothing but that it does, and that it is over."""
    key, at, flapped = package.key, ground.at, was is not None and was.flapping
    if now.flapping and not flapped:
        yield HealthFlapping(
            occurred_at=at, agent_id=key.agent, package=key.package, changes=len(moments),
            window_seconds=ground.policy.window_seconds,
        )  # fmt: skip
    elif flapped and not now.flapping:
        yield HealthStable(occurred_at=at, agent_id=key.agent, package=key.package, health=now.base.health)
    elif not now.flapping:
        yield PackageHealthChanged(
            occurred_at=at, agent_id=key.agent, package=key.package,
            was=was.base.health if was else None, now=told(package, now),
        )  # fmt: skip


def _seen_otherwise(key: Key, was: Verdict | None, now: Verdict | None) -> set[Key]:
    causes = {one.cause for one in (was, now) if one and one.cause}
    return {key, *causes}


def told(package: Package, verdict: Verdict) -> PackageHealth:
    """How a package is judged, as messages say it."""
    base = verdict.base
    return PackageHealth(
        agent=package.key.agent, package=package.key.package, health=base.health, since=verdict.since,
        state=package.state, reason=base.reason, text=base.text, check=base.check,
        cause=verdict.cause.ref if verdict.cause else None, flapping=verdict.flapping,
        maintenance=verdict.maintenance,
    )  # fmt: skip


# Agents ----------------------------------------------------------------------------------------------


def judge_host(picture: Picture, host: Host) -> HostVerdict:
    """The worst of its packages; one that flaps counts as a warning all the while."""
    found = sorted(picture.of_agent(host.id).items())
    return of_host((_as_counted(name, one) for name, one in found), picture.missing(host))


def _as_counted(name: str, package: Package) -> tuple[str, Health, str]:
    if package.judged.flapping:
        return name, Health.WARNING, "flapping"
    return name, package.health, package.judged.base.reason


def _judge_host(picture: Picture, agent: str, at: datetime, changes: Changes) -> None:
    host = picture.host(agent)
    verdict, was = judge_host(picture, host), host.verdict
    if verdict == was:
        return
    at = max(at, host.since) if host.since else at
    same = was is not None and was.health is verdict.health
    event = Event(
        picture.take_event(), agent, None, at, was.health if was else None, verdict.health, verdict.reason,
        verdict.culprit or "",
    )  # fmt: skip
    changes.events.append(event)
    if host.event is not None:
        changes.ended[host.event] = at
    since = host.since if same and host.since else at
    picture.put_host(replace(host, verdict=verdict, since=since, event=event.id))
    if not same:
        changes.facts.append(
            HostHealthChanged(
                occurred_at=at, agent_id=agent, kind=host.kind, was=was.health if was else None,
                now=verdict.health, reason=verdict.reason, culprit=verdict.culprit,
            )
        )  # fmt: skip


def _collect(picture: Picture, before: Before, changes: Changes) -> None:
    for key, old in before.packages.items():
        new = picture.get(key)
        if new is not old and (new or old):
            changes.packages[key] = new
    for agent, held in before.hosts.items():
        if (host := picture.hosts[agent]) is not held:
            changes.hosts[agent] = host
    changes.sites = None if before.sites is None else picture.sites


# Time ------------------------------------------------------------------------------------------------


def due(package: Package, policy: FlappingPolicy) -> datetime | None:
    """When it has to be judged again although nothing was said; null if never."""
    verdict, moments = package.judged, []
    impatient = RANK[package.settled.health] < RANK[Health.WARNING] and verdict.base == package.settled
    if on_probation(package.seen):
        moments.append(probation_ends(package.seen))
    elif package.unsettled_since and impatient:
        moments.append(package.unsettled_since + timedelta(seconds=SETTLE_SECONDS))
    if verdict.flapping and package.moments:
        moments.append(calm_at(package.moments, policy))
    return min(moments, default=None)


def open_windows(picture: Picture, now: datetime, touched: Touched) -> None:
    """Let maintenance begin and end by the clock."""
    now_open = tuple(one for one in picture.windows.values() if one.is_open(now))
    if now_open == picture.open_windows:
        return
    otherwise = set(now_open) ^ set(picture.open_windows)
    picture.open_windows = now_open
    for host in list(picture.hosts.values()):
        facts = host.facts
        for name in picture.of_agent(host.id):
            if covered(otherwise, facts, name):
                touched.package(Key(host.id, name), now)
