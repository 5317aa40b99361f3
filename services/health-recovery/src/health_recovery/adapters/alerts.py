"""Incidents in Alertmanager's two languages: the alerts it is posted, and what it posts to webhooks."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from health_recovery.domain.notice import Event, Item, Notice

ALERT = "MusterIncident"
NEVER = "0001-01-01T00:00:00Z"
"""How Go spells no time; receivers look for it in ``endsAt``."""


def labels(item: Item) -> dict[str, str]:
    """What an alert is known by. Of another severity it is another alert; the former one ends by itself."""
    one = item.incident
    known = {
        "alertname": ALERT,
        "package": one.cause.package,
        "agent": one.cause.agent,
        "incident": str(one.id),
        "severity": one.health.value,
    }
    if item.site:
        known["site"] = item.site
    return {**{_label(name): value for name, value in one.labels.items() if value}, **known}


def annotations(item: Item) -> dict[str, str]:
    """What may change while it lasts."""
    one = item.incident
    notice = Notice(id=one.id, channel="", at=one.opened_at, items=[item])
    said = {
        "summary": notice.title(),
        "description": notice.text(),
        "health": one.health.value,
        "reason": one.reason,
        "check": item.check or "",
        "tried": "; ".join(one.tried),
        "gave_up": str(one.gave_up).lower(),
        "affected": ", ".join(str(ref) for ref in one.affected),
        "acknowledged_by": one.acknowledged_by or "",
    }
    return {name: value for name, value in said.items() if value}


def posted(notice: Notice, lasts: timedelta) -> list[dict[str, Any]]:
    """The body of POST /api/v2/alerts: what fires ends by itself ``lasts`` later unless it is said again."""
    if notice.kind == "test":
        return [_test(notice, notice.at + timedelta(minutes=1))]
    return [
        {
            "labels": labels(item),
            "annotations": annotations(item),
            "startsAt": _moment(item.incident.opened_at),
            "endsAt": _moment(item.incident.resolved_at or notice.at + lasts),
        }
        for item in notice.items
    ]


def webhook(notice: Notice) -> dict[str, Any]:
    """What Alertmanager posts to a webhook receiver (version 4)."""
    alerts = [_received(item) for item in notice.items]
    if notice.kind == "test":
        alerts = [
            {"status": "firing", "fingerprint": notice.id.hex[:16], "generatorURL": ""} | _test(notice, None)
        ]
    firing = any(alert["status"] == "firing" for alert in alerts)
    return {
        "version": "4",
        "groupKey": "{}:" + _key(notice.group),
        "truncatedAlerts": notice.more,
        "status": "firing" if firing else "resolved",
        "receiver": notice.channel,
        "groupLabels": dict(notice.group),
        "commonLabels": _common(alert["labels"] for alert in alerts),
        "commonAnnotations": _common(alert["annotations"] for alert in alerts),
        "externalURL": "",
        "alerts": alerts,
    }


def _received(item: Item) -> dict[str, Any]:
    one = item.incident
    return {
        "status": "resolved" if item.event is Event.RESOLVED else "firing",
        "labels": labels(item),
        "annotations": annotations(item),
        "startsAt": _moment(one.opened_at),
        "endsAt": _moment(one.resolved_at) if one.resolved_at else NEVER,
        "generatorURL": "",
        "fingerprint": one.id.hex[:16],
    }


def _test(notice: Notice, ends: datetime | None) -> dict[str, Any]:
    return {
        "labels": {"alertname": "MusterTest", "severity": "info", "channel": notice.channel},
        "annotations": {"summary": notice.title(), "description": notice.text()},
        "startsAt": _moment(notice.at),
        "endsAt": _moment(ends) if ends else NEVER,
    }


def _moment(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _label(name: str) -> str:
    """The name of a label as Prometheus takes it."""
    plain = "".join(sign if sign.isascii() and (sign.isalnum() or sign == "_") else "_" for sign in name)
    return f"_{plain}" if plain[:1].isdigit() else plain


def _common(all_of_them: Iterable[Mapping[str, str]]) -> dict[str, str]:
    first, *others = list(all_of_them) or [{}]
    return {name: value for name, value in first.items() if all(one.get(name) == value for one in others)}


def _key(group: Mapping[str, str]) -> str:
    return "{" + ", ".join(f'{name}="{value}"' for name, value in group.items()) + "}"
