"""When a check looks: on a beat that is its own for good, so that many do not look at once.

The beats of a check are ``every_seconds`` apart and begin at a point of the loop's clock that a hash of
agent, package and check picks: evenly spread, the same after a change of other checks, without drift.
"""

import hashlib
from dataclasses import dataclass
from math import floor

FIRST_WITHIN_SECONDS = 5.0
"""The first look comes this soon, even of a check that looks once an hour."""


def share(*words: str) -> float:
    """A number from 0 up to 1 that stays the same for the same words and is spread evenly over others."""
    digest = hashlib.blake2b("\0".join(words).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / (1 << 64)


@dataclass(frozen=True, slots=True)
class Beat:
    """Moments ``every`` seconds apart, by a clock that never goes back."""

    every: float
    share: float
    """Where within ``every`` they are, from 0 up to 1."""

    def first(self, now: float) -> float:
        """When the first look is due, decided at ``now``: soon, and not all at once."""
        return now + self.share * min(self.every, FIRST_WITHIN_SECONDS)

    def second(self, first: float) -> float:
        """The beat after the first look, which was none; half a period away at least."""
        return self.after(first + self.every / 2)

    def after(self, moment: float) -> float:
        """The first beat that is later than ``moment``."""
        offset = self.share * self.every
        number = floor((moment - offset) / self.every) + 1
        due = offset + number * self.every
        return due if due > moment else due + self.every
