"""The baseline: the schemas that were published, which only ``just publish-contracts`` advances."""

import json
from pathlib import Path

from pydantic import BaseModel

from muster_contracts.catalogue import name_of
from muster_contracts.generate.breaking import Breakage, compare
from muster_contracts.generate.files import Plan, as_json
from muster_contracts.generate.schemas import document

ADVICE = "leave the published version as it was; put the new shape into the next version, with an upgrade()"


def breakages(models: list[type[BaseModel]], contracts_root: Path) -> list[Breakage]:
    """What today's models break of what is published."""
    now = {name_of(model): document(model) for model in models}
    found: list[Breakage] = []
    for path in sorted((contracts_root / "published").glob("*.json")):
        found += compare(path.stem, json.loads(path.read_text(encoding="utf-8")), now.get(path.stem))
    return found


def plan(models: list[type[BaseModel]], contracts_root: Path) -> Plan:
    """Today's schemas as the new baseline. A contract is withdrawn by deleting its baseline by hand."""
    folder = contracts_root / "published"
    return Plan({folder / f"{name_of(model)}.json": as_json(document(model)) for model in models})
