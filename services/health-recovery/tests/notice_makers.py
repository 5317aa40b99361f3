"""Judgements and incidents as tests need them."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from health_recovery.domain.assessment import Assessment
from health_recovery.domain.incidents import Book, Incident, News, Rules, Step
from health_recovery.domain.keys import Key
from muster_contracts.fleet.v1 import Presence
from muster_contracts.health.v1 import Health
from muster_contracts.package.v1 import PackageState, RecoveryPolicy

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
WEB, DATABASE = Key("web-1", "web"), Key("db-1", "database")


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def judgement(key: Key = WEB, health: Health = Health.CRITICAL, **changes: Any) -> Assessment:
    fields: dict[str, Any] = {
        "key": key,
        "health": health,
        "since": NOON,
        "reason": "check" if health is Health.CRITICAL else "running",
        "text": "connection refused" if health is Health.CRITICAL else "",
        "check": "http" if health is Health.CRITICAL else None,
        "live": True,
        "cause": None,
        "flapping": False,
        "maintenance": False,
        "state": PackageState.RUNNING,
        "restart_policy": "always",
        "policy": RecoveryPolicy(),
        "dependents": (),
        "presence": Presence.ONLINE,
        "site": "north",
        "partitioned": False,
        "groups": ("front",),
        "labels": {"team": "blue"},
        **changes,
    }
    return Assessment(**fields)


def well(key: Key = WEB, **changes: Any) -> Assessment:
    return judgement(key, Health.OK, **changes)


def incident(key: Key = WEB, number: int = 1, **changes: Any) -> Incident:
    fields: dict[str, Any] = {
        "id": UUID(int=number),
        "cause": key,
        "health": Health.CRITICAL,
        "worst": Health.CRITICAL,
        "reason": "check",
        "text": "connection refused",
        "check": "http",
        "opened_at": NOON,
        "moved_at": NOON,
        "labels": {"team": "blue"},
        "site": "north",
        "groups": ("front",),
        **changes,
    }
    return Incident(**fields)


class Fleet:
    """A book, and how packages are judged; it is looked at as time goes by."""

    def __init__(self, rules: Rules | None = None) -> None:
        self.book = Book(rules or Rules())
        self.judged: dict[Key, Assessment | None] = {}
        self.story: list[tuple[float, str, News]] = []

    def look(self, seconds: float, *seen: Assessment, gone: Iterable[Key] = ()) -> dict[Key, Step]:
        """These are judged so from now on; time moves the rest."""
        at = after(seconds)
        self.judged |= {one.key: one for one in seen} | dict.fromkeys(gone)
        steps = self.book.look([*(one.key for one in seen), *gone, *self.book.due(at)], self.judged, at)
        self.book.keep(steps)
        self.story += [
            (seconds, str(key), step.news)
            for key, step in steps.items()
            if step.news in {News.OPENED, News.RESOLVED} and step.news
        ]
        return steps

    def see(self, seconds: float, seen: Assessment | None) -> dict[Key, Step]:
        """``web`` is judged so, or is gone."""
        return self.look(seconds, *([seen] if seen else []), gone=[] if seen else [WEB])

    def wait(self, since: float, until: float) -> None:
        """A look each second."""
        for second in range(int(since), int(until) + 1):
            self.look(second)
