"""What health-recovery and the checks say, as lines of news: pure, from facts to words."""

from collections.abc import Iterator
from typing import Any

from muster_client.humanise import duration
from muster_client.outputs import HealthLine
from muster_contracts.command.v1 import CommandState
from muster_contracts.health.v1 import (
    ChecksRan,
    Health,
    HealthFlapping,
    HealthStable,
    HostHealthChanged,
    IncidentOpened,
    IncidentResolved,
    PackageHealth,
    PackageHealthChanged,
    RecoveryAct,
    RecoveryDecided,
    RecoveryEnded,
    Step,
)
from muster_contracts.message import Message, kebab


def lines_of(fact: Message) -> Iterator[HealthLine]:
    """A fact as one line; samples as a line for each look."""
    if isinstance(fact, ChecksRan):
        yield from _looks(fact)
        return
    told: dict[str, Any] = {"at": fact.occurred_at, "event": kebab(type(fact).__name__)}
    told["agent_id"] = getattr(fact, "agent_id", None)
    match fact:
        case PackageHealthChanged():
            told |= {"package": fact.package, "was": fact.was, "now": fact.now and fact.now.health}
            told["text"] = judgement(fact)
        case HostHealthChanged():
            told |= {"was": fact.was, "now": fact.now}
            told["text"] = f"was {fact.was or 'new'}, {fact.culprit or 'all of it'} ({fact.reason})"
        case HealthFlapping():
            told["package"] = fact.package
            told["text"] = (
                f"flaps: {fact.changes} changes in {duration(fact.window_seconds)}, not told one by one now"
            )
        case HealthStable():
            told |= {"package": fact.package, "now": fact.health, "text": "is stable again"}
        case IncidentOpened() | IncidentResolved():
            told |= _of_incident(fact)
        case RecoveryDecided() | RecoveryEnded():
            told |= {"package": fact.act.package, "text": act(fact)}
        case _:
            told["text"] = str(fact)
    yield HealthLine(**told)


def _looks(fact: ChecksRan) -> Iterator[HealthLine]:
    for look in fact.results:
        text = f"check {look.check} saw {look.seen}, holds {look.held} ({look.reason})"
        yield HealthLine(
            at=look.at, event="check-ran", agent_id=fact.agent_id, package=look.package, now=look.held,
            text=f"{text}: {look.text}" if look.text else text,
        )  # fmt: skip


def judgement(fact: PackageHealthChanged) -> str:
    """``was ok, check http: timeout``."""
    if fact.now is None:
        return f"was {fact.was}, is gone"
    if fact.was == fact.now.health:
        return f"still, {because(fact.now)}"
    return ", ".join(filter(None, [f"was {fact.was}" if fact.was else "is new", because(fact.now)]))


def because(one: PackageHealth) -> str:
    """What makes a package be as it is: another one, a check, or its reason; that it runs says nothing."""
    if one.cause:
        return f"because of {one.cause}"
    if one.health is Health.OK and one.reason in {"", "running"}:
        return ""
    # health-recovery's text of a check begins with its name, for who sees it without.
    text = one.text.removeprefix(f"{one.check}: ")
    return ": ".join(filter(None, [f"check {one.check}" if one.check else one.reason, text]))


def _of_incident(fact: IncidentOpened | IncidentResolved) -> dict[str, Any]:
    one = fact.incident
    told: dict[str, Any] = {
        "agent_id": one.cause.agent, "package": one.cause.package, "incident": one.id, "now": one.health,
    }  # fmt: skip
    if isinstance(fact, IncidentResolved):
        lasted = duration(int((fact.occurred_at - one.opened_at).total_seconds()))
        return {**told, "now": None, "text": f"incident over ({fact.why}) after {lasted}"}
    others = "1 other" if one.affected_count == 1 else f"{one.affected_count} others"
    ill = f"; it makes {others} ill" if one.affected_count else ""
    return {**told, "text": f"incident: {': '.join(filter(None, [one.reason, one.text]))}{ill}"}


def act(fact: RecoveryDecided | RecoveryEnded) -> str:
    """What recovery does, would do, or did, and why or how it ended."""
    one: RecoveryAct = fact.act
    if isinstance(fact, RecoveryEnded):
        failed = one.text and one.state is not CommandState.SUCCEEDED
        return f"recovery: {one.step} {one.state or 'ended'}" + (f": {one.text}" if failed else "")
    if one.step is Step.GIVE_UP:
        return "recovery gives up" + (f": {one.why}" if one.why else "")
    would = "would do" if one.dry_run else "does"
    return f"recovery {would}: {one.step}, act {one.attempt}" + (f": {one.why}" if one.why else "")
