"""How the fleet is, as health-recovery judges it: ``fleet.health`` learns it, and says what people decide.

    told = await fleet.health.why("web-1", "web")
    async for news in fleet.health.watch(agent="web-1"):
        print(news)

Lists come page by page, as they are taken. What decides something is harmless to repeat: one ask is one
decision, however often it has to be asked.
"""

from collections.abc import AsyncIterator, Collection
from datetime import datetime, timedelta
from uuid import UUID

from muster_client.asking import Asking, now
from muster_client.commands import whoami
from muster_client.watching import Watch, moment
from muster_contracts.health.v1 import (
    Acknowledge,
    Acknowledged,
    Availability,
    ChecksRan,
    CheckState,
    Delivery,
    EndMaintenance,
    ExplainHealth,
    Explanation,
    FindHosts,
    FindIncidents,
    FindPackages,
    FleetHealth,
    GetAvailability,
    GetFleetHealth,
    GetHealthHistory,
    GetHostHealth,
    Health,
    HealthEvent,
    HealthFlapping,
    HealthStable,
    HostHealth,
    HostHealthChanged,
    HostHealthDetail,
    Incident,
    IncidentOpened,
    IncidentResolved,
    ListChecks,
    ListMaintenance,
    Maintenance,
    PackageHealth,
    PackageHealthChanged,
    RecoveryDecided,
    RecoveryEnded,
    SetMaintenance,
    TestNotification,
)
from muster_contracts.message import DurableFact

PAGE = 200
INCIDENTS_OF_A_PAGE = 100
ANSWER_SECONDS = 2.0
"""An agent that does not answer within this is not waited for."""
NOTIFY_SECONDS = 60.0
"""So long may a channel take to refuse or accept a test."""

NEWS: tuple[type[DurableFact], ...] = (
    PackageHealthChanged,
    HostHealthChanged,
    HealthFlapping,
    HealthStable,
    IncidentOpened,
    IncidentResolved,
    RecoveryDecided,
    RecoveryEnded,
)
"""All that health-recovery says of its own accord."""


class Wellbeing:
    """``fleet.health``: questions to health-recovery, and to the agents what their checks see."""

    def __init__(self, fleet: Asking) -> None:
        self._fleet = fleet

    # How it is -----------------------------------------------------------------------------------

    async def summary(self) -> FleetHealth:
        """The fleet in numbers: whole, by group, by kind."""
        return await self._fleet.ask(GetFleetHealth(occurred_at=now()))

    async def hosts(self, selector: str = "", health: Collection[Health] = ()) -> AsyncIterator[HostHealth]:
        """Agents that match, of any kind, in the order of ids; with ``health`` only those in one of these."""
        after: str | None = None
        while True:
            wanted = FindHosts(
                occurred_at=now(), selector=selector, health=list(health), after=after, limit=PAGE
            )
            page = await self._fleet.ask(wanted)
            for host in page.hosts:
                yield host
            if (after := page.next) is None:
                return

    async def packages(
        self,
        selector: str = "",
        *,
        package: str | None = None,
        health: Collection[Health] = (),
        flapping: bool | None = None,
    ) -> AsyncIterator[PackageHealth]:
        """Packages of agents that match, of one name, in one of these, that flap or not."""
        after: str | None = None
        while True:
            wanted = FindPackages(
                occurred_at=now(), selector=selector, package=package, health=list(health),
                flapping=flapping, after=after, limit=PAGE,
            )  # fmt: skip
            page = await self._fleet.ask(wanted)
            for one in page.packages:
                yield one
            if (after := page.next) is None:
                return

    async def host(self, agent: str) -> HostHealthDetail:
        """One agent, package by package."""
        return await self._fleet.ask(GetHostHealth(occurred_at=now(), agent_id=agent))

    async def why(self, agent: str, package: str) -> Explanation:
        """Why a package is as it is: what is seen, what causes it, what is done about it."""
        return await self._fleet.ask(ExplainHealth(occurred_at=now(), agent_id=agent, package=package))

    async def checks(
        self, agent: str, package: str | None = None, *, within: float | None = None
    ) -> AsyncIterator[CheckState]:
        """What the checks of a machine hold, from its own agent, by package and name."""
        after: str | None = None
        while True:
            wanted = ListChecks(occurred_at=now(), agent_id=agent, package=package, after=after)
            page = await self._fleet.ask(wanted, within=within or ANSWER_SECONDS)
            for check in page.checks:
                yield check
            if (after := page.next) is None:
                return

    # How it was ----------------------------------------------------------------------------------

    async def history(
        self,
        *,
        agent: str | None = None,
        package: str | None = None,
        since: datetime | timedelta | None = None,
        until: datetime | None = None,
        page: int = PAGE,
    ) -> AsyncIterator[HealthEvent]:
        """Changes of health, newest first."""
        before: str | None = None
        start = moment(since)
        while True:
            wanted = GetHealthHistory(
                occurred_at=now(), agent_id=agent, package=package, since=start, until=until,
                before=before, limit=min(page, PAGE),
            )  # fmt: skip
            told = await self._fleet.ask(wanted)
            for event in told.events:
                yield event
            if (before := told.next) is None:
                return

    async def availability(
        self,
        agent: str,
        package: str,
        since: datetime | timedelta | None = None,
        until: datetime | None = None,
    ) -> Availability:
        """How much of a time a package worked; of the last day, unless said otherwise."""
        wanted = GetAvailability(
            occurred_at=now(), agent_id=agent, package=package, since=moment(since), until=until
        )
        return await self._fleet.ask(wanted)

    async def incidents(
        self, *, lasting: bool | None = True, agent: str | None = None, package: str | None = None
    ) -> AsyncIterator[Incident]:
        """What is ill by itself, newest first; with ``lasting`` False what was, with None both."""
        before: str | None = None
        while True:
            wanted = FindIncidents(
                occurred_at=now(), open=lasting, agent_id=agent, package=package,
                before=before, limit=INCIDENTS_OF_A_PAGE,
            )  # fmt: skip
            page = await self._fleet.ask(wanted)
            for incident in page.incidents:
                yield incident
            if (before := page.next) is None:
                return

    # What people decide --------------------------------------------------------------------------

    async def acknowledge(
        self, agent: str, package: str, *, text: str = "", retry: bool = False, by: str | None = None
    ) -> Acknowledged:
        """Somebody looks after it: only its end is notified; ``retry`` what recovery had given up on."""
        wanted = Acknowledge(
            occurred_at=now(), agent_id=agent, package=package, by=by or whoami(), text=text, retry=retry
        )
        return await self._fleet.ask(wanted)

    async def maintenance(self) -> list[Maintenance]:
        """What is worked on, or will be."""
        return (await self._fleet.ask(ListMaintenance(occurred_at=now()))).windows

    async def set_maintenance(
        self,
        selector: str,
        until: datetime | timedelta,
        *,
        package: str | None = None,
        since: datetime | None = None,
        text: str = "",
        by: str | None = None,
    ) -> list[Maintenance]:
        """Nothing is notified or done about these until then (a length of time: from its beginning on)."""
        end = (since or now()) + until if isinstance(until, timedelta) else until
        wanted = SetMaintenance(
            occurred_at=now(), selector=selector, package=package, since=since, until=end,
            by=by or whoami(), text=text,
        )  # fmt: skip
        return (await self._fleet.ask(wanted)).windows

    async def end_maintenance(self, window: UUID, *, by: str | None = None) -> list[Maintenance]:
        """The work is done, or does not happen."""
        wanted = EndMaintenance(occurred_at=now(), id=window, by=by or whoami())
        return (await self._fleet.ask(wanted)).windows

    async def test_notification(self, channel: str | None = None, *, by: str | None = None) -> list[Delivery]:
        """Send a test through one channel, or all; what became of it, channel by channel."""
        wanted = TestNotification(occurred_at=now(), channel=channel, by=by or whoami())
        return (await self._fleet.ask(wanted, slow=NOTIFY_SECONDS)).deliveries

    # What happens --------------------------------------------------------------------------------

    def watch(
        self, *, agent: str | None = None, since: datetime | timedelta | None = None
    ) -> Watch[DurableFact]:
        """Changes of health, flapping, incidents and acts of recovery as they become known; see Fleet.watch.

        With ``agent``, incidents come nonetheless: their cause may be on another.
        """
        return self._fleet.watch(*NEWS, agent=agent, since=since)

    def samples(self, *, agent: str | None = None) -> Watch[ChecksRan]:
        """Each look of each check as it goes by."""
        return self._fleet.watch(ChecksRan, agent=agent)
