"""Plain counters, readable without any metrics library; exporters read them when they are scraped."""

from collections import Counter


class Counters:
    """Named counts with one label each: ``counters.add("said", "agent.v1.Heartbeat")``.

    Labels are contract names or reasons, never concrete subjects: a fleet must not make a series per agent.
    """

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, name: str, label: str = "", count: int = 1) -> None:
        """Count ``count`` more."""
        self._counts[name, label] += count

    def of(self, name: str, label: str | None = None) -> int:
        """How many so far: under one label, or all of that name."""
        if label is not None:
            return self._counts[name, label]
        return sum(count for (known, _), count in self._counts.items() if known == name)

    def all(self) -> dict[tuple[str, str], int]:
        """Every count, by name and label."""
        return dict(self._counts)
