"""Many signs decided together.

Those of one agent are decided in turn, those of a cloned machine under its own name, and the losses
of one site as one event when they are too many to be chance.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import uuid5

from fleet_registry.domain.agent import Agent, Decision, Note, Sign
from fleet_registry.domain.clones import Alias, alias_of, name_for
from fleet_registry.domain.decide import FACT_IDS, Rules, decide, fact_id, newcomer
from fleet_registry.domain.partition import Census, Partition, PartitionPolicy, suspected
from fleet_registry.domain.presence import LIVE, Signal
from fleet_registry.domain.sessions import Standing, standing
from muster_contracts.fleet.v1 import IdentityConflict, PartitionEnded, PartitionSuspected, Presence, Reason
from muster_contracts.ids import boot_of

VANISHED = frozenset({Presence.LATE, Presence.LOST})


@dataclass(slots=True)
class Rollcall:
    """The agents a batch of signs is about, as they become while the batch is decided."""

    agents: dict[str, Agent]
    rules: Rules
    taken: frozenset[str] = frozenset()
    """Ids that are in use although they are not among ``agents``."""
    decisions: list[tuple[Sign, Decision]] = field(default_factory=list)
    _aliases: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        for agent in self.agents.values():
            if agent.speaks_as:
                self._aliases[agent.speaks_as].append(agent.id)

    def take(self, sign: Sign) -> None:
        """Decide one sign on top of those before it."""
        name = self._name_of(sign)
        routed = sign if name == sign.agent_id else replace(sign, agent_id=name)
        agent = self.agents.get(routed.agent_id) or newcomer(routed)
        if agent is None:
            return
        if routed.at < agent.since:
            # A clock that was set back, or an agent's own that is behind: history only goes forward.
            routed = replace(routed, at=agent.since)
        agent = self._bury_the_run_before(agent, routed)
        decision = decide(agent, routed, self.rules)
        self._keep(routed, decision)
        if decision.note is Note.CLONE:
            self._split(agent, routed)

    def _bury_the_run_before(self, agent: Agent, sign: Sign) -> Agent:
        """A new run whose predecessor's connection broke: the old one was lost, whatever came after."""
        if sign.disconnected_at is None or sign.epoch is None:
            return agent
        if standing(agent.presence, agent.epoch, sign.epoch) not in {Standing.NEWER, Standing.CONTENDER}:
            return agent
        at = max(sign.disconnected_at, agent.since)
        broken = Sign(agent.id, Signal.DISCONNECT, at, Reason.DISCONNECTED, agent.epoch)
        decision = decide(agent, broken, self.rules)
        self._keep(broken, decision)
        return decision.agent

    def _keep(self, sign: Sign, decision: Decision) -> None:
        if decision.agent.version > 0:
            self.agents[decision.agent.id] = decision.agent
        self.decisions.append((sign, decision))

    def _name_of(self, sign: Sign) -> str:
        """The name the fleet knows the sayer by: its own, or the alias of its boot."""
        aliases = self._known_aliases(sign.agent_id)
        if not aliases or sign.epoch is None:
            return sign.agent_id
        holder = self.agents.get(sign.agent_id)
        if holder and holder.epoch and boot_of(holder.epoch) == boot_of(sign.epoch):
            return sign.agent_id
        return alias_of(aliases, sign.epoch) or sign.agent_id

    def _known_aliases(self, agent_id: str) -> list[Alias]:
        found = (self.agents[name] for name in self._aliases.get(agent_id, ()))
        return [Alias(one.id, agent_id, one.epoch, one.presence) for one in found]

    def _split(self, holder: Agent, sign: Sign) -> None:
        """Give the second machine a name of its own and let it be seen under it."""
        assert sign.epoch
        used = self.taken | self.agents.keys()
        name = name_for(holder.id, sign.epoch, self._known_aliases(holder.id), used)
        if name is None:
            self._keep(sign, Decision(holder, note=Note.UNNAMED))
            return
        if name not in self.agents:
            self.agents[name] = Agent(name, since=sign.at, kind=holder.kind, speaks_as=holder.id)
            self._aliases[holder.id].append(name)
        known_as = replace(sign, agent_id=name, contest_since=None, known_spoke=None)
        decision = decide(self.agents[name], known_as, self.rules)
        conflict = _conflict(holder, decision.agent, sign, self.rules.realm)
        self._keep(known_as, replace(decision, facts=(conflict, *decision.facts)))


def _conflict(holder: Agent, other: Agent, sign: Sign, realm: str) -> IdentityConflict:
    assert holder.epoch
    assert sign.epoch
    return IdentityConflict(
        message_id=fact_id(other, "conflict", sign.at, realm),
        occurred_at=sign.at,
        agent_id=holder.id,
        epoch=holder.epoch,
        known_as=other.id,
        other_epoch=sign.epoch,
        address=holder.address,
        other_address=sign.address,
    )


def call(
    agents: Mapping[str, Agent], signs: Iterable[Sign], rules: Rules, taken: frozenset[str] = frozenset()
) -> Rollcall:
    """Decide ``signs`` in their order, on ``agents`` and whoever is new."""
    rollcall = Rollcall(dict(agents), rules, taken)
    for sign in signs:
        rollcall.take(sign)
    return rollcall


# Sites ---------------------------------------------------------------------------------------------


def vanishing_sites(rollcall: Rollcall) -> set[str]:
    """The sites in which an agent has just turned late or lost, and which are not suspected yet."""
    return {
        decision.agent.site
        for _, decision in rollcall.decisions
        if any(change.now in VANISHED for change in decision.changes)
    } - rollcall.rules.cut_sites


def census_after(
    census: Census, site: str, before: Mapping[str, Agent], after: Mapping[str, Agent], recent: datetime
) -> Census:
    """A site's ``census`` of before, corrected by what the batch changes."""
    online, missing = census.online, census.missing
    for agent_id, now in after.items():
        for one, weight in ((before.get(agent_id), -1), (now, 1)):
            if one is not None and one.site == site:
                online += weight * (one.presence is Presence.ONLINE)
                missing += weight * is_missing(one, recent)
    return Census(online, missing)


def is_missing(agent: Agent, recent: datetime) -> bool:
    """Whether an agent is late, or was lost after ``recent``."""
    return agent.presence is Presence.LATE or (agent.presence is Presence.LOST and agent.since >= recent)


def suspicions(
    censuses: Mapping[str, Census], now: datetime, policy: PartitionPolicy
) -> list[tuple[Partition, PartitionSuspected]]:
    """The sites among ``censuses`` that must be cut off, and the one fact for each."""
    found = [
        Partition(site, now, census.missing, census.known)
        for site, census in censuses.items()
        if suspected(census, policy)
    ]
    return [(partition, _suspected(partition)) for partition in found]


def recent_since(now: datetime, policy: PartitionPolicy) -> datetime:
    """Losses from this moment on count as recent."""
    return now - timedelta(seconds=policy.recent_seconds)


def _suspected(partition: Partition) -> PartitionSuspected:
    return PartitionSuspected(
        message_id=uuid5(FACT_IDS, f"{partition.site}/{partition.since.isoformat()}/suspected"),
        occurred_at=partition.since,
        site=partition.site,
        missing=partition.missing,
        known=partition.known,
    )


def reunite(
    partition: Partition, members: Sequence[Agent], now: datetime
) -> tuple[list[Agent], PartitionEnded, list[Agent]]:
    """A partition is over: its members as they are now, the one fact, and who is still lost.

    The caller says the loss of each of the last, whose row version counts up so that the fact has an id.
    """
    lost = [agent for agent in members if agent.presence is Presence.LOST]
    freed = [replace(agent, in_partition=False, version=agent.version + 1) for agent in members]
    ended = PartitionEnded(
        message_id=uuid5(FACT_IDS, f"{partition.site}/{partition.since.isoformat()}/ended"),
        occurred_at=now,
        site=partition.site,
        returned=sum(agent.presence in LIVE for agent in members),
        still_lost=len(lost),
        lasted_seconds=(now - partition.since).total_seconds(),
    )
    still = [agent for agent in freed if agent.presence is Presence.LOST and not agent.flapping]
    return freed, ended, still
