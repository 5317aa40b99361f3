"""Properties that every contract has: values that cannot change, names that mean one thing."""

import subprocess
import sys
import typing
from collections import Counter

import pytest
from pydantic import BaseModel, ValidationError

from muster_contracts.catalogue import contracts, durable, name_of, with_answers
from muster_contracts.generate.examples import examples_of
from muster_contracts.message import Ask, Delivery, DurableFact, LiveFact, Message, Order

MODELS = with_answers(list(contracts()))


def parts(kind: object, seen: dict[type[BaseModel], None]) -> dict[type[BaseModel], None]:
    """The models a type is made of, itself included."""
    if isinstance(kind, type) and issubclass(kind, BaseModel) and kind not in seen:
        seen[kind] = None
        for field in kind.model_fields.values():
            parts(field.annotation, seen)
    for inner in typing.get_args(kind):
        parts(inner, seen)
    return seen


@pytest.mark.parametrize("model", MODELS, ids=name_of)
def test_a_message_is_frozen_and_ignores_unknown_fields_at_every_depth(model: type[BaseModel]) -> None:
    for part in parts(model, {}):
        assert part.model_config.get("frozen"), f"{part.__name__} can be changed"
        assert part.model_config.get("extra") == "ignore", f"{part.__name__} refuses unknown fields"


@pytest.mark.parametrize("model", MODELS, ids=name_of)
def test_a_field_cannot_be_set(model: type[BaseModel]) -> None:
    message = model.model_validate(examples_of(model)["minimal"])
    with pytest.raises(ValidationError, match="frozen"):
        setattr(message, next(iter(model.model_fields)), None)


def test_no_two_contracts_share_a_name_or_a_subject() -> None:
    names = Counter(name_of(model) for model in MODELS)
    subjects = Counter(contract.SUBJECT.pattern for contract in contracts())
    assert [name for name, count in (names + subjects).items() if count > 1] == []


@pytest.mark.parametrize("contract", contracts(), ids=lambda contract: contract.contract())
def test_a_contract_says_how_it_travels_who_says_it_and_who_hears_it(contract: type[Message]) -> None:
    by_base = {
        LiveFact: Delivery.LIVE,
        Order: Delivery.LIVE,
        DurableFact: Delivery.DURABLE,
        Ask: Delivery.ASK,
    }
    assert [by_base[base] for base in by_base if issubclass(contract, base)] == [contract.DELIVERY]
    assert contract.SAID_BY
    assert contract.HEARD_BY
    assert contract.MAX_BYTES <= 1024 * 1024, "larger things travel as chunks"


def test_every_durable_fact_and_every_ask_carries_its_message_id() -> None:
    identified = [*durable(), *(contract for contract in contracts() if issubclass(contract, Ask))]
    assert [contract for contract in identified if "message_id" not in contract.model_fields] == []


def test_no_field_of_a_contract_hides_one_of_its_parents() -> None:
    """Pydantic warns of a hidden name when the class is made, so a fresh process makes them all."""
    walk = "from muster_contracts.catalogue import contracts; contracts()"
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", walk], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize("model", MODELS, ids=name_of)
def test_a_number_is_never_infinite_nor_none_at_all(model: type[BaseModel]) -> None:
    """An interval of ``Infinity`` would make an agent immortal."""
    for part in parts(model, {}):
        assert part.model_config.get("allow_inf_nan") is False, f"{part.__name__} takes Infinity and NaN"
