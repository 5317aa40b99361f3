"""The fleet as people and programs see it: rows, pages and numbers, with what only the index knows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from fleet_registry.domain.agent import Agent
from fleet_registry.domain.counts import Counts
from fleet_registry.domain.grants import deadline
from fleet_registry.granting import Grants
from fleet_registry.ports import Index, Letters, Queries, Recorded
from fleet_registry.roll import Roll
from muster_contracts.fleet.v1 import (
    AgentDetail,
    AgentPage,
    AgentRow,
    Degraded,
    Group,
    GroupList,
    Presence,
    Summary,
)
from muster_contracts.selector import Facts, Selector
from muster_runtime import Clock

STALE_SECONDS = 5.0
"""Numbers of this age give way to counted ones, even if this registry wrote during the count."""

ANSWER_BYTES = 512 * 1024
"""The rows of one answer; the broker takes no message above 1 MiB. Lines of history and sessions are so short
that 500 always fit."""


@dataclass(slots=True, kw_only=True)
class FleetView:
    """Reads; see ``fleet.v1``."""

    queries: Queries
    index: Index
    roll: Roll
    grants: Grants
    outbox: Letters
    clock: Clock
    counts: Counts = field(default_factory=Counts)
    outbox_size: int = 0
    _counted_at: float = float("-inf")

    def note(self, recorded: Recorded) -> None:
        """Keep the numbers right while this registry writes; what others write shows with the next count."""
        for was, now in recorded.written:
            self.counts.move(was, now)
        self.counts.partitions = sorted({*self.counts.partitions, *recorded.sites_cut} - recorded.sites_back)

    async def refresh(self) -> None:
        """Count again, for what other registries wrote."""
        commits = self.roll.commits
        counts, self.outbox_size = await self.queries.counts(), await self.outbox.size()
        # What was committed meanwhile may be in these numbers or not; the present ones know for certain.
        if commits == self.roll.commits or self.clock.monotonic() - self._counted_at > STALE_SECONDS:
            self.counts, self._counted_at = counts, self.clock.monotonic()

    @property
    def live(self) -> int:
        """Agents that are online or late."""
        by_state = self.counts.by_state
        return by_state.get(Presence.ONLINE, 0) + by_state.get(Presence.LATE, 0)

    @property
    def degraded(self) -> Degraded | None:
        """What cannot be known just now."""
        return self.index.degraded

    async def summary(self, dead_letters: int) -> Summary:
        """The fleet in numbers; they are kept, not counted, so this costs nothing however large it is."""
        return Summary(
            by_state=self.counts.by_state,
            by_kind={kind: number for kind, number in self.counts.by_kind.items() if number},
            # Who is retired is no part of the fleet any more.
            total=sum(self.counts.by_state.values()) - self.counts.by_state.get(Presence.RETIRED, 0),
            flapping=self.counts.flapping,
            partitions=self.counts.partitions,
            interval_seconds=self.grants.interval_seconds,
            dead_letters=dead_letters,
            degraded=self.index.degraded,
        )

    async def page(
        self,
        selector: Selector,
        states: Sequence[Presence],
        after: str | None,
        limit: int,
        *,
        brief: bool = False,
    ) -> AgentPage:
        """One page of agents; it ends early where the labels of more would not fit into one answer.

        A ``brief`` one is of what their rows alone tell: not of groups, nor of what the index has seen since.
        """
        agents, total = await self.queries.find(selector, states, after, limit + 1)
        groups = {} if brief else await self.queries.groups()
        seen = {} if brief else await self.index.seen([agent.id for agent in agents[:limit]])
        rows = [row_of(agent, groups, seen.get(agent.id)) for agent in agents[:limit]]
        page = rows[: fitting(rows)]
        return AgentPage(
            agents=page,
            total=total,
            next=page[-1].id if len(agents) > len(page) else None,
            degraded=self.index.degraded,
        )

    async def detail(self, agent_id: str) -> AgentDetail | None:
        """All that is known of one agent; nothing if it is unknown."""
        found = await self.queries.get(agent_id, self.clock.now())
        if found is None:
            return None
        agent, description, active = found
        groups = await self.queries.groups()
        seen = await self.index.seen([agent_id])
        judged = agent.interval_seconds and self.grants.judged_by(agent.interval_seconds)
        return AgentDetail(
            agent=row_of(agent, groups, seen.get(agent_id)),
            interval_seconds=agent.interval_seconds,
            deadline_seconds=judged and deadline(judged),
            declared_labels=dict(agent.declared),
            assigned_labels=dict(agent.assigned),
            active=active,
            description=description,
            degraded=self.index.degraded,
        )

    async def groups(self) -> GroupList:
        """Every group and how many it holds."""
        groups = await self.queries.groups()
        members = await self.queries.members(groups)
        return GroupList(
            groups=[
                Group(name=name, selector=str(selector), members=members[name])
                for name, selector in groups.items()
            ],
            degraded=self.index.degraded,
        )


def fitting(rows: Sequence[AgentRow]) -> int:
    """How many of the rows fit into one answer; at least one, so that every page leads on."""
    size = 0
    for number, row in enumerate(rows):
        size += len(row.model_dump_json())
        if size > ANSWER_BYTES:
            return max(1, number)
    return len(rows)


def row_of(agent: Agent, groups: Mapping[str, Selector], seen: datetime | None) -> AgentRow:
    """An agent as lists show it."""
    facts = Facts(agent.id, agent.kind, agent.presence, labels=agent.labels)
    moments = [moment for moment in (agent.last_seen, seen) if moment]
    return AgentRow(
        id=agent.id,
        kind=agent.kind,
        state=agent.presence,
        reason=agent.reason,
        since=agent.since,
        last_seen=max(moments, default=None),
        labels=agent.labels,
        groups=[name for name, selector in groups.items() if selector.matches(facts)],
        agent_version=agent.agent_version,
        epoch=agent.epoch,
        address=agent.address,
        flapping=agent.flapping,
        conflict_with=agent.speaks_as,
    )
