"""The catalogue as the command shows it: contracts by name or glob, and what each is. Pure."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from muster_client import humanise
from muster_client.outputs import MapLine
from muster_contracts.catalogue import contracts
from muster_contracts.message import Ask, Message, Role


class UnknownContract(Exception):
    """Cannot find a contract; the text says which, and what may have been meant."""


def named(patterns: Sequence[str]) -> list[type[Message]]:
    """The contracts whose names match one of the patterns, whatever their case, in the catalogue's order.

    ``agent.v1.Heartbeat``, ``fleet.v1.*``, ``fleet`` (an area), ``Heartbeat`` (the last part).

    Raises:
        UnknownContract: a pattern matches none; offers what may have been meant.
    """
    wanted = {pattern: [one for one in contracts() if _matches(one, pattern)] for pattern in patterns}
    for pattern, found in wanted.items():
        if not found:
            raise UnknownContract(f"cannot find a contract {pattern!r}; {_offer(pattern)}")
    chosen = {one for found in wanted.values() for one in found}
    return [one for one in contracts() if one in chosen]


def _matches(contract: type[Message], pattern: str) -> bool:
    name, wanted = contract.contract().lower(), pattern.lower()
    area, _, last = name.split(".")
    return fnmatchcase(name, wanted) or wanted in {area, last}


def _offer(pattern: str) -> str:
    names = {one.contract() if "." in pattern else one.__name__ for one in contracts()}
    return humanise.near(pattern, sorted(names)) or "see which there are with: muster map"


def map_line(contract: type[Message]) -> MapLine:
    """One contract as the map shows it."""
    answer = contract.ANSWER.__name__ if issubclass(contract, Ask) else None
    return MapLine(
        contract=contract.contract(),
        subject=str(contract.SUBJECT),
        delivery=contract.DELIVERY,
        said_by=[role.value for role in contract.SAID_BY],
        heard_by=[role.value for role in contract.HEARD_BY],
        answer=answer,
        meaning=" ".join((contract.__doc__ or "").split("\n\n")[0].split()),
    )


def fields_of(contract: type[Message]) -> list[tuple[str, str, str]]:
    """Name, type and meaning of every field of a contract."""
    properties: dict[str, dict[str, Any]] = contract.model_json_schema()["properties"]
    return [(name, _type(told), told.get("description", "")) for name, told in properties.items()]


def _type(told: dict[str, Any]) -> str:
    if "anyOf" in told:
        return " or ".join(_type(one) for one in told["anyOf"])
    if "$ref" in told:
        return str(told["$ref"]).rpartition("/")[2]
    if told.get("type") == "array":
        return f"list of {_type(told.get('items', {}))}"
    return str(told.get("format") or told.get("type", "any"))


def concerns(contract: type[Message], role: Role) -> bool:
    """Whether a role says or hears a contract."""
    return role in contract.SAID_BY or role in contract.HEARD_BY
