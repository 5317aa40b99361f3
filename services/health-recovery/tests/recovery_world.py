"""Packages to recover, for the tests of the ladder and of what carries it out."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from health_recovery.domain.assessment import Assessment
from health_recovery.domain.keys import Key
from muster_contracts.fleet.v1 import Presence
from muster_contracts.health.v1 import Health
from muster_contracts.package.v1 import PackageState, RecoveryPolicy

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
WEB = Key("web-1", "web")
QUICK = RecoveryPolicy(
    restarts=2,
    with_dependents=1,
    delay_seconds=4,
    longest_delay_seconds=60,
    acts_per_window=5,
    window_seconds=600,
    stable_seconds=30,
    cooldown_seconds=300,
)


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def ill(key: Key = WEB, **changes: Any) -> Assessment:
    """A package that runs and whose liveness check is critical."""
    made = Assessment(
        key=key, health=Health.CRITICAL, since=NOON, reason="check", text="http: 500", check="http",
        live=True, cause=None, flapping=False, maintenance=False, state=PackageState.RUNNING,
        restart_policy="always", policy=QUICK, dependents=(), presence=Presence.ONLINE, site="",
        partitioned=False, groups=(), labels={},
    )  # fmt: skip
    return replace(made, **changes)


def well(key: Key = WEB, **changes: Any) -> Assessment:
    """The same, as it should be."""
    return replace(
        ill(key), **{"health": Health.OK, "reason": "running", "text": "", "check": None} | changes
    )
