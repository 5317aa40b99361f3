"""How far a command is over all its targets: counted from its events."""

from collections import Counter
from dataclasses import dataclass, field

from muster_client.commands import Event, OutputGrew, Progress
from muster_contracts.command.v1 import CommandState, Target


@dataclass(frozen=True, slots=True)
class Open:
    """A target that has not ended; ``since`` is when it came into its state, by the watcher's clock."""

    state: CommandState
    since: float
    percent: float | None = None
    text: str | None = None


@dataclass(slots=True)
class Tally:
    """The targets of one command as they are now."""

    total: int
    open: dict[str, Open] = field(default_factory=dict)
    ended: dict[str, Target] = field(default_factory=dict)
    failures: list[Target] = field(default_factory=list)
    """Those that ended otherwise than they should, in the order of their ends."""

    def take(self, event: Event, clock: float) -> None:
        """Something happened, at ``clock`` seconds."""
        if isinstance(event, OutputGrew):
            return
        if isinstance(event, Progress):
            before = self.open.get(event.agent)
            since = before.since if before and before.state is event.state else clock
            self.open[event.agent] = Open(event.state, since, event.percent, event.text)
            return
        target = event.target
        self.open.pop(target.agent, None)
        self.ended[target.agent] = target
        if target.state is not CommandState.SUCCEEDED:
            self.failures.append(target)

    @property
    def by_state(self) -> dict[CommandState, int]:
        """How many are in which state."""
        states = Counter(one.state for one in self.open.values())
        states.update(target.state for target in self.ended.values())
        return dict(states)

    def slowest(self, count: int) -> list[tuple[str, Open]]:
        """Those that have been in their state for longest; who runs before who waits."""

        def rank(item: tuple[str, Open]) -> tuple[bool, float, str]:
            agent, one = item
            return one.state is not CommandState.RUNNING, one.since, agent

        return sorted(self.open.items(), key=rank)[:count]

    @property
    def targets(self) -> list[Target]:
        """Those that have ended, by agent."""
        return [self.ended[agent] for agent in sorted(self.ended)]
