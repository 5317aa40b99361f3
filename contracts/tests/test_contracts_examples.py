"""Every example that a living version ever had is read by today's readers, with its meaning kept."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from muster_contracts.catalogue import contracts, name_of, with_answers
from muster_contracts.generate import examples
from muster_contracts.generate.schemas import document
from muster_contracts.message import Message

FOLDER = Path(__file__).parents[1] / "examples"
MODELS = {name_of(model): model for model in with_answers(list(contracts()))}
each_example = pytest.mark.parametrize(
    "path", sorted(FOLDER.glob("*/*.json")), ids=lambda path: f"{path.parent.name}/{path.stem}"
)


def read(path: Path) -> tuple[type[BaseModel], str]:
    return MODELS[path.parent.name], path.read_text(encoding="utf-8")


def contains(whole: Any, part: Any) -> bool:
    """Whether all of ``part`` is in ``whole``; defaults may have been added at any depth."""
    if isinstance(part, dict):
        return all(key in whole and contains(whole[key], value) for key, value in part.items())
    if isinstance(part, list):
        pairs = zip(whole, part, strict=True)
        return all(contains(one, other) for one, other in pairs)
    return bool(whole == part)


@each_example
def test_an_example_is_read_and_said_again_with_the_same_meaning(path: Path) -> None:
    model, text = read(path)
    parsed = model.model_validate_json(text)
    said = parsed.model_dump_json()
    assert contains(json.loads(said), json.loads(text))
    assert model.model_validate_json(said) == parsed


@each_example
def test_an_example_is_valid_by_the_published_schema(path: Path) -> None:
    model, text = read(path)
    Draft202012Validator(document(model)).validate(json.loads(text))


@each_example
def test_a_reader_skips_what_a_newer_writer_adds(path: Path) -> None:
    model, text = read(path)
    newer = json.loads(text) | {"added_tomorrow": {"by": ["a", "newer", "writer"]}}
    assert model.model_validate_json(json.dumps(newer)) == model.model_validate_json(text)


@pytest.mark.parametrize("contract", contracts(), ids=lambda contract: contract.contract())
def test_a_full_example_fits_the_size_its_contract_allows(contract: type[Message]) -> None:
    largest = list(examples.examples_of(contract).values())[-1]
    assert len(json.dumps(largest).encode()) <= contract.MAX_BYTES
