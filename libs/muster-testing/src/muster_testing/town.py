"""A town to test clients in: a real broker, and a registry and agents that answer by the contracts.

It lives in a thread with a loop of its own, so that the command can be run as it is run by a shell.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import uuid4

from muster_bus import Bus
from muster_bus.errors import AskError
from muster_contracts.agent.v1 import AgentKind
from muster_contracts.fleet import v1 as fleet
from muster_contracts.host.v1 import ReadVitals, Vitals
from muster_contracts.message import DurableFact
from muster_contracts.selector import Facts, SelectorError, parse
from muster_testing.ground import Ground
from muster_testing.town_health import Care, Checks
from muster_testing.town_orders import Ledger, Machine

T = TypeVar("T")

EPOCH = "0123456789ab-018f00000000"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def row(agent_id: str, **changes: Any) -> fleet.AgentRow:
    """An agent that is online, but for the changes."""
    told = {
        "id": agent_id,
        "kind": "host",
        "state": "online",
        "reason": "heartbeat",
        "since": NOON,
        "last_seen": datetime.now(UTC),
        "epoch": EPOCH,
        "agent_version": "0.1.0",
        **changes,
    }
    return fleet.AgentRow.model_validate(told)


def sample(agent_id: str, **changes: Any) -> Vitals:
    """Vitals of a machine that has something to do."""
    told = {
        "occurred_at": datetime.now(UTC),
        "agent_id": agent_id,
        "epoch": EPOCH,
        "cpu_percent": 43.2,
        "cpu_count": 4,
        "load_1m": 0.5,
        "load_5m": 0.4,
        "load_15m": 0.3,
        "memory_total_bytes": 4 << 30,
        "memory_available_bytes": 1 << 30,
        "memory_used_percent": 75.0,
        "swap_total_bytes": 1 << 30,
        "swap_used_bytes": 1 << 28,
        "disks": [
            {"mount_point": "/", "total_bytes": 100, "used_bytes": 95, "free_bytes": 5, "used_percent": 95.0}
        ],
        "processes": 133,
        "uptime_seconds": 93_784.0,
        **changes,
    }
    return Vitals.model_validate(told)


class Registry:
    """Answers what a registry is asked, from dictionaries; each after ``delay_seconds``."""

    unavailable: int
    """So many questions are refused as such first."""

    def __init__(self) -> None:
        self.agents: dict[str, fleet.AgentRow] = {}
        self.groups: dict[str, str] = {}
        self.unavailable = 0
        self.delay_seconds = 0.0
        self.asked: list[Any] = []

    async def listen(self, bus: Bus) -> None:
        """Answer everything."""
        answers: list[tuple[Any, Callable[[Any], Any]]] = [
            (fleet.FindAgents, self._find),
            (fleet.GetAgent, lambda q: self._detail(q.agent_id)),
            (fleet.GetHistory, self._history),
            (fleet.GetConnections, self._connections),
            (fleet.GetSummary, self._summary),
            (fleet.SetLabels, self._set_labels),
            (fleet.ExpectAgent, self._expect),
            (fleet.RetireAgent, self._retire),
            (fleet.ListGroups, lambda _: self._list_groups()),
            (fleet.DefineGroup, self._define),
            (fleet.DeleteGroup, self._delete),
        ]
        for contract, answer in answers:
            await bus.answer(contract, self._answering(answer))

    def _answering(self, answer: Callable[[Any], T]) -> Callable[[Any], Awaitable[T]]:
        async def answering(question: Any) -> T:
            self.asked.append(question)
            await asyncio.sleep(self.delay_seconds)
            if self.unavailable:
                self.unavailable -= 1
                raise AskError("unavailable", "cannot answer: the database is busy")
            return answer(question)

        return answering

    def _known(self, agent_id: str) -> fleet.AgentRow:
        if agent_id not in self.agents:
            raise AskError("not-found", f"cannot find the agent {agent_id}")
        return self.agents[agent_id]

    def matching(self, selector: str) -> list[str]:
        """The ids of the agents a command with this selector is meant for."""
        return [
            one.id
            for one in self._find(fleet.FindAgents(occurred_at=NOON, selector=selector, limit=500)).agents
        ]

    def _find(self, q: fleet.FindAgents) -> fleet.AgentPage:
        try:
            selector = parse(q.selector)
        except SelectorError as error:
            raise AskError("invalid", str(error)) from error
        states = set(q.states) or set(fleet.Presence) - {fleet.Presence.RETIRED}
        matching = [
            one
            for _, one in sorted(self.agents.items())
            if one.state in states
            and selector.matches(Facts(one.id, one.kind, one.state, set(one.groups), one.labels))
        ]
        rest = [one for one in matching if q.after is None or one.id > q.after]
        page = rest[: q.limit]
        following = page[-1].id if len(rest) > q.limit else None
        return fleet.AgentPage(agents=page, total=len(matching), next=following)

    def _detail(self, agent_id: str) -> fleet.AgentDetail:
        known = self._known(agent_id)
        active = fleet.Connection(epoch=EPOCH, connected_at=NOON, duration_seconds=60, address="10.0.0.1:5")
        return fleet.AgentDetail(
            agent=known,
            interval_seconds=5,
            deadline_seconds=12.5,
            active=active,
            assigned_labels=known.labels,
            description={"hostname": "web", "os": "Debian"},
        )

    def _history(self, q: fleet.GetHistory) -> fleet.HistoryPage:
        self._known(q.agent_id)
        states = ["online", "lost", "online", "expected"]
        events = [
            fleet.AgentEvent.model_validate(
                {
                    "id": str(place),
                    "event": event,
                    "was": "expected",
                    "at": NOON - timedelta(minutes=place),
                    "reason": "heartbeat",
                    "duration_seconds": None if place == 0 else 60.0,
                }
            )
            for place, event in enumerate(states)
        ]
        start = int(q.before or -1) + 1
        page = events[start : start + min(q.limit, 2)]
        more = start + len(page) < len(events)
        return fleet.HistoryPage(events=page, next=page[-1].id if more else None)

    def _connections(self, q: fleet.GetConnections) -> fleet.ConnectionPage:
        self._known(q.agent_id)
        session = fleet.Connection(epoch=EPOCH, connected_at=NOON, duration_seconds=60, address="10.0.0.1:5")
        return fleet.ConnectionPage(connections=[session])

    def _summary(self, _: fleet.GetSummary) -> fleet.Summary:
        by_state = dict.fromkeys(fleet.Presence, 0)
        for one in self.agents.values():
            by_state[one.state] += 1
        return fleet.Summary(
            by_state=by_state, by_kind={AgentKind.HOST: len(self.agents)}, total=len(self.agents),
            interval_seconds=5, partitions=["ams"], dead_letters=2, flapping=1,
        )  # fmt: skip

    def _set_labels(self, q: fleet.SetLabels) -> fleet.AgentDetail:
        known = self._known(q.agent_id)
        labels = {k: v for k, v in {**known.labels, **q.labels}.items() if v is not None}
        self.agents[q.agent_id] = known.model_copy(update={"labels": labels})
        return self._detail(q.agent_id)

    def _expect(self, q: fleet.ExpectAgent) -> fleet.AgentDetail:
        changes: Any = {"state": "expected", "reason": "expected", "last_seen": None}
        self.agents[q.agent_id] = row(q.agent_id, kind=q.kind, labels=q.labels, **changes)
        return self._detail(q.agent_id)

    def _retire(self, q: fleet.RetireAgent) -> fleet.AgentDetail:
        known = self._known(q.agent_id)
        changes = {"state": fleet.Presence.RETIRED, "reason": fleet.Reason.RETIRED}
        self.agents[q.agent_id] = known.model_copy(update=changes)
        return self._detail(q.agent_id)

    def _list_groups(self) -> fleet.GroupList:
        groups = [
            fleet.Group(name=name, selector=selector, members=len(self.agents))
            for name, selector in sorted(self.groups.items())
        ]
        return fleet.GroupList(groups=groups)

    def _define(self, q: fleet.DefineGroup) -> fleet.GroupList:
        self.groups[q.name] = q.selector
        return self._list_groups()

    def _delete(self, q: fleet.DeleteGroup) -> fleet.GroupList:
        self.groups.pop(q.name, None)
        return self._list_groups()


class Town:
    """The broker with who lives there: ``registry``, ``ledger`` and ``care`` remember, ``buses`` speak."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.ledger = Ledger(self.registry.matching)
        self.care = Care(self.registry.matching)
        self.machines = {name: Machine(name) for name in ("web-1", "web-2")}
        self.checks = {name: Checks(name) for name in self.machines}
        self.ground = Ground("web-1", "web-2", "db-1")
        self.buses: dict[str, Bus] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="town", daemon=True)

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something in the town and return what became of it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    @property
    def environment(self) -> dict[str, str]:
        """How a command finds the town."""
        settings = self.ground.settings("operator")
        return {
            "MUSTER_NATS_URL": settings.servers[0],
            "MUSTER_SEED_FILE": str(settings.seed_file),
            "MUSTER_DIR": "",
            "COLUMNS": "120",
        }

    def start(self) -> None:
        """Open the town."""
        self._thread.start()
        self.do(self._open())

    def stop(self) -> None:
        """Close the town."""
        self.do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _close(self) -> None:
        await self.ground.__aexit__(None, None, None)
        # A question that is still being thought about has nobody to answer to any more.
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    def reset(self) -> None:
        """Everybody as at the beginning."""
        self.ledger.reset()
        self.care.reset()
        for name, machine in self.machines.items():
            machine.reset()
            self.checks[name].reset()
        self.registry.asked.clear()
        self.registry.unavailable = 0
        self.registry.delay_seconds = 0
        self.registry.groups = {"web": "role=web"}
        self.registry.agents = {
            "web-1": row("web-1", labels={"role": "web", "site": "ams"}, groups=["web"]),
            "web-2": row(
                "web-2", state="lost", reason="disconnected", labels={"role": "web"}, groups=["web"]
            ),
            "db-1": row("db-1", flapping=True, conflict_with="web-1"),
            "old-1": row("old-1", state="retired", reason="retired"),
        }

    async def _open(self) -> None:
        await self.ground.__aenter__()
        for name in ("fleet-registry", "state-store", "health-recovery", "web-1", "web-2"):
            self.buses[name] = await self.ground.bus(name)
        await self.registry.listen(self.buses["fleet-registry"])
        await self.ledger.listen(self.buses["state-store"])
        await self.care.listen(self.buses["health-recovery"])
        for name, machine in self.machines.items():
            await machine.listen(self.buses[name])
            await self.checks[name].listen(self.buses[name])

        async def well(question: ReadVitals) -> Vitals:
            return sample(question.agent_id)

        await self.buses["web-1"].answer(ReadVitals, well, bound_to="web-1")


class Meanwhile:
    """Says something as soon as a command listens: again and again, until it has what it waits for.

    What is said is ``(whose bus, subject, payload)``, or a fact said by fleet-registry.
    """

    def __init__(self, town: Town, *saying: DurableFact | tuple[str, str, bytes]) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._go_on, args=(town, saying))

    def _go_on(self, town: Town, saying: tuple[DurableFact | tuple[str, str, bytes], ...]) -> None:
        while not self._stop.wait(0.02):
            for what in saying:
                if isinstance(what, DurableFact):
                    fresh = what.model_copy(update={"message_id": uuid4()})
                    town.do(town.buses["fleet-registry"].say(fresh))
                else:
                    town.do(town.buses[what[0]].client.publish(what[1], what[2]))

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
