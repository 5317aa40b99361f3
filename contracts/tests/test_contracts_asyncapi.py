"""The AsyncAPI document is valid AsyncAPI 3.0.0 and tells all the catalogue knows."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from muster_contracts.catalogue import contracts, name_of, with_answers
from muster_contracts.generate.asyncapi import document
from muster_contracts.message import Ask, Delivery

DOCUMENT = document(list(contracts()))


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for child in node.values():
            yield from references(child)
    elif isinstance(node, list):
        for child in node:
            yield from references(child)


def resolve(reference: str) -> Any:
    node: Any = DOCUMENT
    for key in reference.removeprefix("#/").split("/"):
        node = node[key]
    return node


def test_the_document_is_valid_by_the_schema_of_asyncapi_3() -> None:
    schema = json.loads((Path(__file__).parent / "asyncapi" / "3.0.0.json").read_text())
    errors = [
        f"{list(error.path)}: {error.message}" for error in Draft7Validator(schema).iter_errors(DOCUMENT)
    ]
    assert errors == []


def test_the_schema_of_asyncapi_notices_a_mistake() -> None:
    schema = json.loads((Path(__file__).parent / "asyncapi" / "3.0.0.json").read_text())
    wrong = json.loads(json.dumps(DOCUMENT))
    next(iter(wrong["operations"].values()))["action"] = "shout"
    assert not Draft7Validator(schema).is_valid(wrong)


def test_replicas_share_live_messages_by_contract_and_durable_ones_without_a_queue() -> None:
    queues = {
        name: operation.get("bindings", {}).get("nats", {}).get("queue")
        for name, operation in DOCUMENT["operations"].items()
    }
    assert queues["fleet-registry.hears.agent.v1.Heartbeat"] == "fleet-registry:agent.v1.Heartbeat"
    assert queues["fleet-registry.hears.agent.v1.Hello"] == "fleet-registry:agent.v1.Hello"
    assert queues["fleet-registry.hears.agent.v1.Left"] is None


def test_every_reference_leads_somewhere() -> None:
    for reference in set(references(DOCUMENT)):
        assert resolve(reference) is not None, reference


@pytest.mark.parametrize("contract", contracts(), ids=lambda contract: contract.contract())
def test_a_contract_has_a_channel_with_its_subject_its_parameters_and_its_promise(contract: Any) -> None:
    channel = DOCUMENT["channels"][contract.contract()]
    assert channel["address"] == contract.SUBJECT
    assert set(channel["parameters"]) == set(re.findall(r"{(\w+)}", contract.SUBJECT))
    assert channel["x-delivery"] == contract.DELIVERY.value
    assert channel["description"].startswith(contract.__doc__.splitlines()[0])


@pytest.mark.parametrize("contract", contracts(), ids=lambda contract: contract.contract())
def test_every_role_of_a_contract_has_an_operation_and_an_ask_has_its_replies(contract: Any) -> None:
    name = contract.contract()
    said = [DOCUMENT["operations"][f"{role.value}.says.{name}"] for role in contract.SAID_BY]
    heard = [DOCUMENT["operations"][f"{role.value}.hears.{name}"] for role in contract.HEARD_BY]
    assert {one["action"] for one in said} == {"send"}
    assert {one["action"] for one in heard} == {"receive"}
    for one in (*said, *heard):
        assert ("reply" in one) == issubclass(contract, Ask)
        if "reply" in one:
            answers = [resolve(message["$ref"])["$ref"] for message in one["reply"]["messages"]]
            assert [answer.rpartition("/")[2] for answer in answers] == [
                name_of(contract.ANSWER),
                "message.Problem",
            ]


def test_durable_messages_carry_their_id_and_live_ones_no_headers() -> None:
    for contract in contracts():
        headers = DOCUMENT["components"]["messages"][contract.contract()].get("headers", {"properties": {}})
        assert ("Nats-Msg-Id" in headers["properties"]) == (contract.DELIVERY is Delivery.DURABLE)
        assert (headers["properties"] == {}) == (contract.DELIVERY is Delivery.LIVE)


def test_every_message_has_its_own_schema() -> None:
    for model in with_answers(list(contracts())):
        assert DOCUMENT["components"]["schemas"][name_of(model)]["title"] == model.__name__
