"""The town's health-recovery, and the checks of its machines: they answer by the contracts, from lists."""

from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID, uuid5

from muster_bus import Bus
from muster_bus.errors import AskError
from muster_contracts.health import v1 as health
from muster_contracts.selector import SelectorError, parse

T = TypeVar("T")
P = TypeVar("P")

NAMESPACE = UUID("6f1d0c9a-0000-4000-8000-000000000000")
PAGE = 2
"""Nobody gets more on one page, so that every test turns pages."""


def ago(**length: float) -> datetime:
    """A moment before now."""
    return datetime.now(UTC) - timedelta(**length)


def package_health(agent: str, package: str, state: str = "ok", **changes: Any) -> health.PackageHealth:
    """A package that runs and is so since five minutes, but for the changes."""
    told = {"agent": agent, "package": package, "health": state, "since": ago(minutes=5), "state": "running"}
    return health.PackageHealth.model_validate({**told, **changes})


def host_health(agent: str, state: str = "ok", **changes: Any) -> health.HostHealth:
    """An agent that is online, with one package, but for the changes."""
    told = {
        "agent": agent,
        "kind": "host",
        "presence": "online",
        "health": state,
        "since": ago(minutes=5),
        "packages": {state: 1},
        **changes,
    }
    return health.HostHealth.model_validate(told)


def incident(agent: str, package: str, **changes: Any) -> health.Incident:
    """An incident that is open since five minutes, but for the changes."""
    told = {
        "id": uuid5(NAMESPACE, f"{package}@{agent}"),
        "cause": {"agent": agent, "package": package},
        "health": "critical",
        "reason": "check",
        "opened_at": ago(minutes=5),
        **changes,
    }
    return health.Incident.model_validate(told)


def act(agent: str, package: str, attempt: int = 1, **changes: Any) -> health.RecoveryAct:
    """A restart that succeeded a minute ago, but for the changes."""
    told = {
        "id": uuid5(NAMESPACE, f"{package}@{agent} {attempt}"),
        "agent": agent,
        "package": package,
        "step": "restart",
        "attempt": attempt,
        "decided_at": ago(minutes=1),
        "why": "check http: no answer",
        "state": "succeeded",
        "ended_at": ago(seconds=50),
        **changes,
    }
    return health.RecoveryAct.model_validate(told)


def case(agent: str, package: str, **changes: Any) -> health.RecoveryCase:
    """A case open since five minutes, but for the changes."""
    told = {"agent": agent, "package": package, "opened_at": ago(minutes=5)}
    return health.RecoveryCase.model_validate({**told, **changes})


def check_state(package: str, check: str = "http", **changes: Any) -> health.CheckState:
    """A check that is well, but for the changes."""
    told = {
        "package": package,
        "check": check,
        "kind": "http",
        "purpose": "liveness",
        "health": "ok",
        "since": ago(minutes=5),
        "seen": "ok",
        "looked_at": ago(seconds=3),
        "duration_seconds": 0.0032,
        "every_seconds": 10,
        "reason": "ok",
        **changes,
    }
    return health.CheckState.model_validate(told)


class Care:
    """Answers what a health-recovery is asked, from lists."""

    unavailable: bool
    """Whether every question is refused as such."""

    def __init__(self, find: Callable[[str], Iterable[str]]) -> None:
        self._find = find
        self.reset()

    def reset(self) -> None:
        """Nothing is known yet."""
        self.asked: list[Any] = []
        self.unavailable = False
        self.hosts: list[health.HostHealth] = []
        self.packages: list[health.PackageHealth] = []
        self.groups: dict[str, health.Rollup] = {}
        self.numbers: dict[str, Any] = {"leader": "health-recovery-1"}
        self.checks: dict[str, list[health.CheckHealth]] = {}
        self.explanations: dict[str, health.Explanation] = {}
        self.events: list[health.HealthEvent] = []
        self.incidents: list[health.Incident] = []
        self.windows: list[health.Maintenance] = []
        self.deliveries: list[health.Delivery] = []
        self.cases: list[health.RecoveryCase] = []
        self.acts: list[health.RecoveryAct] = []
        self.pauses: list[health.Pause] = []

    def know(self, *packages: health.PackageHealth) -> None:
        """Packages, and an agent with the worst of them for each that has one."""
        self.packages += packages
        for agent in sorted({one.agent for one in packages} - {host.agent for host in self.hosts}):
            mine = [one for one in packages if one.agent == agent]
            worst = min(mine, key=lambda one: list(health.Health)[2::-1].index(one.health))
            counts = {state: sum(one.health == state for one in mine) for state in health.Health}
            told = {"packages": counts, "culprit": None if worst.health == "ok" else worst.package}
            self.hosts.append(host_health(agent, worst.health, **told, reason=worst.reason))

    async def listen(self, bus: Bus) -> None:
        """Answer everything."""
        answers: list[tuple[Any, Callable[[Any], Any]]] = [
            (health.GetFleetHealth, self._summary),
            (health.FindHosts, self._find_hosts),
            (health.FindPackages, self._find_packages),
            (health.GetHostHealth, self._host),
            (health.ExplainHealth, self._explain),
            (health.GetHealthHistory, self._history),
            (health.GetAvailability, self._availability),
            (health.FindIncidents, self._find_incidents),
            (health.Acknowledge, self._acknowledge),
            (health.SetMaintenance, self._set_maintenance),
            (health.EndMaintenance, self._end_maintenance),
            (health.ListMaintenance, lambda _: health.MaintenanceList(windows=self.windows)),
            (health.FindRecoveries, self._find_acts),
            (health.GetRecoveryStatus, lambda _: self._status()),
            (health.PauseRecovery, self._pause),
            (health.ResumeRecovery, self._resume),
            (health.TestNotification, self._test),
        ]
        for contract, answer in answers:
            await bus.answer(contract, self._answering(answer))

    def _answering(self, answer: Callable[[Any], T]) -> Callable[[Any], Awaitable[T]]:
        async def answering(question: Any) -> T:
            self.asked.append(question)
            if self.unavailable:
                raise AskError("unavailable", "cannot answer: the database is busy")
            return answer(question)

        return answering

    # How it is -----------------------------------------------------------------------------------

    def _summary(self, _: health.GetFleetHealth) -> health.FleetHealth:
        def counted(states: list[health.Health]) -> dict[str, int]:
            return {state.value: states.count(state) for state in health.Health}

        agents = [one.health for one in self.hosts]
        order = [health.Health.CRITICAL, health.Health.WARNING, health.Health.OK, health.Health.UNKNOWN]
        whole = {
            "health": min(agents, key=order.index, default=health.Health.UNKNOWN),
            "agents": counted(agents),
            "packages": counted([one.health for one in self.packages]),
            "suppressed": sum(one.cause is not None for one in self.packages),
        }
        return health.FleetHealth.model_validate({"fleet": whole, "groups": self.groups, **self.numbers})

    def _matching(self, selector: str) -> set[str]:
        try:
            parse(selector)
        except SelectorError as error:
            raise AskError("invalid", str(error)) from error
        return set(self._find(selector))

    def _find_hosts(self, q: health.FindHosts) -> health.HostHealthPage:
        matching = self._matching(q.selector)
        found = [
            one for one in self.hosts if one.agent in matching and (not q.health or one.health in q.health)
        ]
        found.sort(key=lambda one: one.agent)
        rest = [one for one in found if q.after is None or one.agent > q.after]
        page, more = _cut(rest, q.limit)
        return health.HostHealthPage(hosts=page, total=len(found), next=page[-1].agent if more else None)

    def _find_packages(self, q: health.FindPackages) -> health.PackageHealthPage:
        matching = self._matching(q.selector)
        found = [
            one
            for one in sorted(self.packages, key=lambda one: (one.agent, one.package))
            if one.agent in matching
            and q.package in {None, one.package}
            and (not q.health or one.health in q.health)
            and q.flapping in {None, one.flapping}
        ]
        page, following = _turn(found, q.after, q.limit)
        return health.PackageHealthPage(packages=page, total=len(found), next=following)

    def _host(self, q: health.GetHostHealth) -> health.HostHealthDetail:
        for host in self.hosts:
            if host.agent == q.agent_id:
                mine = [one for one in self.packages if one.agent == q.agent_id]
                checks = {
                    name: told for name, told in self.checks.items() if name in {o.package for o in mine}
                }
                return health.HostHealthDetail(host=host, packages=mine, checks=checks)
        raise AskError("not-found", f"cannot find the agent {q.agent_id}")

    def _known(self, agent: str, package: str) -> health.PackageHealth:
        for one in self.packages:
            if (one.agent, one.package) == (agent, package):
                return one
        raise AskError("not-found", f"cannot find the package {package} on {agent}")

    def _explain(self, q: health.ExplainHealth) -> health.Explanation:
        known = self._known(q.agent_id, q.package)
        bare = health.Explanation(package=known, checks=self.checks.get(q.package, []))
        return self.explanations.get(f"{q.package}@{q.agent_id}", bare)

    # How it was ----------------------------------------------------------------------------------

    def _history(self, q: health.GetHealthHistory) -> health.HealthHistory:
        found = [
            event
            for event in self.events
            if q.agent_id in {None, event.agent}
            and q.package in {None, event.package}
            and (q.since is None or event.at >= q.since)
            and (q.until is None or event.at < q.until)
        ]
        page, following = _turn(found, q.before, q.limit)
        return health.HealthHistory(events=page, next=following)

    def _availability(self, q: health.GetAvailability) -> health.Availability:
        self._known(q.agent_id, q.package)
        return health.Availability(
            agent=q.agent_id, package=q.package, since=q.since or ago(days=1),
            until=q.until or datetime.now(UTC), percent=99.95, ill_seconds=43.2, failures=2,
            mean_seconds_to_recovery=21.6, mean_seconds_between_failures=43_000,
        )  # fmt: skip

    def _find_incidents(self, q: health.FindIncidents) -> health.IncidentPage:
        found = [
            one
            for one in self.incidents
            if q.open in {None, one.resolved_at is None}
            and q.agent_id in {None, one.cause.agent}
            and q.package in {None, one.cause.package}
        ]
        page, following = _turn(found, q.before, q.limit)
        return health.IncidentPage(incidents=page, next=following)

    # What people decide --------------------------------------------------------------------------

    def _acknowledge(self, q: health.Acknowledge) -> health.Acknowledged:
        known = self._known(q.agent_id, q.package)
        ref = health.PackageRef(agent=known.agent, package=known.package)
        gave_up = any(one.gave_up_at for one in self.cases if one.package == q.package)
        return health.Acknowledged(
            incidents=[one.id for one in self.incidents if one.cause == ref],
            retried=[ref] if q.retry and gave_up else [],
        )

    def _set_maintenance(self, q: health.SetMaintenance) -> health.MaintenanceList:
        window = health.Maintenance(
            id=q.message_id, selector=q.selector, package=q.package, since=q.since or q.occurred_at,
            until=q.until, by=q.by, text=q.text,
        )  # fmt: skip
        if window.id not in {one.id for one in self.windows}:
            self.windows.append(window)
        return health.MaintenanceList(windows=self.windows)

    def _end_maintenance(self, q: health.EndMaintenance) -> health.MaintenanceList:
        self.windows = [one for one in self.windows if one.id != q.id]
        return health.MaintenanceList(windows=self.windows)

    def _test(self, q: health.TestNotification) -> health.NotificationTested:
        chosen = [one for one in self.deliveries if q.channel in {None, one.channel}]
        if q.channel and not chosen:
            raise AskError("not-found", f"cannot find the channel {q.channel}")
        return health.NotificationTested(deliveries=chosen)

    # Recovery ------------------------------------------------------------------------------------

    def _status(self) -> health.RecoveryStatus:
        return health.RecoveryStatus(cases=self.cases, total=len(self.cases), pauses=self.pauses)

    def _find_acts(self, q: health.FindRecoveries) -> health.RecoveryPage:
        found = [
            one for one in self.acts if q.agent_id in {None, one.agent} and q.package in {None, one.package}
        ]
        page, following = _turn(found, q.before, q.limit)
        return health.RecoveryPage(acts=page, next=following)

    def _pause(self, q: health.PauseRecovery) -> health.RecoveryStatus:
        self._matching(q.selector)
        pause = health.Pause(
            id=q.message_id, selector=q.selector, since=q.occurred_at, until=q.until, by=q.by, text=q.text
        )
        self.pauses.append(pause)
        return self._status()

    def _resume(self, q: health.ResumeRecovery) -> health.RecoveryStatus:
        self.pauses = [one for one in self.pauses if q.id not in {None, one.id}]
        return self._status()


class Checks:
    """Answers what a host's agent is asked about its checks."""

    def __init__(self, agent_id: str) -> None:
        self.agent_id = agent_id
        self.reset()

    def reset(self) -> None:
        """One check that is well."""
        self.states = [check_state("web")]

    async def listen(self, bus: Bus) -> None:
        """Answer."""
        await bus.answer(health.ListChecks, self._list, bound_to=self.agent_id)

    async def _list(self, q: health.ListChecks) -> health.CheckList:
        found = [one for one in self.states if q.package in {None, one.package}]
        page, following = _turn(found, q.after, PAGE)
        return health.CheckList(
            agent_id=self.agent_id, epoch="0123456789ab-018f00000000", checks=page, next=following
        )


def _cut(found: list[P], limit: int) -> tuple[list[P], bool]:
    """One page, and whether there is more."""
    size = min(limit, PAGE)
    return found[:size], len(found) > size


def _turn(found: list[P], place: str | None, limit: int) -> tuple[list[P], str | None]:
    """The page at a place, and the place of the next one."""
    start = int(place or 0)
    page, more = _cut(found[start:], limit)
    return page, str(start + len(page)) if more else None
