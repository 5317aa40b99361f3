"""Facts as agents and the registry say them, short to write."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from muster_contracts.agent.v1 import AgentKind
from muster_contracts.fleet.v1 import AgentRow, PartitionEnded, PartitionSuspected, Presence, PresenceChanged
from muster_contracts.health.v1 import CheckChanged, Health
from muster_contracts.ids import make_epoch
from muster_contracts.package.v1 import (
    CheckKind,
    DescribedCheck,
    Driver,
    PackageChanged,
    PackageDescribed,
    PackagesFound,
    PackageState,
    Purpose,
    Reliance,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
EPOCH = make_epoch("a" * 12, 1_000)
NEXT_EPOCH = make_epoch("a" * 12, 2_000)


def later(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def state(
    name: str, now: PackageState | str | None = "running", at: datetime = NOON, **changes: Any
) -> PackageChanged:
    """``web@web-1`` is in a state."""
    package, _, agent = name.partition("@")
    fields = {"epoch": EPOCH, "reason": "test", "now": now, **changes}
    return PackageChanged(occurred_at=at, agent_id=agent, package=package, **fields)


def check(
    name: str, now: Health | str | None = "critical", at: datetime = NOON, **changes: Any
) -> CheckChanged:
    """The check ``http`` of ``web@web-1`` holds something."""
    package, _, agent = name.partition("@")
    fields = {
        "epoch": EPOCH, "check": "http", "kind": CheckKind.HTTP, "purpose": Purpose.LIVENESS, "now": now,
        "reason": "timeout", **changes,
    }  # fmt: skip
    return CheckChanged(occurred_at=at, agent_id=agent, package=package, **fields)


def described(
    name: str,
    at: datetime = NOON,
    *,
    needs: Sequence[str] = (),
    relies: Sequence[tuple[str, str]] = (),
    checks: Sequence[str] = (),
    **changes: Any,
) -> PackageDescribed:
    """What the package.json of ``web@web-1`` says."""
    package, _, agent = name.partition("@")
    fields = {"epoch": EPOCH, "driver": Driver.PROCESS, "restart_policy": "always", **changes}
    return PackageDescribed(
        occurred_at=at, agent_id=agent, package=package, depends_on=list(needs),
        relies_on=[Reliance(package=one, where=where) for one, where in relies],
        checks=[
            DescribedCheck(name=one, kind=CheckKind.HTTP, purpose=Purpose.LIVENESS, every_seconds=5)
            for one in checks
        ],
        **fields,
    )  # fmt: skip


def found(agent: str, *packages: str, at: datetime = NOON, epoch: str = EPOCH) -> PackagesFound:
    return PackagesFound(occurred_at=at, agent_id=agent, epoch=epoch, packages=list(packages))


def presence(
    agent: str, now: Presence | str = "online", at: datetime = NOON, **changes: Any
) -> PresenceChanged:
    fields = {
        "kind": AgentKind.HOST, "was": Presence.EXPECTED, "now": now, "reason": "heartbeat", "epoch": EPOCH,
        **changes,
    }  # fmt: skip
    return PresenceChanged(occurred_at=at, agent_id=agent, **fields)


def cut_off(site: str, at: datetime = NOON) -> PartitionSuspected:
    return PartitionSuspected(occurred_at=at, site=site, missing=9, known=10)


def joined(site: str, at: datetime) -> PartitionEnded:
    return PartitionEnded(occurred_at=at, site=site, returned=9, still_lost=0, lasted_seconds=1)


def row(agent: str, now: Presence | str = "online", at: datetime = NOON, **changes: Any) -> AgentRow:
    """An agent as the registry lists it."""
    fields = {"kind": AgentKind.HOST, "reason": "heartbeat", "epoch": EPOCH, **changes}
    return AgentRow(id=agent, state=now, since=at, **fields)
