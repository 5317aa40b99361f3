"""A subject spells where its contract is defined, and a placeholder is an identity."""

import pytest

from muster_contracts.catalogue import contracts
from muster_contracts.ids import AGENT_ID_PATTERN
from muster_contracts.message import Message, Role, kebab

each_contract = pytest.mark.parametrize("contract", contracts(), ids=lambda contract: contract.contract())


@each_contract
def test_a_subject_spells_the_module_and_the_class_of_its_contract(contract: type[Message]) -> None:
    _, area, version = contract.__module__.split(".")
    assert contract.SUBJECT.split(".") == [
        "muster",
        area,
        version,
        contract.SUBJECT.who,
        kebab(contract.__name__),
    ]


@each_contract
def test_who_is_a_field_safe_as_one_token_or_a_service_that_answers(contract: type[Message]) -> None:
    who = contract.SUBJECT.who
    if who.startswith("{"):
        field = contract.model_fields[who.strip("{}")]
        assert [part.pattern for part in field.metadata if hasattr(part, "pattern")] == [AGENT_ID_PATTERN]
    else:
        assert Role(who) in (*contract.SAID_BY, *contract.HEARD_BY)
