"""Trouble with the database, in the registry's own word for it."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from sqlalchemy.exc import InterfaceError, OperationalError

from fleet_registry.ports import Unavailable
from muster_sql import DatabaseError

C = TypeVar("C")

TROUBLE = (DatabaseError, OperationalError, InterfaceError, OSError, TimeoutError)


def translated(adapter: type[C]) -> type[C]:
    """Let every public coroutine of ``adapter`` raise ``Unavailable`` while the database cannot be used."""
    for name, method in list(vars(adapter).items()):
        if inspect.iscoroutinefunction(method) and not name.startswith("_"):
            setattr(adapter, name, _translating(method))
    return adapter


def _translating(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    async def reach(*args: Any, **kwargs: Any) -> Any:
        try:
            return await method(*args, **kwargs)
        except TROUBLE as error:
            raise Unavailable(f"cannot use the database just now: {type(error).__name__}") from error

    return reach
