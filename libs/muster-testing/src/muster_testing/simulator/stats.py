"""What a simulated fleet has done so far, in numbers."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Stats:
    """Counts since the fleet was made; ``errors`` by their text, without ids."""

    connects: int = 0
    reconnects: int = 0
    connections_lost: int = 0
    heartbeats: int = 0
    hellos: int = 0
    welcomes: int = 0
    introductions: int = 0
    intervals_adopted: int = 0
    goodbyes: int = 0
    goodbyes_acked: int = 0
    obeyed: int = 0
    kills: int = 0
    mutes: int = 0
    errors: Counter[str] = field(default_factory=Counter)

    def error(self, text: str) -> None:
        """Count one error of this kind."""
        self.errors[text] += 1

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"errors": dict(self.errors)}
