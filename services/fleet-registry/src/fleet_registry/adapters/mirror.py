"""The presence index in this process's memory: what Redis is rebuilt from, and its stand-in meanwhile.

It knows what this registry has heard and recorded itself. That is enough to tell what is news; it is
not enough to judge silence, because another registry may have heard the agent.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from fleet_registry.domain.presence import LIVE
from fleet_registry.ports import Beat, Entry, News
from muster_contracts.fleet.v1 import Presence
from muster_contracts.ids import boot_of


@dataclass(slots=True)
class _Known:
    epoch: str | None
    presence: Presence
    interval_seconds: float
    version: int
    last_seen: datetime | None
    stated: bool = False
    contender: str | None = None
    contest_since: datetime | None = None


class Mirror:
    """Who spoke last when, as far as this process heard."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}
        self._touched: set[str] = set()

    def beat(self, beats: Sequence[Beat], now: datetime) -> list[News]:
        """Note the beats; returns those that need a decision."""
        news = []
        for beat in beats:
            known = self._known.get(beat.agent_id)
            if known is not None and known.epoch == beat.epoch and known.presence in LIVE:
                known.last_seen, known.interval_seconds, known.stated = now, beat.interval_seconds, True
                self._touched.add(beat.agent_id)
                if known.presence is Presence.LATE:
                    news.append(News(beat))
            elif known is None or known.presence is not Presence.RETIRED:
                news.append(_news(beat, known, now))
        return news

    def put(self, entries: Iterable[Entry]) -> None:
        """Take over entries, unless a newer row version is known."""
        for entry in entries:
            known = self._known.get(entry.agent_id)
            if known is not None and known.version > entry.version:
                continue
            self._known[entry.agent_id] = _merged(known, entry)
            self._touched.add(entry.agent_id)

    def entries(self) -> list[Entry]:
        """All that is known."""
        return [_entry(id_, one) for id_, one in self._known.items()]

    def live_epoch(self, agent_id: str) -> str | None:
        """The run an agent is taken to be in, if it is taken to run at all."""
        known = self._known.get(agent_id)
        return known.epoch if known is not None and known.presence in LIVE else None

    def last_seen(self, agent_ids: Iterable[str]) -> dict[str, datetime]:
        """When agents last spoke, of those that are known."""
        found = ((one, self._known.get(one)) for one in agent_ids)
        return {one: known.last_seen for one, known in found if known is not None and known.last_seen}

    def seen_live(self) -> dict[str, datetime]:
        """When each live agent last spoke; may be asked from another thread."""
        known = list(self._known.items())
        return {id_: one.last_seen for id_, one in known if one.last_seen and one.presence in LIVE}

    def take_touched(self) -> list[Entry]:
        """The agents that have spoken since this was last asked."""
        touched, self._touched = self._touched, set()
        return [_entry(id_, one) for id_ in touched if (one := self._known.get(id_)) is not None]


def _entry(agent_id: str, one: _Known) -> Entry:
    return Entry(
        agent_id, one.epoch, one.presence, one.interval_seconds, one.version, one.last_seen, one.stated
    )


def _merged(known: _Known | None, entry: Entry) -> _Known:
    """What is known of an agent once ``entry`` is; the interval is the one its run stated last."""
    now = _Known(
        entry.epoch, entry.presence, entry.interval_seconds, entry.version, entry.last_seen, entry.stated
    )
    if known is None or known.epoch != entry.epoch:
        return now
    before, after = (one.last_seen.timestamp() if one.last_seen else 0.0 for one in (known, entry))
    if not entry.stated or after < before:
        now.interval_seconds, now.stated = known.interval_seconds, known.stated
    now.last_seen = entry.last_seen if after >= before else known.last_seen
    return now


def _news(beat: Beat, known: _Known | None, now: datetime) -> News:
    if known is None or known.epoch is None or known.presence not in LIVE:
        return News(beat)
    if boot_of(known.epoch) == boot_of(beat.epoch):
        return News(beat)
    if known.contender != beat.epoch:
        known.contender, known.contest_since = beat.epoch, now
    return News(beat, known.contest_since, known.last_seen)
