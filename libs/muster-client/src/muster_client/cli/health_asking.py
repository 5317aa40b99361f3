"""What the commands about health share: which package is meant, and whom to ask about it."""

from typing import TYPE_CHECKING, Annotated

import typer

from muster_client.cli import completing
from muster_client.cli.agents import first
from muster_client.cli.ordering import only

if TYPE_CHECKING:
    from muster_client.fleet import Fleet
    from muster_contracts.health.v1 import CheckState, PackageHealth

WORST_FIRST = ("critical", "warning", "unknown", "ok")
HEALTHS = WORST_FIRST[::-1]
"""Those of ``health.v1.Health``, spelled here so that ``--help`` does without the contracts."""
SEARCHED = 2000
"""A name like the one that was mistyped is looked for among so many packages."""

Name = Annotated[
    str,
    typer.Argument(metavar="PACKAGE", autocompletion=completing.package_names, help="The package's name."),
]
AnyPackage = Annotated[
    str | None,
    typer.Option(
        "--package", metavar="NAME", autocompletion=completing.package_names, help="Only of this name."
    ),
]
OneAgent = Annotated[
    str | None,
    typer.Option(
        "--agent",
        metavar="ID",
        autocompletion=completing.agent_ids,
        help="On which agent; may be left out where only one has the package, or has it ill.",
    ),
]


def known_healths(words: list[str] | None) -> list[str]:
    """The words, if each is one of how things can be."""
    for word in words or []:
        if word not in HEALTHS:
            raise typer.BadParameter(f"{word!r} is not one of {', '.join(HEALTHS)}")
    return words or []


async def where_is(fleet: "Fleet", package: str, agent: str | None) -> str:
    """The agent that was named; else the only one that has the package, or the only one that has it ill.

    Raises:
        NotFound: nobody has it.
        Usage: several have it.
    """
    if agent is not None:
        return agent
    having = await _having(fleet, package)
    ill = [one for one in having if one.health in {"critical", "warning"}]
    what = f"{package} is ill on" if ill else f"{package} is on"
    agents = [one.agent for one in ill or having]
    return only(agents, what, "name one with --agent")


async def agents_with(fleet: "Fleet", package: str) -> list[str]:
    """Every agent that has the package.

    Raises:
        NotFound: nobody has it.
    """
    return [one.agent for one in await _having(fleet, package)]


async def _having(fleet: "Fleet", package: str) -> "list[PackageHealth]":
    from muster_client.errors import NotFound  # noqa: PLC0415
    from muster_client.humanise import near  # noqa: PLC0415

    having = [one async for one in fleet.health.packages(package=package)]
    if not having:
        names = {one.package for one in await first(fleet.health.packages(), SEARCHED)}
        guess = near(package, sorted(names)) or "see which there are with: muster health packages"
        raise NotFound(f"cannot find the package {package} in the picture of health-recovery; {guess}")
    return having


async def checks_of(fleet: "Fleet", agent: str, package: str | None) -> "list[CheckState]":
    """What the checks of a machine hold, from its own agent.

    Raises:
        AskFailed: the agent is not known, or has no such package.
        NotFound: it does not answer.
    """
    from muster_bus.errors import NoAnswer  # noqa: PLC0415
    from muster_client.errors import NotFound  # noqa: PLC0415

    try:
        return [one async for one in fleet.health.checks(agent, package)]
    except NoAnswer as error:
        # Whether it is unknown or away, the registry tells better than silence does.
        known = (await fleet.agent(agent)).agent
        why = f"it does not answer, it is {known.state} ({known.reason})"
        raise NotFound(f"cannot read the checks of {agent}: {why}") from error
