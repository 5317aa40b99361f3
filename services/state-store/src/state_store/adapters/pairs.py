"""Finding rows by pairs of columns, along their index, on both databases."""

import json
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from sqlalchemy import Column, Select, Table, and_, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection


def by_pairs(
    connection: AsyncConnection,
    table: Table,
    columns: tuple[Column[Any], Column[Any]],
    pairs: Iterable[tuple[Any, Any]],
) -> Select[Any]:
    """The rows of ``table`` whose two columns are one of the pairs; at most 10,000 pairs.

    SQLite reads a whole table for ``(a, b) IN (VALUES …)``. So it gets the pairs as one JSON array to join
    with, which is also one parameter and one statement, however many pairs there are.
    """
    wanted = list(pairs)
    if connection.dialect.name != "sqlite":
        return select(table).where(tuple_(*columns).in_(wanted))
    array = json.dumps([[_plain(first), _plain(second)] for first, second in wanted])
    given = func.json_each(array).table_valued("value", name="wanted")
    first, second = (func.json_extract(given.c.value, path) for path in ("$[0]", "$[1]"))
    return select(table).select_from(given).join(table, and_(columns[0] == first, columns[1] == second))


def _plain(value: Any) -> Any:
    """As SQLite keeps it."""
    return value.hex if isinstance(value, UUID) else value
