"""The selector: which agents are meant, in the grammar Kubernetes made familiar.

    site=ams, role in (web,db), role notin (x), k!=v, has-key, !canary, id=web-*

Terms are joined by commas and all must hold; the empty text selects every agent. A term names a
label, or one of four things every agent has: ``id`` (with ``*`` and ``?``), ``kind``, ``state``,
``group``. As in Kubernetes, ``k!=v`` and ``k notin (v)`` also hold for an agent without ``k``.

``Selector.requirements`` is the parsed form as plain data: a store turns each requirement into one
condition of its query language, so that nothing is left to filter afterwards.
"""

import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase

from muster_contracts.agent.v1 import AgentKind
from muster_contracts.fleet.v1 import Presence
from muster_contracts.ids import LABEL_KEY_PATTERN

ID, KIND, STATE, GROUP = "id", "kind", "state", "group"

_KEY = re.compile(LABEL_KEY_PATTERN.strip("^$"))
_VALUE = re.compile(r"[a-zA-Z0-9_.*?-]*")
_LABEL_VALUE = re.compile(r"([a-zA-Z0-9]([a-zA-Z0-9_.-]{0,61}[a-zA-Z0-9])?)?")
_ID_GLOB = re.compile(r"[a-z0-9*?-]{1,63}")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_SPACE = re.compile(r"\s*")
_WORD = re.compile(r"(in|notin)(?=[\s(])")


class SelectorError(ValueError):
    """A selector that cannot be read; ``position`` counts characters from 0."""

    def __init__(self, text: str, position: int, problem: str) -> None:
        self.text, self.position, self.problem = text, position, problem
        super().__init__(f"cannot read the selector {text!r} at position {position}: {problem}")


class Operator(StrEnum):
    """How a requirement compares."""

    IN = "in"
    """The key is there and has one of the values."""
    NOT_IN = "notin"
    """The key has none of the values, or is not there."""
    EXISTS = "exists"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Requirement:
    """One term of a selector."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def holds(self, facts: "Facts") -> bool:
        """Whether an agent meets this one term."""
        have = facts.values(self.key)
        match self.operator:
            case Operator.EXISTS:
                return bool(have)
            case Operator.ABSENT:
                return not have
            case Operator.IN:
                return self._any(have)
            case Operator.NOT_IN:
                return not self._any(have)

    def _any(self, have: AbstractSet[str]) -> bool:
        if self.key == ID:
            return any(fnmatchcase(one, glob) for one in have for glob in self.values)
        return not have.isdisjoint(self.values)


@dataclass(frozen=True, slots=True)
class Facts:
    """What a selector may ask of one agent."""

    id: str
    kind: str
    state: str
    groups: AbstractSet[str] = frozenset()
    labels: Mapping[str, str] = field(default_factory=dict)

    def values(self, key: str) -> AbstractSet[str]:
        """The values the agent has for ``key``: none, one, or several for ``group``."""
        match key:
            case "id":
                return {self.id}
            case "kind":
                return {self.kind}
            case "state":
                return {self.state}
            case "group":
                return self.groups
            case _:
                return {self.labels[key]} if key in self.labels else frozenset()


@dataclass(frozen=True, slots=True)
class Selector:
    """A parsed selector."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, facts: Facts) -> bool:
        """Whether an agent meets every requirement."""
        return all(requirement.holds(facts) for requirement in self.requirements)

    def uses(self, key: str) -> bool:
        """Whether a requirement is about ``key``."""
        return any(requirement.key == key for requirement in self.requirements)

    def __str__(self) -> str:
        """The selector in its shortest spelling; parsing it gives an equal selector."""
        return ",".join(_spell(requirement) for requirement in self.requirements)


def like(glob: str) -> str:
    """An id glob as a pattern of SQL's LIKE; ids hold no character that LIKE would read otherwise."""
    return glob.replace("*", "%").replace("?", "_")


def is_glob(value: str) -> bool:
    """Whether an id value stands for more than one id."""
    return "*" in value or "?" in value


def parse(text: str) -> Selector:
    """Read a selector.

    Raises:
        SelectorError: the text is no selector; names the position and what was expected there.
    """
    return _Reader(text).selector()


class _Reader:
    """Reads one selector from left to right; ``at`` is the position reached."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def selector(self) -> Selector:
        self._skip()
        if self.at == len(self.text):
            return Selector()
        terms = [self._term()]
        while self._take(","):
            terms.append(self._term())
        if self.at < len(self.text):
            raise self._error("expected ',' or the end")
        return Selector(tuple(terms))

    def _term(self) -> Requirement:
        if self._take("!"):
            at, key = self._key()
            self._needs_a_value(key, at)
            return Requirement(key, Operator.ABSENT)
        at, key = self._key()
        for sign, operator in (("!=", Operator.NOT_IN), ("==", Operator.IN), ("=", Operator.IN)):
            if self._take(sign):
                return Requirement(key, operator, (self._value(key),))
        if word := self._match(_WORD):
            return Requirement(key, Operator(word), self._values(key))
        self._needs_a_value(key, at)
        return Requirement(key, Operator.EXISTS)

    def _values(self, key: str) -> tuple[str, ...]:
        if not self._take("("):
            raise self._error("expected '('")
        values = [self._value(key)]
        while self._take(","):
            values.append(self._value(key))
        if not self._take(")"):
            raise self._error("expected ',' or ')'")
        return tuple(dict.fromkeys(values))

    def _key(self) -> tuple[int, str]:
        self._skip()
        at = self.at
        if not (key := self._match(_KEY)):
            raise self._error("expected a label's key, or id, kind, state or group")
        return at, key

    def _value(self, key: str) -> str:
        self._skip()
        at, value = self.at, self._match(_VALUE)
        if problem := _refusal(key, value):
            raise SelectorError(self.text, at, problem)
        return value

    def _needs_a_value(self, key: str, at: int) -> None:
        if key in {ID, KIND, STATE}:
            raise SelectorError(self.text, at, f"'{key}' needs a value: every agent has one")

    def _take(self, sign: str) -> bool:
        if taken := self.text.startswith(sign, self.at):
            self.at += len(sign)
            self._skip()
        return taken

    def _match(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        if found is None:
            return ""
        self.at = found.end()
        self._skip()
        return found.group()

    def _skip(self) -> None:
        found = _SPACE.match(self.text, self.at)
        assert found
        self.at = found.end()

    def _error(self, problem: str) -> SelectorError:
        return SelectorError(self.text, self.at, problem)


def _refusal(key: str, value: str) -> str | None:
    """Why ``value`` cannot be a value of ``key``, or nothing."""
    match key:
        case "id":
            return None if _ID_GLOB.fullmatch(value) else "expected an agent id; '*' and '?' are allowed"
        case "kind":
            return None if value in set(AgentKind) else f"expected one of {', '.join(AgentKind)}"
        case "state":
            return None if value in set(Presence) else f"expected one of {', '.join(Presence)}"
        case "group":
            return None if _NAME.fullmatch(value) else "expected a group's name"
        case _:
            return None if _LABEL_VALUE.fullmatch(value) else "expected a label's value"


def _spell(requirement: Requirement) -> str:
    key, values = requirement.key, requirement.values
    match requirement.operator:
        case Operator.EXISTS:
            return key
        case Operator.ABSENT:
            return f"!{key}"
        case Operator.IN if len(values) == 1:
            return f"{key}={values[0]}"
        case Operator.NOT_IN if len(values) == 1:
            return f"{key}!={values[0]}"
        case operator:
            return f"{key} {operator} ({','.join(values)})"
