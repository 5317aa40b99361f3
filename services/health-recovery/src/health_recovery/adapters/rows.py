"""Records as rows and back. What is never looked for in SQL is JSON text, short and quick to read."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from json import dumps, loads
from sys import intern
from typing import Any

from sqlalchemy import RowMapping

from health_recovery.domain.assessing import Event
from health_recovery.domain.facts import Check, Description, Stamp
from health_recovery.domain.hearing import alike
from health_recovery.domain.judging import Base, HostVerdict
from health_recovery.domain.keys import Key
from health_recovery.domain.records import Host, Package, Verdict
from muster_contracts.agent.v1 import AgentKind
from muster_contracts.fleet.v1 import Presence
from muster_contracts.health.v1 import Health
from muster_contracts.package.v1 import CheckKind, PackageState, Purpose

Row = dict[str, Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def package_row(package: Package) -> Row:
    """A package that was judged."""
    verdict, cause = package.judged, package.judged.cause
    return {
        "agent": package.key.agent,
        "package": package.key.package,
        "state": package.state,
        "exit_code": package.exit_code,
        "text": package.text,
        **_stamp_row("said", package.said),
        "unsettled_since": package.unsettled_since,
        "description": _description_text(package.description),
        **_stamp_row("described", package.described),
        "checks": dumps([_check_list(one) for one in package.checks]),
        "settled": _base_text(package.settled),
        "base": _base_text(verdict.base),
        "since": verdict.since,
        "cause_agent": cause.agent if cause else None,
        "cause_package": cause.package if cause else None,
        "flapping": verdict.flapping,
        "maintenance": verdict.maintenance,
        "moments": dumps([_micros(one) for one in package.moments]),
        "event": package.event,
        "relieved_at": verdict.relieved_at,
    }


def package_of(row: RowMapping) -> Package:
    """The package a row keeps."""
    cause = Key(row["cause_agent"], row["cause_package"]) if row["cause_agent"] else None
    verdict = Verdict(
        _base_of(row["base"]), row["since"], cause, bool(row["flapping"]), bool(row["maintenance"]),
        row["relieved_at"],
    )  # fmt: skip
    return Package(
        Key(intern(row["agent"]), intern(row["package"])),
        PackageState(row["state"]) if row["state"] else None,
        row["exit_code"],
        row["text"],
        _stamp_of("said", row),
        row["unsettled_since"],
        _description_of(row["description"]),
        _stamp_of("described", row),
        tuple(_check_of(*one) for one in loads(row["checks"])),
        _base_of(row["settled"]),
        verdict,
        tuple(_moment(one) for one in loads(row["moments"])),
        row["event"],
    )


def host_row(host: Host) -> Row:
    """An agent."""
    verdict = host.verdict
    return {
        "agent": host.id,
        "kind": host.kind,
        "presence": host.presence,
        "presence_since": host.presence_since,
        "epoch": host.epoch,
        "labels": dict(host.labels),
        "groups": list(host.groups),
        **_stamp_row("found", host.found),
        "health": verdict.health if verdict else None,
        "reason": verdict.reason if verdict else "",
        "culprit": verdict.culprit if verdict else None,
        "since": host.since,
        "event": host.event,
    }


def host_of(row: RowMapping) -> Host:
    """The agent a row keeps."""
    health = row["health"]
    return Host(
        intern(row["agent"]),
        AgentKind(row["kind"]),
        Presence(row["presence"]),
        row["presence_since"],
        row["epoch"],
        {intern(key): intern(value) for key, value in row["labels"].items()},
        tuple(row["groups"]),
        _stamp_of("found", row),
        HostVerdict(Health(health), row["reason"], row["culprit"]) if health else None,
        row["since"],
        row["event"],
    )


def event_row(event: Event, ended: Mapping[int, datetime]) -> Row:
    """A new line of history; one that ended within its own batch is written so at once."""
    return {
        "id": event.id,
        "agent": event.agent,
        "package": event.package,
        "at": event.at,
        "ended_at": ended.get(event.id),
        "was": event.was,
        "now": event.now,
        "reason": event.reason,
        "text": event.text,
        "cause_agent": event.cause.agent if event.cause else None,
        "cause_package": event.cause.package if event.cause else None,
        "maintenance": event.maintenance,
    }


def _stamp_row(name: str, stamp: Stamp | None) -> Row:
    return {f"{name}_epoch": stamp.epoch if stamp else None, f"{name}_at": stamp.at if stamp else None}


def _stamp_of(name: str, row: RowMapping) -> Stamp | None:
    epoch = row[f"{name}_epoch"]
    return Stamp(intern(epoch), row[f"{name}_at"]) if epoch else None


@lru_cache(maxsize=4096)
def _base_text(base: Base) -> str:
    return dumps([base.health, base.reason, base.text, base.check, base.live, base.stale])


@lru_cache(maxsize=4096)
def _base_of(text: str) -> Base:
    health, reason, words, check, *flags = loads(text)
    return Base(Health(health), reason, words, check, *flags)


def _check_list(check: Check) -> list[Any]:
    return [
        check.name, check.kind, check.purpose, check.health, _micros(check.since), check.reason, check.text,
        check.stamp.epoch, _micros(check.stamp.at),
    ]  # fmt: skip


def _check_of(name: str, kind: str, purpose: str, health: str, since: int, *rest: Any) -> Check:
    reason, text, epoch, at = rest
    return Check(
        intern(name), CheckKind(kind), Purpose(purpose), Health(health), _moment(since), intern(reason), text,
        Stamp(intern(epoch), _moment(at)),
    )  # fmt: skip


@lru_cache(maxsize=4096)
def _description_text(description: Description) -> str:
    return dumps(
        [
            description.restart_policy,
            description.depends_on,
            [(one.package, one.where) for one in description.relies_on],
            description.recovery.model_dump_json(exclude_defaults=True),
            description.checks,
        ]
    )


@lru_cache(maxsize=4096)
def _description_of(text: str) -> Description:
    restart_policy, depends_on, relies_on, recovery, checks = loads(text)
    return alike(
        restart_policy,
        tuple(depends_on),
        tuple((package, where) for package, where in relies_on),
        recovery,
        tuple(checks),
    )


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


def _moment(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)
