"""When a package that ended by itself is started again, and after how long."""

from dataclasses import dataclass

from host_agent.domain.package import Exit
from muster_contracts.package.specification import Restart


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows an end."""

    again: bool
    """Whether it is started again."""
    ends: int
    """Ends in a row without a stable run, this one included."""
    delay_seconds: float = 0.0
    """Before the next start."""
    crash_loop: bool = False


def after_exit(policy: Restart, ends: int, end: Exit, ran_seconds: float) -> Verdict:
    """What follows an end, after ``ends`` others without a stable run between them.

    Whoever ran for ``stable_seconds`` is forgiven and starts again at once.
    """
    if policy.policy == "never" or (policy.policy == "on-failure" and end.well):
        return Verdict(again=False, ends=0)
    if ran_seconds >= policy.stable_seconds:
        return Verdict(again=True, ends=0)
    return after_failure(policy, ends)


def after_failure(policy: Restart, ends: int) -> Verdict:
    """The same after it could not even be started."""
    ends += 1
    return Verdict(
        again=True, ends=ends, delay_seconds=delay(policy, ends), crash_loop=ends >= policy.crash_loop_after
    )


def delay(policy: Restart, ends: int) -> float:
    """Seconds before the start that follows the ``ends``-th end in a row: doubling, up to the longest."""
    # Beyond 2**30 no delay is shorter than the longest; a larger power would not fit into a float one day.
    return min(policy.longest_delay_seconds, policy.delay_seconds * 2.0 ** min(ends - 1, 30))
