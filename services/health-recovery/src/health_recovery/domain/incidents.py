"""From judgements to incidents: one for each cause, open for as long as it lasts, said once.

``NEXT`` is the whole of it. A package that is ill by itself *settles* first, so that what explains it has
time to be seen; an incident whose cause is well again *calms* before it is over, so that a cause that comes
and goes is one incident. Time arrives only as ``at``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID, uuid5

from health_recovery.domain.assessment import Assessment
from health_recovery.domain.keys import Key
from muster_contracts.health.v1 import Health
from muster_contracts.health.v1 import Incident as Shown

IDS = UUID("6d757374-6572-4000-8000-696e63696465")
"""Ids of incidents follow from their cause and its times, so that this module needs no chance."""
AFFECTED_SHOWN = 100

SEVERITY = {Health.OK: 0, Health.UNKNOWN: 0, Health.WARNING: 1, Health.CRITICAL: 2}


class Standing(StrEnum):
    """How a package stands towards an incident of its own."""

    ILL = "ill"
    """By itself: nothing that is known explains it."""
    UNSTEADY = "unsteady"
    """Well just now, but it flaps."""
    WELL = "well"
    STOPPED = "stopped"
    """Somebody stopped or paused it."""
    SUPPRESSED = "suppressed"
    """Another package explains it."""
    MAINTENANCE = "maintenance"
    UNKNOWN = "unknown"
    """Its agent is not there."""
    GONE = "gone"


class Phase(StrEnum):
    """How far the incident of a package is."""

    NONE = "none"
    SETTLING = "settling"
    """Ill, but not for long enough."""
    OPEN = "open"
    CALMING = "calming"
    """Still open: its cause is well, but not for long enough."""
    OVER = "over"


_LASTS = {Standing.ILL: Phase.OPEN, Standing.UNSTEADY: Phase.OPEN, Standing.UNKNOWN: Phase.OPEN}
_CALMS = dict.fromkeys(Standing, Phase.OVER) | _LASTS | {Standing.WELL: Phase.CALMING}

NEXT: Mapping[Phase, Mapping[Standing, Phase]] = {
    Phase.NONE: dict.fromkeys(Standing, Phase.NONE) | {Standing.ILL: Phase.SETTLING},
    Phase.SETTLING: dict.fromkeys(Standing, Phase.NONE)
    | {Standing.ILL: Phase.SETTLING, Standing.UNSTEADY: Phase.SETTLING},
    Phase.OPEN: _CALMS,
    Phase.CALMING: _CALMS,
    Phase.OVER: dict.fromkeys(Standing, Phase.OVER) | {Standing.ILL: Phase.SETTLING},
}
"""What a look makes of a phase. From settling to open, and from calming to over, is a matter of time."""


@dataclass(frozen=True, slots=True)
class Rules:
    """When something is an incident, and for how long it is the same one."""

    warnings: bool = False
    """Whether a package that only warns is one."""
    settle: timedelta = timedelta(seconds=5)
    """Ill for so long before it is opened."""
    calm: timedelta = timedelta(seconds=15)
    """Well for so long before it is over."""
    aftermath: timedelta = timedelta(seconds=60)
    """What an incident affected has so long to get well after its cause did, before it is one by itself."""
    reopen: timedelta = timedelta(minutes=5)
    """Ill again within so long after the end, it is the same incident once more."""


@dataclass(frozen=True, slots=True)
class Incident:
    """One illness and all that it made ill."""

    id: UUID
    cause: Key
    health: Health
    """How the cause is; at its worst once the incident is over."""
    worst: Health
    reason: str
    text: str
    check: str | None
    opened_at: datetime
    """Since when the cause is ill."""
    moved_at: datetime
    """When it was opened, opened once more, or resolved."""
    labels: Mapping[str, str]
    site: str
    groups: tuple[str, ...]
    affected: tuple[Key, ...] = ()
    flapping: bool = False
    unknown: bool = False
    """Nobody can tell whether it lasts: the agent is not there."""
    episode: int = 1
    """Counts up each time it is opened once more."""
    resolved_at: datetime | None = None
    """Since when its cause is well, or since when it is no incident for another reason."""
    why: str | None = None
    """Why it is over."""
    acknowledged_by: str | None = None
    acknowledged_text: str | None = None

    def __str__(self) -> str:
        return f"incident {self.id} of {self.cause}"

    @property
    def is_open(self) -> bool:
        """Whether it lasts."""
        return self.resolved_at is None

    def shown(self, tried: Iterable[str] = (), *, gave_up: bool = False) -> Shown:
        """As messages show it."""
        return Shown(
            id=self.id,
            cause=self.cause.ref,
            health=self.health,
            reason=self.reason,
            text=f"{self.text} (its agent is not there)"[:500] if self.unknown else self.text,
            opened_at=self.opened_at,
            resolved_at=self.resolved_at,
            affected=[key.ref for key in self.affected[:AFFECTED_SHOWN]],
            affected_count=len(self.affected),
            flapping=self.flapping,
            tried=list(tried)[-20:],
            gave_up=gave_up,
            acknowledged_by=self.acknowledged_by,
            acknowledged_text=self.acknowledged_text,
            labels=dict(self.labels),
        )


@dataclass(frozen=True, slots=True)
class Case:
    """What is held of one package: where its incident is, and the incident there is or was."""

    phase: Phase
    since: datetime
    """When this phase began."""
    ill_since: datetime
    incident: Incident | None = None

    def due(self, rules: Rules, spared_until: datetime | None = None) -> datetime:
        """When time alone moves it: opens it, ends it, or lets it be forgotten."""
        match self.phase:
            case Phase.SETTLING:
                settled = self.since + rules.settle
                return max(settled, spared_until) if spared_until else settled
            case Phase.CALMING:
                return self.since + rules.calm
            case Phase.OVER if self.incident:
                return self.incident.moved_at + max(rules.reopen, rules.aftermath)
            case _:
                return datetime.max.replace(tzinfo=self.since.tzinfo)


class News(StrEnum):
    """What a look made of an incident."""

    OPENED = "opened"
    CHANGED = "changed"
    """It is known otherwise now; nobody is told."""
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Step:
    """What a look at one package led to."""

    case: Case | None
    """Null: there is nothing to hold."""
    news: News | None = None


def standing(seen: Assessment | None, rules: Rules) -> Standing:
    """How a package stands by its judgement; null: there is none of it any more."""
    if seen is None or seen.reason == "agent-retired":
        return Standing.GONE
    if seen.maintenance and seen.health is not Health.OK:
        return Standing.MAINTENANCE
    if seen.health is Health.UNKNOWN:
        return Standing.UNKNOWN
    if seen.reason in {"stopped", "paused"}:
        return Standing.STOPPED
    if seen.health is Health.CRITICAL or (rules.warnings and seen.health is Health.WARNING):
        return Standing.SUPPRESSED if seen.cause else Standing.ILL
    return Standing.UNSTEADY if seen.flapping else Standing.WELL


@dataclass(frozen=True, slots=True)
class Look:
    """A look at one package."""

    key: Key
    seen: Assessment | None
    """How it is judged now; null if it is not known any more."""
    at: datetime
    rules: Rules
    spared_until: datetime | None = None
    """Another incident made it ill, and is being got over until then."""

    @property
    def stands(self) -> Standing:
        """How it stands now."""
        return standing(self.seen, self.rules)


def weigh(case: Case | None, look: Look) -> Step:
    """What is held of a package from now on, and what is new, by what was held of it and a look at it."""
    phase = NEXT[case.phase if case else Phase.NONE][look.stands]
    if phase is Phase.NONE:
        return _dropped(case)
    if phase is Phase.SETTLING:
        return _settle(case, look)
    assert case
    assert case.incident
    if case.phase is Phase.OVER:
        return Step(None if case.due(look.rules) <= look.at else case)
    begun = case.since if case.phase is phase else look.at
    return _last(replace(case, phase=phase, since=begun), case.incident, look)


def _dropped(case: Case | None) -> Step:
    """It did not settle: what was over before is so again."""
    if case and case.incident:
        return Step(replace(case, phase=Phase.OVER))
    return Step(None)


def _settle(case: Case | None, look: Look) -> Step:
    """Ill, and not yet an incident: is it one by now?"""
    seen, at = look.seen, look.at
    if case is None or case.phase is not Phase.SETTLING:
        ill_since = seen.since if seen else at
        case = Case(Phase.SETTLING, at, ill_since, incident=case.incident if case else None)
    if seen is None or look.stands is not Standing.ILL:
        return Step(case)
    # What flaps is never ill for long; that it flaps has been seen for long enough.
    due = (look.spared_until or at) if seen.flapping else case.due(look.rules, look.spared_until)
    if due > at:
        return Step(case)
    return Step(Case(Phase.OPEN, at, case.ill_since, _opened(case, seen, look)), News.OPENED)


def _opened(case: Case, seen: Assessment, look: Look) -> Incident:
    at, before = look.at, case.incident
    if before and at - before.moved_at <= look.rules.reopen:
        again = replace(
            before, episode=before.episode + 1, moved_at=at, resolved_at=None, why=None, worst=seen.health
        )
        return _updated(again, seen)
    return Incident(
        id=uuid5(IDS, f"{look.key} {case.ill_since.isoformat()} {at.isoformat()}"),
        cause=look.key,
        health=seen.health,
        worst=seen.health,
        reason=seen.reason,
        text=seen.text,
        check=seen.check,
        opened_at=case.ill_since,
        moved_at=at,
        labels=dict(seen.labels),
        site=seen.site,
        groups=seen.groups,
        affected=seen.dependents,
        flapping=seen.flapping,
    )


def _updated(incident: Incident, seen: Assessment) -> Incident:
    return replace(
        incident,
        health=seen.health,
        worst=max(incident.worst, seen.health, key=SEVERITY.__getitem__),
        reason=seen.reason,
        text=seen.text,
        check=seen.check,
        labels=dict(seen.labels),
        site=seen.site,
        groups=seen.groups,
        affected=seen.dependents,
        flapping=seen.flapping,
        unknown=False,
    )


def _last(moved: Case, incident: Incident, look: Look) -> Step:
    """An open incident: it goes on, calms, or is over."""
    stands = look.stands
    if moved.phase is Phase.OVER:
        return _over(moved, incident, look, ended=look.at)
    if moved.phase is Phase.CALMING:
        if moved.due(look.rules) <= look.at:
            return _over(moved, incident, look, ended=moved.since)
        return _kept(moved, incident, replace(incident, flapping=False, unknown=False))
    if stands is Standing.ILL and look.seen:
        return _kept(moved, incident, _updated(incident, look.seen))
    if stands is Standing.UNSTEADY:
        return _kept(moved, incident, replace(incident, flapping=True, unknown=False))
    return _kept(moved, incident, replace(incident, unknown=True))


def _kept(moved: Case, before: Incident, after: Incident) -> Step:
    return Step(replace(moved, incident=after), News.CHANGED if after != before else None)


def _over(moved: Case, incident: Incident, look: Look, ended: datetime) -> Step:
    over = replace(
        incident,
        health=incident.worst,
        resolved_at=ended,
        moved_at=look.at,
        why=look.stands.value,
        unknown=False,
    )
    return Step(replace(moved, phase=Phase.OVER, since=look.at, incident=over), News.RESOLVED)


class Book:
    """Every case that is held, and what they say of one another. ``look`` changes nothing; ``keep`` does."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.cases: dict[Key, Case] = {}
        self._affecting: dict[Key, set[Key]] = {}

    def incidents(self) -> Iterable[Incident]:
        """Those that last, and those that ended a short while ago."""
        return (case.incident for case in self.cases.values() if case.incident)

    def open(self) -> list[Incident]:
        """Those that last."""
        return [one for one in self.incidents() if one.is_open]

    def open_of(self, key: Key) -> Incident | None:
        """The one that lasts and that this package caused, or else one that it is affected by."""
        for cause in (key, *sorted(self._affecting.get(key, ()))):
            case = self.cases.get(cause)
            if case and case.incident and case.incident.is_open:
                return case.incident
        return None

    def spared_until(self, key: Key, at: datetime) -> datetime | None:
        """Until when this package is being got over, as one that other incidents affected."""
        others = (self.cases.get(cause) for cause in self._affecting.get(key, ()) if cause != key)
        until = [self._got_over(case, case.incident, at) for case in others if case and case.incident]
        return max(until, default=None)

    def due(self, at: datetime) -> list[Key]:
        """What time alone moves by now."""
        return [
            key
            for key, case in self.cases.items()
            if case.due(self.rules) <= at and case.due(self.rules, self.spared_until(key, at)) <= at
        ]

    def look(
        self, keys: Iterable[Key], judged: Mapping[Key, Assessment | None], at: datetime
    ) -> dict[Key, Step]:
        """What becomes of these packages by how they are judged; without those of which nothing changes."""
        steps = {}
        for key in dict.fromkeys(keys):
            case = self.cases.get(key)
            look = Look(key, judged.get(key), at, self.rules, self.spared_until(key, at))
            step = weigh(case, look)
            if step.news or step.case != case:
                steps[key] = step
        return steps

    def keep(self, steps: Mapping[Key, Step]) -> None:
        """Hold what these looks led to."""
        for key, step in steps.items():
            self._forget(key)
            if step.case:
                self.cases[key] = step.case
                for affected in step.case.incident.affected if step.case.incident else ():
                    self._affecting.setdefault(affected, set()).add(key)

    def _forget(self, key: Key) -> None:
        before = self.cases.pop(key, None)
        for affected in before.incident.affected if before and before.incident else ():
            causes = self._affecting[affected]
            causes.discard(key)
            if not causes:
                del self._affecting[affected]

    def _got_over(self, case: Case, incident: Incident, at: datetime) -> datetime:
        """While the cause is not known to be well, what it affects waits on."""
        if incident.resolved_at:
            return incident.resolved_at + self.rules.aftermath
        begun = case.since if case.phase is Phase.CALMING else at
        return begun + self.rules.aftermath
