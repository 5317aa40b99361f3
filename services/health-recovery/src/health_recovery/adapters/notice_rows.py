"""Incidents and notices as rows, and back."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from health_recovery.domain.incidents import Case, Incident, Phase
from health_recovery.domain.keys import Key
from health_recovery.domain.notice import Notice
from health_recovery.domain.notices import Status, Telling
from health_recovery.notice_ports import End, Outgoing, TellingKey
from muster_contracts.health.v1 import Health
from muster_contracts.health.v1 import Incident as Shown

AFFECTED_KEPT = 1_000


def incident_row(case: Case, end: End | None) -> dict[str, Any]:
    """The row of an incident; ``end`` is what recovery had done about one that is over."""
    one = case.incident
    assert one
    return {
        "id": one.id,
        "agent": one.cause.agent,
        "package": one.cause.package,
        "phase": case.phase.value,
        "phase_since": case.since,
        "ill_since": case.ill_since,
        "opened_at": one.opened_at,
        "moved_at": one.moved_at,
        "resolved_at": one.resolved_at,
        "document": _document(one, end or End()),
    }


def _document(one: Incident, end: End) -> dict[str, Any]:
    return {
        "health": one.health.value,
        "worst": one.worst.value,
        "reason": one.reason,
        "text": one.text,
        "check": one.check,
        "labels": dict(one.labels),
        "site": one.site,
        "groups": list(one.groups),
        "affected": [[key.agent, key.package] for key in one.affected[:AFFECTED_KEPT]],
        "flapping": one.flapping,
        "unknown": one.unknown,
        "episode": one.episode,
        "why": one.why,
        "acknowledged_by": one.acknowledged_by,
        "acknowledged_text": one.acknowledged_text,
        "tried": list(end.tried),
        "gave_up": end.gave_up,
    }


def incident_of(row: Row[Any]) -> Incident:
    """The incident of a row."""
    document = dict(row.document)
    document.pop("tried"), document.pop("gave_up")
    return Incident(
        id=row.id,
        cause=Key(row.agent, row.package),
        opened_at=row.opened_at,
        moved_at=row.moved_at,
        resolved_at=row.resolved_at,
        **{
            **document,
            "health": Health(document["health"]),
            "worst": Health(document["worst"]),
            "groups": tuple(document["groups"]),
            "affected": tuple(Key(agent, package) for agent, package in document["affected"]),
        },
    )


def case_of(row: Row[Any]) -> Case:
    """The case of a row."""
    return Case(Phase(row.phase), row.phase_since, row.ill_since, incident_of(row))


def shown(row: Row[Any]) -> Shown:
    """A row as messages show it, with what recovery had done if it is over."""
    return incident_of(row).shown(row.document["tried"], gave_up=row.document["gave_up"])


def notice_row(one: Outgoing, at: datetime) -> dict[str, Any]:
    """The row of a notice that is to be sent."""
    return {
        "id": one.notice.id,
        "channel": one.notice.channel,
        "state": "waiting",
        "created_at": at,
        "next_at": at,
        "ended_at": None,
        "attempts": 0,
        "groups": list(one.groups),
        "told": [str(incident) for incident in one.told],
        "body": one.notice.model_dump(mode="json"),
        "why": None,
    }


def outgoing(row: Row[Any]) -> Outgoing:
    """A notice that is to be sent, of a row."""
    return Outgoing(
        notice=Notice.model_validate(row.body),
        groups=tuple(row.groups),
        told=tuple(UUID(one) for one in row.told),
        attempts=row.attempts,
        next_at=row.next_at,
    )


def telling_row(key: TellingKey, one: Telling) -> dict[str, Any]:
    """The row of what a channel was told."""
    channel, incident = key
    return {
        "channel": channel,
        "incident_id": incident,
        "status": one.status.value,
        "health": one.health.value,
        "at": one.at,
        "episode": one.episode,
    }


def telling(row: Row[Any]) -> Telling:
    """What a channel was told, of a row."""
    return Telling(Status(row.status), Health(row.health), row.at, row.episode)
