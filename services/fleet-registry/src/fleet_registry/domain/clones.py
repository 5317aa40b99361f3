"""Two machines under one id: the later one stays visible under a name of its own."""

from collections.abc import Iterable
from dataclasses import dataclass

from fleet_registry.domain.presence import LIVE
from muster_contracts.fleet.v1 import Presence
from muster_contracts.ids import boot_of


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


def name_for(agent_id: str, aliases: Iterable[Alias], taken: Iterable[str] = ()) -> str:
    """The alias for one more machine under ``agent_id``: one whose machine is gone, else a new one.

    A clone that boots again has another boot id; it finds its name again because the old one is free.
    """
    known = {alias.id: alias for alias in aliases}
    used = set(taken)
    number = 2
    while True:
        name = f"{agent_id[: 63 - len(str(number)) - 1]}-{number}"
        alias = known.get(name)
        if (alias is None and name not in used) or (alias is not None and alias.presence not in LIVE):
            return name
        number += 1
