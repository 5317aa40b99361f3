"""An old version says how it becomes the next one, and loses no meaning on the way."""

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import BaseModel

from muster_contracts.catalogue import contracts, walk, with_answers
from muster_contracts.generate.examples import examples_of
from muster_contracts.upgrades import Upgradable, lost_meaning, missing, newest

MODELS = with_answers(list(contracts()))
UPGRADABLE = [model for model in MODELS if hasattr(model, "upgrade")]


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parent / "toys")
    return importlib.import_module("toy_contracts")


def old_lamp(toys: ModuleType) -> tuple[type[BaseModel], dict[str, Any]]:
    lit = next(kind for kind in walk(toys) if kind.contract() == "lamp.v1.Lit")
    return lit, examples_of(lit)["minimal"]


def test_every_contract_with_a_successor_says_how_to_get_there() -> None:
    assert missing(MODELS) == []


def test_every_upgrade_of_a_living_version_keeps_what_both_versions_share() -> None:
    for model in UPGRADABLE:
        for example in examples_of(model).values():
            assert lost_meaning(model.model_validate(example)) == []


def test_a_toy_of_the_first_version_becomes_one_of_the_newest(toys: ModuleType) -> None:
    lit, example = old_lamp(toys)
    lamp = lit.model_validate_json(json.dumps(example))
    assert lost_meaning(lamp) == []
    new = newest(lamp).model_dump(mode="json")
    assert new == {**example, "colour": "white"}
    assert newest(newest(lamp)) == newest(lamp)


def test_an_upgrade_that_changes_a_shared_field_is_named(
    toys: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    lit, example = old_lamp(toys)
    good = lit.model_validate_json(json.dumps(example))
    assert isinstance(good, Upgradable)
    dimmed = good.upgrade().model_copy(update={"brightness": 3})
    monkeypatch.setattr(lit, "upgrade", lambda _: dimmed)
    [sentence] = lost_meaning(good)
    assert "lamp.v1.Lit: brightness was" in sentence


def test_an_upgrade_to_something_else_is_named(toys: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    lit, example = old_lamp(toys)
    lamp = lit.model_validate_json(json.dumps(example))
    monkeypatch.setattr(lit, "upgrade", lambda lamp: lamp)
    assert lost_meaning(lamp) == ["cannot upgrade lamp.v1.Lit to lamp.v1.Lit: its successor is lamp.v2.Lit"]


def test_a_successor_without_a_way_to_it_is_named(toys: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: list[type[BaseModel]] = list(walk(toys))
    assert missing(kinds) == []
    monkeypatch.delattr(kinds[0], "upgrade")
    assert missing(kinds) == ["cannot upgrade lamp.v1.Lit: give it an upgrade() that returns lamp.v2.Lit"]
