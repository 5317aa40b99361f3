"""Finding rows by pairs of columns, along their index, on both databases."""

import json
from collections.abc import Iterable
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import Column, Select, Table, Text, and_, bindparam, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

PAIRS = "pairs"


def by_pairs(
    connection: AsyncConnection, table: Table, columns: tuple[Column[Any], Column[Any]]
) -> Select[Any]:
    """The rows of ``table`` whose two columns are one of the pairs that are ``given``; 10,000 at most.

    SQLite reads a whole table for ``(a, b) IN (VALUES …)``. So it gets the pairs as one JSON array to join
    with, which is also one parameter and one statement, however many pairs there are.
    """
    return _by_pairs(table, columns, is_sqlite=connection.dialect.name == "sqlite")


def given(connection: AsyncConnection, pairs: Iterable[tuple[Any, Any]]) -> dict[str, Any]:
    """The parameters of ``by_pairs``."""
    if connection.dialect.name != "sqlite":
        return {PAIRS: list(pairs)}
    return {PAIRS: json.dumps([[_plain(first), _plain(second)] for first, second in pairs])}


@cache  # to build one takes longer than to run it
def _by_pairs(table: Table, columns: tuple[Column[Any], Column[Any]], *, is_sqlite: bool) -> Select[Any]:
    if not is_sqlite:
        return select(table).where(tuple_(*columns).in_(bindparam(PAIRS, expanding=True)))
    wanted = func.json_each(bindparam(PAIRS, type_=Text)).table_valued("value", name="wanted")
    first, second = (func.json_extract(wanted.c.value, path) for path in ("$[0]", "$[1]"))
    return select(table).select_from(wanted).join(table, and_(columns[0] == first, columns[1] == second))


def _plain(value: Any) -> Any:
    """As SQLite keeps it."""
    return value.hex if isinstance(value, UUID) else value
