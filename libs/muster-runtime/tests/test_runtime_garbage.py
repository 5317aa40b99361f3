"""The garbage collector of a process that hears firehoses."""

import gc
from collections.abc import Iterator

import pytest

from muster_runtime import collect_garbage_seldom


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)


def test_cyclic_garbage_is_looked_for_seldom_and_not_never() -> None:
    collect_garbage_seldom()
    assert gc.isenabled()
    assert gc.get_threshold()[0] == 50_000
