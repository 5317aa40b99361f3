"""What one look at a package saw: a health, a reason for programs, a text for people."""

from collections.abc import Iterable
from dataclasses import dataclass

from muster_contracts.health.v1 import LONGEST_TEXT, Health

SEVERITY = (Health.OK, Health.UNKNOWN, Health.WARNING, Health.CRITICAL)
"""From good to bad. A look that could not be finished is told, unless something is surely wrong."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look saw; made by ``ok``, ``warning``, ``critical`` and ``unknown``."""

    health: Health
    reason: str
    """Stable, for programs: ok, status, body, header, slow, timeout, refused, tls-expiry, memory, exit, …"""
    text: str
    """One line of at most 500 characters, without secrets."""


class Settled(Exception):
    """A look need not go on: what it has found says enough."""

    def __init__(self, seen: Seen) -> None:
        super().__init__(seen.text)
        self.seen = seen


def ok(text: str) -> Seen:
    """All is well."""
    return Seen(Health.OK, "ok", line(text))


def warning(reason: str, text: str) -> Seen:
    """It works, and somebody should look."""
    return Seen(Health.WARNING, reason, line(text))


def critical(reason: str, text: str) -> Seen:
    """It does not do what it is for."""
    return Seen(Health.CRITICAL, reason, line(text))


def unknown(reason: str, text: str) -> Seen:
    """The look itself could not be done; ``text`` begins with "cannot" and says what to do."""
    return Seen(Health.UNKNOWN, reason, line(text))


def worst(findings: Iterable[Seen]) -> Seen:
    """The first of the worst ones."""
    return max(findings, key=lambda seen: SEVERITY.index(seen.health))


def together(findings: Iterable[Seen]) -> Seen:
    """Several as one: the worst one's health and reason, and all in words, it first."""
    found = list(findings)
    first = worst(found)
    texts = [first.text, *(seen.text for seen in found if seen is not first)]
    return Seen(first.health, first.reason, line("; ".join(texts)))


def line(text: str) -> str:
    """One line that may be shown anywhere: no control characters, no line ends, and not too long."""
    shown = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * LONGEST_TEXT]).split())
    return shown if len(shown) <= LONGEST_TEXT else f"{shown[: LONGEST_TEXT - 1]}…"
