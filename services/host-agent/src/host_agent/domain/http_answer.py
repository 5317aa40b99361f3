"""What an HTTP answer says about who gave it."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from host_agent.domain.look import Seen, critical, ok, together, warning
from muster_contracts.package.specification import HttpCheck

REDIRECTS = {301, 302, 303, 307, 308}
DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, as far as it was read."""

    status: int
    headers: Mapping[str, tuple[str, ...]]
    """By names in lower case."""
    body: bytes
    """At most its first 64 KiB; empty where nothing asks for it."""
    seconds: float
    """From the connection's beginning to the last byte that was read."""
    lasting_seconds: float | None = None
    """Until the certificate ends; None without TLS, or where nothing asks for it."""


def judge(check: HttpCheck, answer: Answer, *, matches: bool) -> Seen:
    """The worst that was found, and all of it in words.

    Args:
        check: what was asked for.
        answer: what came.
        matches: whether ``body_matches`` was found in the body, or nothing asks for it.
    """
    found = list(_findings(check, answer, matches=matches))
    return together(found) if found else ok(_summary(answer))


def _findings(check: HttpCheck, answer: Answer, *, matches: bool) -> Iterator[Seen]:
    if answer.status not in check.status:
        yield critical("status", f"status {answer.status}, not {_codes(check.status)}{_redirect(answer)}")
    for name, wanted in check.answer_headers.items():
        given = answer.headers.get(name.lower(), ())
        if wanted not in given:
            how = f"is not {wanted!r}" if given else "is missing"
            yield critical("header", f"header {name} {how}")
    size = f"{len(answer.body)} bytes were read"
    if check.body_contains is not None and check.body_contains.encode() not in answer.body:
        yield critical("body", f"the body does not contain {check.body_contains!r} ({size})")
    if not matches:
        yield critical("body", f"the body does not match {check.body_matches!r} ({size})")
    if check.slow_seconds is not None and answer.seconds > check.slow_seconds:
        yield warning("slow", f"it took {answer.seconds:.3g} s, more than {check.slow_seconds:g} s")
    yield from _expiry(check, answer.lasting_seconds)


def _expiry(check: HttpCheck, lasting_seconds: float | None) -> Iterator[Seen]:
    if lasting_seconds is None:
        return
    days = lasting_seconds / DAY
    text = (
        f"the certificate ends in {days:.1f} days"
        if days > 0
        else f"the certificate ended {-days:.1f} days ago"
    )
    if check.expiry_critical_days is not None and days < check.expiry_critical_days:
        yield critical("tls-expiry", text)
    elif check.expiry_warning_days is not None and days < check.expiry_warning_days:
        yield warning("tls-expiry", text)


def _codes(status: list[int]) -> str:
    return " or ".join(map(str, status[:8])) + (" or …" if len(status) > 8 else "")


def _redirect(answer: Answer) -> str:
    """Where it leads to, without a query, which may hold a token."""
    if answer.status not in REDIRECTS:
        return ""
    with suppress(ValueError):
        parts = urlsplit("".join(answer.headers.get("location", ())[:1]))
        host = f"{parts.scheme}://{parts.hostname}" if parts.hostname else ""
        return f"; redirects are not followed (to {host}{parts.path})"
    return "; redirects are not followed"


def _summary(answer: Answer) -> str:
    text = f"status {answer.status} in {answer.seconds * 1000:.0f} ms"
    if answer.lasting_seconds is None:
        return text
    return f"{text}; the certificate ends in {answer.lasting_seconds / DAY:.1f} days"
