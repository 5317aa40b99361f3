"""What is done about one ill package, when, and when no more: a ladder of ever stronger acts.

``decide`` looks at one package and returns one decision as a value. The rules are those of
``RecoveryPolicy``; who owns a restart in which state is the table ``OWNERS``. Nothing here waits, draws
lots by itself or knows a database.

An act *counts* once it was decided: as a rung of the ladder, and within the sliding window. Where it turns
out that nothing was done (the agent found another state than expected, or was not there), the rung is
given back; the place in the window is not, so that even orders that come to nothing are bounded.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import MappingProxyType

from health_recovery.domain.assessment import Assessment
from health_recovery.domain.judging import CRASH_LOOP
from health_recovery.domain.keys import Key
from muster_contracts.fleet.v1 import Presence
from muster_contracts.health.v1 import Health, Hold, Step
from muster_contracts.package.v1 import PackageState, RecoveryPolicy

Draw = Callable[[float, float], float]
"""A number drawn evenly between two: ``random.uniform``."""

OWNERS: Mapping[PackageState, tuple[Hold, str] | None] = MappingProxyType(
    {
        PackageState.RUNNING: None,
        PackageState.EXITED: None,
        PackageState.BACKOFF: (Hold.AGENT, "its agent starts it again in a moment"),
        PackageState.STARTING: (Hold.AGENT, "its agent starts it"),
        PackageState.STOPPING: (Hold.AGENT, "its agent stops it"),
        PackageState.CRASH_LOOP: (Hold.CRASH_LOOP, "its agent tries it again at its longest pause"),
        PackageState.FAILED: (Hold.DISABLED, "it cannot be started until a file changes"),
        PackageState.INVALID: (Hold.DISABLED, "it cannot be started until its package.json changes"),
        PackageState.BLOCKED: (Hold.SUPPRESSED, "what it depends on does not run"),
        PackageState.STOPPED: (Hold.STOPPED, "somebody stopped it"),
        PackageState.PAUSED: (Hold.STOPPED, "somebody paused it"),
    }
)
"""Who looks after an ill package in each state: recovery where nothing is named."""
UNHEARD = (Hold.UNREACHABLE, "its agent never said how it is")


@dataclass(frozen=True, slots=True)
class Case:
    """How far recovery is with one package, over all that was done within its window."""

    key: Key
    opened_at: datetime
    """Since when it is ill."""
    attempts: int = 0
    """Rungs climbed in this illness, or since recovery began anew with it."""
    acts: tuple[datetime, ...] = ()
    """When acts were decided, oldest first; what is older than any window is left out."""
    acting: bool = False
    """Whether the command of an act has not ended."""
    next_at: datetime | None = None
    """Not before this."""
    gave_up_at: datetime | None = None
    until: datetime | None = None
    """When the cool-down is over."""
    rounds: int = 0
    """How often it gave up in this illness."""
    dry_run: bool = False
    """Whether the acts were only said."""
    closed: bool = False
    """The package is well, and only its window is remembered."""


@dataclass(frozen=True, slots=True)
class Holds:
    """What stands in the way from outside of the package."""

    paused: str = ""
    """Who paused it, and why; empty: nobody."""
    crowded: str = ""
    """Where as many recover as may; empty: nowhere."""
    dry_run: bool = False
    aftermath: timedelta = timedelta(0)
    """So long what another package made ill is left alone after that one is well again."""
    blame: timedelta = timedelta(0)
    """So long what needs others is left alone once it is ill: they may be seen to be ill in a moment."""
    doubted_until: datetime | None = None
    """It was heard of long after it began: until then word that it is over may be on its way."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing is done now; no hold: an act is under way, or it is well and not yet forgiven."""

    hold: Hold | None
    text: str = ""
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Act:
    """Do this, once."""

    step: Step
    attempt: int
    case: Case
    """As it is once that is written down."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Do no more until the cool-down is over."""

    why: str
    case: Case
    """As it is once that is written down."""


@dataclass(frozen=True, slots=True)
class Close:
    """Nothing is to be done any more."""

    why: str
    """well, stopped, gone."""
    case: Case | None
    """What is remembered: null if there is nothing."""


Decision = Wait | Act | GiveUp | Close

WORKS = frozenset({Health.OK, Health.WARNING})


def decide(case: Case | None, seen: Assessment, holds: Holds, at: datetime) -> Decision:
    """What to do now about a package, ill or not; ``case`` is what is remembered of it, if anything is."""
    if seen.health is not Health.CRITICAL:
        return _not_critical(case, seen, at)
    case = begun(case, seen, holds)
    if hold := owner_of(seen):
        return hold
    if case.acting:
        return Wait(None, "an act is under way")
    if case.gave_up_at and case.until and at < case.until:
        return Wait(Hold.CRASH_LOOP, "recovery gave up", case.until)
    return _held(seen, holds, at) or _climb(anew(case), seen, holds, at)


def begun(case: Case | None, seen: Assessment, holds: Holds) -> Case:
    """The case of an illness: a new one, with the window of earlier ones; what was only said counts not."""
    if case is None or (case.dry_run is not holds.dry_run and not case.acting):
        return Case(seen.key, seen.since, dry_run=holds.dry_run)
    if case.closed:
        return Case(seen.key, seen.since, acts=case.acts, dry_run=case.dry_run)
    return case


def anew(case: Case) -> Case:
    """The first rung again for one that was given up on, once that is over."""
    return replace(case, attempts=0, gave_up_at=None, until=None) if case.gave_up_at else case


def retried(case: Case) -> Case:
    """Somebody wants it tried again: nothing that was done counts any more."""
    return Case(case.key, case.opened_at, acting=case.acting, dry_run=case.dry_run, closed=case.closed)


def owner_of(seen: Assessment) -> Wait | None:
    """Who else looks after an ill package, or why nobody does; null: recovery does."""
    state, policy = seen.state, seen.policy
    here = seen.presence is Presence.ONLINE
    looping = seen.reason == CRASH_LOOP  # also while it starts, or runs and may be at its end in a moment
    owner = OWNERS[PackageState.CRASH_LOOP if looping else state] if state else UNHEARD
    readiness = state is PackageState.RUNNING and not seen.live
    again = state is PackageState.EXITED and seen.restart_policy == "always"
    reasons = (
        None if here else (Hold.UNREACHABLE, f"its agent is {seen.presence}"),
        (Hold.SUPPRESSED, f"{seen.cause} is the cause") if seen.cause else None,
        owner,
        (Hold.MAINTENANCE, "somebody works on it") if seen.maintenance else None,
        None if policy.enabled else (Hold.DISABLED, "its package.json wants no recovery"),
        (Hold.DISABLED, "only readiness is critical: a restart would not help") if readiness else None,
        (Hold.AGENT, "its agent starts it again") if again else None,
        (Hold.AGENT, "it was started again, and no check has looked yet") if seen.stale else None,
    )
    return next((Wait(*reason) for reason in reasons if reason), None)


def step_of(attempts: int, policy: RecoveryPolicy) -> Step:
    """The rung after so many."""
    if attempts < policy.restarts:
        return Step.RESTART
    if attempts < policy.restarts + policy.with_dependents:
        return Step.RESTART_WITH_DEPENDENTS
    if policy.script and attempts == policy.restarts + policy.with_dependents:
        return Step.SCRIPT
    return Step.GIVE_UP


def longest_pause(attempts: int, policy: RecoveryPolicy) -> float:
    """Seconds that are waited at most after so many rungs."""
    doublings = min(max(attempts, 1) - 1, 40)  # a day is reached long before; 2.0**1100 is no float
    return float(min(policy.longest_delay_seconds, policy.delay_seconds * 2.0**doublings))


def ended(
    case: Case, policy: RecoveryPolicy, at: datetime, draw: Draw, *, counts: bool, settle_seconds: float
) -> Case:
    """The case after its act has ended.

    What the act did is seen ``settle_seconds`` later at the earliest; no pause is shorter.
    Without ``counts`` nothing was done: the rung is climbed again.
    """
    attempts = case.attempts if counts or case.closed else max(0, case.attempts - 1)
    pause = max(settle_seconds, draw(0.0, longest_pause(attempts, policy)))
    return replace(case, attempts=attempts, acting=False, next_at=at + timedelta(seconds=pause))


def _not_critical(case: Case | None, seen: Assessment, at: datetime) -> Decision:
    if case is None or case.acting:
        return Wait(None)
    if seen.state is PackageState.STOPPED and not case.closed:
        return Close("stopped", _remembered(case, seen.policy, at))
    if seen.health in WORKS or case.closed:
        return _forgive(case, seen, at)
    return Wait(Hold.UNREACHABLE, "nobody can tell how it is")


def _forgive(case: Case, seen: Assessment, at: datetime) -> Decision:
    """Well for long enough its past is forgiven, but for the window."""
    remembered = _remembered(case, seen.policy, at)
    if case.closed:
        return Wait(None) if remembered else Close("forgotten", None)
    over = seen.since + timedelta(seconds=seen.policy.stable_seconds)
    return Close("well", remembered) if at >= over else Wait(None, "well again", over)


def _remembered(case: Case, policy: RecoveryPolicy, at: datetime) -> Case | None:
    acts = within(case.acts, policy, at)
    if not acts:
        return None
    return Case(case.key, case.opened_at, acts=acts, dry_run=case.dry_run, closed=True)


def within(acts: tuple[datetime, ...], policy: RecoveryPolicy, at: datetime) -> tuple[datetime, ...]:
    """Those of the acts that are in the window that ends now."""
    begin = at - timedelta(seconds=policy.window_seconds)
    return tuple(one for one in acts if one > begin)


def _held(seen: Assessment, holds: Holds, at: datetime) -> Wait | None:
    if seen.relieved_at and at < (spared := seen.relieved_at + holds.aftermath):
        return Wait(Hold.SUPPRESSED, "what made it ill is well again; it has so long to be, too", spared)
    if seen.needs_others and at < (blamed := seen.since + holds.blame):
        return Wait(Hold.SUPPRESSED, "what it needs may be seen to be ill in a moment", blamed)
    if seen.partitioned:
        return Wait(Hold.PARTITION, f"site {seen.site} is suspected to be cut off")
    if holds.paused:
        return Wait(Hold.PAUSED, holds.paused)
    if holds.doubted_until and at < holds.doubted_until:
        return Wait(Hold.AGENT, "it was heard of late, and may be well by now", holds.doubted_until)
    return None


def _climb(case: Case, seen: Assessment, holds: Holds, at: datetime) -> Decision:
    """The next rung, if it is time and there is room."""
    if case.next_at and at < case.next_at:
        return Wait(Hold.BACKOFF, "it was tried a short while ago", case.next_at)
    step, acts = step_of(case.attempts, seen.policy), within(case.acts, seen.policy, at)
    if step is Step.GIVE_UP:
        return _give_up(case, seen, at, f"it is still ill after {_times(case.attempts)}")
    if len(acts) >= seen.policy.acts_per_window:
        return _full(case, acts, seen, at)
    if holds.crowded:
        return Wait(Hold.BUDGET, holds.crowded)
    attempt = case.attempts + 1
    return Act(step, attempt, replace(case, attempts=attempt, acts=(*acts, at), acting=True, next_at=None))


def _full(case: Case, acts: tuple[datetime, ...], seen: Assessment, at: datetime) -> Decision:
    """The window is full: that is a crash loop, said once; after the cool-down a place is waited for."""
    policy = seen.policy
    text = f"it was tried {_times(len(acts))} within {policy.window_seconds:g} s"
    if case.attempts or not case.rounds:
        return _give_up(case, seen, at, text)
    free = acts[-policy.acts_per_window] + timedelta(seconds=policy.window_seconds)
    return Wait(Hold.WINDOW, text, free)


def _give_up(case: Case, seen: Assessment, at: datetime, why: str) -> GiveUp:
    until = at + timedelta(seconds=seen.policy.cooldown_seconds)
    return GiveUp(why, replace(case, gave_up_at=at, until=until, rounds=case.rounds + 1, next_at=None))


def _times(count: int) -> str:
    return f"{count} acts" if count != 1 else "1 act"
