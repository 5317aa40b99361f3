"""What a package.json says, what a change of it means, and its mistakes in people's words."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from host_agent.domain.package import Loaded
from muster_contracts.ids import AGENT_ID_PATTERN
from muster_contracts.package.specification import Specification

RESTARTS_FOR = frozenset({
    "name", "version", "driver", "command", "directory", "environment", "environment_files", "secrets",
    "user", "group", "umask", "unit", "user_unit", "image", "ports", "volumes",
})  # fmt: skip
"""Keys a running process was made of: a change of one of them takes a restart. All others are the agent's own
business and apply at once; those of ``log`` at the next start at the latest."""

SHOWN_PROBLEMS = 5
_VALUES_NOT_SHOWN = frozenset({"environment", "secrets", "headers", "secret_headers", "url"})


class Unusable(Exception):
    """A package.json cannot be used; the text says where and why."""


class _Amiss(Exception):
    """What JSON allows and a package.json does not."""


def parse(raw: bytes, file: Path) -> Loaded:
    """What a package.json says.

    Raises:
        Unusable: it is not JSON, or does not say what it should.
    """
    spec = _specification(raw, file)
    if problems := list(_misfits(spec)):
        raise Unusable(f"cannot use {file}: {'; '.join(problems[:SHOWN_PROBLEMS])}")
    return Loaded(spec, file, digest(spec, file))


def digest(spec: Specification, file: Path) -> str:
    """SHA-256 of what matters to a running process; where package.json lies does."""
    said = spec.model_dump(mode="json", include=set(RESTARTS_FOR)) | {"": str(file.parent)}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def name_for(directory: str) -> str:
    """A name for a package that could not tell its own: its directory's, as far as that may be one."""
    name = re.sub(r"[^a-z0-9-]+", "-", directory.lower()).lstrip("-")[:63]
    return name if re.fullmatch(AGENT_ID_PATTERN, name) else "package"


def _specification(raw: bytes, file: Path) -> Specification:
    try:
        _well_formed(raw)
        return Specification.model_validate_json(raw, strict=True)
    except ValidationError as error:
        raise Unusable(f"cannot use {file}: {'; '.join(_sentences(error))}") from None
    except json.JSONDecodeError as error:
        reason = error.msg[:1].lower() + error.msg[1:]
        raise Unusable(f"cannot use {file}: line {error.lineno}, column {error.colno}: {reason}") from None
    except UnicodeDecodeError as error:
        raise Unusable(f"cannot use {file}: byte {error.start + 1} is not UTF-8") from None
    except RecursionError:
        raise Unusable(f"cannot use {file}: it is nested too deeply") from None
    except (_Amiss, ValueError) as error:
        raise Unusable(f"cannot use {file}: {error}") from None


def _misfits(spec: Specification) -> Iterator[str]:
    """What is right by itself, and does not fit the rest."""
    names = [each.name for each in spec.checks]
    for number, each in enumerate(spec.checks):
        if each.name in names[:number]:
            yield f"key 'checks.{number}.name': '{each.name}' is the name of an earlier check, too"
        if each.check.kind == "native" and spec.driver == "process":
            why = "the driver process cannot tell; give a check of another kind"
            yield f"key 'checks.{number}.check.kind': 'native': {why}"


def _well_formed(raw: bytes) -> None:
    """Find what Pydantic does not tell: line and column, and a key given twice."""
    found = json.loads(raw.decode(), object_pairs_hook=_object, parse_constant=_constant)
    if not isinstance(found, dict):
        raise _Amiss('it is no object; give {"name": …}')


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _Amiss(f"key '{key}' is given twice")
        found[key] = value
    return found


def _constant(name: str) -> None:
    raise _Amiss(f"{name} is no number of JSON")


def _sentences(error: ValidationError) -> Iterator[str]:
    problems = error.errors(include_url=False)
    yield from map(_sentence, problems[:SHOWN_PROBLEMS])
    if (more := len(problems) - SHOWN_PROBLEMS) > 0:
        yield f"and {more} more"


def _sentence(problem: ErrorDetails) -> str:
    """One mistake: its key, and what to give instead. Values that may be secret are not repeated."""
    loc = [str(part) for part in problem["loc"]]
    key = ".".join(part for part in loc if part != "[key]")
    if problem["type"] == "extra_forbidden":
        return f"key '{key}': is unknown, {_nearest(problem['loc'])}"
    if problem["type"] == "missing":
        return f"key '{key}': is missing"
    text = problem["msg"].removeprefix("Value error, ")
    if not key:
        return text
    text = text[:1].lower() + text[1:]
    value = problem["input"]
    if _VALUES_NOT_SHOWN.intersection(loc) or not isinstance(value, str | int | float) or loc[-1] == "[key]":
        return f"key '{key}': {text}"
    return f"key '{key}': {str(value)[:60]!r}: {text}"


def _nearest(loc: tuple[int | str, ...]) -> str:
    import difflib  # noqa: PLC0415  (for a mistake's sake only: agents are small)

    known = sorted(_keys_at(loc[:-1]))
    word = str(loc[-1])
    near = difflib.get_close_matches(word, known, 1) or [key for key in known if word in key.split("_")]
    if near:
        return f"did you mean '{near[0]}'?"
    return (
        f"give one of {', '.join(known)}" if len(known) < 10 else "see PACKAGES.md for those that are known"
    )


def _keys_at(loc: tuple[int | str, ...]) -> set[str]:
    """The keys that may stand at a place."""
    model: Any = Specification
    for part in loc:
        fields: Mapping[str, Any] = getattr(model, "model_fields", {})
        if part in fields:
            model = fields[str(part)].annotation
        else:
            model = next(
                (each for each in _models(model) if isinstance(part, int) or _tagged(each, part)), model
            )
    return {key for each in _models(model) for key in each.model_fields}


def _tagged(model: type[BaseModel], tag: str) -> bool:
    """Whether a model is meant: by its tag in a union, or as the value of any key."""
    kind = model.model_fields.get("kind")
    return kind is None or get_args(kind.annotation) == (tag,)


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models in an annotation such as ``dict[str, Configured]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models(inner)]
