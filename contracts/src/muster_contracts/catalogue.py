"""The catalogue: every contract of every area, found by walking the package.

Subjects, streams, permissions, schemas, the AsyncAPI document and the map all come from here.
"""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from functools import cache
from types import ModuleType

from pydantic import BaseModel

import muster_contracts
from muster_contracts.message import Ask, Delivery, Message, Problem, Role


@cache
def contracts() -> tuple[type[Message], ...]:
    """Every contract, in the order of areas, versions and definition."""
    return tuple(walk(muster_contracts))


def walk(package: ModuleType) -> Iterator[type[Message]]:
    """The contracts of one package: whatever has a subject in its ``<area>/v<number>.py``."""
    for area in pkgutil.iter_modules(package.__path__):
        if not area.ispkg:
            continue
        room = importlib.import_module(f"{package.__name__}.{area.name}")
        for version in pkgutil.iter_modules(room.__path__):
            if re.fullmatch(r"v\d+", version.name):
                yield from _defined_in(importlib.import_module(f"{room.__name__}.{version.name}"))


def _defined_in(module: ModuleType) -> Iterator[type[Message]]:
    for value in vars(module).values():
        is_contract = isinstance(value, type) and issubclass(value, Message) and "SUBJECT" in vars(value)
        if is_contract and value.__module__ == module.__name__:
            yield value


def name_of(model: type[BaseModel]) -> str:
    """The name of a contract or an answer, for example ``agent.v1.Heartbeat`` or ``message.Problem``."""
    return ".".join([*model.__module__.split(".")[1:], model.__name__])


def with_answers(kinds: list[type[Message]]) -> list[type[BaseModel]]:
    """The contracts and what their asks are answered with, each once: all that travels on the bus."""
    answers: list[type[BaseModel]] = [kind.ANSWER for kind in kinds if issubclass(kind, Ask)]
    return list(dict.fromkeys([*kinds, *answers, Problem]))


def area_of(contract: type[Message]) -> str:
    """The area a contract belongs to: ``agent``, ``host``, ``fleet``."""
    return contract.contract().partition(".")[0]


def said_by(role: Role) -> list[type[Message]]:
    """What ``role`` may say, its more general roles included."""
    return [kind for kind in contracts() if _plays(role, kind.SAID_BY)]


def heard_by(role: Role) -> list[type[Message]]:
    """What ``role`` may hear, its more general roles included."""
    return [kind for kind in contracts() if _plays(role, kind.HEARD_BY)]


def durable() -> list[type[Message]]:
    """Every contract that is kept in a stream."""
    return [kind for kind in contracts() if kind.DELIVERY is Delivery.DURABLE]


_GENERAL = {
    Role.HOST_AGENT: (Role.AGENT,),
    Role.FLEET_REGISTRY: (Role.ANY_SERVICE,),
    Role.STATE_STORE: (Role.ANY_SERVICE,),
    Role.HEALTH_RECOVERY: (Role.ANY_SERVICE,),
}


def _plays(role: Role, roles: tuple[Role, ...]) -> bool:
    return role in roles or any(general in roles for general in _GENERAL.get(role, ()))
