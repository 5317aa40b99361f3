"""How a message of an old version becomes one of the newest.

When ``v2.py`` appears beside ``v1.py``, each class of v1 that has a namesake there gains
``def upgrade(self) -> v2.Name``. Hearers read both; the sayers move to v2; v1 goes one release later.
"""

from typing import Protocol, runtime_checkable

from pydantic import BaseModel

from muster_contracts.catalogue import name_of


@runtime_checkable
class Upgradable(Protocol):
    """A message that knows its successor."""

    def upgrade(self) -> BaseModel:
        """The same meaning in the next version."""
        ...


def newest(message: BaseModel) -> BaseModel:
    """The message in the newest version that it can be upgraded to; itself, if it is of that version."""
    while isinstance(message, Upgradable):
        message = message.upgrade()
    return message


def missing(models: list[type[BaseModel]]) -> list[str]:
    """The models that have a successor but no way to it, as sentences."""
    known = {name_of(model) for model in models}
    return [
        f"cannot upgrade {name_of(model)}: give it an upgrade() that returns {_successor(model)}"
        for model in models
        if _successor(model) in known and not hasattr(model, "upgrade")
    ]


def lost_meaning(message: BaseModel) -> list[str]:
    """What one upgrade of a message gets wrong, as sentences: another kind, or a shared field that differs.

    Raises:
        AttributeError: the message cannot be upgraded.
    """
    assert isinstance(message, Upgradable)
    upgraded = message.upgrade()
    name, wanted = name_of(type(message)), _successor(type(message))
    if name_of(type(upgraded)) != wanted:
        return [f"cannot upgrade {name} to {name_of(type(upgraded))}: its successor is {wanted}"]
    old, new = message.model_dump(mode="json"), upgraded.model_dump(mode="json")
    return [
        f"cannot upgrade {name}: {field} was {old[field]!r} and became {new[field]!r}"
        for field in old.keys() & new.keys()
        if old[field] != new[field]
    ]


def _successor(model: type[BaseModel]) -> str:
    """The name the model has one version later; empty for what has no version."""
    area, _, rest = name_of(model).partition(".v")
    number, _, name = rest.partition(".")
    return f"{area}.v{int(number) + 1}.{name}" if rest else ""
