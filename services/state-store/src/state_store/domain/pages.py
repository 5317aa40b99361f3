"""Cutting answers to size."""

from collections.abc import Sequence
from typing import TypeVar

from pydantic import BaseModel

M = TypeVar("M", bound=BaseModel)


def fitting(items: Sequence[M], most_bytes: int) -> list[M]:
    """The first items whose JSON is at most ``most_bytes`` long together; the very first in any case."""
    page: list[M] = []
    room = most_bytes
    for item in items:
        room -= len(item.__pydantic_serializer__.to_json(item)) + 1
        if page and room < 0:
            break
        page.append(item)
    return page
