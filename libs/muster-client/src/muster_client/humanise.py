"""Numbers and times as people read them: pure functions from values to short text."""

import base64
import json
import shlex
import signal
from collections.abc import Mapping, Sequence
from datetime import datetime

NOTHING = "-"
"""What a table shows where there is no value."""

_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def duration(seconds: float | None) -> str:
    """A length of time in its two largest units: ``2 min 5 s``, ``3 d 4 h``, ``12.5 s``."""
    if seconds is None:
        return NOTHING
    if seconds < 60:
        return f"{max(seconds, 0):.1f} s".replace(".0 s", " s")
    rest, parts = int(seconds), []
    for unit, size in _UNITS:
        count, rest = divmod(rest, size)
        parts.append((count, unit))
    first = next(place for place, (count, _) in enumerate(parts) if count)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count)


def age(at: datetime | None, now: datetime) -> str:
    """How long ago ``at`` was, in its largest unit: ``5 min``, ``3 d``; ``now`` for less than a second."""
    if at is None:
        return NOTHING
    seconds = (now - at).total_seconds()
    # Clocks of two machines differ a little: a moment ahead of us is now, not an error.
    if seconds < 1:
        return "now"
    return " ".join(duration(int(seconds)).split(" ")[:2])


def ago(at: datetime | None, now: datetime) -> str:
    """``5 min ago``; ``now``; ``never`` where there is no time."""
    if at is None:
        return "never"
    text = age(at, now)
    return text if text == "now" else f"{text} ago"


def size(count: float | None) -> str:
    """Bytes in binary units with three digits: ``3.91 GiB``, ``512 B``."""
    if count is None:
        return NOTHING
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1000 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.0f} B" if unit == "B" else f"{value:.3g} {unit}"


def percent(value: float | None) -> str:
    """``43 %``; one digit more below ten."""
    if value is None:
        return NOTHING
    return f"{value:.1f} %" if value < 9.95 else f"{value:.0f} %"


def labels(pairs: Mapping[str, str]) -> str:
    """``env=prod site=ber``, by key."""
    return " ".join(f"{key}={value}" for key, value in sorted(pairs.items())) or NOTHING


def clock(at: datetime) -> str:
    """A moment on the reader's own clock: ``2026-01-31 14:05:09``."""
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def bar(share: float, width: int = 20, *, plain: bool = False) -> str:
    """``share`` (0 to 100) as a bar of ``width`` characters; ``plain`` for terminals without UTF-8."""
    full, empty = ("#", ".") if plain else ("█", "░")
    filled = round(min(max(share, 0), 100) / 100 * width)
    return full * filled + empty * (width - filled)


def near(word: str, words: list[str]) -> str:
    """A question that offers the likeliest of ``words``, or nothing: ``did you mean web-1?``."""
    import difflib  # noqa: PLC0415  (needed only when something was mistyped)

    found = difflib.get_close_matches(word, words, n=3, cutoff=0.6)
    offered = " or ".join(filter(None, [", ".join(found[:-1]), *found[-1:]]))
    return f"did you mean {offered}?" if found else ""


def who(subject: str) -> str:
    """The identity in a subject: its fourth token."""
    tokens = subject.split(".")
    return tokens[3] if len(tokens) > 3 else subject


_ENVELOPE = {"agent_id", "service", "message_id", "occurred_at"}
"""Shown by the line itself, or of no interest to people."""


def fields(message: Mapping[str, object]) -> str:
    """A message's own fields on one line: ``sequence=4 interval_seconds=5``."""
    return " ".join(f"{key}={_plain(value)}" for key, value in message.items() if key not in _ENVELOPE)


def _plain(value: object) -> str:
    if isinstance(value, str) and value and " " not in value:
        return clean(value)
    return clean(json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str))


def clean(text: str) -> str:
    """``text`` without power over the reader's terminal: what is not printable is spelled out.

    Names, descriptions and payloads come from other machines, and may hold escape codes.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def visible(line: str) -> str:
    """A line as it was printed, without power over the reader's terminal; tabs stay."""
    return "\t".join(clean(part) for part in line.split("\t"))


def payload(encoded: str, width: int = 400) -> str:
    """The first bytes of a base64 payload as text; what is no printable text is spelled out."""
    return clean(base64.b64decode(encoded)[:width].decode(errors="backslashreplace"))


def command(words: Sequence[str]) -> str:
    """A command and its arguments as they would be typed into a shell."""
    return shlex.join(words)


def exit_code(code: int | None) -> str | None:
    """``exit code 3``, or ``signal 9 (SIGKILL)`` for minus a signal's number."""
    if code is None or code >= 0:
        return None if code is None else f"exit code {code}"
    try:
        return f"signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"signal {-code}"
