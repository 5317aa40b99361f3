"""What a channel is given to send: some incidents, each with what is new of it, and the words for people."""

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field

from muster_contracts.health.v1 import Health, Incident, PackageRef
from muster_contracts.message import Part

TITLE_CHARACTERS = 200
NAMED = 20
"""So many affected packages are named in the words for people."""


class Event(StrEnum):
    """What is new of an incident."""

    FIRING = "firing"
    WORSE = "worse"
    REMINDER = "reminder"
    """It still lasts."""
    RESOLVED = "resolved"


class Item(Part):
    """One incident in a notice."""

    event: Event
    incident: Incident
    check: str | None = Field(default=None, description="The check that decided, if one did.")
    site: str = Field(default="", description="Where its agent is.")
    why: str | None = Field(default=None, description="Why it is over: well, gone, stopped, suppressed, …")
    episode: int = Field(default=1, description="Counts up each time the incident is opened once more.")


class Notice(Part):
    """One message through one channel. Sent again, it has the same id: receivers may know it by that."""

    id: UUID
    version: Literal["1"] = "1"
    kind: Literal["incidents", "test"] = "incidents"
    channel: str
    at: AwareDatetime = Field(description="When it was decided to be sent.")
    group: dict[str, str] = Field(default_factory=dict, description="What its incidents have in common.")
    items: list[Item] = Field(default_factory=list)
    more: int = Field(default=0, description="So many further incidents are news, and are not listed.")
    by: str | None = Field(default=None, description="Who asked for a test.")

    def title(self) -> str:
        """One line for people."""
        if self.kind == "test":
            return f"Test of the notifications of Muster, asked for by {self.by}"
        over = [item for item in self.items if item.event is Event.RESOLVED]
        if len(self.items) == 1 and not self.more:
            return _one_line(_headline(self.items[0]))[:TITLE_CHARACTERS]
        parts = [_count(len(self.items) - len(over), "ill"), _count(len(over), "over")]
        names = ", ".join(str(item.incident.cause) for item in self.items)
        more = f" and {self.more} more" if self.more else ""
        return _one_line(f"{', '.join(filter(None, parts))}{more}: {names}")[:TITLE_CHARACTERS]

    def text(self) -> str:
        """All of it for people."""
        if self.kind == "test":
            return f"{self.title()}.\nNothing is wrong. Channel: {self.channel}. Notice: {self.id}.\n"
        blocks = ["\n".join(_lines(item)) for item in self.items]
        if self.more:
            blocks.append(f"… and {self.more} more. muster health shows them all.")
        return "\n\n".join(blocks) + "\n"

    def told(self) -> dict[str, Any]:
        """As programs and templates are given it."""
        return {**self.model_dump(mode="json"), "title": self.title(), "text": self.text()}


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number else ""


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _headline(item: Item) -> str:
    incident = item.incident
    if item.event is Event.RESOLVED:
        return f"Over: {incident.cause}: {_ENDS.get(item.why or '', item.why)}"
    words = {Event.WORSE: " now", Event.REMINDER: " still"}.get(item.event, "")
    flaps = " and flaps" if incident.flapping else ""
    return f"{incident.cause} is{words} {incident.health}{flaps}: {incident.text or incident.reason}"


_ENDS = {
    "well": "it is well again",
    "gone": "there is no such package any more",
    "stopped": "somebody stopped or paused it",
    "suppressed": "another package explains it",
    "maintenance": "somebody works on it",
}


def _lines(item: Item) -> list[str]:
    """Who, what, since when, the cause and what it affects, what was tried; one fact a line."""
    incident = item.incident
    lines = [_one_line(_headline(item)), f"  since: {incident.opened_at:%Y-%m-%d %H:%M:%S} UTC"]
    if incident.resolved_at:
        lines.append(f"  until: {incident.resolved_at:%Y-%m-%d %H:%M:%S} UTC")
    check = f", check {item.check}" if item.check else ""
    lines.append(f"  reason: {incident.reason}{check}")
    if incident.labels or item.site:
        lines.append(f"  where: {_where(item.site, incident.labels)}")
    if incident.affected_count:
        lines.append(f"  affects {incident.affected_count}: {_affected(incident)}")
    lines += [f"  tried: {_one_line(what)}" for what in incident.tried]
    if item.event is not Event.RESOLVED:
        lines.append("  recovery has given up" if incident.gave_up else "  recovery has not given up")
    if incident.acknowledged_by:
        lines.append(
            f"  looked after by {incident.acknowledged_by}: {_one_line(incident.acknowledged_text or '')}"
        )
    return lines


def _where(site: str, labels: Mapping[str, str]) -> str:
    pairs = [f"{name}={value}" for name, value in sorted(labels.items())]
    return ", ".join([f"site {site}"] * bool(site) + pairs)


def _affected(incident: Incident) -> str:
    named = [str(ref) for ref in incident.affected[:NAMED]]
    rest = incident.affected_count - len(named)
    return ", ".join(named) + (f" and {rest} more" if rest else "")


_NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
_DATABASE = Incident(
    id=UUID("00000000-0000-4000-8000-000000000001"),
    cause=PackageRef(agent="db-1", package="database"),
    health=Health.CRITICAL,
    reason="check",
    text="connection refused",
    opened_at=_NOON,
    affected=[PackageRef(agent="web-1", package="web")],
    affected_count=1,
    tried=["restart: done"],
    labels={"site": "north"},
)

SAMPLE = Notice(
    id=UUID("00000000-0000-4000-8000-000000000002"),
    channel="sample",
    at=_NOON,
    group={"package": "database"},
    items=[
        Item(event=Event.FIRING, incident=_DATABASE, check="tcp", site="north"),
        Item(
            event=Event.RESOLVED,
            incident=_DATABASE.model_copy(update={"resolved_at": _NOON}),
            check="tcp",
            site="north",
            why="well",
        ),
    ],
    more=1,
    by="somebody",
)
"""What templates are tried with at the start."""
