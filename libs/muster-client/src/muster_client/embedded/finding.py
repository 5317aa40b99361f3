"""What one check of the doctor found."""

from dataclasses import dataclass

from muster_client.outputs import Health


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict, what was seen, and what to do about it."""

    verdict: Health
    text: str
    advice: str = ""


def ok(text: str) -> Finding:
    """All is well."""
    return Finding(Health.OK, text)


def warn(text: str, advice: str) -> Finding:
    """It works; somebody should look at it."""
    return Finding(Health.WARN, text, advice)


def fail(text: str, advice: str) -> Finding:
    """It does not work."""
    return Finding(Health.FAIL, text, advice)
