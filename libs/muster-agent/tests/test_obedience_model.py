"""Whatever happens in whatever order: every accepted command ends exactly once, and begins at most once."""

import asyncio
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import looptime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from obedience_ground import Life, some_terms

from muster_agent.obedience.journal import Intent, Journal, Taken
from muster_bus.errors import AskError, SpoolFailed
from muster_contracts.command.v1 import ENDS, Backlog, Ended, Terms
from muster_testing.loop_time import LoopClock

COMMANDS = 5
LONG = 5000.0
"""Seconds after which everything must have ended."""

bodies = st.fixed_dictionaries(
    {"lane": st.sampled_from(["one", "two"]), "sleep": st.sampled_from([0, 0, 1, 30])},
    optional={
        "print": st.text(max_size=20), "refuse": st.just(1), "raise": st.just(1),
        "verb": st.just("dance"), "run_seconds": st.sampled_from([5.0, 300.0]),
        "start_seconds": st.sampled_from([5.0, 300.0]), "not_after": st.sampled_from([-1.0, 10.0, 3600.0]),
    },
)  # fmt: skip
which = st.integers(0, COMMANDS - 1)
steps = st.one_of(
    st.tuples(st.just("order"), which),
    st.tuples(st.just("order"), which),
    st.tuples(st.just("both"), which),
    st.tuples(st.just("cancel"), which),
    st.tuples(st.just("backlog"), st.lists(which, unique=True)),
    st.tuples(st.just("crash"), st.just(0)),
    st.tuples(st.just("stop"), st.sampled_from([0.0, 3.0])),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.5, 20.0, 100.0])),
    st.tuples(st.just("clock"), st.sampled_from([-3600.0, -5.0, 5.0, 3600.0])),
    st.tuples(st.just("spool"), st.booleans()),
)


class SetClock(LoopClock):
    """A clock that people set while everything runs."""

    ahead = 0.0

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.ahead)


class Model:
    """An agent, and what its ledger would know of it."""

    def __init__(self, directory: Path) -> None:
        self.clock = SetClock()
        self.life = Life(directory, self.clock)
        self.commands: list[Terms] = []
        self.accepted: set[int] = set()

    async def order(self, number: int) -> None:
        try:
            await self.life.bus.order(self.commands[number])
        except AskError:
            return
        self.accepted.add(number)

    async def both(self, number: int) -> None:
        """Ordered and cancelled at the same time."""
        await asyncio.gather(self.order(number), self.cancel(number))

    async def cancel(self, number: int) -> None:
        await self.life.bus.cancel(self.commands[number])

    async def backlog(self, numbers: list[int]) -> None:
        self.life.bus.backlog = Backlog(orders=[self.commands[number] for number in numbers])
        self.life.bus.reconnect()
        await asyncio.sleep(0.1)
        self.accepted |= set(numbers)

    async def crash(self, _: int) -> None:
        await self.life.crash()
        await self.life.begin()

    async def stop(self, patience: float) -> None:
        await self.life.end(patience)
        await self.life.begin()

    async def wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def set_clock(self, seconds: float) -> None:
        self.clock.ahead += seconds

    async def spool(self, works: bool) -> None:
        self.life.bus.spool_fails = None if works else SpoolFailed("cannot keep it")

    async def play(self, story: list[tuple[str, Any]]) -> None:
        acts: dict[str, Callable[[Any], Awaitable[None]]] = {
            "order": self.order, "both": self.both, "cancel": self.cancel, "backlog": self.backlog,
            "crash": self.crash, "stop": self.stop, "wait": self.wait, "clock": self.set_clock,
            "spool": self.spool,
        }  # fmt: skip
        await self.life.begin()
        for act, argument in story:
            await acts[act](argument)
        await self.spool(works=True)
        await asyncio.sleep(LONG)
        await self.life.end()

    def ends(self, number: int) -> list[Ended]:
        return self.life.bus.ends(self.commands[number])

    def began(self) -> Counter[Any]:
        return Counter(self.life.scribe.began)


def play(directory: Path, bodies: list[dict[str, Any]], story: list[tuple[str, Any]]) -> Model:
    loop = looptime.new_event_loop()
    try:
        asyncio.set_event_loop(loop)
        model = Model(directory)
        loop.run_until_complete(_prepared(model, bodies, story))
    finally:
        asyncio.set_event_loop(None)
        loop.close()
    return model


async def _prepared(model: Model, bodies: list[dict[str, Any]], story: list[tuple[str, Any]]) -> None:
    model.commands = [some_terms(model.clock, **body) for body in bodies]  # within the loop, whose time it is
    await model.play(story)


@settings(max_examples=60)
@given(bodies=st.lists(bodies, min_size=COMMANDS, max_size=COMMANDS), story=st.lists(steps, max_size=20))
def test_every_accepted_command_ends_exactly_once_and_begins_at_most_once(
    bodies: list[dict[str, Any]], story: list[tuple[str, Any]]
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        model = play(Path(directory), bodies, story)
        for number in range(COMMANDS):
            ends = model.ends(number)
            assert len({end.message_id for end in ends}) == (number in model.accepted)
            assert all(end.state in ENDS for end in ends)
            if number in model.accepted and ends[0].state in {"rejected", "expired", "cancelled"}:
                performed = model.commands[number].command_id in model.began()
                assert ends[0].started_at or not performed
        assert max(model.began().values(), default=0) <= 1
        assert model.life.obedience.open == 0
        assert not list(Path(directory, "output").iterdir())


def test_a_journal_that_forgets_begins_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remember = Journal._take

    def forget(journal: Journal, intent: Intent) -> Taken:
        journal._db.execute("DELETE FROM commands WHERE state NOT IN ('accepted', 'running')")
        return remember(journal, intent)

    monkeypatch.setattr(Journal, "_take", forget)
    model = play(tmp_path, [{}], [("order", 0), ("wait", 10.0), ("order", 0)])
    assert max(model.began().values()) == 2


def test_an_agent_that_begins_again_what_it_may_have_begun_has_two_effects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Journal._read_open
    monkeypatch.setattr(
        Journal, "_read_open", lambda journal: [replace(one, running=False) for one in read(journal)]
    )
    model = play(tmp_path, [{"sleep": 30}], [("order", 0), ("wait", 1.0), ("crash", 0), ("wait", 100.0)])
    assert max(model.began().values()) == 2
