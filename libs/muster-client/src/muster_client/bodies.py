"""What can be ordered, by verb: from words to bodies, and the fields each verb takes."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError

from muster_client.errors import Usage
from muster_client.humanise import near
from muster_contracts.command.v1 import Body
from muster_contracts.package.v1 import PackageBody, RunScript

_ADAPTER: TypeAdapter[Body] = TypeAdapter(Body)


@cache
def verbs() -> dict[str, type[BaseModel]]:
    """Verb → its body, in the order of the contract."""
    bodies = [*get_args(PackageBody), RunScript]
    return {body.model_fields["verb"].default: body for body in bodies}


def fields_of(verb: str) -> list[str]:
    """The fields a verb takes; those that may be left out in brackets."""
    fields = verbs()[verb].model_fields
    return [name if field.is_required() else f"[{name}]" for name, field in fields.items() if name != "verb"]


def body_of(verb: str, fields: Mapping[str, object]) -> Body:
    """The body that orders ``verb``.

    Raises:
        Usage: there is no such verb, or not with these fields. Values are not shown: they may be secrets.
    """
    if verb not in verbs():
        guess = near(verb, list(verbs())) or f"there are {', '.join(verbs())}"
        raise Usage(f"cannot order {verb!r}: there is no such verb; {guess}")
    if unknown := [name for name in fields if name not in verbs()[verb].model_fields]:
        raise Usage(f"cannot order {verb}: it does not take {unknown[0]!r}, but {' '.join(fields_of(verb))}")
    try:
        return _ADAPTER.validate_python({**fields, "verb": verb})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        raise Usage(f"cannot order {verb}: {where}: {first['msg'].lower()}") from None


def body_from_words(verb: str, words: Sequence[str]) -> Body:
    """``key=value`` words as a body; a key that is given again makes a list.

    Raises:
        Usage: see ``body_of``; or a word is no ``key=value``.
    """
    fields: dict[str, Any] = {}
    for word in words:
        key, sign, value = word.partition("=")
        if not sign:
            raise Usage(f"cannot read {word!r}: write key=value")
        fields.setdefault(key, []).append(value)
    return body_of(verb, {key: _one(verb, key, values) for key, values in fields.items()})


def _one(verb: str, key: str, values: list[str]) -> object:
    """A list where the field is one, or where it was given again; else the one value."""
    body = verbs().get(verb)
    field = body.model_fields.get(key) if body else None
    is_list = field is not None and get_origin(field.annotation) is list
    return values if is_list or len(values) > 1 else values[0]
