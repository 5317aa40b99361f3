"""What the shell is offered when a person presses Tab: ids and names, quickly or not at all."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from muster_client.fleet import Fleet

CONNECT_SECONDS = 0.5
ANSWER_SECONDS = 0.7
OFFERED = 200


def agent_ids(incomplete: str) -> list[str]:
    """Ids of agents, retired ones left out."""
    return [one for one in _asked(_ids) if one.startswith(incomplete)]


def group_names(incomplete: str) -> list[str]:
    """Names of groups."""
    return [one for one in _asked(_groups) if one.startswith(incomplete)]


def states(incomplete: str) -> list[str]:
    """States of presence."""
    from muster_contracts.fleet.v1 import Presence  # noqa: PLC0415  (only where it is asked for)

    return [state.value for state in Presence if state.startswith(incomplete)]


def contract_names(incomplete: str) -> list[str]:
    """Names of contracts, and globs of whole areas."""
    from muster_contracts.catalogue import contracts  # noqa: PLC0415  (only where it is asked for)

    names = [contract.contract() for contract in contracts()]
    areas = sorted({name.rpartition(".")[0] + ".*" for name in names})
    return [name for name in [*names, *areas] if name.lower().startswith(incomplete.lower())]


def package_names(incomplete: str) -> list[str]:
    """Names of packages of hosts that answer at once."""
    return [one for one in _asked(_packages) if one.startswith(incomplete)]


def command_ids(incomplete: str) -> list[str]:
    """Ids of the commands submitted last."""
    return [one for one in _asked(_commands) if one.startswith(incomplete)]


def verbs(incomplete: str) -> list[str]:
    """What can be ordered."""
    from muster_client.bodies import verbs as known  # noqa: PLC0415  (only where it is asked for)

    return [verb for verb in known() if verb.startswith(incomplete)]


def among(words: Sequence[str]) -> Callable[[str], list[str]]:
    """Some words that are known beforehand."""
    return lambda incomplete: [word for word in words if word.lower().startswith(incomplete.lower())]


async def _packages(fleet: "Fleet") -> list[str]:
    return (await fleet.packages(within=ANSWER_SECONDS / 2)).names


async def _commands(fleet: "Fleet") -> list[str]:
    from muster_client.cli.agents import first  # noqa: PLC0415

    targets = await first(fleet.targets(page=OFFERED), OFFERED)
    return list(dict.fromkeys(str(target.id) for target in targets))


async def _ids(fleet: "Fleet") -> list[str]:
    return [agent.id for agent in (await fleet.find(limit=OFFERED)).agents]


async def _groups(fleet: "Fleet") -> list[str]:
    return [group.name for group in await fleet.groups()]


def _asked(question: "Callable[[Fleet], Awaitable[list[str]]]") -> list[str]:
    """What the fleet answers; nothing if it does not, since an error would land in the middle of typing."""

    async def ask() -> list[str]:
        from muster_client.fleet import Fleet  # noqa: PLC0415

        async with (
            asyncio.timeout(CONNECT_SECONDS + ANSWER_SECONDS),
            Fleet.connect(within=CONNECT_SECONDS, patience=ANSWER_SECONDS) as fleet,
        ):
            return await question(fleet)

    try:
        return asyncio.run(ask())
    except Exception:  # noqa: BLE001  (whatever it is, the person wants to go on typing)
        return []
