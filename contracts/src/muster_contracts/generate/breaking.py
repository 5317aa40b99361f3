"""What a change of a published contract would break, by name.

Old and new services run side by side during an upgrade, so a version may only grow: optional fields, enum
values, wider bounds, more sayers and hearers (hearers are upgraded before sayers). Everything else is a
new version beside the old one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Schema = dict[str, Any]


class Kind(StrEnum):
    """The ways to break a reader or a sayer of a published contract."""

    CONTRACT_REMOVED = "contract-removed"
    SUBJECT_CHANGED = "subject-changed"
    DELIVERY_CHANGED = "delivery-changed"
    ANSWER_CHANGED = "answer-changed"
    ROLE_REMOVED = "role-removed"
    SIZE_LOWERED = "size-lowered"
    FIELD_REMOVED = "field-removed"
    FIELD_REQUIRED = "field-required"
    """Sayers of the old shape do not send it."""
    FIELD_OPTIONAL = "field-optional"
    """Readers of the old shape count on it."""
    TYPE_CHANGED = "type-changed"
    VALUE_REMOVED = "value-removed"
    NARROWED = "narrowed"
    """A bound is tighter than before, so that some of what was sayable is not any more."""


@dataclass(frozen=True)
class Breakage:
    """One way in which the current contract breaks the published one."""

    contract: str
    kind: Kind
    where: str
    detail: str

    def __str__(self) -> str:
        return f"{self.contract}: {self.kind}: {self.where}: {self.detail}"


def compare(contract: str, old: Schema, new: Schema | None) -> list[Breakage]:
    """What ``new`` breaks for those who know ``old``; both are documents as ``schemas`` writes them."""
    if new is None:
        return [Breakage(contract, Kind.CONTRACT_REMOVED, "the class", "is gone, though it is published")]
    addresses = _addresses(old.get("x-muster", {}), new.get("x-muster", {}))
    fields = _Walk(old, new).nodes("", old, new)
    return [Breakage(contract, *finding) for finding in (*addresses, *fields)]


Finding = tuple[Kind, str, str]


def _addresses(old: Schema, new: Schema) -> Iterator[Finding]:
    for key, kind in (
        ("subject", Kind.SUBJECT_CHANGED),
        ("delivery", Kind.DELIVERY_CHANGED),
        ("answer", Kind.ANSWER_CHANGED),
    ):
        if old.get(key) != new.get(key):
            yield kind, key, f"was {old.get(key)}, is {new.get(key)}"
    for key in ("said_by", "heard_by"):
        for role in sorted(set(old.get(key, [])) - set(new.get(key, []))):
            yield Kind.ROLE_REMOVED, key, f"no longer names {role}"
    if old and new.get("max_bytes", 0) < old["max_bytes"]:
        yield Kind.SIZE_LOWERED, "max_bytes", f"was {old['max_bytes']}, is {new.get('max_bytes')}"


class _Walk:
    """Both schemas side by side, references followed, each pair of references once."""

    def __init__(self, old: Schema, new: Schema) -> None:
        self.old_defs: Schema = old.get("$defs", {})
        self.new_defs: Schema = new.get("$defs", {})
        self.seen: set[tuple[str, str]] = set()

    def nodes(self, where: str, old: Schema, new: Schema) -> Iterator[Finding]:
        """The findings at one place and below it."""
        pair = (old.get("$ref", ""), new.get("$ref", ""))
        if all(pair):
            if pair in self.seen:
                return
            self.seen.add(pair)
        old, new = _resolved(old, self.old_defs), _resolved(new, self.new_defs)
        here = where or "the message"
        yield from _types(here, old, new)
        yield from _values(here, old, new)
        yield from _bounds(here, old, new)
        yield from self._fields(where, old, new)
        yield from self._parts(where, old, new)

    def _fields(self, where: str, old: Schema, new: Schema) -> Iterator[Finding]:
        before, now = old.get("properties", {}), new.get("properties", {})
        was_required, is_required = set(old.get("required", ())), set(new.get("required", ()))
        for name, child in before.items():
            path = f"{where}.{name}".lstrip(".")
            if name not in now:
                yield Kind.FIELD_REMOVED, path, "is gone"
                continue
            if name in was_required - is_required:
                yield Kind.FIELD_OPTIONAL, path, "was always there, may be missing now"
            yield from self.nodes(path, child, now[name])
        for name in sorted(is_required & now.keys() - was_required):
            how = "was optional" if name in before else "is new"
            yield Kind.FIELD_REQUIRED, f"{where}.{name}".lstrip("."), f"{how} and is required now"

    def _parts(self, where: str, old: Schema, new: Schema) -> Iterator[Finding]:
        """What lists, maps and alternatives are made of."""
        for key, label in (("items", "[]"), ("additionalProperties", "{}"), ("propertyNames", "{key}")):
            if isinstance(old.get(key), dict) and isinstance(new.get(key), dict):
                yield from self.nodes(where + label, old[key], new[key])
        for before, now in zip(_patterned(old), _patterned(new), strict=False):
            yield from self.nodes(where + "{}", before, now)
        yield from self._alternatives(where, old, new)

    def _alternatives(self, where: str, old: Schema, new: Schema) -> Iterator[Finding]:
        if known := _kinds(old):
            for kind in known.keys() & _kinds(new).keys():
                yield from self.nodes(f"{where}[{kind}]", {"$ref": known[kind]}, {"$ref": _kinds(new)[kind]})
            return
        for before, now in zip(_branches(old), _branches(new), strict=False):
            yield from self.nodes(where, before, now)


def _resolved(node: Schema, defs: Schema) -> Schema:
    return defs[node["$ref"].rpartition("/")[2]] if "$ref" in node else node


def _branches(node: Schema) -> list[Schema]:
    branches: list[Schema] = node.get("anyOf") or node.get("oneOf") or []
    return [branch for branch in branches if branch.get("type") != "null"]


def _kinds(node: Schema) -> dict[str, str]:
    """The alternatives of a field by the value that tells them apart; none where nothing does."""
    kinds: dict[str, str] = node.get("discriminator", {}).get("mapping", {})
    return kinds


def _patterned(node: Schema) -> list[Schema]:
    return list(node.get("patternProperties", {}).values())


def _shape(node: Schema) -> list[str]:
    """The types a node admits, as names; references count as one type whatever they are called."""
    branches = node.get("anyOf") or node.get("oneOf")
    if _kinds(node):
        return ["one of several kinds"]  # more of them is growth, fewer is found among the values
    if not branches:
        return ["any" if "type" not in node and "$ref" not in node else node.get("type", "reference")]
    return sorted(name for branch in branches for name in _shape(branch))


def _types(where: str, old: Schema, new: Schema) -> Iterator[Finding]:
    before, now = " or ".join(_shape(old)), " or ".join(_shape(new))
    if before == now:
        before, now = (node.get("format", "free text") for node in (old, new))
    if before != now:
        yield Kind.TYPE_CHANGED, where, f"was {before}, is {now}"


def _values(where: str, old: Schema, new: Schema) -> Iterator[Finding]:
    before, now = _admitted(old), _admitted(new)
    if now and not before:
        yield Kind.NARROWED, where, f"was free, is one of {sorted(map(str, now))}"
    for value in before if now else ():
        if value not in now:
            yield Kind.VALUE_REMOVED, where, f"{value} is gone"


def _admitted(node: Schema) -> list[Any]:
    """The values a node lists; none where it is free."""
    if kinds := _kinds(node):
        return sorted(kinds)
    return [node["const"]] if "const" in node else list(node.get("enum", ()))


FLOORS = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
CEILINGS = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")


def _bounds(where: str, old: Schema, new: Schema) -> Iterator[Finding]:
    """Bounds that are tighter now. Patterns are compared as texts: whether one is wider is for people."""
    for key in (*FLOORS, *CEILINGS):
        before, now = old.get(key), new.get(key)
        if now is None or before == now:
            continue
        if before is None or (now > before if key in FLOORS else now < before):
            yield Kind.NARROWED, where, f"{key} was {before if before is not None else 'open'}, is {now}"
    patterns = [sorted(node.get("patternProperties", {})) or node.get("pattern") for node in (old, new)]
    if patterns[1] and patterns[0] != patterns[1]:
        yield Kind.NARROWED, where, f"the pattern was {patterns[0] or 'open'}, is {patterns[1]}"
