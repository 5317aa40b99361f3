"""What is held of each package and each agent: immutable records, replaced when something changes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from health_recovery.domain.facts import Check, Description, Stamp
from health_recovery.domain.judging import NEVER_HEARD, Base, HostVerdict, Seen
from health_recovery.domain.keys import Key
from muster_contracts.agent.v1 import AgentKind
from muster_contracts.fleet.v1 import Presence
from muster_contracts.health.v1 import Health
from muster_contracts.package.v1 import PackageState
from muster_contracts.selector import Facts

PLAIN = Description()


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a package is judged, all things considered."""

    base: Base
    since: datetime
    """Since when it is in this health."""
    cause: Key | None = None
    flapping: bool = False
    maintenance: bool = False
    relieved_at: datetime | None = None
    """When what made it ill was well again, while it is still ill itself."""

    def like(self, other: "Verdict") -> bool:
        """Whether it says the same; how long it has lasted and its words for people are left aside."""
        mine, theirs = self.base, other.base
        return (
            mine.health is theirs.health
            and mine.reason == theirs.reason
            and mine.check == theirs.check
            and self.cause == other.cause
            and self.maintenance is other.maintenance
        )


@dataclass(frozen=True, slots=True)
class Package:
    """One package: what was said of it, and how it is judged."""

    key: Key
    state: PackageState | None = None
    exit_code: int | None = None
    text: str = ""
    """What its agent said of its state."""
    said: Stamp | None = None
    """Of its state."""
    unsettled_since: datetime | None = None
    description: Description = PLAIN
    described: Stamp | None = None
    checks: tuple[Check, ...] = ()
    settled: Base = NEVER_HEARD
    """By itself, when it last was in a state that lasts."""
    verdict: Verdict | None = None
    """Null until it is judged for the first time, within the batch that brought it."""
    moments: tuple[datetime, ...] = ()
    """Its recent changes of health, while they may still make it flap."""
    event: int | None = None
    """The line of history that lasts."""

    @property
    def judged(self) -> Verdict:
        """The verdict of a package that has one: outside of a batch every one has."""
        assert self.verdict
        return self.verdict

    @property
    def health(self) -> Health:
        """As judged."""
        return self.judged.base.health

    @property
    def seen(self) -> Seen:
        """What it is judged by."""
        return Seen(
            self.state,
            self.exit_code,
            self.description.restart_policy,
            self.text,
            self.checks,
            self.settled,
            self.unsettled_since,
            self.description.recovery.stable_seconds,
        )

    @property
    def last_said(self) -> Stamp | None:
        """The latest stamp of anything said of it."""
        stamps = [self.said, self.described, *(one.stamp for one in self.checks)]
        return max((one for one in stamps if one), key=lambda one: one.at, default=None)


@dataclass(frozen=True, slots=True)
class Host:
    """One agent of any kind: whether it is there, and how it is judged."""

    id: str
    kind: AgentKind = AgentKind.HOST
    presence: Presence = Presence.ONLINE
    presence_since: datetime | None = None
    """Null: the registry has not told yet; whoever speaks is taken to be there."""
    epoch: str | None = None
    """Its run, as the registry knows it."""
    labels: Mapping[str, str] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    found: Stamp | None = None
    """Of the last list of its packages."""
    verdict: HostVerdict | None = None
    since: datetime | None = None
    """Since when it is in this health."""
    event: int | None = None
    """The line of history that lasts."""

    @property
    def site(self) -> str:
        """Where it is; empty if it does not say."""
        return self.labels.get("site", "")

    @property
    def facts(self) -> Facts:
        """What a selector may ask of it."""
        return Facts(self.id, self.kind, self.presence, frozenset(self.groups), self.labels)
