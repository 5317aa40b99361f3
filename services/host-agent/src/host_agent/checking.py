"""The health checks of this machine: which there are, when they look, and what is said of what they see."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from host_agent.checked import Checked
from host_agent.domain.attention import Attention, Sight
from host_agent.domain.look import Seen, unknown
from host_agent.domain.schedule import Beat, share
from host_agent.domain.speaker import Speaker
from host_agent.news import News
from host_agent.ports import Look, Voice
from host_agent.scheduling import Scheduler
from muster_contracts.health.v1 import CheckChanged, CheckResult, ChecksRan, CheckState, Health
from muster_contracts.package.specification import Check
from muster_runtime import Clock, Tasks, logger

SAMPLE_SECONDS = 1.0
"""Between messages about looks."""

MOST_RESULTS = 50
"""Results in one message; fewer where their texts are long."""

MOST_UNSAID = 5000
"""Results that wait to be said; then the oldest go."""

PAGE = 50
"""Checks in one answer."""

log = logger(__name__)

MakeLookAt = Callable[[Check, Sight], Look]
"""Makes the look of a check at a run."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What checks may cost this machine."""

    at_once: int = 32
    """Looks that start no process."""
    heavy_at_once: int = 4
    """Looks that do."""
    most: int = 1000
    """Checks that look; those beyond are unknown."""


class Checking:
    """All checks; enter it to have what they see said, leave it and they look no more."""

    def __init__(  # noqa: PLR0917  (told about everything here, once)
        self,
        sight: Callable[[str], Sight | None],
        make: MakeLookAt,
        speaker: Speaker,
        voice: Voice,
        news: News,
        clock: Clock,
        limits: Limits = Limits(),
    ) -> None:
        self._sight, self._make, self._limits = sight, make, limits
        self._speaker, self._voice, self._news, self._clock = speaker, voice, news, clock
        self._scheduler = Scheduler(limits.at_once, limits.heavy_at_once)
        self._checks: dict[tuple[str, str], Checked] = {}
        self._looking: set[Checked] = set()
        self._refused: set[str] = set()
        self._results: list[CheckResult] = []
        self._tasks = Tasks()

    async def __aenter__(self) -> Self:
        self._tasks.every("check samples", SAMPLE_SECONDS, self.say_results, first_after=SAMPLE_SECONDS)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._tasks.close()
        await self._scheduler.close()

    # Packages -------------------------------------------------------------------------------------------

    def package_changed(self, name: str) -> None:
        """A package is in another state, or its package.json says another thing."""
        sight = self._sight(name)
        wanted = {each.name: each for each in sight.loaded.spec.checks} if sight else {}
        for checked in [each for each in self._checks.values() if each.package == name]:
            if checked.check.name not in wanted:
                self._forget(checked)
        for check in wanted.values():
            assert sight
            self._attend(self._of(name, check), sight)
        while self._refused and len(self._looking) < self._limits.most:
            self.package_changed(self._refused.pop())

    def _of(self, package: str, check: Check) -> Checked:
        """The check of this name; one that looks otherwise than before begins anew."""
        key = (package, check.name)
        known = self._checks.get(key)
        if known and known.check == check:
            return known
        new = self._checks[key] = Checked(
            package, check, self, self._clock, told=known.told if known else None
        )
        if known:
            self._leave(known)
            if known.told:
                new.reset(Seen(Health.UNKNOWN, "changed", "package.json describes another check"))
        return new

    def _attend(self, checked: Checked, sight: Sight) -> None:
        match sight.attention:
            case Attention.LOOK:
                self._look_at(checked, sight)
            case Attention.HOLD:
                self._leave(checked)
            case Attention.RESET:
                self._leave(checked)
                checked.reset(_stopped(checked.package, sight))

    def _look_at(self, checked: Checked, sight: Sight) -> None:
        before = checked.sight
        if before and before.run == sight.run and before.loaded == sight.loaded:
            return
        self._leave(checked)
        if before and before.run != sight.run:
            checked.reset(_stopped(checked.package, sight))
        if len(self._looking) >= self._limits.most:
            self._refuse(checked)
            return
        checked.begin(sight, self._make(checked.check, sight))
        self._looking.add(checked)
        words = (self._speaker.agent_id, checked.package, checked.check.name)
        self._scheduler.add(checked, Beat(checked.check.every_seconds, share(*words)))

    def _leave(self, checked: Checked) -> None:
        self._scheduler.remove(checked)
        self._looking.discard(checked)
        checked.rest()

    def _refuse(self, checked: Checked) -> None:
        text = f"cannot look: this machine has more than {self._limits.most} checks; raise most_checks"
        self._refused.add(checked.package)
        if checked.why.reason != "too-many":
            log.error(text, package=checked.package, check=checked.check.name)
        checked.reset(unknown("too-many", text))

    def _forget(self, checked: Checked) -> None:
        del self._checks[checked.package, checked.check.name]
        self._leave(checked)
        if checked.told:
            gone = Seen(Health.UNKNOWN, "removed", "there is no such check any more")
            self._news.tell(self._change(checked, checked.told, None, gone))

    # What is said ---------------------------------------------------------------------------------------

    def looked(self, result: CheckResult) -> None:
        """A look saw this."""
        self._results.append(result)
        del self._results[:-MOST_UNSAID]

    def holds(self, checked: Checked, was: Health | None) -> None:
        """A check holds another thing."""
        self._news.tell(self._change(checked, was, checked.health, checked.why))

    def _change(self, checked: Checked, was: Health | None, now: Health | None, why: Seen) -> CheckChanged:
        return CheckChanged(
            occurred_at=self._clock.now(), agent_id=self._speaker.agent_id, epoch=self._speaker.epoch,
            package=checked.package, check=checked.check.name, kind=checked.kind,
            purpose=checked.check.purpose, was=was, now=now, reason=why.reason, text=why.text,
            looks=max(1, checked.standing.alike),
        )  # fmt: skip

    async def say_results(self) -> None:
        """Say what looks saw since the last time."""
        results, self._results = self._results, []
        for batch in batches(results):
            await self._voice.say(
                ChecksRan(
                    occurred_at=self._clock.now(),
                    agent_id=self._speaker.agent_id,
                    epoch=self._speaker.epoch,
                    results=batch,
                )
            )

    # Questions ------------------------------------------------------------------------------------------

    def page(self, package: str | None, after: str | None) -> tuple[list[CheckState], str | None]:
        """Checks behind ``after`` by package and name, one page of them, and where the next begins."""
        behind = tuple((after or "").split("/", 1))
        keys = sorted(key for key in self._checks if key > behind and package in {None, key[0]})
        states = [self._checks[key].state() for key in keys[:PAGE]]
        return states, "/".join(keys[PAGE - 1]) if len(keys) > PAGE else None

    def held(self) -> Counter[str]:
        """How many checks hold what; may be asked from any thread."""
        return Counter(each.health.value for each in list(self._checks.values()))


def batches(results: Sequence[CheckResult]) -> Iterator[list[CheckResult]]:
    """Results in as many messages as they need; none larger than its contract allows."""
    batch: list[CheckResult] = []
    size = 0
    for result in results:
        # All but the text fits in 500 bytes; of the text each character may have to be escaped.
        bytes_ = 500 + 2 * len(result.text.encode())
        if batch and (len(batch) == MOST_RESULTS or size + bytes_ > ChecksRan.MAX_BYTES - 1000):
            yield batch
            batch, size = [], 0
        batch.append(result)
        size += bytes_
    if batch:
        yield batch


def _stopped(package: str, sight: Sight) -> Seen:
    state = str(sight.state).replace("_", " ")
    return Seen(Health.UNKNOWN, "stopped", f"package {package} is {state}")
