"""One health check: what its looks see, and what it holds by its thresholds."""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from host_agent.domain.attention import Sight
from host_agent.domain.look import Seen, critical, unknown
from host_agent.domain.thresholds import Standing, after
from host_agent.ports import Look
from muster_contracts.health.v1 import CheckResult, CheckState, Health
from muster_contracts.package.specification import Check
from muster_contracts.package.v1 import CheckKind
from muster_runtime import Clock, Count, logger

STUCK_SECONDS = 1.0
"""So long after its timeout a look that has not ended by itself counts as one that timed out."""

HEAVY = frozenset({CheckKind.SCRIPT, CheckKind.NATIVE})
"""Kinds whose looks may start a process."""

LOOKS = Count("muster_host_agent_looks_total", "Looks of health checks, by what they saw.", ("kind", "seen"))
SKIPPED = Count(
    "muster_host_agent_looks_skipped_total",
    "Beats without a look: the one before went on (running), or waited for its turn (waiting).",
    ("kind", "before"),
)
LOOK_SECONDS = Count("muster_host_agent_look_seconds_total", "How long looks took, in all.", ("kind",))
LATE_SECONDS = Count(
    "muster_host_agent_looks_late_seconds_total", "How much later than due looks began, in all.", ("kind",)
)

log = logger(__name__)


class Desk(Protocol):
    """Where a check hands in what it sees."""

    def looked(self, result: CheckResult) -> None:
        """A look saw this."""

    def holds(self, checked: "Checked", was: Health | None) -> None:
        """A check holds another thing."""


@dataclass(frozen=True, slots=True)
class Glance:
    """The last look."""

    seen: Seen
    at: datetime
    """When it began."""
    seconds: float


class Checked:
    """One check of one package; implements ``host_agent.scheduling.Looker``."""

    def __init__(
        self, package: str, check: Check, desk: Desk, clock: Clock, *, told: Health | None = None
    ) -> None:
        self.package, self.check = package, check
        self.kind = CheckKind(check.check.kind)
        self.heavy = self.kind in HEAVY
        self.standing = Standing()
        self.told = told
        """What it was last said to hold; none: nothing yet."""
        self.since = clock.now()
        self.sight: Sight | None = None
        """What is looked at; none while it is not."""
        self._desk, self._clock = desk, clock
        self._look: Look | None = None
        self._given_up: asyncio.Task[Any] | None = None
        self._last: Glance | None = None
        self._why = Seen(Health.UNKNOWN, "new", "")

    @property
    def health(self) -> Health:
        """What it holds."""
        return self.standing.health or Health.UNKNOWN

    @property
    def why(self) -> Seen:
        """What was said last about it: by a look, or of why there is none."""
        return self._why

    def begin(self, sight: Sight, look: Look) -> None:
        """Look at this run from now on; what it held goes on unless it is reset."""
        self.sight, self._look = sight, look

    def rest(self) -> None:
        """Look no more, and hold what it holds."""
        self.sight = self._look = None

    def reset(self, why: Seen) -> None:
        """Look no more and hold unknown; the next looks begin anew."""
        self.rest()
        news = self.told is not Health.UNKNOWN or why.reason != self._why.reason
        self._last, self._why, self.standing = None, why, Standing()
        if news:
            self._tell()

    def state(self) -> CheckState:
        """All that is known of it."""
        last = self._last
        return CheckState(
            package=self.package, check=self.check.name, kind=self.kind, purpose=self.check.purpose,
            health=self.health, since=self.since, every_seconds=self.check.every_seconds,
            seen=last.seen.health if last else None, looked_at=last.at if last else None,
            duration_seconds=last.seconds if last else None, looks=self.standing.alike,
            waiting=self.sight is None or self._starts(), reason=self._why.reason, text=self._why.text,
        )  # fmt: skip

    # Looking --------------------------------------------------------------------------------------------

    async def look(self, late_seconds: float) -> None:
        """Look once; raises nothing. It begins so long after it was due."""
        LATE_SECONDS.add(self.kind.value, by=late_seconds)
        look, at, began = self._look, self._clock.now(), self._clock.monotonic()
        if look is None:
            return
        task = asyncio.current_task()
        stuck = asyncio.get_running_loop().call_later(
            self.check.timeout_seconds + STUCK_SECONDS, self._give_up, look, task, at
        )
        try:
            seen = await look.look()
        except Exception as error:
            log.exception("cannot look", package=self.package, check=self.check.name)
            seen = unknown("failed", f"cannot look: {type(error).__name__}: {error}")
        finally:
            stuck.cancel()
        if look is self._look and task is not self._given_up:
            self._take(Glance(seen, at, self._clock.monotonic() - began))

    def skipped(self, *, waiting: bool) -> None:
        """It could not look at a beat: the look before goes on, or is still ``waiting`` for its turn."""
        SKIPPED.add(self.kind.value, "waiting" if waiting else "running")
        if waiting:
            text = "cannot look: too many looks go on; have them take less time, or raise looks_at_once"
            self._take(Glance(unknown("busy", text), self._clock.now(), 0.0))

    def _give_up(self, look: Look, task: "asyncio.Task[Any] | None", at: datetime) -> None:
        """The look does not end by itself: it saw nothing in time, however long its end takes."""
        self._given_up = task
        if look is self._look:
            text = f"no answer within {self.check.timeout_seconds:g} s"
            seconds = self.check.timeout_seconds + STUCK_SECONDS
            self._take(Glance(critical("timeout", text), at, seconds))
        if task:
            task.cancel()

    def _take(self, glance: Glance) -> None:
        seen = glance.seen
        LOOKS.add(self.kind.value, seen.health.value)
        LOOK_SECONDS.add(self.kind.value, by=glance.seconds)
        self._last, self._why = glance, seen
        held = self.standing.health
        self.standing = after(self.standing, seen.health, self.check, starting=self._starts())
        if self.standing.health is not held:
            self._tell()
        self._desk.looked(
            CheckResult(
                package=self.package, check=self.check.name, seen=seen.health, held=self.health,
                at=glance.at, duration_seconds=glance.seconds, reason=seen.reason, text=seen.text,
            )
        )  # fmt: skip

    def _starts(self) -> bool:
        """Whether the package is in the check's start period."""
        started = self._clock.monotonic() - self.sight.began if self.sight else 0.0
        return started < self.check.start_seconds

    def _tell(self) -> None:
        was, self.told = self.told, self.health
        self.since = self._clock.now() if was is not self.told else self.since
        self._desk.holds(self, was)
