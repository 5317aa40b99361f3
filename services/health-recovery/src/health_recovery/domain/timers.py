"""What has to be judged again at a time although nothing will be said."""

from datetime import datetime
from heapq import heapify, heappop, heappush

from health_recovery.domain.keys import Key

FEW = 64


class Timers:
    """Keys by the moment they are due: each once, whatever was put before, so that none fills the memory."""

    def __init__(self) -> None:
        self._due: dict[Key, datetime] = {}
        self._heap: list[tuple[datetime, Key]] = []
        """Also what is not due any more, until it is as much as what is."""

    def __len__(self) -> int:
        return len(self._heap)

    def put(self, at: datetime, key: Key) -> None:
        """Be told of this key at that time, and at no other."""
        if self._due.get(key) == at:
            return
        self._due[key] = at
        heappush(self._heap, (at, key))
        if len(self._heap) > FEW + 2 * len(self._due):
            self._heap = [(moment, one) for one, moment in self._due.items()]
            heapify(self._heap)

    def put_back(self, at: datetime, key: Key) -> None:
        """The same, unless something else was put meanwhile."""
        if key not in self._due:
            self.put(at, key)

    def pop(self, now: datetime) -> dict[Key, datetime]:
        """What is due by now, and since when."""
        due: dict[Key, datetime] = {}
        while self._heap and self._heap[0][0] <= now:
            at, key = heappop(self._heap)
            if self._due.get(key) == at:
                due[key] = self._due.pop(key)
        return due
