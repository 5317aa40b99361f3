"""Settings of a process: from a YAML file, overridden by the environment, defaults for the rest.

All that is wrong is said at once, one sentence per problem, each with what to give instead. Built on
Pydantic alone: pydantic-settings costs an agent 4 MiB and says less about errors.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, ClassVar, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, SecretBytes, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticUndefined

from muster_runtime.errors import ConfigurationError
from muster_runtime.secrets import HIDDEN, hide, is_secret_key

ENVIRONMENT = "the environment"

# Kubernetes puts these beside a container for every Service; FLEET_REGISTRY_PORT is not ours to refuse.
_SERVICE_LINK = re.compile(
    r"^(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$"
)


@dataclass(frozen=True, slots=True)
class Setting:
    """One thing that can be set."""

    key: str
    """Its place in the file, for example ``bus.servers``."""
    env: str
    """The environment variable that overrides it."""
    type: str
    default: str | None
    """As text; ``None`` if it must be given."""
    description: str
    secret: bool
    path: tuple[str, ...]
    annotation: Any


class Settings(BaseModel):
    """Base of every process's settings; subclasses set ``ENV_PREFIX`` and declare fields with descriptions.

    A field ``interval`` of a nested model ``vitals`` is the key ``vitals.interval`` of the file and the
    variable ``<ENV_PREFIX>VITALS__INTERVAL``. Lists and mappings are JSON in the environment; a list may also
    be written with commas.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    ENV_PREFIX: ClassVar[str] = ""

    @classmethod
    def load(cls, yaml_path: Path | None = None, environ: Mapping[str, str] | None = None) -> Self:
        """Read the file, if there is one to read, and the environment; environment over file over default.

        Raises:
            ConfigurationError: with one sentence for each problem.
        """
        source = _Source(cls, yaml_path, os.environ if environ is None else environ)
        values = source.read()
        try:
            settings = cls.model_validate(values)
        except ValidationError as error:
            source.problems += [source.sentence(detail, values) for detail in error.errors(include_url=False)]
        if source.problems:
            raise ConfigurationError(source.problems)
        return settings

    @classmethod
    def all(cls) -> list[Setting]:
        """Everything that can be set, in the order of declaration."""
        return list(_walk(cls, cls.ENV_PREFIX, ()))

    @classmethod
    def describe(cls) -> str:
        """Every setting with its variable, default and meaning, for ``--help``."""
        lines = []
        for setting in cls.all():
            default = "required" if setting.default is None else f"default: {setting.default}"
            lines += [f"{setting.key}  ({setting.type}, {default})", f"    {setting.env}"]
            lines += [f"    {setting.description}"] if setting.description else []
        return "\n".join(lines)


def changed_keys(old: BaseModel, new: BaseModel, prefix: str = "") -> frozenset[str]:
    """The dotted keys in which two settings of one class differ."""
    keys: set[str] = set()
    for name in type(old).model_fields:
        before, after = getattr(old, name), getattr(new, name)
        if isinstance(before, BaseModel) and type(before) is type(after):
            keys |= changed_keys(before, after, f"{prefix}{name}.")
        elif before != after:
            keys.add(prefix + name)
    return frozenset(keys)


class _Source:
    """Reads file and environment for one class of settings and knows where each value came from."""

    def __init__(self, kind: type[Settings], path: Path | None, environ: Mapping[str, str]) -> None:
        self.kind, self.path, self.environ = kind, path, environ
        self.settings = kind.all()
        self.problems: list[str] = []
        self.from_environment: dict[tuple[str, ...], str] = {}

    def read(self) -> dict[str, Any]:
        """The merged values; what cannot be read is among the problems."""
        values = self._read_file()
        self._drop_unknown(values, self.kind, ())
        self._overlay_environment(values)
        return values

    def sentence(self, detail: ErrorDetails, values: dict[str, Any]) -> str:
        """One Pydantic error for the person who wrote the settings."""
        missing = detail["type"] == "missing"
        loc = detail["loc"] if missing else _reachable(detail["loc"], values)
        setting = self._setting(loc)
        where = self._where(loc)
        if missing:
            ways = ["there"] if self.path else []
            ways += [f"as {setting.env}"] if setting and self.kind.ENV_PREFIX else []
            return f"{where}: is missing, give it {' or '.join(ways)}".rstrip()
        if detail["type"] == "extra_forbidden":
            return f"{where}: is unknown, give only known keys"
        secret = (setting and setting.secret) or any(is_secret_key(str(part)) for part in loc)
        return (
            f"{where}: {_shown(detail['input'], secret=bool(secret))}{_expected(detail, secret=bool(secret))}"
        )

    def _where(self, loc: tuple[int | str, ...]) -> str:
        for length in range(len(loc), 0, -1):
            if name := self.from_environment.get(tuple(map(str, loc[:length]))):
                inside = "".join(f"[{part!r}]" for part in loc[length:])
                return f"cannot use {ENVIRONMENT}: {name}{inside}"
        place = str(self.path) if self.path else "the settings"
        return f"cannot use {place}: key '{'.'.join(map(str, loc))}'" if loc else f"cannot use {place}"

    def _setting(self, loc: tuple[int | str, ...]) -> Setting | None:
        path = tuple(map(str, loc))
        return next((each for each in self.settings if path[: len(each.path)] == each.path), None)

    def _read_file(self) -> dict[str, Any]:
        if self.path is None:
            return {}
        try:
            values = _parse(self.path.read_bytes())
        except OSError as error:
            reason = (error.strerror or "unreadable").lower()
            self.problems.append(f"cannot use {self.path}: {reason}, give a file that can be read")
        except ValueError as error:
            self.problems.append(f"cannot use {self.path}: {error}")
        else:
            return values
        return {}

    def _drop_unknown(self, values: dict[str, Any], model: type[BaseModel], at: tuple[str, ...]) -> None:
        fields = model.model_fields
        for key in list(values):
            if key not in fields:
                dotted = ".".join((*at, str(key)))
                meant = self._nearest(dotted)
                self.problems.append(f"cannot use {self.path}: key '{dotted}': is unknown, {meant}")
                del values[key]
            elif (inner := _model_in(fields[key].annotation)) and isinstance(values[key], dict):
                self._drop_unknown(values[key], inner, (*at, key))

    def _nearest(self, dotted: str) -> str:
        """What the writer may have meant: a similar key, or the same last word in another place."""
        keys = {each.key for each in self.settings}
        keys |= {key.rpartition(".")[0] for key in keys if "." in key}
        last = dotted.rpartition(".")[2]
        same = sorted(key for key in keys if key.rpartition(".")[2] == last)
        near = same or _close(dotted, keys)
        if near:
            return f"give '{near[0]}' if that is what you mean"
        return f"give one of {', '.join(sorted(keys))}"

    def _overlay_environment(self, values: dict[str, Any]) -> None:
        if not self.kind.ENV_PREFIX:
            return
        known = {setting.env: setting for setting in self.settings}
        for name in sorted(self.environ):
            if not name.startswith(self.kind.ENV_PREFIX):
                continue
            if name in known:
                self._override(values, known[name], self.environ[name])
            elif not _SERVICE_LINK.match(name.removeprefix(self.kind.ENV_PREFIX)):
                near = _close(name, known)
                meant = f"give {near[0]} if that is what you mean" if near else "remove it"
                self.problems.append(f"cannot use {ENVIRONMENT}: {name}: is unknown, {meant}")

    def _override(self, values: dict[str, Any], setting: Setting, text: str) -> None:
        if _SERVICE_LINK.match(setting.env.removeprefix(self.kind.ENV_PREFIX)) and text.startswith("tcp://"):
            return
        self.from_environment[setting.path] = setting.env
        here = values
        for part in setting.path[:-1]:
            if not isinstance(here.get(part), dict):
                here[part] = {}
            here = here[part]
        try:
            here[setting.path[-1]] = _decoded(text, setting.annotation)
        except ValueError as error:
            here.pop(setting.path[-1], None)
            self.problems.append(f"cannot use {ENVIRONMENT}: {setting.env}: {error}")


def _close(word: str, possibilities: Iterable[str]) -> list[str]:
    """The most similar word, if one is similar enough."""
    import difflib  # noqa: PLC0415  (only for somebody's mistakes)

    return difflib.get_close_matches(word, sorted(possibilities), 1, 0.6)


def _walk(model: type[BaseModel], prefix: str, at: tuple[str, ...]) -> Iterator[Setting]:
    for name, field in model.model_fields.items():
        inner = _model_in(field.annotation)
        if inner:
            yield from _walk(inner, f"{prefix}{name.upper()}__", (*at, name))
        else:
            yield _setting(name, field, prefix, at)


def _setting(name: str, field: FieldInfo, prefix: str, at: tuple[str, ...]) -> Setting:
    secret = _is_secret(field.annotation) or (is_secret_key(name) and _holds_text(field.annotation))
    default: str | None = None
    if not field.is_required():
        value = field.get_default(call_default_factory=True, validated_data={})
        default = HIDDEN if secret and value is not None else _text(value)
    return Setting(
        key=".".join((*at, name)),
        env=f"{prefix}{name.upper()}",
        type=_type_name(field.annotation),
        default=default,
        description=" ".join((field.description or "").split()),
        secret=secret,
        path=(*at, name),
        annotation=field.annotation,
    )


def _parse(raw: bytes) -> dict[str, Any]:
    """The mapping a YAML file holds; an empty file is an empty mapping.

    Raises:
        ValueError: it is not YAML, or no mapping, or names a key twice.
    """
    import yaml  # noqa: PLC0415  (a process without a file does without it)

    from muster_runtime.yaml_loading import Loader  # noqa: PLC0415  (same)

    try:
        values = yaml.load(raw, Loader=Loader)  # noqa: S506  (a safe loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "somewhere"
        raise ValueError(f"{place}: {error.problem or 'not YAML'}, give valid YAML") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise ValueError("is not text, give YAML in UTF-8") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ValueError(  # noqa: TRY004  (the caller knows one kind of error)
            f"holds a {type(values).__name__}, give a mapping of keys to values"
        )
    return values


def _decoded(text: str, annotation: Any) -> Any:
    """An environment variable as what its field can validate.

    Raises:
        ValueError: JSON was needed and is broken.
    """
    origins = {get_origin(part) or part for part in _parts(annotation)}
    many = bool(origins & {list, tuple, set, frozenset})
    mapping = any(issubclass(each, dict | BaseModel) for each in origins if isinstance(each, type))
    if not many and not mapping:
        return None if text in {"", "null"} and type(None) in origins else text
    if many and not text.lstrip().startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        return json.loads(text)
    except ValueError:
        kind = 'a JSON list like ["a", "b"]' if many else 'a JSON object like {"a": "b"}'
        raise ValueError(f"is not JSON, give {kind}") from None


def _parts(annotation: Any) -> list[Any]:
    """The members of a union, without ``Annotated``; a plain type is its own only member."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _parts(get_args(annotation)[0])
    if origin in {Union, UnionType}:
        return [inner for part in get_args(annotation) for inner in _parts(part)]
    return [annotation]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model nested in a field, also an optional one; of several models none is certain."""
    models = [part for part in _parts(annotation) if isinstance(part, type) and issubclass(part, BaseModel)]
    return models[0] if len(models) == 1 else None


def _is_secret(annotation: Any) -> bool:
    return any(part in {SecretStr, SecretBytes} for part in _parts(annotation))


def _holds_text(annotation: Any) -> bool:
    return any(part in {str, bytes} for part in _parts(annotation))


def _type_name(annotation: Any) -> str:
    return " or ".join(re.sub(r"\b[a-z_]+\.", "", _member_name(part)) for part in _parts(annotation))


def _member_name(part: Any) -> str:
    if part is type(None):
        return "none"
    return str(part) if get_origin(part) else getattr(part, "__name__", str(part))


def _text(value: Any) -> str:
    if value is None or value is PydanticUndefined:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple | set | frozenset | dict):
        return json.dumps(list(value) if isinstance(value, set | frozenset) else value, default=str)
    return hide(str(value))


def _reachable(loc: tuple[int | str, ...], values: Any) -> tuple[int | str, ...]:
    """The part of a Pydantic location that is a place in the values; it goes on with names of types."""
    here, place = values, []
    for part in loc:
        try:
            here = here[part]
        except (TypeError, LookupError):
            break
        place.append(part)
    return tuple(place)


def _shown(value: Any, *, secret: bool) -> str:
    if secret:
        return "the value (not shown) cannot be taken, "
    if isinstance(value, dict | BaseModel):
        return "the value cannot be taken, "
    text = hide(repr(value))
    return f"{text if len(text) <= 80 else text[:77] + '...'} cannot be taken, "


def _expected(detail: ErrorDetails, *, secret: bool) -> str:
    """What to give, from Pydantic's own words."""
    if secret and detail["type"] in {"value_error", "assertion_error"}:
        return "give another"  # the words are the validator's own, and may hold the value
    message = detail["msg"]
    for start in ("Input should be ", "Value should be ", "String should be "):
        if message.startswith(start):
            # What follows ", unable to" tells how Pydantic failed, not what to give.
            wanted = message.removeprefix(start).partition(", unable to")[0]
            return f"give a value {wanted}" if wanted.startswith(("greater", "less")) else f"give {wanted}"
    message = message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    message = message.replace("String should have", "text of").replace("List should have", "a list of")
    message = message.replace("String should match pattern", "text that matches")
    return message if message.startswith(("give ", "cannot ")) else f"give {message[0].lower()}{message[1:]}"
