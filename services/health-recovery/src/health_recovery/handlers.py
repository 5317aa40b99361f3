"""What health-recovery does when a message arrives, while it leads: one handler per subject."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from health_recovery.domain.assessing import open_windows, told
from health_recovery.domain.availability import figures
from health_recovery.domain.hearing import Touched
from health_recovery.domain.keys import Key
from health_recovery.domain.maintenance import LONGEST, Window
from health_recovery.domain.picture import Picture
from health_recovery.domain.records import Package
from health_recovery.domain.views import (
    checks,
    host_detail,
    host_page,
    package_page,
    rollups,
)
from health_recovery.intake import Intake
from health_recovery.patience import patient
from health_recovery.ports import History, Incidents, Recoveries, Store
from muster_bus import AskError
from muster_bus.service import Routes
from muster_contracts.fleet.v1 import PartitionEnded, PartitionSuspected, PresenceChanged
from muster_contracts.health.v1 import (
    HEALTH,
    Availability,
    CheckChanged,
    EndMaintenance,
    ExplainHealth,
    Explanation,
    FindHosts,
    FindPackages,
    FleetHealth,
    GetAvailability,
    GetFleetHealth,
    GetHealthHistory,
    GetHostHealth,
    HealthHistory,
    HostHealthDetail,
    HostHealthPage,
    ListMaintenance,
    Maintenance,
    MaintenanceList,
    PackageHealth,
    PackageHealthPage,
    SetMaintenance,
)
from muster_contracts.package.v1 import PackageChanged, PackageDescribed, PackagesFound
from muster_contracts.selector import Selector, SelectorError, parse
from muster_runtime import Clock

ACTS_SHOWN = 10
DEPENDENTS_SHOWN = 100
DAY = timedelta(days=1)


def from_agents(intake: Intake) -> Routes:
    """What agents say of their packages, and the registry of agents."""
    routes = Routes(HEALTH)

    # What is said of one package is taken in order; different ones go into one commit.
    @routes.hears(CheckChanged, at_once=512, key=lambda fact: (fact.agent_id, fact.package))
    @patient
    async def on_check_changed(fact: CheckChanged) -> None:
        """A package is judged by what its check holds now."""
        await intake.take(fact)

    @routes.hears(PackageChanged, at_once=512, key=lambda fact: (fact.agent_id, fact.package))
    @patient
    async def on_package_changed(fact: PackageChanged) -> None:
        """A package is judged by the state it is in now."""
        await intake.take(fact)

    @routes.hears(PackageDescribed, at_once=512, key=lambda fact: (fact.agent_id, fact.package))
    @patient
    async def on_package_described(fact: PackageDescribed) -> None:
        """What a package needs, and what may be done about it, is as its package.json says now."""
        await intake.take(fact)

    @routes.hears(PackagesFound, at_once=512, key=lambda fact: fact.agent_id)
    @patient
    async def on_packages_found(fact: PackagesFound) -> None:
        """What a machine's list has no more is gone."""
        await intake.take(fact)

    @routes.hears(PresenceChanged, at_once=512, key=lambda fact: fact.agent_id)
    @patient
    async def on_presence_changed(fact: PresenceChanged) -> None:
        """Of an agent that is not there nobody can tell how its packages are; back, they are as they were."""
        await intake.take(fact)

    @routes.hears(PartitionSuspected)
    @patient
    async def on_partition_suspected(fact: PartitionSuspected) -> None:
        """Of what is missing at a site that is cut off nobody can tell; nothing is done there."""
        await intake.take(fact)

    @routes.hears(PartitionEnded)
    @patient
    async def on_partition_ended(fact: PartitionEnded) -> None:
        """The site is judged as any other again."""
        await intake.take(fact)

    return routes


@dataclass(frozen=True, slots=True)
class Known:
    """All that can be told: the picture, and what incidents and recovery know beside it."""

    picture: Picture
    incidents: Incidents
    recoveries: Recoveries
    leader: Callable[[], str | None]
    """The replica that acts."""

    def shown(self, package: Package) -> PackageHealth:
        """How a package is judged, and what is done about it."""
        return self.decorate(told(package, package.judged))

    def decorate(self, health: PackageHealth) -> PackageHealth:
        """With what is known of it beside the picture."""
        key = Key(health.agent, health.package)
        incident, acting = self.incidents.open_of(key), self.recoveries.acting(key)
        if incident is None and not acting:
            return health
        found = {"incident": incident.id if incident else None, "recovering": acting}
        return health.model_copy(update=found)


def from_readers(known: Known) -> Routes:
    """What operators ask of how things are; nothing here changes anything."""
    routes = Routes(HEALTH)
    picture, incidents, recoveries = known.picture, known.incidents, known.recoveries

    @routes.answers(GetFleetHealth)
    async def on_get_fleet_health(ask: GetFleetHealth) -> FleetHealth:  # noqa: ARG001  (there is one fleet)
        """The fleet, its groups and kinds in numbers."""
        fleet, groups, kinds = rollups(picture)
        return FleetHealth(
            fleet=fleet, groups=groups, kinds=kinds, open_incidents=incidents.open_count,
            recovering=recoveries.acting_count, gave_up=recoveries.gave_up_count,
            flapping=picture.flapping_count, dry_run=recoveries.dry_run, leader=known.leader(),
        )  # fmt: skip

    @routes.answers(FindHosts)
    async def on_find_hosts(ask: FindHosts) -> HostHealthPage:
        """Agents that match and are in such health."""
        return host_page(picture, ask, read(ask.selector))

    @routes.answers(FindPackages)
    async def on_find_packages(ask: FindPackages) -> PackageHealthPage:
        """Packages that match and are in such health."""
        return package_page(picture, ask, read(ask.selector), known.decorate)

    @routes.answers(GetHostHealth)
    async def on_get_host_health(ask: GetHostHealth) -> HostHealthDetail:
        """An agent, package by package."""
        host = picture.hosts.get(ask.agent_id)
        if host is None or host.verdict is None:
            text = f"cannot find the agent {ask.agent_id}: nothing was heard of it; see 'muster health'"
            raise AskError("not-found", text)
        return host_detail(picture, host, known.decorate)

    @routes.answers(ExplainHealth)
    @patient
    async def on_explain_health(ask: ExplainHealth) -> Explanation:
        """A package with its checks, its cause step by step, and what is done about it."""
        package = found(picture, Key(ask.agent_id, ask.package))
        chain = [one for key in picture.chain(package.key) if (one := picture.get(key))]
        made_ill = sorted(picture.made_ill_by(package.key))
        return Explanation(
            package=known.shown(package), checks=checks(package), chain=[known.shown(one) for one in chain],
            dependents=[key.ref for key in made_ill[:DEPENDENTS_SHOWN]],
            incident=incidents.open_of(package.key), recovery=recoveries.case_of(package.key),
            acts=await recoveries.acts_of(package.key, ACTS_SHOWN),
        )  # fmt: skip

    return routes


def from_historians(history: History, clock: Clock) -> Routes:
    """What operators ask of how things were."""
    routes = Routes(HEALTH)

    @routes.answers(GetHealthHistory)
    @patient
    async def on_get_health_history(ask: GetHealthHistory) -> HealthHistory:
        """Changes of health, newest first, a page at a time."""
        return await history.page(ask)

    @routes.answers(GetAvailability)
    @patient
    async def on_get_availability(ask: GetAvailability) -> Availability:
        """How much of a time a package worked."""
        return await availability(history, ask, clock.now())

    return routes


def from_workers(*, intake: Intake, store: Store, clock: Clock) -> Routes:
    """What people say of their own work."""
    routes = Routes(HEALTH)

    def listed() -> MaintenanceList:
        now = clock.now()
        lasting = [one.told for one in intake.picture.windows.values() if one.told.until > now]
        return MaintenanceList(windows=sorted(lasting, key=lambda one: (one.since, str(one.id))))

    @routes.answers(SetMaintenance)
    @patient
    async def on_set_maintenance(ask: SetMaintenance) -> MaintenanceList:
        """Somebody works on these: it is on disk before it is answered."""
        window = window_of(ask, clock.now())
        if window.id not in intake.picture.windows:
            await store.add_window(window.told)
            await intake.do(_with(window))
        return listed()

    @routes.answers(EndMaintenance)
    @patient
    async def on_end_maintenance(ask: EndMaintenance) -> MaintenanceList:
        """The work is done; a window that is over already stays as it is."""
        window = intake.picture.windows.get(ask.id)
        if window is None:
            text = f"cannot end the maintenance {ask.id}: there is none; 'muster health maintenance' lists it"
            raise AskError("not-found", text)
        now = clock.now()
        if window.told.until > now:
            await store.end_window(ask.id, now)
            await intake.do(_without(ask.id))
        return listed()

    @routes.answers(ListMaintenance)
    async def on_list_maintenance(ask: ListMaintenance) -> MaintenanceList:  # noqa: ARG001  (of all there is)
        """What is being worked on, or will be."""
        return listed()

    return routes


def _with(window: Window) -> Callable[[Picture, Touched, datetime], None]:
    def add(picture: Picture, touched: Touched, now: datetime) -> None:
        picture.set_windows({**picture.windows, window.id: window})
        open_windows(picture, now, touched)

    return add


def _without(ended: UUID) -> Callable[[Picture, Touched, datetime], None]:
    def remove(picture: Picture, touched: Touched, now: datetime) -> None:
        picture.set_windows({key: one for key, one in picture.windows.items() if key != ended})
        open_windows(picture, now, touched)

    return remove


def window_of(ask: SetMaintenance, now: datetime) -> Window:
    """The window that is asked for, or the problem of one that cannot be."""
    since = ask.since or now
    if ask.until <= max(since, now):
        raise AskError("invalid", f"cannot set maintenance until {ask.until.isoformat()}: that is too early")
    if ask.until > since + LONGEST:
        text = f"cannot set maintenance for more than {LONGEST.days} days; give an earlier end"
        raise AskError("invalid", text)
    refuse_nul(ask.by, ask.text)
    told_of = Maintenance(
        id=ask.message_id, selector=ask.selector, package=ask.package, since=since, until=ask.until,
        by=ask.by, text=ask.text,
    )  # fmt: skip
    return Window(told_of, read(ask.selector))


async def availability(history: History, ask: GetAvailability, now: datetime) -> Availability:
    """The figures of a time that has been; the problem of one that has not, or of an unknown package."""
    until = min(ask.until or now, now)
    since = ask.since or until - DAY
    if since >= until:
        text = (
            f"cannot tell the availability from {since.isoformat()} to {until.isoformat()}: no time between"
        )
        raise AskError("invalid", text)
    known = await history.stretches(Key(ask.agent_id, ask.package), since, until)
    if not known:
        where = f"{ask.package}@{ask.agent_id}"
        raise AskError("not-found", f"cannot tell the availability of {where}: nothing is known of that time")
    sums = figures(known)
    return Availability(
        agent=ask.agent_id, package=ask.package, since=known[0].begin, until=until, percent=sums.percent,
        ill_seconds=sums.ill_seconds, unknown_seconds=sums.unknown_seconds,
        maintenance_seconds=sums.maintenance_seconds, failures=sums.failures,
        mean_seconds_to_recovery=sums.mean_to_recovery,
        mean_seconds_between_failures=sums.mean_between_failures,
    )  # fmt: skip


def found(picture: Picture, key: Key) -> Package:
    """The package, or the problem that there is none."""
    package = picture.get(key)
    if package is None or package.verdict is None:
        text = f"cannot find {key}: nothing was heard of it; 'muster health {key.agent}' lists its packages"
        raise AskError("not-found", text)
    return package


def read(selector: str) -> Selector:
    """The selector, or the problem of one that cannot be read."""
    try:
        return parse(selector)
    except SelectorError as error:
        raise AskError("invalid", str(error), position=error.position) from None


def refuse_nul(*texts: str) -> None:
    """Nothing, or the problem of words that no database can hold."""
    if any("\x00" in text for text in texts):
        raise AskError("invalid", "cannot take a text with a NUL in it; leave it out")
