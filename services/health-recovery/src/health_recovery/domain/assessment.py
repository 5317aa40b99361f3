"""The judgement of one package: all that recovery and notifications may look at."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from health_recovery.domain.keys import Key
from muster_contracts.fleet.v1 import Presence
from muster_contracts.health.v1 import Health
from muster_contracts.package.v1 import PackageState, RecoveryPolicy


@dataclass(frozen=True, slots=True)
class Assessment:
    """One package as it is judged now."""

    key: Key
    health: Health
    since: datetime
    """Since when it is judged so."""
    reason: str
    """Why, for programs: check, crash-loop, failed, invalid, exited, blocked, paused, agent-lost, …"""
    text: str
    """The same for people."""
    check: str | None
    """The check that decided, if one did."""
    live: bool
    """Whether recovery may act by what is seen: False when only readiness checks are critical."""
    cause: Key | None
    """What it is suppressed by: the deepest ill package that explains it."""
    flapping: bool
    maintenance: bool
    state: PackageState | None
    """Null if its agent never said."""
    restart_policy: str
    """always, on-failure or never."""
    policy: RecoveryPolicy
    dependents: tuple[Key, ...]
    """Ill packages that it makes ill."""
    presence: Presence
    """Of its agent."""
    site: str
    partitioned: bool
    """Whether its site is suspected to be cut off."""
    groups: tuple[str, ...]
    labels: Mapping[str, str]
    """Of its agent."""
    stale: bool = False
    """Held from before its last start: no check has looked since."""
    relieved_at: datetime | None = None
    """When what made it ill was well again, while it is still ill itself."""
    needs_others: bool = False
    """Whether its package.json says that it depends or relies on other packages."""
