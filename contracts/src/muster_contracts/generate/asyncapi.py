"""The AsyncAPI 3.0.0 document of the whole bus: channels, operations per role, replies, schemas."""

import inspect
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from muster_contracts.catalogue import name_of, with_answers
from muster_contracts.generate.files import Plan, as_json
from muster_contracts.generate.schemas import schema_of
from muster_contracts.message import Ask, Delivery, Message, Problem, Role

DELIVERIES = {
    Delivery.LIVE: "Core NATS; may be lost, the next one supersedes it.",
    Delivery.DURABLE: "JetStream with a message id; at least once, never lost.",
    Delivery.ASK: "Request and reply with a deadline; idempotent by its message id.",
}
QUEUED = frozenset({Role.FLEET_REGISTRY})
"""Roles whose replicas share their work: live messages and asks as a queue group of each contract, durable
messages as one consumer of their stream, without any queue group."""

Json = dict[str, Any]


def ref(*path: str) -> Json:
    """A reference into the document."""
    return {"$ref": "#/" + "/".join(path)}


def document(contracts: list[type[Message]]) -> Json:
    """The whole document; keys are contract names, so that they stay when others come and go."""
    models = with_answers(contracts)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Muster",
            "version": "1",
            "description": "Every message on the bus of a Muster fleet. Generated from muster_contracts.",
        },
        "defaultContentType": "application/json",
        "channels": channels(contracts),
        "operations": operations(contracts),
        "components": {
            "messages": {name_of(model): message(model) for model in models},
            "schemas": schemas(models),
        },
    }


def channels(contracts: list[type[Message]]) -> Json:
    """One channel per subject, and one per ask for its replies, which go to the asker's inbox."""
    found: Json = {}
    for kind in contracts:
        name = kind.contract()
        found[name] = channel(kind)
        if issubclass(kind, Ask):
            found[f"{name}.reply"] = {
                "address": None,
                "title": f"Replies to {kind.__name__}",
                "messages": {
                    name_of(model): ref("components", "messages", name_of(model))
                    for model in (kind.ANSWER, Problem)
                },
            }
    return found


def channel(kind: type[Message]) -> Json:
    """The subject of a contract; its parameters are the fields that the subject spells."""
    name = kind.contract()
    return {
        "address": str(kind.SUBJECT),
        "title": kind.__name__,
        "description": f"{inspect.getdoc(kind)}\n\n{DELIVERIES[kind.DELIVERY]}",
        "messages": {name: ref("components", "messages", name)},
        "parameters": {
            field: {"description": kind.model_fields[field].description or f"The payload's {field}."}
            for field in re.findall(r"{(\w+)}", kind.SUBJECT)
        },
        "x-delivery": kind.DELIVERY.value,
        "x-max-bytes": kind.MAX_BYTES,
    }


def operations(contracts: list[type[Message]]) -> Json:
    """What each role does: ``<role>.says.<contract>`` and ``<role>.hears.<contract>``."""
    found: Json = {}
    for kind in contracts:
        for role in kind.SAID_BY:
            found[f"{role.value}.says.{kind.contract()}"] = operation(kind, role, "send")
        for role in kind.HEARD_BY:
            found[f"{role.value}.hears.{kind.contract()}"] = operation(kind, role, "receive")
    return found


def operation(kind: type[Message], role: Role, action: str) -> Json:
    """One role's side of one contract."""
    name = kind.contract()
    found: Json = {
        "action": action,
        "channel": ref("channels", name),
        "summary": summary(kind),
        "tags": [{"name": role.value}],
        "messages": [ref("channels", name, "messages", name)],
    }
    if action == "receive" and role in QUEUED and kind.DELIVERY is not Delivery.DURABLE:
        found["bindings"] = {"nats": {"queue": f"{role.value}:{name}", "bindingVersion": "0.1.0"}}
    if issubclass(kind, Ask):
        reply = f"{name}.reply"
        found["reply"] = {
            "address": {"location": "$message.header#/reply-to", "description": "The asker's inbox."},
            "channel": ref("channels", reply),
            "messages": [
                ref("channels", reply, "messages", name_of(model)) for model in (kind.ANSWER, Problem)
            ],
        }
    return found


def message(model: type[BaseModel]) -> Json:
    """A message: its payload, and the headers its delivery class gives it."""
    found: Json = {
        "name": name_of(model),
        "title": model.__name__,
        "summary": summary(model),
        "contentType": "application/json",
        "payload": ref("components", "schemas", name_of(model)),
    }
    if headers := headers_of(model):
        found["headers"] = {"type": "object", "properties": headers}
    return found


def headers_of(model: type[BaseModel]) -> Json:
    """Live messages carry none: they are many."""
    text = {"type": "string"}
    if model is Problem:
        return {"Muster-Problem": text | {"description": "The problem's code."}}
    delivery = model.DELIVERY if issubclass(model, Message) else Delivery.LIVE
    if delivery is Delivery.LIVE:
        return {}
    named = {
        "Muster-Contract": text | {"const": name_of(model)},
        "traceparent": text | {"description": "W3C trace context."},
    }
    identified = {"Nats-Msg-Id": text | {"description": "The payload's message_id; equal for every repeat."}}
    return identified | named if delivery is Delivery.DURABLE else named


def schemas(models: list[type[BaseModel]]) -> Json:
    """Every schema by its own name; the parts of a contract under its area and version."""
    found: Json = {}
    for model in models:
        area = name_of(model).rpartition(".")[0]
        own = _with_plain_discriminators(schema_of(model, f"#/components/schemas/{area}.{{model}}"))
        parts = {f"{area}.{name}": part for name, part in own.pop("$defs", {}).items()}
        for name, part in {name_of(model): own, **parts}.items():
            if found.setdefault(name, part) != part:
                raise ValueError(f"cannot write asyncapi.json: two shapes are called {name}; rename one")
    return dict(sorted(found.items()))


def _with_plain_discriminators(node: Any) -> Any:
    """AsyncAPI names the field alone that tells alternatives apart, where OpenAPI has an object."""
    if isinstance(node, list):
        return [_with_plain_discriminators(child) for child in node]
    if not isinstance(node, dict):
        return node
    found = {key: _with_plain_discriminators(child) for key, child in node.items()}
    if isinstance(by := node.get("discriminator"), dict) and isinstance(by.get("propertyName"), str):
        found["discriminator"] = by["propertyName"]
    return found


def summary(model: type[BaseModel]) -> str:
    """The first sentence of a docstring."""
    text = " ".join((inspect.getdoc(model) or "").split())
    return re.split(r"(?<=[.?])\s", text, maxsplit=1)[0]


def plan(contracts: list[type[Message]], contracts_root: Path) -> Plan:
    """``asyncapi.json`` beside the schemas."""
    return Plan({contracts_root / "asyncapi.json": as_json(document(contracts))})
