"""A stream that was once made and is gone is a loss, and stays one until a person removes the marker."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from muster_bus.streams import STREAMS
from muster_client.embedded import losses
from muster_client.embedded.layout import Layout


class Broker:
    """Knows some streams."""

    def __init__(self, *there: str) -> None:
        self.there = there

    async def stream_info(self, name: str) -> Any:
        if name not in self.there:
            raise NotFoundError
        return SimpleNamespace()


def broker(*there: str) -> JetStreamContext:
    return cast("JetStreamContext", Broker(*there))


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout.at(tmp_path)


async def test_a_first_start_and_streams_that_are_there_are_no_loss(layout: Layout) -> None:
    await losses.note(layout, broker())
    losses.remember(layout)
    await losses.note(layout, broker(*STREAMS))
    assert not losses.complaint(layout)


async def test_each_loss_is_told_until_the_marker_is_removed(layout: Layout) -> None:
    losses.remember(layout)
    first, *others = STREAMS
    await losses.note(layout, broker(*others))
    await losses.note(layout, broker())
    await losses.note(layout, broker(*STREAMS))
    told = losses.complaint(layout)
    assert told.count("found missing at") == 2
    assert f"made anew: {first} found missing" in told
    assert str(layout.streams_lost) in losses.advice(layout)
    layout.streams_lost.unlink()
    assert not losses.complaint(layout)


@pytest.mark.parametrize("text", ["", "{", "[1]", "3", "[" * 100_000])
async def test_what_was_made_and_cannot_be_read_counts_as_everything(layout: Layout, text: str) -> None:
    layout.streams_made.write_text(text)
    await losses.note(layout, broker())
    assert all(name in losses.complaint(layout) for name in STREAMS)
