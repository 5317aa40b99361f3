"""The catalogue: every contract of every area, found by walking the package.

Subjects, streams, permissions, schemas, the AsyncAPI document and the map all come from here.
"""

import importlib
import pkgutil
from functools import cache

import muster_contracts
from muster_contracts.message import Delivery, Message, Role


@cache
def contracts() -> tuple[type[Message], ...]:
    """Every contract, in the order of areas, versions and definition."""
    found: list[type[Message]] = []
    for area in pkgutil.iter_modules(muster_contracts.__path__):
        if not area.ispkg:
            continue
        package = importlib.import_module(f"muster_contracts.{area.name}")
        for version in pkgutil.iter_modules(package.__path__):
            module = importlib.import_module(f"{package.__name__}.{version.name}")
            found += [
                value
                for value in vars(module).values()
                if isinstance(value, type)
                and issubclass(value, Message)
                and value.__module__ == module.__name__
                and "SUBJECT" in vars(value)
            ]
    return tuple(found)


def by_name(contract: str) -> type[Message]:
    """The contract called ``contract``, for example ``agent.v1.Heartbeat``.

    Raises:
        KeyError: there is none.
    """
    return {kind.contract(): kind for kind in contracts()}[contract]


def area_of(contract: type[Message]) -> str:
    """The area a contract belongs to: ``agent``, ``host``, ``fleet``, …"""
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


_GENERAL = {Role.HOST_AGENT: (Role.AGENT,), Role.FLEET_REGISTRY: (Role.ANY_SERVICE,)}


def _plays(role: Role, roles: tuple[Role, ...]) -> bool:
    return role in roles or any(general in roles for general in _GENERAL.get(role, ()))
