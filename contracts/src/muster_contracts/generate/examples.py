"""Example payloads, made from the schemas: the least a sayer may say, and all of it.

They are kept for as long as the version they belong to lives: a file is added when a contract's shape
gives another example, none is ever rewritten. Old files are what the contract tests parse with today's
readers.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5
from zlib import crc32

from pydantic import BaseModel, ValidationError

from muster_contracts.catalogue import name_of
from muster_contracts.generate.files import Plan, as_json
from muster_contracts.generate.schemas import schema_of

NOON = "2026-01-01T12:00:00Z"
ALWAYS_SAID = frozenset({"message_id", "command_id", "occurred_at"})
"""On the wire these are always there, though a constructor fills them in."""

WORDS = {
    "address": "192.0.2.7:51442",
    "addresses": "192.0.2.7",
    "after": "web-1",
    "agent_id": "web-1",
    "agent_version": "0.1.0",
    "architecture": "x86_64",
    "before": "41",
    "changed": "log.level",
    "code": "not-found",
    "conflict_with": "web-2",
    "contract_name": "agent.v1.Heartbeat",
    "cpu_model": "Example CPU 2.40GHz",
    "device": "/dev/vda1",
    "detail": "sequence: input should be a valid integer",
    "epoch": "8c3f0a1b2d4e-019b798ef800",
    "file_system": "ext4",
    "groups": "web-servers",
    "hostname": "web-1",
    "id": "web-1",
    "interface": "eth0",
    "kernel": "Linux 6.1.0-18-amd64",
    "key": "site",
    "known_as": "web-1-2",
    "mac": "52:54:00:12:34:56",
    "mount_point": "/",
    "name": "web-servers",
    "needs_restart": "bus.servers",
    "next": "web-2",
    "original_subject": "muster.agent.v1.web-1.heartbeat",
    "os": "Debian GNU/Linux 12 (bookworm)",
    "other_epoch": "1d2e3f4a5b6c-019b798ef801",
    "partitions": "berlin",
    "payload": "bm90IGpzb24=",
    "python": "3.11.2",
    "selector": "site=berlin",
    "sensor": "coretemp",
    "service": "fleet-registry",
    "site": "berlin",
    "text": "cannot find the agent web-9: it was never seen",
    "value": "berlin",
    "virtualization": "kvm",
}
"""What a field of this name says in an example; other fields say their own name."""

NEUTRAL = ("web-1", "8c3f0a1b2d4e-019b798ef800", "abcdef0123456789")


HINT = "give the field examples=[…]"


class NoExample(ValueError):
    """A field whose example cannot be made from its schema alone."""


class _Maker:
    """Makes one value per schema node; ``full`` adds what is optional."""

    def __init__(self, defs: dict[str, Any], *, full: bool) -> None:
        self.defs = defs
        self.full = full
        self.open: list[str] = []

    def make(self, name: str, node: dict[str, Any]) -> Any:
        """The value of the field ``name``, described by ``node``."""
        if "examples" in node:
            return node["examples"][-1 if self.full else 0]
        if "$ref" in node:
            return self._referred(name, node["$ref"].rpartition("/")[2])
        if "enum" in node:
            return node["enum"][-1 if self.full else 0]
        if "const" in node:
            return node["const"]
        if branches := node.get("anyOf") or node.get("oneOf"):
            return self._one_of(name, branches)
        return self._of_type(name, node)

    def _of_type(self, name: str, node: dict[str, Any]) -> Any:
        match node.get("type", "object"):
            case "object":
                value: Any = self._object(name, node)
            case "array":
                value = [self.make(name, node["items"])] if self.full or node.get("minItems") else []
            case "string":
                value = _text(name, node)
            case "boolean" | "null" as plain:
                value = {"boolean": True, "null": None}[plain]
            case "integer":
                value = _number(name, node)
            case "number":
                value = float(_number(name, node))
            case other:
                raise NoExample(f"cannot make an example of {name}: it is of type {other}; {HINT}")
        return value

    def _referred(self, name: str, ref: str) -> Any:
        if ref in self.open:
            raise NoExample(f"cannot make an example of {name}: it contains itself; {HINT}")
        self.open.append(ref)
        try:
            return self.make(name, self.defs[ref])
        finally:
            self.open.pop()

    def _one_of(self, name: str, branches: list[dict[str, Any]]) -> Any:
        nullable = any(branch.get("type") == "null" for branch in branches)
        if nullable and not self.full:
            return None
        return self.make(name, next(branch for branch in branches if branch.get("type") != "null"))

    def _object(self, name: str, node: dict[str, Any]) -> dict[str, Any]:
        if "properties" in node:
            return {
                key: self.make(key, child)
                for key, child in node["properties"].items()
                if self.full or key in node.get("required", ()) or key in ALWAYS_SAID or "const" in child
            }
        return dict(self._entries(name, node)) if self.full else {}

    def _entries(self, name: str, node: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        for pattern, child in node.get("patternProperties", {}).items():
            yield _text("key", {"pattern": pattern}), self.make("value", child)
        if isinstance(child := node.get("additionalProperties"), dict):
            yield self.make("key", node.get("propertyNames", {"type": "string"})), self.make(name, child)
        elif node.get("additionalProperties"):
            yield "hostname", WORDS["hostname"]


def _text(name: str, node: dict[str, Any]) -> str:
    match node.get("format"):
        case "date-time":
            return NOON
        case "uuid":
            return str(uuid5(NAMESPACE_URL, name))
        case "duration":
            return "PT5S"
    pattern, longest = re.compile(node.get("pattern", "")), node.get("maxLength", 1_000_000)
    for word in (WORDS.get(name, name), *NEUTRAL):
        if pattern.search(word) and len(word) <= longest:
            return word
    raise NoExample(f"cannot make an example of {name}: no word fits {pattern.pattern}; {HINT}")


def _number(name: str, node: dict[str, Any]) -> int:
    """A small number that depends on the field's name alone, moved between the field's bounds."""
    least = max(node.get("minimum", 1), node.get("exclusiveMinimum", 0) + 1)
    return int(min(max(1 + crc32(name.encode()) % 90, least), node.get("maximum", 1_000_000)))


def examples_of(model: type[BaseModel]) -> dict[str, Any]:
    """The minimal and the full example of a model, each accepted by it; one where both are equal.

    Raises:
        NoExample: the model refuses what its schema allows, or the schema does not say enough.
    """
    schema = schema_of(model)
    made = {
        label: _Maker(schema.get("$defs", {}), full=full).make(model.__name__, schema)
        for label, full in (("minimal", False), ("full", True))
    }
    for value in made.values():
        try:
            model.model_validate_json(json.dumps(value))
        except ValidationError as error:
            raise NoExample(f"cannot make an example of {name_of(model)}: {error}; {HINT}") from error
    return made if made["minimal"] != made["full"] else {"minimal": made["minimal"]}


def kept(folder: Path) -> dict[Path, Any]:
    """The examples a folder holds, by path, oldest first."""
    paths = sorted(folder.glob("*-*.json"), key=lambda path: int(path.name.partition("-")[0]))
    return {path: json.loads(path.read_text(encoding="utf-8")) for path in paths}


def plan(models: list[type[BaseModel]], contracts_root: Path) -> Plan:
    """The examples that are missing in ``examples/``; those that are there stay as they are."""
    texts: dict[Path, str] = {}
    for model in models:
        folder = contracts_root / "examples" / name_of(model)
        known = kept(folder)
        number = max((int(path.name.partition("-")[0]) for path in known), default=0)
        for label, value in examples_of(model).items():
            if value not in known.values():
                number += 1
                texts[folder / f"{number}-{label}.json"] = as_json(value)
    return Plan(texts)
