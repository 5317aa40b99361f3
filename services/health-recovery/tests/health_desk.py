"""A picture that is told facts without bus and database, as the intake does it."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from health_facts import NOON

from health_recovery.domain.assessing import Changes, assess, due, open_windows
from health_recovery.domain.flapping import FlappingPolicy
from health_recovery.domain.hearing import Fact, Touched, hear, see_agents
from health_recovery.domain.keys import Key
from health_recovery.domain.picture import Picture
from health_recovery.domain.records import Package
from muster_contracts.fleet.v1 import AgentRow
from muster_contracts.health.v1 import HostHealthChanged
from muster_contracts.message import DurableFact


def key(name: str) -> Key:
    """``web@web-1``."""
    package, _, agent = name.partition("@")
    return Key(agent, package)


class Desk:
    """Facts in, judgements out; ``said`` is all that was said so far."""

    def __init__(self, picture: Picture | None = None, policy: FlappingPolicy | None = None) -> None:
        self.picture = picture or Picture()
        self.policy = policy or FlappingPolicy()
        self.said: list[DurableFact] = []
        self.changes = Changes()

    def tell(self, *facts: Fact, now: datetime | None = None) -> Changes:
        """One batch."""
        touched = Touched()
        before = self.picture.begin()
        at = now or max((fact.occurred_at for fact in facts), default=NOON)
        for fact in facts:
            hear(self.picture, fact, touched, at)
        self.changes = assess(self.picture, before, touched, self.policy, at)
        self.picture.keep()
        self.said += self.changes.facts
        return self.changes

    def one_by_one(self, *facts: Fact) -> None:
        for fact in facts:
            self.tell(fact)

    def see(self, *rows: AgentRow, now: datetime = NOON) -> Changes:
        """What the registry lists."""
        touched, before = Touched(), self.picture.begin()
        see_agents(self.picture, rows, touched, now)
        self.changes = assess(self.picture, before, touched, self.policy, now)
        self.picture.keep()
        self.said += self.changes.facts
        return self.changes

    def at(self, now: datetime) -> Changes:
        """Time has passed."""
        touched, before = Touched(), self.picture.begin()
        open_windows(self.picture, now, touched)
        for package in list(self.picture.packages()):
            moment = due(package, self.policy)
            if moment and moment <= now:
                touched.package(package.key, now)
        self.changes = assess(self.picture, before, touched, self.policy, now)
        self.picture.keep()
        self.said += self.changes.facts
        return self.changes

    def get(self, name: str) -> Package:
        package = self.picture.get(key(name))
        assert package
        return package

    def health(self, name: str) -> str:
        return self.get(name).health.value

    def reason(self, name: str) -> str:
        return self.get(name).judged.base.reason

    def cause(self, name: str) -> str | None:
        cause = self.get(name).judged.cause
        return str(cause) if cause else None

    def host(self, agent: str) -> str:
        verdict = self.picture.hosts[agent].verdict
        assert verdict
        return verdict.health.value

    def news(self) -> list[str]:
        """What was said of packages: ``web@web-1 critical``."""
        return list(_news(self.said))


def _news(facts: Iterable[DurableFact]) -> Iterable[str]:
    for fact in facts:
        if isinstance(fact, HostHealthChanged):
            continue
        where = f"{getattr(fact, 'package', '')}@{getattr(fact, 'agent_id', '')}"
        told = getattr(fact, "now", None)
        yield f"{where} {told.health if told else type(fact).__name__}"


def after(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)
