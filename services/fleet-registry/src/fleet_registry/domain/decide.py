"""What one sign of life, silence or will does to one agent: the place where the rules meet.

``decide`` takes the agent and the sign and returns a ``Decision``; it knows no clock, no store and
no wire. Every change of presence becomes a line of history; whether it is also said depends on
whether the agent flaps and whether its site is suspected to be cut off.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
from uuid import UUID, uuid5

from fleet_registry.domain.agent import (
    Agent,
    Change,
    Closed,
    Corrected,
    Decision,
    Note,
    Opened,
    SessionEdit,
    Sign,
)
from fleet_registry.domain.flapping import FlappingPolicy, flaps, is_move, moves_after
from fleet_registry.domain.presence import LIVE, Signal, step
from fleet_registry.domain.sessions import Contest, Standing, standing
from muster_contracts.fleet.v1 import AgentFlapping, Presence, PresenceChanged, Reason
from muster_contracts.ids import boot_of, start_of
from muster_contracts.message import DurableFact

FACT_IDS = UUID("6f1f64f2-63a3-5d0c-9b8a-0c1f5b9f3a11")
"""The namespace of fact ids: one change of one agent has one id, however often and by whomever it is sent."""

VANISHING = frozenset({Signal.OVERDUE, Signal.SILENCE, Signal.DISCONNECT})
"""The signals that a cut site and a dead agent have in common."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What decisions go by beside the agent and the sign."""

    flapping: FlappingPolicy = field(default_factory=FlappingPolicy)
    cut_sites: frozenset[str] = frozenset()
    """Sites that are suspected to be partitioned."""
    realm: str = ""
    """The name of the database that is decided about."""


def decide(agent: Agent, sign: Sign, rules: Rules) -> Decision:
    """What follows from ``sign`` for ``agent``.

    Raises:
        ImpossibleTransition: the sign cannot happen to an agent in this presence.
    """
    return _DECIDERS[sign.signal](agent, sign, rules)


def newcomer(sign: Sign) -> Agent | None:
    """An agent nobody knew before ``sign``; none where the sign is a verdict, which needs a known one."""
    if sign.signal in VANISHING or sign.signal is Signal.RETIRE:
        return None
    return Agent(sign.agent_id, since=sign.at, kind=sign.kind or Agent(sign.agent_id, sign.at).kind)


def fact_id(agent: Agent, what: str, at: datetime, realm: str) -> UUID:
    """The id of a fact about ``agent`` as it is now, said because of what happened ``at`` that moment.

    Versions begin again in a database that was rebuilt, and are given twice in one that was restored; the
    streams would take its facts for old ones but for the ``realm`` and the moment.
    """
    return uuid5(FACT_IDS, f"{realm}/{agent.id}/{agent.version}/{at.isoformat()}/{what}")


# One function per kind of sign --------------------------------------------------------------------


def _beat(agent: Agent, sign: Sign, rules: Rules) -> Decision:
    assert sign.epoch
    if agent.presence is Presence.RETIRED:
        return Decision(agent, note=Note.RETIRED)
    stands = standing(agent.presence, agent.epoch, sign.epoch, _contest(agent, sign))
    if note := _IGNORED.get(stands):
        return Decision(agent, note=note)
    if stands is Standing.SAME:
        return _goes_on(_informed(agent, sign), agent, sign, rules)
    return _begins(_informed(agent, sign), agent, sign, rules)


def _goes_on(now: Agent, was: Agent, sign: Sign, rules: Rules) -> Decision:
    assert sign.epoch
    presence = step(was.id, was.presence, sign.signal)
    if presence is was.presence:
        return Decision(_versioned(now, was))
    reopens = was.presence not in LIVE
    opened = (_opened(now, sign),) if reopens else ()
    return _changed(was, replace(now, presence=presence, reason=sign.reason), sign, rules, opened)


def _begins(now: Agent, was: Agent, sign: Sign, rules: Rules) -> Decision:
    presence = step(was.id, was.presence, sign.signal)
    edits: tuple[SessionEdit, ...] = (_opened(now, sign),)
    reason = sign.reason
    if was.presence in LIVE and was.epoch:
        reason = Reason.REPLACED
        edits = (Closed(was.id, was.epoch, sign.at, reason), *edits)
    decision = _changed(was, replace(now, presence=presence, reason=reason), sign, rules, edits)
    return replace(decision, introduce=sign.reason is not Reason.HELLO)


def _verdict(agent: Agent, sign: Sign, rules: Rules) -> Decision:
    if sign.epoch != agent.epoch:
        return Decision(agent, note=Note.OUTDATED)
    presence = step(agent.id, agent.presence, sign.signal)
    if presence is agent.presence:
        return Decision(agent)
    edits: tuple[SessionEdit, ...] = ()
    if presence is Presence.LOST and agent.epoch:
        edits = (Closed(agent.id, agent.epoch, sign.ended_at or sign.at, sign.reason),)
    cut = agent.site in rules.cut_sites
    reason = Reason.PARTITION if cut and presence is Presence.LOST else sign.reason
    now = replace(agent, presence=presence, reason=reason, in_partition=agent.in_partition or cut)
    return _changed(agent, now, sign, rules, edits)


def _goodbye(agent: Agent, sign: Sign, rules: Rules) -> Decision:
    assert sign.epoch
    if agent.epoch not in {None, sign.epoch} and not _is_later(sign.epoch, agent.epoch):
        # An earlier run's goodbye that was slower than its successor: only its own session learns of it.
        return Decision(
            agent, sessions=(Corrected(agent.id, sign.epoch, sign.at, sign.reason),), note=Note.OUTDATED
        )
    presence = step(agent.id, agent.presence, sign.signal)
    if presence is agent.presence and sign.epoch == agent.epoch:
        return Decision(agent, note=Note.ENDED)
    edits = _farewell(agent, sign)
    now = replace(agent, presence=presence, reason=sign.reason, epoch=sign.epoch)
    if presence is agent.presence:
        # A whole run went by unheard since the last goodbye; a retired agent's runs are nobody's news.
        return (
            Decision(agent) if presence is Presence.RETIRED else Decision(_versioned(now, agent), (), edits)
        )
    return _changed(agent, now, sign, rules, edits)


def _farewell(agent: Agent, sign: Sign) -> tuple[SessionEdit, ...]:
    assert sign.epoch
    if agent.epoch == sign.epoch:
        if agent.presence in LIVE:
            return (Closed(agent.id, sign.epoch, sign.at, sign.reason),)
        return (Corrected(agent.id, sign.epoch, sign.at, sign.reason),)
    # The whole run went by unheard: all that is known of it is its end.
    whole = (_opened(agent, sign), Closed(agent.id, sign.epoch, sign.at, sign.reason))
    if agent.presence in LIVE and agent.epoch:
        return (Closed(agent.id, agent.epoch, sign.at, Reason.REPLACED), *whole)
    return whole


def _ordered(agent: Agent, sign: Sign, rules: Rules) -> Decision:
    presence = step(agent.id, agent.presence, sign.signal)
    informed = agent
    if sign.signal is Signal.EXPECT:
        informed = replace(agent, assigned={**agent.assigned, **(sign.labels or {})})
        if agent.version == 0:
            informed = replace(informed, kind=sign.kind or agent.kind)
    if presence is agent.presence and agent.version > 0:
        return Decision(_versioned(informed, agent))
    ends = agent.presence in LIVE and agent.epoch is not None
    edits = (Closed(agent.id, agent.epoch or "", sign.at, sign.reason),) if ends else ()
    return _changed(agent, replace(informed, presence=presence, reason=sign.reason), sign, rules, edits)


_DECIDERS: Mapping[Signal, Callable[[Agent, Sign, Rules], Decision]] = MappingProxyType({
    Signal.BEAT: _beat,
    Signal.OVERDUE: _verdict,
    Signal.SILENCE: _verdict,
    Signal.DISCONNECT: _verdict,
    Signal.GOODBYE: _goodbye,
    Signal.EXPECT: _ordered,
    Signal.RETIRE: _ordered,
})  # fmt: skip

_IGNORED = MappingProxyType({
    Standing.STALE: Note.STALE,
    Standing.ENDED: Note.ENDED,
    Standing.CONTENDER: Note.CONTENDER,
    Standing.CLONE: Note.CLONE,
})  # fmt: skip


# What they have in common --------------------------------------------------------------------------


def _contest(agent: Agent, sign: Sign) -> Contest | None:
    if sign.contest_since is None:
        return None
    interval = agent.interval_seconds or sign.interval_seconds or 0.0
    return Contest(sign.contest_since, sign.known_spoke, interval, sign.at)


def _is_later(epoch: str, known: str | None) -> bool:
    return known is not None and boot_of(epoch) == boot_of(known) and start_of(epoch) > start_of(known)


def _informed(agent: Agent, sign: Sign) -> Agent:
    """The agent with what the sign tells of it."""
    return replace(
        agent,
        epoch=sign.epoch,
        kind=sign.kind or agent.kind,
        agent_version=sign.agent_version or agent.agent_version,
        address=sign.address or agent.address,
        interval_seconds=sign.interval_seconds or agent.interval_seconds,
        declared=agent.declared if sign.labels is None else dict(sign.labels),
        last_seen=sign.at,
    )


def _opened(agent: Agent, sign: Sign) -> Opened:
    assert sign.epoch
    return Opened(agent.id, sign.epoch, sign.at, agent.address, agent.agent_version)


def _versioned(now: Agent, was: Agent) -> Agent:
    """A repeated sign with nothing new leaves the agent untouched, so that nothing is written."""
    if replace(now, last_seen=was.last_seen) == was:
        return was
    return replace(now, version=was.version + 1)


def _changed(was: Agent, now: Agent, sign: Sign, rules: Rules, sessions: tuple[SessionEdit, ...]) -> Decision:
    """The agent in another presence, with its line of history and what is to be said of it."""
    cut = was.site in rules.cut_sites and (sign.signal in VANISHING or was.in_partition)
    now = replace(now, since=sign.at, version=was.version + 1)
    if is_move(was.presence, now.presence) and not cut:
        moves = moves_after(was.moves, sign.at, rules.flapping)
        now = replace(now, moves=moves, flapping=was.flapping or flaps(moves, rules.flapping))
    change = Change(now.id, was.presence, now.presence, sign.at, now.reason, now.epoch, now.address)
    return Decision(now, (change,), sessions, _said(was, now, sign, rules, silent=cut))


def _said(was: Agent, now: Agent, sign: Sign, rules: Rules, *, silent: bool) -> tuple[DurableFact, ...]:
    if now.flapping and not was.flapping:
        return (
            AgentFlapping(
                message_id=fact_id(now, "flapping", sign.at, rules.realm),
                occurred_at=sign.at,
                agent_id=now.id,
                changes=len(now.moves),
                window_seconds=rules.flapping.window_seconds,
            ),
        )
    if now.flapping or silent or was.presence is now.presence:
        return ()
    return (presence_changed(was.presence, now, rules.realm),)


def presence_changed(was: Presence, now: Agent, realm: str) -> PresenceChanged:
    """The fact that an agent has come into the presence it is in."""
    return PresenceChanged(
        message_id=fact_id(now, "presence", now.since, realm),
        occurred_at=now.since,
        agent_id=now.id,
        kind=now.kind,
        was=was,
        now=now.presence,
        reason=now.reason,
        epoch=now.epoch,
        labels=now.labels,
    )
