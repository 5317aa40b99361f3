"""Whether the checks of a package are looked at, by the state the package is in."""

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from host_agent.domain.package import Loaded, Run
from muster_contracts.package.v1 import PackageState


class Attention(StrEnum):
    """What is done about the checks of a package."""

    LOOK = "look"
    """They look at their beats."""
    HOLD = "hold"
    """They do not look, and hold what they held: what they would see is what somebody does to it."""
    RESET = "reset"
    """They do not look and hold unknown; at the next start they begin anew."""


_S = PackageState

ATTENTION = MappingProxyType({
    _S.RUNNING: Attention.LOOK,
    _S.PAUSED: Attention.HOLD,
    _S.STOPPING: Attention.HOLD,
    _S.STARTING: Attention.RESET,
    _S.STOPPED: Attention.RESET,
    _S.EXITED: Attention.RESET,
    _S.BACKOFF: Attention.RESET,
    _S.CRASH_LOOP: Attention.RESET,
    _S.BLOCKED: Attention.RESET,
    _S.FAILED: Attention.RESET,
    _S.INVALID: Attention.RESET,
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sight:
    """A package, as far as its checks have to know it."""

    loaded: Loaded
    state: PackageState | None
    """None: not known yet."""
    run: Run | None
    began: float
    """When its run began, by the monotonic clock."""

    @property
    def attention(self) -> Attention:
        """What is done about its checks."""
        return ATTENTION[self.state] if self.state else Attention.HOLD
