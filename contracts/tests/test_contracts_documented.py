"""Whoever reads a schema learns what each message and each field means."""

import inspect
import re
from typing import Any

import pytest
from pydantic import BaseModel

from muster_contracts.catalogue import contracts, name_of, with_answers
from muster_contracts.generate.schemas import schema_of

MODELS = with_answers(list(contracts()))
SAYS_ITS_UNIT = re.compile(r"_(bytes|seconds|percent|celsius)$|^celsius$")


def explains(node: dict[str, Any], defs: dict[str, Any]) -> bool:
    """Whether a field's schema describes it, or the type it has, or the parts it is made of."""
    if "description" in node:
        return True
    if "$ref" in node:
        return "description" in defs[node["$ref"].rpartition("/")[2]]
    inner = [node.get("items"), node.get("propertyNames"), *node.get("anyOf", [])]
    inner += node.get("patternProperties", {}).values()
    return any(explains(child, defs) for child in inner if child)


def unexplained(model: type[BaseModel]) -> list[str]:
    schema = schema_of(model)
    defs = schema.get("$defs", {})
    nodes = {model.__name__: schema, **defs}
    return [
        f"{name}.{field}"
        for name, node in nodes.items()
        for field, child in node.get("properties", {}).items()
        if not SAYS_ITS_UNIT.search(field) and not explains(child, defs)
    ]


@pytest.mark.parametrize("model", MODELS, ids=name_of)
def test_every_message_says_in_a_sentence_what_it_promises(model: type[BaseModel]) -> None:
    assert re.match(r"[A-Z].*[.?](\s|$)", inspect.getdoc(model) or "", re.DOTALL)
    assert "__doc__" in vars(model)
    assert vars(model)["__doc__"]


@pytest.mark.parametrize("model", MODELS, ids=name_of)
def test_every_field_is_described_or_has_a_type_that_is_or_says_its_unit(model: type[BaseModel]) -> None:
    assert unexplained(model) == []
