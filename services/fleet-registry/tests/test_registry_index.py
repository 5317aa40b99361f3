"""The presence index on a real Redis: what it settles, what it claims, what it does not believe."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from fleet_registry.adapters.mirror import Mirror
from fleet_registry.adapters.presence_index import PresenceIndex
from fleet_registry.adapters.redis_index import ClockJumped, IndexFlushed, IndexGone, RedisIndex
from fleet_registry.ports import Beat, Entry
from muster_contracts.fleet.v1 import Presence
from muster_contracts.ids import make_epoch
from muster_runtime import SystemClock
from muster_testing.servers import RedisServer, free_port
from muster_testing.wait import until

FIRST, SECOND = make_epoch("a" * 12, 1), make_epoch("a" * 12, 2)
ELSEWHERE = make_epoch("b" * 12, 1)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


@pytest.fixture
async def redis(server: RedisServer) -> AsyncIterator[RedisIndex]:
    index = RedisIndex(server.url)
    index.realm = "this-database"
    await index.empty()
    await index.ready()
    yield index
    await index.close()


def now() -> datetime:
    return datetime.now(UTC)


def entry(agent_id: str = "web-1", presence: Presence = Presence.ONLINE, **more: object) -> Entry:
    values = {"epoch": FIRST, "interval_seconds": 5.0, "version": 1, "last_seen": now(), **more}
    return Entry(agent_id=agent_id, presence=presence, **values)  # type: ignore[arg-type]


def ago(seconds: float) -> datetime:
    return now() - timedelta(seconds=seconds)


async def test_a_beat_of_an_online_agents_run_is_no_news(redis: RedisIndex) -> None:
    await redis.put([entry()], {}, now())
    assert await redis.beat([Beat("web-1", FIRST, 5.0)]) == []


@pytest.mark.parametrize("presence", sorted(set(Presence) - {Presence.ONLINE, Presence.RETIRED}))
async def test_a_beat_of_an_agent_that_is_not_online_is_news(redis: RedisIndex, presence: Presence) -> None:
    await redis.put([entry(presence=presence)], {}, now())
    [news] = await redis.beat([Beat("web-1", FIRST, 5.0)])
    assert news.beat.agent_id == "web-1"


async def test_a_beat_of_an_unknown_agent_or_of_another_run_is_news(redis: RedisIndex) -> None:
    await redis.put([entry()], {}, now())
    beats = [Beat("web-2", FIRST, 5.0), Beat("web-1", SECOND, 5.0), Beat("web-1", FIRST, 5.0)]
    assert [one.beat for one in await redis.beat(beats)] == beats[:2]


async def test_a_beat_of_a_retired_agent_is_no_news(redis: RedisIndex) -> None:
    await redis.put([entry(presence=Presence.RETIRED)], {}, now())
    assert await redis.beat([Beat("web-1", SECOND, 5.0)]) == []


async def test_a_run_from_another_boot_is_told_since_when_it_speaks(redis: RedisIndex) -> None:
    await redis.put([entry()], {}, now())
    [first] = await redis.beat([Beat("web-1", ELSEWHERE, 5.0)])
    await redis.beat([Beat("web-1", FIRST, 5.0)])
    [again] = await redis.beat([Beat("web-1", ELSEWHERE, 5.0)])
    assert first.contest_since == again.contest_since
    assert first.contest_since
    assert first.known_spoke
    assert again.known_spoke
    assert first.known_spoke < first.contest_since < again.known_spoke


async def test_nobody_is_claimed_before_its_time(redis: RedisIndex) -> None:
    await redis.put([entry(last_seen=ago(7.0))], {}, now())
    assert (await redis.claim(10, 0, 1e6)).overdue == []


async def test_late_after_one_and_a_half_intervals_and_dead_after_two_and_a_half(redis: RedisIndex) -> None:
    ages = {"late": 7.6, "dead": 12.6}
    await redis.put([entry(name, last_seen=ago(age)) for name, age in ages.items()], {}, now())
    claimed = {one.agent_id: one.dead for one in (await redis.claim(10, 0, 1e6)).overdue}
    assert claimed == {"late": False, "dead": True}


async def test_a_claim_is_made_by_one_only(redis: RedisIndex) -> None:
    await redis.put([entry(f"web-{n}", last_seen=ago(60)) for n in range(20)], {}, now())
    claims = [await redis.claim(7, 0, 1e6) for _ in range(4)]
    ids = [one.agent_id for sweep in claims for one in sweep.overdue]
    assert sorted(ids) == sorted({f"web-{n}" for n in range(20)})


async def test_silence_counts_only_from_when_anything_could_be_heard(redis: RedisIndex) -> None:
    await redis.put([entry(last_seen=ago(600))], {}, now())
    assert (await redis.claim(10, 0, 5.0)).overdue == []
    assert (await redis.claim(10, 0, 1e6)).overdue == []  # its time was moved; only its score counts now
    await redis.put([entry(last_seen=ago(600), version=2)], {}, now())
    assert [one.dead for one in (await redis.claim(10, 0, 8.0)).overdue] == [False]


async def test_whoever_spoke_between_its_verdict_and_the_record_is_given_back(redis: RedisIndex) -> None:
    await redis.put([entry(last_seen=ago(8))], {}, now())
    [overdue] = (await redis.claim(10, 0, 1e6)).overdue
    await redis.beat([Beat("web-1", FIRST, 5.0)])
    late = entry(presence=Presence.LATE, version=2, last_seen=None)
    assert await redis.put([late], {"web-1": overdue.last_seen}, now()) == {"web-1"}


async def test_whoever_stayed_silent_is_not_given_back(redis: RedisIndex) -> None:
    await redis.put([entry(last_seen=ago(8))], {}, now())
    [overdue] = (await redis.claim(10, 0, 1e6)).overdue
    late = entry(presence=Presence.LATE, version=2, last_seen=None)
    assert await redis.put([late], {"web-1": overdue.last_seen}, now()) == set()


async def test_an_older_row_version_never_overwrites_a_newer_one(redis: RedisIndex) -> None:
    await redis.put([entry(presence=Presence.LOST, version=3)], {}, now())
    await redis.put([entry(version=2)], {}, now())
    assert len(await redis.beat([Beat("web-1", FIRST, 5.0)])) == 1
    assert await redis.watched() == set()


async def test_a_verdict_or_a_label_does_not_bring_an_old_interval_back(redis: RedisIndex) -> None:
    await redis.put([entry(last_seen=ago(60))], {}, now())
    await redis.beat([Beat("web-1", FIRST, 15.0)])
    for version, stated in ((1, False), (2, False), (2, True)):
        await redis.put([entry(version=version, last_seen=ago(60), stated=stated)], {}, now())
        assert await _interval(redis) == 15
    await redis.put([entry(epoch=SECOND, version=3, interval_seconds=7.0)], {}, now())
    assert await _interval(redis) == 7
    await redis.put([entry(epoch=SECOND, version=3, interval_seconds=9.0, stated=True)], {}, now())
    assert await _interval(redis) == 9


async def _interval(redis: RedisIndex, agent_id: str = "web-1") -> float:
    return float(str(await redis._redis.hget(redis._prefix + agent_id, "i")))


async def test_what_redis_lost_is_filled_with_the_interval_stated_last(redis: RedisIndex) -> None:
    heard_elsewhere = now() + timedelta(seconds=1)
    truth = [entry(last_seen=ago(60), stated=True), entry("web-2", last_seen=ago(60), stated=True)]

    async def recorded() -> list[Entry]:
        return truth

    index = PresenceIndex(redis, recorded, SystemClock())
    await index.recover()
    await index.beat([Beat("web-1", FIRST, 15.0)])
    truth[1] = entry("web-2", last_seen=heard_elsewhere, interval_seconds=20.0, stated=True)
    await redis._redis.flushall()
    await index.beat([])
    await until(lambda: _recovers(index))
    assert [await _interval(redis, name) for name in ("web-1", "web-2")] == [15, 20]


async def test_a_flushed_redis_is_not_believed(redis: RedisIndex) -> None:
    await redis.put([entry()], {}, now())
    await redis._redis.flushall()
    with pytest.raises(IndexFlushed):
        await redis.beat([Beat("web-1", FIRST, 5.0)])
    with pytest.raises(IndexFlushed):
        await redis.claim(10, 0, 1e6)
    with pytest.raises(IndexFlushed):
        await redis.seen(["web-1"])


async def test_the_index_of_another_database_is_not_believed(redis: RedisIndex, server: RedisServer) -> None:
    other = RedisIndex(server.url)
    other.realm = "another-database"
    with pytest.raises(IndexFlushed):
        await other.beat([Beat("web-1", FIRST, 5.0)])
    await other.close()


async def test_a_clock_that_was_set_claims_nobody(redis: RedisIndex) -> None:
    await redis.put([entry(last_seen=ago(60))], {}, now())
    with pytest.raises(ClockJumped):
        await redis.claim(10, now().timestamp() - 86400, 1e6)
    await redis.reset()
    assert (await redis.claim(10, now().timestamp(), 1e6)).overdue == []


async def test_ten_thousand_beats_are_one_call(redis: RedisIndex) -> None:
    names = [f"web-{n}" for n in range(10_000)]
    await redis.put([entry(name) for name in names], {}, now())
    before = (await redis._redis.info("stats"))["total_commands_processed"]
    assert await redis.beat([Beat(name, FIRST, 5.0) for name in names]) == []
    assert (await redis._redis.info("stats"))["total_commands_processed"] - before < 50_000
    assert len(await redis.seen(names)) == 10_000


async def test_what_differs_from_the_truth_is_found(redis: RedisIndex) -> None:
    await redis.put([entry("same"), entry("other", epoch=FIRST)], {}, now())
    truth = [entry("same"), entry("other", epoch=SECOND), entry("missing")]
    assert [one.agent_id for one in await redis.strays(truth)] == ["other", "missing"]


async def test_a_redis_that_is_not_there_is_gone_and_not_an_error_of_its_own() -> None:
    index = RedisIndex(f"redis://127.0.0.1:{free_port()}/0", timeout_seconds=0.2)
    with pytest.raises(IndexGone, match=r"^cannot use Redis: "):
        await index.beat([Beat("web-1", FIRST, 5.0)])
    await index.close()


async def test_a_redis_that_hangs_is_gone_after_its_timeout() -> None:
    with RedisServer() as server:
        index = RedisIndex(server.url, timeout_seconds=0.2)
        server.pause()
        with pytest.raises(IndexGone):
            await index.is_ready()
        server.resume()
        await index.close()


# Redis and the mirror together ------------------------------------------------------------------------


async def test_the_mirror_stands_in_and_what_it_heard_is_merged_when_redis_is_back() -> None:
    with RedisServer() as server:
        redis = RedisIndex(server.url, timeout_seconds=0.5)
        redis.realm = "this-database"

        async def recorded() -> list[Entry]:
            return [entry(f"web-{n}", last_seen=ago(60)) for n in range(3)]

        index = PresenceIndex(redis, recorded, SystemClock())
        await index.recover()
        assert not _complaint(index)
        server.kill()
        assert await index.beat([Beat("web-0", FIRST, 5.0)]) == []
        assert "cannot use Redis" in _complaint(index)
        assert await index.claim(10) == []
        heard = (await index.seen(["web-0"]))["web-0"]
        server.start()
        await until(lambda: _recovers(index))
        assert await index.claim(10) == []
        there = (await redis.seen(["web-0"]))["web-0"]
        assert abs((there - heard).total_seconds()) < 0.5
        await index.close()


def _complaint(index: PresenceIndex) -> str:
    return index.degraded.text if index.degraded else ""


async def _recovers(index: PresenceIndex) -> bool:
    await index.recover()
    return index.degraded is None


async def test_tending_mends_what_is_missing_and_drops_what_is_no_more(redis: RedisIndex) -> None:
    async def recorded() -> list[Entry]:
        return [entry("web-1")]

    index = PresenceIndex(redis, recorded, SystemClock())
    await index.recover()
    await redis.drop(["web-1"])
    await redis.put([entry("ghost")], {}, now())
    assert await index.tend() == 2
    assert await redis.watched() == {"web-1"}
    assert await index.tend() == 0


class StoppedClock(SystemClock):
    """A clock whose monotonic time moves only when told."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def monotonic(self) -> float:
        return self.seconds


async def test_a_process_that_hung_counts_silence_from_its_awakening(redis: RedisIndex) -> None:
    async def recorded() -> list[Entry]:
        return [entry(last_seen=ago(60))]

    clock = StoppedClock()
    index = PresenceIndex(redis, recorded, clock)
    await index.recover()
    clock.seconds += 1000  # long enough to have heard everybody
    index.tick()
    await redis.put([entry(last_seen=ago(60), version=2)], {}, now())
    clock.seconds += 30  # no tick in all that time
    assert await index.claim(10) == []
    clock.seconds += 8
    await redis.put([entry(last_seen=ago(60), version=3)], {}, now())
    index._ticked_at = clock.seconds
    index._redis_then = 0.0
    assert [one.dead for one in await index.claim(10)] == [False]


async def test_a_late_agent_that_speaks_is_news_and_not_lost_while_the_news_waits(redis: RedisIndex) -> None:
    await redis.put([entry(presence=Presence.LATE, last_seen=ago(60))], {}, now())
    assert len(await redis.beat([Beat("web-1", FIRST, 5.0)])) == 1
    assert (await redis.claim(10, 0, 1e6)).overdue == []


def test_the_mirror_tells_the_same_news_as_redis() -> None:
    mirror = Mirror()
    mirror.put([entry(), entry("gone", Presence.LOST), entry("old", Presence.RETIRED)])
    beats = [
        Beat("web-1", FIRST, 5.0),
        Beat("gone", FIRST, 5.0),
        Beat("old", FIRST, 5.0),
        Beat("new", FIRST, 5.0),
    ]
    assert [one.beat.agent_id for one in mirror.beat(beats, now())] == ["gone", "new"]
    first = mirror.beat([Beat("web-1", ELSEWHERE, 5.0)], now())[0]
    mirror.beat([Beat("web-1", FIRST, 5.0)], now())
    again = mirror.beat([Beat("web-1", ELSEWHERE, 5.0)], now())[0]
    assert again.contest_since == first.contest_since
    assert again.known_spoke
    assert again.contest_since
    assert again.known_spoke > again.contest_since
