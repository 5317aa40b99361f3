"""What has to be judged again at a time although nothing will be said."""

from datetime import datetime
from heapq import heappop, heappush

from health_recovery.domain.keys import Key


class Timers:
    """Keys by the moment they are due; a key that is due earlier than it need be is only judged in vain."""

    def __init__(self) -> None:
        self._heap: list[tuple[datetime, Key]] = []

    def put(self, at: datetime, key: Key) -> None:
        """Be told of this key at that time."""
        heappush(self._heap, (at, key))

    def pop(self, now: datetime) -> dict[Key, datetime]:
        """What is due by now, and since when."""
        due: dict[Key, datetime] = {}
        while self._heap and self._heap[0][0] <= now:
            at, key = heappop(self._heap)
            due[key] = at
        return due

    @property
    def next(self) -> datetime | None:
        """When the next one is due."""
        return self._heap[0][0] if self._heap else None
