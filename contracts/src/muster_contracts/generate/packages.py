"""What may be in a package.json: its JSON Schema for programs, and the table of its keys for people."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from muster_contracts.generate.files import Plan, as_json, read
from muster_contracts.package.specification import Specification

FILE = "package.schema.json"
GUIDE = Path("services/host-agent/PACKAGES.md")
BEGIN = "<!-- The keys. Written by `just generate` from the model; changes by hand are lost. -->"
END = "<!-- End of the keys. -->"


def schema() -> dict[str, Any]:
    """What may be in a package.json."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Specification.model_json_schema(mode="validation"),
        "title": "package.json",
        "description": f"What one package is; {GUIDE} explains it.",
    }


def table() -> str:
    """Every key in Markdown; ``NAME`` stands for a key of the author's own, ``[]`` for each of a list."""
    rows = ["| key | default | meaning |", "|---|---|---|"]
    return "\n".join(rows + [f"| `{key}` | {default} | {meaning} |" for key, default, meaning in _keys()])


def _keys(model: type[BaseModel] = Specification, before: str = "") -> Iterator[tuple[str, str, str]]:
    """Key, default and meaning, in the order of declaration; what has keys of its own is not listed."""
    for name, field in model.model_fields.items():
        inner = _models(field.annotation)
        path = before + name + _repeated(field.annotation)
        if not inner:
            yield path, _default(field.get_default(call_default_factory=True)), field.description or ""
        for each in inner:
            yield from _keys(each, f"{path}{_kind(each)}.")


def _kind(model: type[BaseModel]) -> str:
    """What tells a model of a union from the others: the value of its ``kind``."""
    field = model.model_fields.get("kind")
    return f"({get_args(field.annotation)[0]})" if field else ""


def _repeated(annotation: Any) -> str:
    if not _models(annotation):
        return ""
    match get_origin(annotation):
        case kind if kind is dict:
            return ".NAME"
        case kind if kind is list:
            return "[]"
    return ""


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models in an annotation such as ``dict[str, Configured]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models(inner)]


def _default(value: Any) -> str:
    if value is PydanticUndefined:
        return "required"
    return "" if value in (None, "", [], {}) else f"`{json.dumps(value)}`"


def plan(root: Path) -> Plan:
    """The schema beside those of the messages, and the table between its markers.

    Raises:
        ValueError: the guide has no place for the table.
    """
    texts = {root / "contracts" / FILE: as_json(schema())}
    if guide := read(root / GUIDE):
        before, begin, rest = guide.partition(BEGIN)
        _, end, after = rest.partition(END)
        if not begin or not end:
            raise ValueError(f"cannot write the keys: {GUIDE} lacks the line {END if begin else BEGIN}")
        texts[root / GUIDE] = f"{before}{BEGIN}\n{table()}\n{END}{after}"
    return Plan(texts)
