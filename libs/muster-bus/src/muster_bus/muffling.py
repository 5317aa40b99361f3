"""Muffling: what may happen a thousand times a second is counted each time and logged once in a while."""

import time

_KEYS = 1000


class Muffle:
    """Lets one line of each kind through, then none for ``seconds``."""

    def __init__(self, seconds: float = 10.0) -> None:
        self._seconds = seconds
        self._until: dict[str, float] = {}

    def lets(self, kind: str) -> bool:
        """Whether a line of this kind may be logged now."""
        now = time.monotonic()
        if self._until.get(kind, now) > now:
            return False
        if len(self._until) >= _KEYS:
            self._until.clear()
        self._until[kind] = now + self._seconds
        return True
