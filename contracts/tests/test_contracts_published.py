"""A published version only grows: each way to break it is noticed and named."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from muster_contracts.catalogue import contracts, name_of, with_answers
from muster_contracts.generate import published
from muster_contracts.generate.__main__ import main
from muster_contracts.generate.breaking import Kind, compare
from muster_contracts.generate.schemas import document

ROOT = Path(__file__).parents[2]
MODELS = with_answers(list(contracts()))

LAMP: dict[str, Any] = {
    "x-muster": {
        "subject": "muster.lamp.v1.{lamp_id}.lit",
        "delivery": "durable",
        "answer": "lamp.v1.Seen",
        "said_by": ["agent"],
        "heard_by": ["operator"],
        "max_bytes": 4096,
    },
    "$defs": {
        "Colour": {"enum": ["red", "green"], "type": "string"},
        "Part": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "spare": {"$ref": "#/$defs/Part"}},
            "required": ["name"],
        },
    },
    "type": "object",
    "required": ["lamp_id", "at"],
    "properties": {
        "lamp_id": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 10},
        "at": {"type": "string", "format": "date-time"},
        "watts": {"type": "integer", "minimum": 0},
        "colour": {"anyOf": [{"$ref": "#/$defs/Colour"}, {"type": "null"}]},
        "parts": {"type": "array", "items": {"$ref": "#/$defs/Part"}},
        "labels": {"type": "object", "patternProperties": {"^k": {"type": "string"}}},
        "by_room": {"type": "object", "additionalProperties": {"type": "integer"}},
        "kind": {"const": "bulb", "type": "string"},
    },
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """A copy of the lamp with the node at ``path`` set, or removed where ``value`` is None."""
    lamp = json.loads(json.dumps(LAMP))
    *way, last = path.split("/")
    node = lamp
    for key in way:
        node = node[int(key)] if isinstance(node, list) else node[key]
    if value is None:
        del node[last]
    else:
        node[last] = value
    return dict(lamp)


BREAKING = [
    ("x-muster/subject", "muster.lamp.v1.{lamp_id}.shone", Kind.SUBJECT_CHANGED, "subject"),
    ("x-muster/delivery", "live", Kind.DELIVERY_CHANGED, "delivery"),
    ("x-muster/answer", "lamp.v1.Heard", Kind.ANSWER_CHANGED, "answer"),
    ("x-muster/said_by", [], Kind.ROLE_REMOVED, "said_by"),
    ("x-muster/heard_by", ["agent"], Kind.ROLE_REMOVED, "heard_by"),
    ("x-muster/max_bytes", 1024, Kind.SIZE_LOWERED, "max_bytes"),
    ("properties/watts", None, Kind.FIELD_REMOVED, "watts"),
    ("$defs/Part/properties/name", None, Kind.FIELD_REMOVED, "parts[].name"),
    ("required", ["lamp_id", "at", "watts"], Kind.FIELD_REQUIRED, "watts"),
    ("required", ["at"], Kind.FIELD_OPTIONAL, "lamp_id"),
    ("properties/watts/type", "number", Kind.TYPE_CHANGED, "watts"),
    ("properties/watts", {"anyOf": [{"type": "integer"}, {"type": "null"}]}, Kind.TYPE_CHANGED, "watts"),
    ("properties/at/format", "date", Kind.TYPE_CHANGED, "at"),
    ("properties/by_room/additionalProperties/type", "string", Kind.TYPE_CHANGED, "by_room{}"),
    ("properties/labels/patternProperties", {"^k": {"type": "integer"}}, Kind.TYPE_CHANGED, "labels{}"),
    ("$defs/Colour/enum", ["red"], Kind.VALUE_REMOVED, "colour"),
    ("properties/kind/const", "tube", Kind.VALUE_REMOVED, "kind"),
    ("properties/watts/minimum", 1, Kind.NARROWED, "watts"),
    ("properties/watts/maximum", 100, Kind.NARROWED, "watts"),
    ("properties/lamp_id/maxLength", 5, Kind.NARROWED, "lamp_id"),
    ("properties/lamp_id/pattern", "^[a-f]+$", Kind.NARROWED, "lamp_id"),
    ("properties/lamp_id/enum", ["a", "b"], Kind.NARROWED, "lamp_id"),
    ("properties/labels/patternProperties", {"^l": {"type": "string"}}, Kind.NARROWED, "labels"),
]

HARMLESS = [
    ("properties/mood", {"type": "string"}),
    ("$defs/Part/properties/maker", {"type": "string"}),
    ("$defs/Colour/enum", ["red", "green", "blue"]),
    ("properties/lamp_id/maxLength", 63),
    ("properties/lamp_id/pattern", None),
    ("properties/watts/minimum", None),
    ("properties/watts/description", "Of power."),
    ("x-muster/heard_by", ["agent", "operator"]),
    ("x-muster/max_bytes", 8192),
]


@pytest.mark.parametrize(("path", "value", "kind", "where"), BREAKING, ids=lambda value: str(value)[:40])
def test_a_breaking_change_is_named(path: str, value: Any, kind: Kind, where: str) -> None:
    [breakage] = compare("lamp.v1.Lit", LAMP, changed(path, value))
    assert (breakage.kind, breakage.where) == (kind, where)
    assert str(breakage).startswith(f"lamp.v1.Lit: {kind}: {where}: ")


@pytest.mark.parametrize(("path", "value"), HARMLESS, ids=lambda value: str(value)[:40])
def test_growth_breaks_nothing(path: str, value: Any) -> None:
    assert compare("lamp.v1.Lit", LAMP, changed(path, value)) == []


def test_every_way_to_break_has_a_case() -> None:
    assert {kind for _, _, kind, _ in BREAKING} == set(Kind) - {Kind.CONTRACT_REMOVED}


def test_a_contract_that_vanished_is_named() -> None:
    [breakage] = compare("lamp.v1.Lit", LAMP, None)
    assert breakage.kind is Kind.CONTRACT_REMOVED


def test_todays_contracts_break_nothing_that_is_published() -> None:
    broken = published.breakages(MODELS, ROOT / "contracts")
    assert [str(breakage) for breakage in broken] == [], published.ADVICE


@pytest.fixture
def baseline(tmp_path: Path) -> Path:
    """A repository whose baseline is today's contracts."""
    published.plan(MODELS, tmp_path / "contracts").carry_out()
    return tmp_path


def edit(path: Path, change: dict[str, Any]) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


def test_publishing_keeps_the_baseline_of_a_broken_contract(
    baseline: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = baseline / "contracts" / "published" / "agent.v1.Left.json"
    edit(path, {"properties": {"farewell": {"type": "string"}}})
    before = path.read_text()
    assert main(["--root", str(baseline), "--publish"]) == 1
    assert path.read_text() == before
    complaint = capsys.readouterr().err
    assert "broken: agent.v1.Left: field-removed: farewell: is gone" in complaint
    assert "next version" in complaint


def test_publishing_advances_a_baseline_that_only_grew(baseline: Path) -> None:
    left = next(model for model in MODELS if name_of(model) == "agent.v1.Left")
    path = baseline / "contracts" / "published" / "agent.v1.Left.json"
    older = document(left)
    del older["properties"]["epoch"]
    older["required"].remove("epoch")
    older["properties"]["reason"] = {"type": "string", "enum": ["shutdown"]}
    shutil.rmtree(path.parent)
    path.parent.mkdir()
    path.write_text(json.dumps(older))
    assert main(["--root", str(baseline), "--publish"]) == 1, "a new required field is no growth"
    older["properties"]["epoch"] = document(left)["properties"]["epoch"]
    older["required"].append("epoch")
    path.write_text(json.dumps(older))
    assert main(["--root", str(baseline), "--publish"]) == 0
    assert json.loads(path.read_text()) == document(left)
