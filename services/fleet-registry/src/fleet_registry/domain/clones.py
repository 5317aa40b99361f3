"""Two machines under one id: the later one stays visible under a name of its own."""

from collections.abc import Container, Iterable
from dataclasses import dataclass

from fleet_registry.domain.presence import LIVE
from muster_contracts.fleet.v1 import Presence
from muster_contracts.ids import boot_of

CLONES_AT_MOST = 8
"""Machines beside the first that are shown of one id: enough to see that an image was copied."""


@dataclass(frozen=True, slots=True)
class Alias:
    """A machine that speaks under another's id, and the name the fleet knows it by."""

    id: str
    speaks_as: str
    epoch: str | None
    presence: Presence

    @property
    def boot(self) -> str | None:
        """The machine's boot, by which its messages are told from the other's."""
        return boot_of(self.epoch) if self.epoch else None


def alias_of(aliases: Iterable[Alias], epoch: str) -> str | None:
    """The alias the run ``epoch`` is known under, if it has one."""
    return next((alias.id for alias in aliases if alias.boot == boot_of(epoch)), None)


def names_for(agent_id: str, epoch: str) -> list[str]:
    """The names the machine of ``epoch`` may be known by: none that a person would give an agent."""
    boot = boot_of(epoch)
    return [f"{agent_id[:52]}-clone-{boot[start : start + 4]}" for start in (0, 4, 8)]


def name_for(agent_id: str, epoch: str, aliases: Iterable[Alias], taken: Container[str] = ()) -> str | None:
    """The alias for one more machine under ``agent_id``; none if there are too many, or every name is taken.

    A clone that boots again has another boot id; it is given the name of one whose machine is gone.
    """
    known = list(aliases)
    if free := next((alias.id for alias in known if alias.presence not in LIVE), None):
        return free
    if len(known) >= CLONES_AT_MOST:
        return None
    return next((name for name in names_for(agent_id, epoch) if name not in taken), None)
