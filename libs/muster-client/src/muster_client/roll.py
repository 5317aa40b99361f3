"""Who is in the fleet, how they came and went, and what an operator decides of them."""

from collections.abc import AsyncIterator, Mapping, Sequence

from muster_client.asking import Asking, now
from muster_contracts.agent.v1 import AgentKind
from muster_contracts.fleet.v1 import (
    AgentDetail,
    AgentEvent,
    AgentPage,
    AgentRow,
    Connection,
    DefineGroup,
    DeleteGroup,
    ExpectAgent,
    FindAgents,
    GetAgent,
    GetConnections,
    GetHistory,
    GetSummary,
    Group,
    ListGroups,
    Presence,
    RetireAgent,
    SetLabels,
    Summary,
)
from muster_contracts.host.v1 import ReadVitals, Vitals

PAGE = 500
"""The most that one question may ask for."""


class Roll(Asking):
    """Questions to the registry, and one to the agents themselves: how they are."""

    # Who is there --------------------------------------------------------------------------------

    async def find(
        self,
        selector: str = "",
        states: Sequence[Presence] = (),
        *,
        after: str | None = None,
        limit: int = PAGE,
    ) -> AgentPage:
        """One page of agents, and how many match in all."""
        wanted = FindAgents(
            occurred_at=now(), selector=selector, states=list(states), after=after, limit=min(limit, PAGE)
        )
        return await self.ask(wanted)

    async def agents(self, selector: str = "", states: Sequence[Presence] = ()) -> AsyncIterator[AgentRow]:
        """Every agent that matches, in the order of ids, page by page; without states all but retired."""
        after: str | None = None
        while True:
            page = await self.find(selector, states, after=after)
            for agent in page.agents:
                yield agent
            if (after := page.next) is None:
                return

    async def agent(self, agent_id: str) -> AgentDetail:
        """All the registry knows of one agent."""
        return await self.ask(GetAgent(occurred_at=now(), agent_id=agent_id))

    async def history(self, agent_id: str) -> AsyncIterator[AgentEvent]:
        """How the agent came and went, newest first, back to its first day."""
        before: str | None = None
        while True:
            page = await self.ask(GetHistory(occurred_at=now(), agent_id=agent_id, before=before, limit=PAGE))
            for event in page.events:
                yield event
            if (before := page.next) is None:
                return

    async def connections(self, agent_id: str) -> AsyncIterator[Connection]:
        """The agent's sessions, newest first."""
        before: str | None = None
        while True:
            wanted = GetConnections(occurred_at=now(), agent_id=agent_id, before=before, limit=PAGE)
            page = await self.ask(wanted)
            for session in page.connections:
                yield session
            if (before := page.next) is None:
                return

    async def summary(self) -> Summary:
        """The fleet in numbers."""
        return await self.ask(GetSummary(occurred_at=now()))

    async def vitals(self, agent_id: str, *, within: float = 2.0) -> Vitals:
        """How a machine is just now, from its own agent."""
        return await self.ask(ReadVitals(occurred_at=now(), agent_id=agent_id), within=within)

    # What an operator decides --------------------------------------------------------------------

    async def set_labels(self, agent_id: str, labels: Mapping[str, str | None]) -> AgentDetail:
        """Assign labels; None takes an assigned one back. They win over the agent's own."""
        return await self.ask(SetLabels(occurred_at=now(), agent_id=agent_id, labels=dict(labels)))

    async def expect(
        self, agent_id: str, kind: AgentKind = AgentKind.HOST, labels: Mapping[str, str] | None = None
    ) -> AgentDetail:
        """Put an agent on the roll before it is seen, or take a retired one back."""
        wanted = ExpectAgent(occurred_at=now(), agent_id=agent_id, kind=kind, labels=dict(labels or {}))
        return await self.ask(wanted)

    async def retire(self, agent_id: str) -> AgentDetail:
        """Take an agent out of the fleet; its history stays."""
        return await self.ask(RetireAgent(occurred_at=now(), agent_id=agent_id))

    async def groups(self) -> list[Group]:
        """Every group, by name."""
        return (await self.ask(ListGroups(occurred_at=now()))).groups

    async def define_group(self, name: str, selector: str) -> list[Group]:
        """Make a group, or give one another selector; returns all groups."""
        return (await self.ask(DefineGroup(occurred_at=now(), name=name, selector=selector))).groups

    async def delete_group(self, name: str) -> list[Group]:
        """Remove a group, its agents stay; returns all groups."""
        return (await self.ask(DeleteGroup(occurred_at=now(), name=name))).groups
