"""The leader's work on incidents: it opens and ends them, plans who is told what, and sends it.

What is decided is on disk before it is done, and in memory once it is on disk. A notice is sent between two
fenced transactions, the claim and the mark: a leader that dies in between leaves it to the next one, which
sends it again under the same id.
"""

import asyncio
import random
from collections import deque
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID, uuid4, uuid5

from health_recovery.domain.incidents import Book, Case, Incident, News, Rules, Step
from health_recovery.domain.keys import Key
from health_recovery.domain.notice import Event, Item, Notice
from health_recovery.domain.notices import (
    MINUTE,
    New,
    Pace,
    Planned,
    Route,
    Status,
    Telling,
    lately,
    news_of,
    plan,
    routed,
)
from health_recovery.notice_ports import (
    Acts,
    CannotSend,
    Channel,
    End,
    NoticeStore,
    Outgoing,
    TellingKey,
    no_channels,
)
from health_recovery.ports import Judged, Unavailable
from muster_bus import AskError
from muster_bus.ending import end
from muster_contracts.health.v1 import Delivery, IncidentOpened, IncidentResolved
from muster_contracts.health.v1 import Incident as Shown
from muster_contracts.message import DurableFact
from muster_runtime import Clock, Count, Tasks, logger
from muster_runtime.metrics import Gauge

INCIDENTS = Count("muster_health_incidents_total", "Incidents by what became of them.", ("news",))
NOTICES = Count("muster_health_notices_total", "Notices by channel and outcome.", ("channel", "outcome"))

TICK_SECONDS = 1.0
REMINDED_EVERY = timedelta(seconds=15)
"""How often reminders are looked for."""
NOTICES_KEPT = timedelta(days=7)
"""Nobody asks for them: what was told is told by the incidents."""
FORGOTTEN_AT_ONCE = 200
SEND_SECONDS = 30.0
LAST_SECONDS = 3.0
"""So long the end of a term waits for what is being sent."""
TEST_SECONDS = 8.0
FIRST_PAUSE_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 300.0

log = logger(__name__)


def pause_before(attempt: int, after: float | None = None) -> float:
    """Seconds until a notice is tried again: doubling, at most five minutes, half of it by chance.

    ``after`` is what the receiver asked for; it is granted, up to an hour.
    """
    longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(attempt, 20))
    pause = random.uniform(longest / 2, longest)  # noqa: S311  (spreads retries; no secret)
    return max(pause, min(after or 0.0, 3600.0))


@dataclass(slots=True)
class Line:
    """One channel with what waits for it; one notice after the other."""

    name: str
    channel: Channel
    pace: Pace
    waiting: deque[Outgoing] = field(default_factory=deque)
    planned: deque[datetime] = field(default_factory=deque)
    """When it was given its notices of the last minute."""
    flushed: dict[str, datetime] = field(default_factory=dict)
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    taken: UUID | None = None
    """The channel took it, and that is not on disk yet."""
    complaint: str | None = None

    @property
    def failing(self) -> bool:
        """Whether its next notice was tried in vain."""
        return bool(self.waiting) and self.waiting[0].attempts > 0


class Notifying:
    """Everything that a leader holds of incidents and notices. ``load`` it, then ``start`` it."""

    def __init__(
        self,
        *,
        judged: Judged,
        store: NoticeStore,
        acts: Acts,
        channels: Mapping[str, tuple[Channel, Pace]],
        routes: Sequence[Route],
        rules: Rules,
        clock: Clock,
        give_up: timedelta = timedelta(hours=1),
        retention: timedelta = timedelta(days=90),
    ) -> None:
        self.book = Book(rules)
        self._judged, self._store, self._acts, self._clock = judged, store, acts, clock
        self._routes, self._give_up, self._retention = routes, give_up, retention
        self._lines = {name: Line(name, channel, pace) for name, (channel, pace) in channels.items()}
        self._ended: dict[UUID, Incident] = {}
        self._tellings: dict[TellingKey, Telling] = {}
        self._dirty: dict[Key, None] = {}
        self._turn = asyncio.Lock()
        self._woken = asyncio.Event()
        self._news = True
        self._reminded: datetime | None = None

    # What others call.

    async def load(self) -> None:
        """Take over where the leader before stopped."""
        rules = self.book.rules
        at = self._clock.now()
        kept = await self._store.load(at, max(rules.reopen, rules.aftermath).total_seconds())
        self.book.keep({key: Step(case) for key, case in kept.cases.items()})
        self._ended = {one.id: one for one in kept.ended}
        self._tellings = {key: one for key, one in kept.tellings.items() if key[0] in self._lines}
        for (channel, group), moment in kept.flushed.items():
            if line := self._lines.get(channel):
                line.flushed[group] = moment
        for channel, moments in kept.planned.items():
            if line := self._lines.get(channel):
                line.planned.extend(moments)
        for one in kept.outgoing:
            if line := self._lines.get(one.notice.channel):
                line.waiting.append(one)
            else:
                await self._store.dropped(one.notice.id, at, "there is no such channel any more", {})
        self.assessed([*kept.cases, *(one.key for one in self._judged.ill())], at)

    def start(self, tasks: Tasks) -> None:
        """Work until the tasks are closed."""
        Gauge(
            "muster_health_notices_waiting",
            "Notices that a channel has not taken.",
            self.waiting,
            ("channel",),
        )
        tasks.spawn("incidents", self.run)
        tasks.every("forget old notices", 3600.0, self._forget, first_after=60.0)
        for line in self._lines.values():
            tasks.spawn(f"notify {line.name}", partial(self._send, line))

    def assessed(self, keys: Iterable[Key], at: datetime) -> None:  # noqa: ARG002  (as ``ports.OnAssessed``)
        """These are judged otherwise now, or are gone."""
        self._dirty.update(dict.fromkeys(keys))
        self._woken.set()

    def open_of(self, key: Key) -> Shown | None:
        """The open incident that this package caused, or else is affected by."""
        incident = self.book.open_of(key)
        return incident.shown(gave_up=self._acts.gave_up(incident.cause)) if incident else None

    @property
    def open_count(self) -> int:
        """How many incidents last."""
        return len(self.book.open())

    async def shown(self, incident: Incident) -> Shown:
        """As messages show it, with what recovery did."""
        return incident.shown(
            await self._acts.tried(incident.cause), gave_up=self._acts.gave_up(incident.cause)
        )

    def complaints(self) -> list[str]:
        """One sentence for each channel that notices were lost on, until it works again."""
        return [line.complaint for line in self._lines.values() if line.complaint]

    def waiting(self) -> dict[tuple[str, ...], float]:
        """How many notices wait, by channel; for the metrics."""
        return {(line.name,): float(len(line.waiting)) for line in self._lines.values()}

    async def acknowledge(self, key: Key, by: str, text: str) -> list[Incident]:
        """Somebody looks after the open incident of this package; nobody is told of it but of its end."""
        async with self._turn:
            incident = self.book.open_of(key)
            if not incident:
                return []
            noted = replace(incident, acknowledged_by=by, acknowledged_text=text or None)
            step = Step(replace(self.book.cases[incident.cause], incident=noted))
            await self._keep({incident.cause: step}, self._clock.now())
            return [noted]

    async def test(self, channel: str | None, by: str) -> list[Delivery]:
        """Send a test through one channel or all, at once, and say what became of it.

        Raises:
            AskError: "not-found" if there is no such channel.
        """
        if channel is not None and channel not in self._lines:
            names = no_channels(self._lines)
            raise AskError("not-found", f"cannot test channel {channel!r}: there is none; there are: {names}")
        lines = [line for name, line in self._lines.items() if channel in {None, name}]
        return list(await asyncio.gather(*(self._test(line, by) for line in lines)))

    # Incidents.

    async def run(self) -> None:
        """Look whenever something is judged otherwise, and each second for what time alone moves."""
        while True:
            try:
                await self.look()
            except Unavailable as error:
                log.warning("cannot keep incidents now; they are looked at again", why=str(error))
                await asyncio.sleep(TICK_SECONDS)
            try:
                async with asyncio.timeout(TICK_SECONDS):
                    await self._woken.wait()
            except TimeoutError:
                pass

    async def look(self) -> None:
        """One look: incidents first, then who is to be told."""
        async with self._turn:
            self._woken.clear()
            at = self._clock.now()
            await self._look_at_packages(at)
            await self._look_at_channels(at)

    async def _look_at_packages(self, at: datetime) -> None:
        dirty, self._dirty = self._dirty, {}
        try:
            keys = [*dirty, *self.book.due(at)]
            steps = self.book.look(keys, {key: self._judged.get(key) for key in keys}, at)
            if steps:
                await self._keep(steps, at)
        except BaseException:
            self._dirty = dirty | self._dirty
            raise

    async def _keep(self, steps: Mapping[Key, Step], at: datetime) -> None:
        """Write what these looks led to, then hold it."""
        facts: list[DurableFact] = []
        ends: dict[UUID, End] = {}
        cases: dict[Key, Case] = {}
        for key, step in steps.items():
            if not step.case or not (incident := step.case.incident):
                continue
            # One that is over is written once, with what was tried; that it settles again is not worth a row.
            if step.news or (incident.is_open and self.book.cases.get(key) != step.case):
                cases[key] = step.case
            if step.news in {News.OPENED, News.RESOLVED}:
                shown = await self.shown(incident)
                facts.append(_fact(incident, shown, at))
                ends[incident.id] = End(tuple(shown.tried), shown.gave_up)
        if cases:
            await self._store.write_cases(cases, facts, ends)
        self._hold(steps)

    def _hold(self, steps: Mapping[Key, Step]) -> None:
        for key, step in steps.items():
            before = self.book.cases.get(key)
            if before and before.incident and not before.incident.is_open:
                self._ended[before.incident.id] = before.incident
            if step.news:
                INCIDENTS.add(step.news.value)
                self._say(step)
        self.book.keep(steps)
        for one in self.book.incidents():
            self._ended.pop(one.id, None)
        self._news = True

    def _say(self, step: Step) -> None:
        assert step.case
        incident = step.case.incident
        if incident and step.news in {News.OPENED, News.RESOLVED}:
            facts = {"incident": str(incident.id), "cause": str(incident.cause), "why": incident.why}
            log.info("incident", news=step.news.value, **facts)

    # Who is told.

    async def _look_at_channels(self, at: datetime) -> None:
        reminding = self._reminded is None or at - self._reminded >= REMINDED_EVERY
        if not self._news and not reminding:
            return
        self._news = False
        for line in self._lines.values():
            try:
                self._news |= await self._look_at_channel(line, at)
            except BaseException:
                self._news = True
                raise
        if reminding:
            self._reminded = at
        self._forget_told()

    async def _look_at_channel(self, line: Line, at: datetime) -> bool:
        """Plan what is due on one channel; returns whether more is news, and has to wait."""
        news = self._news_for(line, at)
        if line.failing or not news:
            return bool(news)
        while line.planned and at - line.planned[0] >= MINUTE:
            line.planned.popleft()
        due = plan(line.name, line.pace, news, flushed=line.flushed, lately=lately(line.planned, at), at=at)
        if due:
            await self._plan(line, due, at)
        return sum(len(one.news) for one in due) < len(news)

    def _news_for(self, line: Line, at: datetime) -> list[New]:
        found = []
        for incident in (*self.book.incidents(), *self._ended.values()):
            told = self._tellings.get((line.name, incident.id))
            new = news_of(incident, told, line.pace, at)
            if new and (told or line.name in routed(incident, self._routes, self._lines)):
                found.append(new)
        return found

    async def _plan(self, line: Line, due: Sequence[Planned], at: datetime) -> None:
        notices = [await self._outgoing(one, line.pace, at) for one in due]
        tellings = {
            (line.name, new.incident.id): Telling(
                new.telling[1], new.incident.health, at, new.incident.episode
            )
            for one in due
            for new in one.news
        }
        await self._store.write_notices(notices, tellings, at)
        self._tellings |= tellings
        line.waiting.extend(notices)
        line.planned.extend(at for _ in notices)
        recent = {group: last for group, last in line.flushed.items() if at - last < line.pace.group_interval}
        line.flushed = recent | {group: at for one in notices for group in one.groups}
        line.woken.set()

    async def _outgoing(self, planned: Planned, pace: Pace, at: datetime) -> Outgoing:
        listed = planned.news[: pace.most_items]
        notice = Notice(
            id=planned.id,
            channel=planned.channel,
            at=at,
            group=dict(planned.labels),
            items=[await self._item(new) for new in listed],
            more=planned.more,
        )
        told = tuple(new.incident.id for new in planned.news)
        return Outgoing(notice, planned.groups, told, next_at=at)

    async def _item(self, new: New) -> Item:
        incident = new.incident
        return Item(
            event=new.event,
            incident=await self.shown(incident),
            check=incident.check,
            site=incident.site,
            why=incident.why,
            episode=incident.episode,
        )

    def _forget_told(self) -> None:
        """Let go of what everybody knows to be over."""
        firing = {incident for (_, incident), one in self._tellings.items() if one.status is Status.FIRING}
        self._ended = {key: one for key, one in self._ended.items() if key in firing}
        held = {one.id for one in self.book.incidents()} | self._ended.keys()
        self._tellings = {key: one for key, one in self._tellings.items() if key[1] in held}

    async def _forget(self) -> None:
        """Delete what is older than incidents and notices are kept."""
        at = self._clock.now()
        incidents, notices = at - self._retention, at - min(self._retention, NOTICES_KEPT)
        try:
            while await self._store.forget(incidents, notices, FORGOTTEN_AT_ONCE):
                pass
        except Unavailable as error:
            log.warning("cannot forget old notices now", why=str(error))

    # Sending.

    async def _send(self, line: Line) -> None:
        """Send what waits for one channel, for ever; what becomes of it concerns no other channel."""
        while True:
            if not line.waiting:
                await line.woken.wait()
                line.woken.clear()
                continue
            pause = (line.waiting[0].next_at - self._clock.now()).total_seconds()
            if pause > 0:
                await asyncio.sleep(pause)
            try:
                await _in_full(self._send_first(line))
            except Unavailable as error:
                log.warning("cannot mark notices now; it is tried again", channel=line.name, why=str(error))
                await asyncio.sleep(TICK_SECONDS)

    async def _send_first(self, line: Line) -> None:
        first = line.waiting[0]
        if line.taken != first.notice.id:
            await self._store.claim(first.notice.id)
            try:
                await _handed_over(line, first.notice, SEND_SECONDS)
            except CannotSend as error:
                await self._not_sent(line, replace(first, attempts=first.attempts + 1), error)
                return
            line.taken = first.notice.id
        await self._store.sent(first.notice.id, self._clock.now())
        line.waiting.popleft()
        line.complaint = None
        self._news = True  # what gathered while it failed
        NOTICES.add(line.name, "sent")

    async def _not_sent(self, line: Line, tried: Outgoing, error: CannotSend) -> None:
        at = self._clock.now()
        next_at = at + timedelta(seconds=pause_before(tried.attempts, error.after))
        notice = tried.notice
        if error.again and next_at - notice.at < self._give_up:
            await self._store.again(notice.id, next_at, str(error))
            line.waiting[0] = replace(tried, next_at=next_at)
            NOTICES.add(line.name, "failed")
            log.warning("notice not sent; it is tried again", why=str(error), attempts=tried.attempts)
            return
        lost = {
            key: replace(self._tellings[key], status=Status.LOST, at=at)
            for key in ((line.name, incident) for incident in tried.told)
            if key in self._tellings
        }
        await self._store.dropped(notice.id, at, str(error), lost)
        self._tellings |= lost
        line.waiting.popleft()
        line.complaint = f"{error}; a notice of {notice.at:%Y-%m-%d %H:%M:%S} UTC was given up"
        self._news = True
        NOTICES.add(line.name, "dropped")
        log.error("notice given up", why=str(error), notice=str(notice.id), attempts=tried.attempts)

    async def _test(self, line: Line, by: str) -> Delivery:
        notice = Notice(id=uuid4(), kind="test", channel=line.name, at=self._clock.now(), by=by)
        try:
            await _handed_over(line, notice, TEST_SECONDS)
        except CannotSend as error:
            return Delivery(channel=line.name, ok=False, text=str(error)[:500])
        return Delivery(channel=line.name, ok=True, text="taken")


async def _in_full(sending: Coroutine[None, None, None]) -> None:
    """Send and mark even where the term ends meanwhile: what is not marked, the next leader repeats."""
    task = asyncio.create_task(sending)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=LAST_SECONDS)
        await end(task)
        raise


async def _handed_over(line: Line, notice: Notice, seconds: float) -> None:
    """Send within the time; whatever a channel fails with, it is that it cannot send.

    Raises:
        CannotSend: it was not taken.
    """
    try:
        async with asyncio.timeout(seconds):
            await line.channel.send(notice)
    except CannotSend:
        raise
    except TimeoutError:
        text = f"cannot send through channel {line.name}: it took longer than {seconds:g} s"
        raise CannotSend(text, again=True) from None
    except Exception as error:
        log.exception("channel failed", channel=line.name)
        text = f"cannot send through channel {line.name}: {type(error).__name__}"
        raise CannotSend(text, again=True) from error


def _fact(incident: Incident, shown: Shown, at: datetime) -> DurableFact:
    if incident.is_open:
        told = uuid5(incident.id, f"opened {incident.episode}")
        return IncidentOpened(message_id=told, occurred_at=at, incident=shown)
    told = uuid5(incident.id, f"resolved {incident.episode}")
    why = incident.why or Event.RESOLVED.value
    return IncidentResolved(message_id=told, occurred_at=at, incident=shown, why=why)
