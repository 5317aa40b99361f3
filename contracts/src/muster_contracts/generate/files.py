"""Generated files: written when asked to, compared when checked."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Texts = Mapping[Path, str]
"""What should be on disk: text by path."""


@dataclass(frozen=True)
class Plan:
    """What a generator wants: these texts, and no other file in the folders it owns alone."""

    texts: Texts
    orphans: list[Path] = field(default_factory=list)

    def stale(self) -> list[Path]:
        """The files that are not as they should be, by name."""
        return sorted([path for path, text in self.texts.items() if read(path) != text] + self.orphans)

    def carry_out(self) -> list[Path]:
        """Write and remove what is stale; returns what it touched."""
        touched = self.stale()
        for path in touched:
            if path in self.texts:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(self.texts[path], encoding="utf-8")
            else:
                path.unlink()
        return touched


def read(path: Path) -> str | None:
    """The text of a file, or None where there is none."""
    return path.read_text(encoding="utf-8") if path.is_file() else None


def as_json(value: Any) -> str:
    """The one way generated JSON is written, so that a diff is always a change of meaning."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def without(folder: Path, wanted: Texts) -> list[Path]:
    """The JSON files of a folder that nobody wants any more."""
    return [path for path in folder.glob("*.json") if path not in wanted]


def joined(*plans: Plan) -> Plan:
    """Several plans as one."""
    texts = {path: text for plan in plans for path, text in plan.texts.items()}
    return Plan(texts, [path for plan in plans for path in plan.orphans])
