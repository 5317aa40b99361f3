"""Whatever arrives, a reader either takes it or says that it is invalid; it never breaks."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from muster_contracts.catalogue import contracts, name_of, with_answers
from muster_contracts.generate.examples import examples_of
from muster_contracts.message import Message

MODELS = with_answers(list(contracts()))
each_model = pytest.mark.parametrize("model", MODELS, ids=name_of)

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.just(10**400),
    st.just("9999-12-31T23:59:60Z"),
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
)


def take(model: type[BaseModel], payload: bytes) -> None:
    """Read a payload as a hearer does, and say what was read again."""
    with contextlib.suppress(ValidationError):
        message = model.model_validate_json(payload)
        model.model_validate_json(message.model_dump_json())
        if isinstance(message, Message):
            assert len(message.subject.split(".")) == len(type(message).SUBJECT.split("."))


@each_model
@settings(max_examples=15)
@given(payload=st.binary())
def test_bytes_that_are_no_json_are_refused(model: type[BaseModel], payload: bytes) -> None:
    take(model, payload)


@each_model
@settings(max_examples=15)
@given(value=values)
def test_json_of_any_shape_is_taken_or_refused(model: type[BaseModel], value: Any) -> None:
    take(model, json.dumps(value).encode("utf-8", "surrogatepass"))


@each_model
@settings(max_examples=40)
@given(data=st.data())
def test_a_message_with_any_field_replaced_is_taken_or_refused(
    model: type[BaseModel], data: st.DataObject
) -> None:
    full = list(examples_of(model).values())[-1]
    name = data.draw(st.sampled_from(sorted(full)))
    take(model, json.dumps(full | {name: data.draw(values)}).encode())
