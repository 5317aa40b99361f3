"""Pauses: somebody holds recovery for some agents."""

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from uuid import UUID

from health_recovery.domain.assessment import Assessment
from muster_contracts.agent.v1 import AgentKind
from muster_contracts.health.v1 import Pause
from muster_contracts.selector import Facts, Selector, parse

selector_of = lru_cache(256)(parse)
"""Reading one is work, and the same few are asked for each package in each round."""


def lasting(pauses: Mapping[UUID, Pause], at: datetime) -> list[Pause]:
    """Those that hold now, oldest first."""
    held = [one for one in pauses.values() if one.until is None or at < one.until]
    return sorted(held, key=lambda one: (one.since, one.id))


def paused_by(pauses: list[Pause], seen: Assessment) -> str:
    """Who holds this package and why, for people; empty: nobody."""
    if not pauses:
        return ""
    facts = Facts(seen.key.agent, AgentKind.HOST, seen.presence, frozenset(seen.groups), seen.labels)
    return next((_text(one) for one in pauses if _selector(one).matches(facts)), "")


def _selector(pause: Pause) -> Selector:
    return selector_of(pause.selector)


def _text(pause: Pause) -> str:
    until = f" until {pause.until.isoformat(timespec='seconds')}" if pause.until else ""
    return f"{pause.by} paused it{until}" + (f": {pause.text}" if pause.text else "")
