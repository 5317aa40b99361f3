"""Who is told what, and when: routes, groups, repeats, limits. Pure: incidents and tellings in, notices out.

The words are Alertmanager's (its ``dispatch`` and ``notify`` packages, and its documentation of ``route``):
``group_wait`` after the first news of a group, at least ``group_interval`` between two notices of a group,
``repeat`` between reminders of an incident that lasts; who was never told that an incident fires is not told
that it is over. Unlike there a notice lists only what is new, every route that matches counts, and a channel
that fails gathers its news until it works again, instead of dropping it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID, uuid5

from health_recovery.domain.incidents import SEVERITY, Incident
from health_recovery.domain.notice import Event
from muster_contracts.health.v1 import Health
from muster_contracts.selector import Facts, Selector

IDS = UUID("6d757374-6572-4000-8000-6e6f74696365")
MINUTE = timedelta(minutes=1)


class Status(StrEnum):
    """What a channel was last told of an incident."""

    FIRING = "firing"
    RESOLVED = "resolved"
    LOST = "lost"
    """It could not be told, for so long that this was given up."""


@dataclass(frozen=True, slots=True)
class Telling:
    """What one channel was told of one incident."""

    status: Status
    health: Health
    at: datetime
    episode: int


@dataclass(frozen=True, slots=True)
class Route:
    """Which incidents go to which channels; one meets all that is given."""

    channels: frozenset[str]
    least: Health = Health.WARNING
    selector: Selector = field(default_factory=Selector)
    packages: frozenset[str] = frozenset()
    """Empty: of every name."""

    def takes(self, incident: Incident) -> bool:
        """Whether the incident goes this way; its end goes where its beginning went."""
        facts = Facts(
            id=incident.cause.agent, kind="", state="", groups=set(incident.groups), labels=incident.labels
        )
        return (
            SEVERITY[incident.worst] >= SEVERITY[self.least]
            and (not self.packages or incident.cause.package in self.packages)
            and self.selector.matches(facts)
        )


@dataclass(frozen=True, slots=True)
class Pace:
    """How one channel is told."""

    group_by: tuple[str, ...] = ("package",)
    """package, agent, site, severity, or the name of a label."""
    group_wait: timedelta = timedelta(seconds=1)
    group_interval: timedelta = timedelta(seconds=30)
    repeat: timedelta = timedelta(hours=4)
    per_minute: int = 20
    most_items: int = 50
    """A notice lists no more."""
    mirror: bool = False
    """The channel keeps what it is told for a short while only, so it is told of acknowledged ones, too, and
    of each by itself: nothing is summed up."""


@dataclass(frozen=True, slots=True)
class New:
    """One incident of which a channel has not been told this yet."""

    incident: Incident
    event: Event
    since: datetime

    @property
    def telling(self) -> tuple[UUID, Status]:
        """What it will have been told of once it is."""
        return self.incident.id, Status.RESOLVED if self.event is Event.RESOLVED else Status.FIRING


@dataclass(frozen=True, slots=True)
class Planned:
    """A notice that is to be sent."""

    id: UUID
    channel: str
    groups: tuple[str, ...]
    """The keys of all groups that are in it."""
    labels: Mapping[str, str]
    news: tuple[New, ...]
    more: int
    """The last so many of ``news`` are counted only."""


def routed(incident: Incident, routes: Sequence[Route], channels: Iterable[str]) -> frozenset[str]:
    """The channels an incident goes to: those of all routes that take it; without routes, every one."""
    if not routes:
        return frozenset(channels)
    return frozenset(name for route in routes if route.takes(incident) for name in route.channels)


def news_of(incident: Incident, told: Telling | None, pace: Pace, at: datetime) -> New | None:
    """What a channel that was told this is to be told of the incident now."""
    fires = told is not None and told.status is Status.FIRING
    if not incident.is_open:
        return New(incident, Event.RESOLVED, incident.moved_at) if fires else None
    if incident.acknowledged_by and not pace.mirror:
        return None
    if told is None or told.episode < incident.episode:
        return New(incident, Event.FIRING, incident.moved_at)
    return None if told.status is Status.RESOLVED else _again(incident, told, pace, at)


def _again(incident: Incident, told: Telling, pace: Pace, at: datetime) -> New | None:
    """It lasts: it may be worse than was told, or it is time to say so again."""
    if SEVERITY[incident.health] > SEVERITY[told.health]:
        return New(incident, Event.WORSE, incident.moved_at)
    if at - told.at < pace.repeat:
        return None
    event = Event.FIRING if told.status is Status.LOST else Event.REMINDER
    return New(incident, event, told.at + pace.repeat)


def plan(
    channel: str,
    pace: Pace,
    news: Iterable[New],
    *,
    flushed: Mapping[str, datetime],
    lately: int,
    at: datetime,
) -> list[Planned]:
    """The notices that are due on one channel.

    Args:
        channel: its name.
        pace: how it is told.
        news: what it has not been told.
        flushed: when it was last told of each group.
        lately: how many notices it was given within the last minute.
        at: now.
    """
    groups = _ready(pace, news, flushed, at)
    room = pace.per_minute - lately
    if room <= 0 or not groups:
        return []
    if pace.mirror:
        each = [(keys, part) for keys, found in groups for part in _parts(found, pace.most_items)]
        return [_planned(channel, pace, keys, part) for keys, part in each[:room]]
    alone, rest = (groups, []) if len(groups) <= room else (groups[: room - 1], groups[room - 1 :])
    planned = [_planned(channel, pace, keys, found) for keys, found in alone]
    if rest:
        keys = tuple(key for one, _ in rest for key in one)
        planned.append(_planned(channel, pace, keys, [new for _, found in rest for new in found]))
    return planned


def lately(sent: Iterable[datetime], at: datetime) -> int:
    """How many of these were within the last minute."""
    return sum(at - one < MINUTE for one in sent)


def group_of(incident: Incident, by: Iterable[str]) -> dict[str, str]:
    """What the incident is grouped by; a label that it has not is empty."""
    own = {
        "package": incident.cause.package,
        "agent": incident.cause.agent,
        "site": incident.site,
        "severity": incident.worst.value,
    }
    return {name: own.get(name, incident.labels.get(name, "")) for name in by}


def key_of(group: Mapping[str, str]) -> str:
    """Names a group of one channel."""
    return "{" + ", ".join(f'{name}="{value}"' for name, value in group.items()) + "}"


_Group = tuple[tuple[str, ...], list[New]]


def _ready(pace: Pace, news: Iterable[New], flushed: Mapping[str, datetime], at: datetime) -> list[_Group]:
    """Groups that have waited for long enough, those with the oldest news first.

    What comes from one agent waits for a first group of each other one: one machine on which everything is
    ill hides nobody else.
    """
    groups: dict[str, list[New]] = {}
    for new in news:
        groups.setdefault(key_of(group_of(new.incident, pace.group_by)), []).append(new)
    ready = []
    for key, found in groups.items():
        found.sort(key=lambda new: (new.since, new.incident.cause))
        due = found[0].since + pace.group_wait
        if key in flushed:
            due = max(due, flushed[key] + pace.group_interval)
        if due <= at:
            ready.append(((key,), found))
    ready.sort(key=lambda group: group[1][0].since)
    before: Counter[str] = Counter()
    ranks: dict[tuple[str, ...], int] = {}
    for keys, found in ready:
        agent = found[0].incident.cause.agent
        ranks[keys] = before[agent]
        before[agent] += 1
    return sorted(ready, key=lambda group: ranks[group[0]])


def _parts(found: list[New], most: int) -> list[list[New]]:
    return [found[start : start + most] for start in range(0, len(found), most)]


def _planned(channel: str, pace: Pace, keys: tuple[str, ...], found: list[New]) -> Planned:
    labels = group_of(found[0].incident, pace.group_by)
    common = {
        name: value
        for name, value in labels.items()
        if all(group_of(new.incident, [name])[name] == value for new in found)
    }
    named = " ".join(f"{new.incident.id}/{new.incident.episode}/{new.event}/{new.since}" for new in found)
    return Planned(
        id=uuid5(IDS, f"{channel} {named}"),
        channel=channel,
        groups=keys,
        labels=common,
        news=tuple(found),
        more=max(0, len(found) - pace.most_items),
    )
