"""What the registry does when a message arrives: one handler per subject."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import wraps
from typing import NoReturn, TypeVar

from fleet_registry.counting import COALESCED, HEARTBEATS
from fleet_registry.domain.agent import Agent, Sign
from fleet_registry.domain.presence import Signal
from fleet_registry.fleet_view import FleetView
from fleet_registry.granting import Grants
from fleet_registry.hearing import Hearing, Newsroom
from fleet_registry.ports import Queries, Store, Unavailable
from fleet_registry.roll import Roll
from muster_bus import AskError, Bus, Reject, Retry
from muster_bus.service import Routes
from muster_contracts.agent.v1 import Heartbeat, Hello, Left, Welcome
from muster_contracts.fleet.v1 import (
    REGISTRY,
    AgentDetail,
    AgentPage,
    ConnectionPage,
    DefineGroup,
    DeleteGroup,
    ExpectAgent,
    FindAgents,
    GetAgent,
    GetConnections,
    GetHistory,
    GetSummary,
    GroupList,
    HistoryPage,
    ListGroups,
    Reason,
    RetireAgent,
    SetLabels,
    Summary,
)
from muster_contracts.host.v1 import Described
from muster_contracts.selector import GROUP, Selector, SelectorError, parse
from muster_runtime import Clock

LONGEST_LABELS = 64

M = TypeVar("M")
R = TypeVar("R")


def from_agents(
    *, hearing: Hearing, newsroom: Newsroom, grants: Grants, store: Store, bus: Bus, clock: Clock
) -> Routes:
    """What agents say."""
    routes = Routes(REGISTRY)

    @routes.hears_batches(Heartbeat)
    async def on_heartbeats(beats: list[Heartbeat]) -> None:
        """A heartbeat brings its agent online, whatever it was before, unless it is retired."""
        HEARTBEATS.add(by=len(beats))
        noted = await hearing.note(beats)
        COALESCED.add(by=len(beats) - noted.runs)
        newsroom.put(noted.news)
        if noted.to_adopt:
            order = grants.order(clock.now())
            await bus.say(*(order(one) for one in noted.to_adopt))

    @routes.answers(Hello, at_once=256)
    @patient
    async def on_hello(hello: Hello) -> Welcome:
        """An agent that introduces itself is online, and is told the interval to live by."""
        return await hearing.hello(hello)

    @routes.hears(Left, at_once=64, key=lambda left: left.agent_id)
    @patient
    @discerning
    async def on_left(left: Left) -> None:
        """A goodbye ends its session; whoever said it has left and is not lost."""
        await hearing.left(left)

    @routes.hears(Described, at_once=16, key=lambda described: described.agent_id)
    @patient
    @discerning
    async def on_described(described: Described) -> None:
        """The newest description of an agent is kept; a clock ahead makes none of them newer than now."""
        await store.describe(described, min(described.occurred_at, clock.now()))

    return routes


def from_readers(view: FleetView, queries: Queries, clock: Clock, bus: Bus) -> Routes:
    """What operators ask of the fleet; nothing here changes it."""
    routes = Routes(REGISTRY)

    @routes.answers(FindAgents)
    @patient
    async def on_find_agents(ask: FindAgents) -> AgentPage:
        """The agents that match the selector and are in one of the states, by id, a page at a time."""
        wanted = selector_of(ask.selector)
        return await view.page(wanted, ask.states, ask.after, ask.limit, brief=ask.brief)

    @routes.answers(GetAgent)
    @patient
    async def on_get_agent(ask: GetAgent) -> AgentDetail:
        """All that is known of one agent."""
        return await detail(view, ask.agent_id)

    @routes.answers(GetHistory)
    @patient
    async def on_get_history(ask: GetHistory) -> HistoryPage:
        """How an agent came and went, newest first."""
        await known(queries, ask.agent_id)
        events, following = await queries.history(ask.agent_id, cursor(ask.before), ask.limit)
        return HistoryPage(events=events, next=following, degraded=view.degraded)

    @routes.answers(GetConnections)
    @patient
    async def on_get_connections(ask: GetConnections) -> ConnectionPage:
        """An agent's sessions, newest first."""
        await known(queries, ask.agent_id)
        page = await queries.connections(ask.agent_id, cursor(ask.before), ask.limit, clock.now())
        return ConnectionPage(connections=page[0], next=page[1], degraded=view.degraded)

    @routes.answers(GetSummary)
    @patient
    async def on_get_summary(_: GetSummary) -> Summary:
        """The fleet in numbers."""
        return await view.summary(bus.counters.of("dead_letters"))

    return routes


def from_deciders(view: FleetView, queries: Queries, roll: Roll, clock: Clock) -> Routes:
    """What operators decide about agents; each is answered with the agent as it is then."""
    routes = Routes(REGISTRY)

    @routes.answers(SetLabels)
    @patient
    async def on_set_labels(ask: SetLabels) -> AgentDetail:
        """Assigned labels win over the agent's own; null takes one back."""
        if await roll.update(ask.agent_id, lambda agent: relabelled(agent, ask.labels)) is None:
            unknown(ask.agent_id)
        return await detail(view, ask.agent_id)

    @routes.answers(ExpectAgent)
    @patient
    async def on_expect_agent(ask: ExpectAgent) -> AgentDetail:
        """An expected agent is on the roll before it was ever seen; a retired one is taken back."""
        at = clock.now()
        sign = Sign(ask.agent_id, Signal.EXPECT, at, Reason.EXPECTED, kind=ask.kind, labels=ask.labels)
        await roll.take([sign])
        return await detail(view, ask.agent_id)

    @routes.answers(RetireAgent)
    @patient
    async def on_retire_agent(ask: RetireAgent) -> AgentDetail:
        """A retired agent is out of the fleet, whatever it says; its history stays."""
        await known(queries, ask.agent_id)
        await roll.take([Sign(ask.agent_id, Signal.RETIRE, clock.now(), Reason.RETIRED)])
        return await detail(view, ask.agent_id)

    return routes


def about_groups(view: FleetView, store: Store) -> Routes:
    """What operators ask of groups."""
    routes = Routes(REGISTRY)

    @routes.answers(ListGroups)
    @patient
    async def on_list_groups(_: ListGroups) -> GroupList:
        """Every group, and how many agents match each."""
        return await view.groups()

    @routes.answers(DefineGroup)
    @patient
    async def on_define_group(ask: DefineGroup) -> GroupList:
        """A group is a named selector; defining it again gives it another one."""
        selector = selector_of(ask.selector)
        if selector.uses(GROUP):
            text = f"cannot define {ask.name}: its selector names groups; write out what they select"
            raise AskError("invalid", text)
        await store.define_group(ask.name, str(selector))
        return await view.groups()

    @routes.answers(DeleteGroup)
    @patient
    async def on_delete_group(ask: DeleteGroup) -> GroupList:
        """The group goes, its agents stay; deleting what is not there changes nothing."""
        await store.delete_group(ask.name)
        return await view.groups()

    return routes


def patient(handler: Callable[[M], Awaitable[R]]) -> Callable[[M], Awaitable[R]]:
    """While the database cannot be used, a durable message waits and an ask is told to try again."""

    @wraps(handler)
    async def handle(message: M) -> R:
        try:
            return await handler(message)
        except Unavailable as error:
            raise Retry(str(error)) from error

    return handle


def discerning(handler: Callable[[M], Awaitable[R]]) -> Callable[[M], Awaitable[R]]:
    """What can never be recorded becomes a dead letter at once; failing again and again holds up the rest."""

    @wraps(handler)
    async def handle(message: M) -> R:
        try:
            return await handler(message)
        except (ValueError, OverflowError) as error:
            raise Reject(f"cannot record it: {error}") from error

    return handle


def selector_of(text: str) -> Selector:
    """The selector, or a problem that names the position."""
    try:
        return parse(text)
    except SelectorError as error:
        raise AskError("invalid", str(error), position=error.position) from None


def cursor(before: str | None) -> int | None:
    """Where a page begins; what was given as ``next``."""
    if before is None:
        return None
    if not before.isdecimal() or len(before) > 18:
        raise AskError("invalid", f"cannot go on before {before!r}: give the 'next' of the page before")
    return int(before)


def relabelled(agent: Agent, labels: dict[str, str | None]) -> Agent:
    """The agent with labels assigned and taken back."""
    merged = {**agent.assigned, **labels}
    assigned = {key: value for key, value in merged.items() if value is not None}
    if len(assigned) > LONGEST_LABELS:
        text = f"cannot label {agent.id}: it would have more than {LONGEST_LABELS} assigned labels"
        raise AskError("invalid", text)
    return agent if assigned == agent.assigned else replace(agent, assigned=assigned)


async def detail(view: FleetView, agent_id: str) -> AgentDetail:
    """All that is known of an agent, or a problem."""
    found = await view.detail(agent_id)
    return found or unknown(agent_id)


async def known(queries: Queries, agent_id: str) -> None:
    """Nothing, or a problem if the agent is unknown."""
    if not await queries.exists(agent_id):
        unknown(agent_id)


def unknown(agent_id: str) -> NoReturn:
    """The problem of an agent nobody knows."""
    raise AskError("not-found", f"cannot find {agent_id}: no such agent; 'muster agents list' shows all")
