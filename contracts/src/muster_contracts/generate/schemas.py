"""The JSON Schema (2020-12) of each contract and answer, with its address beside it."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from muster_contracts.catalogue import name_of
from muster_contracts.generate.files import Plan, as_json, without
from muster_contracts.message import Ask, Message

DIALECT = GenerateJsonSchema.schema_dialect


class Plain(GenerateJsonSchema):
    """Pydantic's schemas without a title per field, which only repeats the field's name."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002  (Pydantic's signature)
        """Never."""
        return False


def schema_of(model: type[BaseModel], ref: str = "#/$defs/{model}") -> dict[str, Any]:
    """What a reader of ``model`` takes; keys come in a stable order, fields as they are defined."""
    return model.model_json_schema(schema_generator=Plain, ref_template=ref)


def address_of(contract: type[Message]) -> dict[str, Any]:
    """Where and how a contract travels; a change here is as much a change as one of a field."""
    address: dict[str, Any] = {
        "subject": str(contract.SUBJECT),
        "delivery": contract.DELIVERY.value,
        "said_by": [role.value for role in contract.SAID_BY],
        "heard_by": [role.value for role in contract.HEARD_BY],
        "max_bytes": contract.MAX_BYTES,
    }
    if issubclass(contract, Ask):
        address["answer"] = name_of(contract.ANSWER)
    return address


def document(model: type[BaseModel]) -> dict[str, Any]:
    """The schema as it is published: named, and with the address of a contract."""
    head: dict[str, Any] = {"$schema": DIALECT, "$id": f"urn:muster:{name_of(model)}"}
    if issubclass(model, Message):
        head["x-muster"] = address_of(model)
    return head | schema_of(model)


def plan(models: list[type[BaseModel]], contracts_root: Path) -> Plan:
    """One file per model in ``schemas/``, and no other."""
    folder = contracts_root / "schemas"
    texts = {folder / f"{name_of(model)}.json": as_json(document(model)) for model in models}
    return Plan(texts, without(folder, texts))
