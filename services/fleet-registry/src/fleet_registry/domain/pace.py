"""How fast one agent may begin new runs: each costs a session, so an agent gone wild is slowed, alone."""

RUNS_AT_ONCE = 5
"""New runs that need not wait: more than clones and restarts ever make in a second."""
SECONDS_PER_RUN = 1.0


class Pace:
    """For each agent, the run it began last and until when its allowance is used up."""

    def __init__(self) -> None:
        self._used: dict[str, tuple[str, float]] = {}

    def __len__(self) -> int:
        return len(self._used)

    def allows(self, agent_id: str, epoch: str, now: float) -> bool:
        """Whether the run may speak for the agent now; a new one then counts as begun."""
        last, until = self._used.get(agent_id, ("", now))
        if epoch == last:
            return True
        if until - now > (RUNS_AT_ONCE - 1) * SECONDS_PER_RUN:
            return False
        self._forget(now)
        self._used.pop(agent_id, None)  # so that the oldest stay in front
        self._used[agent_id] = (epoch, max(until, now) + SECONDS_PER_RUN)
        return True

    def _forget(self, now: float) -> None:
        while self._used and next(iter(self._used.values()))[1] <= now:
            del self._used[next(iter(self._used))]
