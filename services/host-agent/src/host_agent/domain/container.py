"""A container, as its engine tells of it; and the pages of its log."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Self

from host_agent.domain.look import Seen, critical, line, ok, unknown
from host_agent.domain.package import Exit

PACKAGE_LABEL = "muster.package"
RUN_LABEL = "muster.run"
DIGEST_LABEL = "muster.digest"

SIGNALS = range(129, 160)
"""Engines say that a signal ended a container by 128 and its number."""

MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Container:
    """What matters of one container at one moment."""

    id: str
    run: str
    digest: str
    running: bool
    """Also while it is paused."""
    paused: bool
    pid: int
    """Of its main process in the eyes of its engine's machine; 0 if there is none."""
    started_at: float
    exit_code: int
    checked: str = ""
    """What its HEALTHCHECK found: healthy, unhealthy, starting; none or empty where it has none."""
    checked_output: str = ""
    """What that printed the last time."""

    @classmethod
    def parse(cls, inspected: Mapping[str, Any]) -> Self:
        """From the engine's answer."""
        state, labels = inspected["State"], inspected["Config"].get("Labels") or {}
        return cls(
            id=inspected["Id"],
            run=labels.get(RUN_LABEL, ""),
            digest=labels.get(DIGEST_LABEL, ""),
            running=state["Running"],
            paused=state["Paused"],
            pid=state["Pid"],
            started_at=stamp(state["StartedAt"]) / MICROSECONDS,
            exit_code=state["ExitCode"],
            checked=(state.get("Health") or {}).get("Status", ""),
            checked_output=_last_output(state.get("Health") or {}),
        )

    @property
    def health(self) -> Seen:
        """How its engine would call it."""
        if not self.running:
            return critical("gone", f"the container has ended with exit code {self.exit_code}")
        if self.paused:
            return critical("paused", "the container is paused")
        match self.checked:
            case "healthy":
                return ok(f"healthy: {self.checked_output}" if self.checked_output else "healthy")
            case "unhealthy":
                return critical("unhealthy", f"unhealthy: {self.checked_output or 'no output'}")
            case "starting":
                return unknown("starting", "cannot tell yet: the container's own check has not passed so far")
        text = "cannot tell: the image has no HEALTHCHECK; give it one, or a check of another kind"
        return unknown("no-native-health", text)

    @property
    def exit(self) -> Exit:
        """How it ended. A program that exits with 128 and a signal's number by itself looks the same."""
        return Exit(128 - self.exit_code if self.exit_code in SIGNALS else self.exit_code)


def _last_output(health: Mapping[str, Any]) -> str:
    """The engine keeps the last five outputs, the newest last."""
    log = health.get("Log") or []
    return line(str(log[-1].get("Output", ""))) if log else ""


def stamp(text: str) -> int:
    """Microseconds since 1970 of an engine's time, ``2026-11-25T19:13:45.735962595Z``."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    seconds = int(datetime.fromisoformat(f"{whole}+00:00").timestamp())
    return seconds * MICROSECONDS + int(fraction[:6].ljust(6, "0"))


def entries(frames: Iterable[bytes]) -> Iterator[tuple[int, str]]:
    """Stamps and lines from a log's frames; a long line comes in several, all but the last without an end."""
    begun, beginning = 0, b""
    for frame in frames:
        time, _, text = frame.partition(b" ")
        begun, beginning = begun or stamp(time.decode()), beginning + text
        if beginning.endswith(b"\n"):
            yield begun, beginning[:-1].decode(errors="replace")
            begun, beginning = 0, b""
    if beginning:
        yield begun, beginning.decode(errors="replace")


def first_page(log: Iterable[tuple[int, str]], lines: int, offset: int) -> tuple[list[tuple[int, str]], bool]:
    """The first lines after an offset, and whether there are more.

    Lines of one microsecond have one offset, so they are never parted: the page ends before them if it can,
    and else is longer than it should be.
    """
    later = (entry for entry in log if entry[0] > offset)
    page = list(islice(later, lines))
    rest = next(later, None)
    if rest and page and page[-1][0] == rest[0]:
        if page[0][0] != rest[0]:
            return [entry for entry in page if entry[0] != rest[0]], True
        while rest and rest[0] == page[0][0]:
            page.append(rest)
            rest = next(later, None)
    return page, rest is not None
