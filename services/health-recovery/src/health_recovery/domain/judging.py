"""How one package is judged by its state and its checks, and an agent by its packages (the tables of README).

Everything here is a function of values. What others have to do with it (causes) is in ``causes``; flapping
and maintenance are laid over it by ``assessing``.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from health_recovery.domain.facts import Check
from muster_contracts.fleet.v1 import Presence
from muster_contracts.health.v1 import LONGEST_TEXT, Health
from muster_contracts.package.v1 import PackageState, Purpose

SETTLE_SECONDS = 60.0
"""A package that starts, stops or is between two tries for longer is worth a look."""

RANK = {Health.UNKNOWN: 0, Health.OK: 1, Health.WARNING: 2, Health.CRITICAL: 3}
"""Of several the highest counts; unknown only where there is nothing else."""

NOT_LOOKED = frozenset({"new", "stopped", "changed"})
"""Why an agent says that a check is unknown when nobody has looked since the package was started again."""
OF_RUNNING = frozenset({"running", "check"})
"""Judgements of what runs."""
CRASH_LOOP = "crash-loop"

TRANSIENT = frozenset({PackageState.STARTING, PackageState.STOPPING, PackageState.BACKOFF})

ABSENT = {
    Presence.EXPECTED: "never-heard",
    Presence.LOST: "agent-lost",
    Presence.LEFT: "agent-left",
    Presence.RETIRED: "agent-retired",
}
"""An agent so cannot tell how its packages are, and why: the reason they are unknown."""

NOT_THERE = frozenset({"agent-lost", "agent-left", "agent-retired", "partitioned"})
"""Reasons by which a package is not there for those on other machines that rely on it."""


@dataclass(frozen=True, slots=True)
class Base:
    """How a package is by itself, whoever made it so."""

    health: Health
    reason: str
    text: str = ""
    check: str | None = None
    live: bool = True
    """False when only readiness checks are critical: a restart would not help."""
    stale: bool = False
    """Held from before its last start: no check has looked since, so nobody acts upon it."""

    @property
    def explains(self) -> bool:
        """Whether it makes ill what depends on it: it does not work, or is not there."""
        return self.health is Health.CRITICAL or self.reason in NOT_THERE


NEVER_HEARD = Base(Health.UNKNOWN, "never-heard")


@dataclass(frozen=True, slots=True)
class Seen:
    """What a package is judged by."""

    state: PackageState | None
    exit_code: int | None
    restart_policy: str
    text: str
    """What its agent said of its state."""
    checks: Sequence[Check]
    settled: Base
    """How it was judged when it last was in a state that lasts."""
    unsettled_since: datetime | None
    """Since when it starts, stops, is between two tries, or runs again after a crash loop."""
    stable_seconds: float
    """Running for so long after a crash loop it is believed to be out of it."""


def by_itself(seen: Seen, at: datetime) -> Base:
    """Judge a package by its own state and checks, by the table of the README."""
    return _BY_STATE[seen.state](seen, at) if seen.state else NEVER_HEARD


def _running(seen: Seen, at: datetime) -> Base:
    """The worst of its checks; it counts as well without any. What was worse holds until it was looked at."""
    if on_probation(seen) and at < probation_ends(seen):
        text = f"it runs again; it counts as well once it has for {seen.stable_seconds:g} s"
        return Base(Health.CRITICAL, CRASH_LOOP, text)
    if not seen.checks:
        return Base(Health.OK, "running")
    known = [one for one in seen.checks if one.health is not Health.UNKNOWN]
    held = _held(seen, looked=bool(known))
    if not known:
        first = seen.checks[0]
        return held or Base(Health.UNKNOWN, "check", _said_by(first), first.name)
    found = _worst(known)
    return held if held and RANK[held.health] > RANK[found.health] else found


def _worst(known: Sequence[Check]) -> Base:
    worst = max(known, key=lambda one: (RANK[one.health], one.purpose is Purpose.LIVENESS))
    if worst.health is Health.OK:
        return Base(Health.OK, "running")
    live = worst.health is not Health.CRITICAL or worst.purpose is Purpose.LIVENESS
    return Base(worst.health, "check", _said_by(worst), worst.name, live=live)


def _held(seen: Seen, *, looked: bool) -> Base | None:
    """What it was before its start, while what made it so has not been looked at since; null: nothing."""
    before = seen.settled
    waiting = {one.name for one in seen.checks if one.reason in NOT_LOOKED and one.health is Health.UNKNOWN}
    awaited = before.check in waiting if before.check else waiting and not looked
    if not awaited or before.health is Health.UNKNOWN:
        return None
    if before.health is Health.CRITICAL:
        return replace(before, text=_before(before.text), stale=True)
    return before if before.reason in OF_RUNNING else Base(Health.OK, "running")


def _before(text: str) -> str:
    return f"started again, not looked at yet; before: {text}"[:LONGEST_TEXT]


def on_probation(seen: Seen) -> bool:
    """Whether it runs again after a crash loop, and has not proved yet that it goes on to."""
    running = seen.state is PackageState.RUNNING and seen.unsettled_since is not None
    return running and seen.settled.reason == CRASH_LOOP


def probation_ends(seen: Seen) -> datetime:
    """When it will have run for long enough after a crash loop."""
    assert seen.unsettled_since
    return seen.unsettled_since + timedelta(seconds=seen.stable_seconds)


def _said_by(check: Check) -> str:
    return f"{check.name}: {check.text or check.reason}"[:LONGEST_TEXT]


def _transient(seen: Seen, at: datetime) -> Base:
    """As it was before, until it lasts too long."""
    patience = timedelta(seconds=SETTLE_SECONDS)
    before = seen.settled
    if seen.unsettled_since is None or at - seen.unsettled_since < patience:
        return before
    if RANK[before.health] >= RANK[Health.WARNING]:
        return before
    assert seen.state
    return Base(Health.WARNING, seen.state.value, seen.text or f"{seen.state} for more than {patience}")


def _exited(seen: Seen, _: datetime) -> Base:
    if seen.exit_code == 0 and seen.restart_policy in {"on-failure", "never"}:
        return Base(Health.OK, "done", seen.text)
    return Base(Health.CRITICAL, "exited", seen.text)


def _always(health: Health, reason: str) -> Callable[[Seen, datetime], Base]:
    return lambda seen, _: Base(health, reason, seen.text)


_BY_STATE: dict[PackageState, Callable[[Seen, datetime], Base]] = {
    PackageState.RUNNING: _running,
    PackageState.STARTING: _transient,
    PackageState.STOPPING: _transient,
    PackageState.BACKOFF: _transient,
    PackageState.PAUSED: _always(Health.WARNING, "paused"),
    PackageState.STOPPED: _always(Health.OK, "stopped"),
    PackageState.EXITED: _exited,
    PackageState.FAILED: _always(Health.CRITICAL, "failed"),
    PackageState.CRASH_LOOP: _always(Health.CRITICAL, CRASH_LOOP),
    PackageState.INVALID: _always(Health.CRITICAL, "invalid"),
    PackageState.BLOCKED: _always(Health.CRITICAL, "blocked"),
}


def absence(presence: Presence, *, partitioned: bool) -> str | None:
    """Why nobody can tell how an agent's packages are just now; null while somebody can.

    An agent that is late is believed, unless its whole site is suspected to be cut off.
    """
    if presence is Presence.ONLINE:
        return None
    if partitioned and presence in {Presence.LATE, Presence.LOST}:
        return "partitioned"
    return ABSENT.get(presence)


def as_seen_from_here(base: Base, missing: str | None) -> Base:
    """The same package with its agent's absence laid over it: silence is not an illness."""
    if missing is None or base.reason == NEVER_HEARD.reason:
        return base
    return Base(Health.UNKNOWN, missing)


@dataclass(frozen=True, slots=True)
class HostVerdict:
    """How an agent is: the worst of its packages, or by its presence where it has none."""

    health: Health
    reason: str
    culprit: str | None = None


def of_host(packages: Iterable[tuple[str, Health, str]], missing: str | None) -> HostVerdict:
    """Judge an agent by ``(name, health, reason)`` of each of its packages, by name."""
    if missing:
        return HostVerdict(Health.UNKNOWN, missing)
    worst: tuple[str, Health, str] | None = None
    for one in packages:
        if worst is None or RANK[one[1]] > RANK[worst[1]]:
            worst = one
    if worst is None:
        return HostVerdict(Health.OK, "online")
    name, health, reason = worst
    return HostVerdict(health, "running", None) if health is Health.OK else HostVerdict(health, reason, name)
