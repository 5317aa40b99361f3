"""The presence index in Redis: one sorted set of due times, one hash per agent, Lua for every step.

Each step is one call however many agents it is about. Every script first looks at the sentinel, a key
that names the database this index belongs to: without it, Redis was flushed or serves another
database, and what it says must not be believed. Time is Redis' own, so that replicas agree.

A hash holds: e epoch, p presence, l last spoke, i interval, v row version; c, s a contending run from
another boot and since when it speaks. All keys share one hash tag, so that a cluster keeps them together.
"""

import asyncio
import contextlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from fleet_registry.domain.sessions import LATE_AFTER, LOST_AFTER
from fleet_registry.ports import Beat, Entry, Judged, News, Overdue

CLAIM_SECONDS = 30
"""A claimed verdict that was not recorded by then (its registry died) may be claimed again."""
FORGET_SECONDS = 24 * 3600
"""How long the index remembers the row version of an agent that is not live."""
JUMP_SECONDS = 1.0
"""Redis' clock and the registry's monotonic one may differ by this much between two sweeps."""
CHUNK = 1000

_HEAD = """
local due, sentinel, realm, prefix = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
if redis.call('GET', sentinel) ~= realm then return redis.error_reply('FLUSHED no sentinel') end
local time = redis.call('TIME')
local now = time[1] + time[2] / 1e6
local stamp = string.format('%.6f', now)
"""

_BEAT = (
    _HEAD
    + """
local late, lost, news = tonumber(ARGV[4]), tonumber(ARGV[5]), {}
for n, beat in ipairs(cjson.decode(ARGV[3])) do
  local id, epoch, interval = beat[1], beat[2], beat[3]
  local key = prefix .. id
  local seen = redis.call('HMGET', key, 'e', 'p', 'l', 'c', 's')
  local known, presence = seen[1], seen[2]
  if known == epoch and (presence == 'online' or presence == 'late') then
    redis.call('HSET', key, 'l', stamp, 'i', interval)
    local factor = presence == 'online' and late or lost
    redis.call('ZADD', due, string.format('%.6f', now + factor * interval), id)
    if presence == 'late' then news[#news + 1] = {n - 1, '', ''} end
  elseif presence == 'retired' then
    -- An operator took it off the roll: however often it speaks, there is nothing to decide.
  elseif known and (presence == 'online' or presence == 'late')
      and string.sub(known, 1, 12) ~= string.sub(epoch, 1, 12) then
    local since = seen[5]
    if seen[4] ~= epoch then
      since = stamp
      redis.call('HSET', key, 'c', epoch, 's', since)
    end
    news[#news + 1] = {n - 1, since, seen[3] or ''}
  else
    news[#news + 1] = {n - 1, '', ''}
  end
end
return news
"""
)

_PUT = """
local due, prefix = KEYS[1], ARGV[1]
local late, lost, forget = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local time = redis.call('TIME')
local now = time[1] + time[2] / 1e6
local spoke = {}
for _, one in ipairs(cjson.decode(ARGV[2])) do
  local id, epoch, presence, interval, version, age, judged, stated = unpack(one)
  local key = prefix .. id
  local seen = redis.call('HMGET', key, 'e', 'v', 'l', 'i')
  if not seen[2] or tonumber(seen[2]) <= version then
    local last = age >= 0 and now - age or 0
    local same = seen[1] == epoch
    if same and seen[3] then
      -- The interval is the one its run stated last.
      if not stated or last < tonumber(seen[3]) then interval = tonumber(seen[4]) end
      last = math.max(last, tonumber(seen[3]))
      -- Half a millisecond: a stamp on its way through a datetime may lose a microsecond.
      if judged ~= '' and tonumber(seen[3]) > tonumber(judged) + 0.0005 then spoke[#spoke + 1] = id end
    end
    redis.call('HSET', key, 'e', epoch, 'p', presence, 'i', interval, 'v', version,
               'l', string.format('%.6f', last))
    if not same then redis.call('HDEL', key, 'c', 's') end
    if presence == 'online' or presence == 'late' then
      local factor = presence == 'online' and late or lost
      redis.call('ZADD', due, string.format('%.6f', last + factor * interval), id)
      redis.call('PERSIST', key)
    else
      redis.call('ZREM', due, id)
      if presence ~= 'retired' then redis.call('EXPIRE', key, forget) end
    end
  end
end
return spoke
"""

_CLAIM = (
    _HEAD
    + """
local expected, floor, limit = tonumber(ARGV[3]), now - tonumber(ARGV[4]), tonumber(ARGV[5])
local late, lost, hold = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
if expected > 0 and math.abs(now - expected) > tonumber(ARGV[9]) then
  return redis.error_reply('JUMPED the clock')
end
local ids = redis.call('ZRANGEBYSCORE', due, '-inf', stamp, 'LIMIT', 0, limit)
local claimed, moved, held = {}, {}, string.format('%.6f', now + hold)
for _, id in ipairs(ids) do
  local seen = redis.call('HMGET', prefix .. id, 'e', 'p', 'l', 'i')
  local presence = seen[2]
  if presence == 'online' or presence == 'late' then
    local since, interval = math.max(tonumber(seen[3]), floor), tonumber(seen[4])
    local next = since + (presence == 'online' and late or lost) * interval
    if now < next then
      moved[#moved + 1] = string.format('%.6f', next)
    else
      moved[#moved + 1] = held
      local dead = now >= since + lost * interval and ' 1' or ' 0'
      claimed[#claimed + 1] = id .. ' ' .. seen[1] .. ' ' .. seen[3] .. dead
    end
    moved[#moved + 1] = id
  else
    redis.call('ZREM', due, id)
  end
end
-- One call and one string, however many there are: a nested reply costs more to read than to find.
if #moved > 0 then redis.call('ZADD', due, unpack(moved)) end
return {stamp, #ids, table.concat(claimed, ' ')}
"""
)

_RESET = (
    _HEAD
    + """
for _, id in ipairs(redis.call('ZRANGE', due, 0, -1)) do
  local interval = tonumber(redis.call('HGET', prefix .. id, 'i') or '0')
  redis.call('HSET', prefix .. id, 'l', stamp)
  redis.call('ZADD', due, string.format('%.6f', now + tonumber(ARGV[3]) * interval), id)
end
return stamp
"""
)

_STRAYS = (
    _HEAD
    + """
local strays = {}
for n, one in ipairs(cjson.decode(ARGV[3])) do
  local seen = redis.call('HMGET', prefix .. one[1], 'e', 'p')
  if seen[1] ~= one[2] or seen[2] ~= one[3] or not redis.call('ZSCORE', due, one[1]) then
    strays[#strays + 1] = n - 1
  end
end
return strays
"""
)


class IndexGone(ConnectionError):
    """Redis cannot be used just now."""


class IndexFlushed(Exception):
    """Redis answers, but it has lost the index, or holds another database's."""


class ClockJumped(Exception):
    """Redis' clock was set: every due time is wrong."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """What one claim looked at and found."""

    redis_now: float
    looked_at: int
    overdue: list[Overdue]


class RedisIndex:
    """The scripts, one method each.

    Raises:
        IndexGone: from any method, when Redis cannot be used.
        IndexFlushed: from any method but ``put`` and ``ready``, when the sentinel is not there.
    """

    def __init__(self, url: str, *, password: str | None = None, timeout_seconds: float = 1.0) -> None:
        self.realm = ""
        """The name of the database this index belongs to; set before anything else is asked."""
        self._redis = Redis.from_url(
            url,
            password=password,
            protocol=3,
            decode_responses=True,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            retry=None,
            client_name="fleet-registry",
        )
        self._due, self._sentinel, self._prefix = (
            "{muster-fleet}:due",
            "{muster-fleet}:realm",
            "{muster-fleet}:a:",
        )
        register = self._redis.register_script
        self._beat, self._put, self._claim = register(_BEAT), register(_PUT), register(_CLAIM)
        self._reset, self._strays = register(_RESET), register(_STRAYS)

    async def beat(self, beats: Sequence[Beat]) -> list[News]:
        """Note the beats; returns those that need a decision."""
        packed = json.dumps([(one.agent_id, one.epoch, one.interval_seconds) for one in beats])
        news = await self._call(self._beat, self.realm, self._prefix, packed, LATE_AFTER, LOST_AFTER)
        return [News(beats[int(n)], _moment(since), _moment(spoke)) for n, since, spoke in news]

    async def put(self, entries: Sequence[Entry], judged: Judged, now: datetime) -> set[str]:
        """Take over entries, unless a newer row version is there; works without the sentinel."""
        spoke: set[str] = set()
        for start in range(0, len(entries), CHUNK):
            packed = json.dumps([_packed(one, judged, now) for one in entries[start : start + CHUNK]])
            spoke |= set(
                await self._call(self._put, self._prefix, packed, LATE_AFTER, LOST_AFTER, FORGET_SECONDS)
            )
        return spoke

    async def claim(self, limit: int, expected_now: float, floor_age: float) -> Sweep:
        """Claim what is due, counting silence only from ``floor_age`` seconds ago.

        Raises:
            ClockJumped: Redis' time is not near ``expected_now`` (0: not known).
        """
        stamp, looked_at, claimed = await self._call(
            self._claim, self.realm, self._prefix, expected_now, floor_age, limit,
            LATE_AFTER, LOST_AFTER, CLAIM_SECONDS, JUMP_SECONDS,
        )  # fmt: skip
        words = claimed.split()
        overdue = [
            Overdue(id_, epoch, _moment(last), dead == "1")
            for id_, epoch, last, dead in zip(words[::4], words[1::4], words[2::4], words[3::4], strict=True)
        ]
        return Sweep(float(stamp), int(looked_at), overdue)

    async def reset(self) -> None:
        """Every agent has spoken just now, as far as anyone can tell; after the clock was set."""
        await self._call(self._reset, self.realm, self._prefix, LATE_AFTER)

    async def seen(self, agent_ids: Sequence[str]) -> dict[str, datetime]:
        """When agents last spoke."""
        with _translated():
            pipe = self._redis.pipeline(transaction=False)
            pipe.get(self._sentinel)
            for agent_id in agent_ids:
                pipe.hget(self._prefix + agent_id, "l")
            realm, *stamps = await pipe.execute()
        if realm != self.realm:
            raise IndexFlushed
        found = zip(agent_ids, map(_moment, stamps), strict=True)
        return {agent_id: moment for agent_id, moment in found if moment is not None}

    async def strays(self, entries: Sequence[Entry]) -> list[Entry]:
        """Of the live ``entries``, those the index holds otherwise or whose silence it would not notice."""
        found: list[Entry] = []
        for start in range(0, len(entries), CHUNK):
            chunk = entries[start : start + CHUNK]
            packed = json.dumps([(one.agent_id, one.epoch or "", one.presence) for one in chunk])
            found += [chunk[int(n)] for n in await self._call(self._strays, self.realm, self._prefix, packed)]
        return found

    async def watched(self) -> set[str]:
        """The agents whose silence is measured."""
        with _translated():
            return {str(one) for one in await self._redis.zrange(self._due, 0, -1)}

    async def drop(self, agent_ids: Iterable[str]) -> None:
        """Forget agents."""
        ids = list(agent_ids)
        if ids:
            with _translated():
                pipe = self._redis.pipeline(transaction=False)
                pipe.zrem(self._due, *ids)
                pipe.delete(*(self._prefix + one for one in ids))
                await pipe.execute()

    async def is_ready(self) -> bool:
        """Whether Redis answers and holds this database's index."""
        with _translated():
            return bool(await self._redis.get(self._sentinel) == self.realm)

    async def empty(self) -> None:
        """Forget everything but other programs' keys."""
        with _translated():
            keys = [key async for key in self._redis.scan_iter(match="{muster-fleet}:*", count=CHUNK)]
            for start in range(0, len(keys), CHUNK):
                await self._redis.unlink(*keys[start : start + CHUNK])

    async def ready(self) -> None:
        """Say that the index is complete."""
        with _translated():
            await self._redis.set(self._sentinel, self.realm)

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def _call(self, script: Any, *arguments: object) -> Any:
        with _translated():
            return await script(keys=[self._due, self._sentinel], args=arguments)


def _packed(entry: Entry, judged: Judged, now: datetime) -> tuple[object, ...]:
    age = -1.0 if entry.last_seen is None else max(0.0, (now - entry.last_seen).total_seconds())
    at = judged.get(entry.agent_id)
    return (
        entry.agent_id, entry.epoch or "", entry.presence, entry.interval_seconds, entry.version, age,
        "" if at is None else f"{at.timestamp():.6f}", entry.stated,
    )  # fmt: skip


def _moment(stamp: str | None) -> datetime | None:
    return datetime.fromtimestamp(float(stamp), UTC) if stamp and float(stamp) > 0 else None


class _translated(contextlib.AbstractContextManager[None]):  # noqa: N801  (reads as a word at its use)
    """What Redis says, in the index's own errors."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            _be_cancelled_if_asked()
        if isinstance(error, ResponseError) and str(error).startswith("FLUSHED"):
            raise IndexFlushed from None
        if isinstance(error, ResponseError) and str(error).startswith("JUMPED"):
            raise ClockJumped from None
        if isinstance(error, RedisError | OSError | TimeoutError):
            raise IndexGone(f"cannot use Redis: {str(error) or type(error).__name__}") from error


def _be_cancelled_if_asked() -> None:
    """redis-py 8.1 sometimes finishes a call whose task was cancelled meanwhile, and forgets about it."""
    task = asyncio.current_task()
    if task and task.cancelling():
        raise asyncio.CancelledError
