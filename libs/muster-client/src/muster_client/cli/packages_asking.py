"""Asking one machine about one package: which machine, and what it means if it does not know or answer."""

import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated

import typer

from muster_client.cli import completing
from muster_client.cli.ordering import who_has

if TYPE_CHECKING:
    from muster_client.fleet import Fleet

Name = Annotated[
    str, typer.Argument(metavar="NAME", autocompletion=completing.package_names, help="The package's name.")
]
OneAgent = Annotated[
    str | None,
    typer.Option(
        "--agent",
        metavar="ID",
        autocompletion=completing.agent_ids,
        help="On which agent; may be left out where only one has the package.",
    ),
]


async def where_is(fleet: "Fleet", package: str, agent: str | None) -> str:
    """The agent that was named, if it can be asked; or the only one that has the package.

    Raises:
        AskFailed: the agent is not known.
        NotFound: it cannot be asked, or nobody who answers has the package.
        Usage: several have it.
    """
    from muster_client.errors import NotFound  # noqa: PLC0415
    from muster_client.machines import THERE  # noqa: PLC0415

    if agent is None:
        return await who_has(fleet, package)
    known = (await fleet.agent(agent)).agent
    if known.state not in THERE:
        raise NotFound(f"cannot ask {agent} about {package}: it is {known.state} ({known.reason})")
    return agent


@contextlib.asynccontextmanager
async def asking(fleet: "Fleet", agent: str, package: str) -> AsyncIterator[None]:
    """What the agent is asked of the package in here; a name it does not know is told with the likeliest."""
    from muster_bus.errors import AskFailed, NoAnswer  # noqa: PLC0415
    from muster_client.errors import NotFound  # noqa: PLC0415

    try:
        yield
    except NoAnswer as error:
        raise NotFound(f"cannot ask {agent} about {package}: it does not answer") from error
    except AskFailed as error:
        if error.code != "not-found":
            raise
        guess = await likeliest(fleet, agent, package)
        raise NotFound(f"{error.problem.text}; {guess}" if guess else error.problem.text) from error


async def likeliest(fleet: "Fleet", agent: str, package: str) -> str:
    """A question that offers packages of the agent with a name like it; empty if the package is there."""
    from muster_bus.errors import MusterError  # noqa: PLC0415
    from muster_client.humanise import near  # noqa: PLC0415
    from muster_client.machines import packages_of  # noqa: PLC0415

    try:
        names = [one.name for one in await packages_of(fleet, agent)]
    except MusterError:
        return ""
    return "" if package in names else near(package, names)
