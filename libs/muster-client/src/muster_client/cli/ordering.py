"""What the commands that order something share: whom they mean, on which terms, and what became of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from muster_client.cli import completing
from muster_client.cli.common import FAILED
from muster_client.cli.running import emit, length_of_time, note

if TYPE_CHECKING:
    from muster_client.commands import Command
    from muster_client.fleet import Fleet
    from muster_client.machines import Inventory
    from muster_contracts.command.v1 import Body, Target

TOLD_FAILURES = 20
"""More failures than this are counted, not told one by one."""
NAMED_AGENTS = 8
HINTS = 3
FIVE_MINUTES = "5m"

Agents = Annotated[
    list[str] | None,
    typer.Option(
        "--agent", metavar="ID", autocompletion=completing.agent_ids, help="On this agent; may be repeated."
    ),
]
On = Annotated[
    str | None,
    typer.Option("--on", metavar="SELECTOR", help="On every agent that matches: site=ams; '' for all."),
]
NoWait = Annotated[
    bool, typer.Option("--no-wait", help="Return when it is ordered; do not wait for the end.")
]
Timeout = Annotated[
    str, typer.Option(metavar="TIME", help="What runs longer on an agent is stopped: 45s, 5m, 2h.")
]
Expires = Annotated[
    str,
    typer.Option(metavar="TIME", help="An agent that is away, and back later than this, does not begin."),
]


@dataclass(frozen=True)
class Terms:
    """How an order is given, as the command line said it."""

    timeout: str = FIVE_MINUTES
    expires: str = FIVE_MINUTES
    start_within: str | None = None
    issuer: str | None = None
    key: str | None = None
    no_wait: bool = False
    json: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """The same for ``Fleet.order``."""
        return {
            "run_for": self._length(self.timeout),
            "expires": self._length(self.expires),
            "start_within": self._length(self.start_within or FIVE_MINUTES),
            "issuer": self.issuer,
            "idempotency_key": self.key,
        }

    @staticmethod
    def _length(text: str) -> timedelta:
        return timedelta(seconds=length_of_time(text))


# Whom ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Whom:
    """``--agent`` and ``--on``, of which at most one may be given."""

    agents: Sequence[str] | None
    on: str | None

    def __post_init__(self) -> None:
        if self.agents and self.on is not None:
            raise typer.BadParameter("cannot take both --agent and --on: name agents, or whom to select")

    @property
    def given(self) -> str | None:
        """Both as one selector; None where neither was given."""
        if not self.agents:
            return self.on
        return f"id={self.agents[0]}" if len(self.agents) == 1 else f"id in ({','.join(self.agents)})"

    async def who_have(self, fleet: "Fleet", package: str) -> str:
        """The selector that was given, or the one agent that has the package.

        Raises:
            NotFound: nobody who answers has it.
            Usage: several have it.
        """
        return f"id={await who_has(fleet, package)}" if self.given is None else self.given


async def who_has(fleet: "Fleet", package: str) -> str:
    """The one agent that has the package."""
    found = await fleet.packages()
    having = found.agents_with(package)
    if not having:
        raise nobody_has(package, found)
    return only(having, f"{package} is on")


def nobody_has(package: str, found: "Inventory") -> Exception:
    """Why the package cannot be found, with the names it may have been meant for."""
    from muster_client.errors import NotFound  # noqa: PLC0415
    from muster_client.humanise import near  # noqa: PLC0415

    guess = near(package, found.names) or "see which there are with: muster packages"
    silent = f"; not asked or silent: {some(sorted(found.silent))}" if found.silent else ""
    return NotFound(f"cannot find the package {package} on any agent that answers; {guess}{silent}")


def only(agents: Sequence[str], what: str, choice: str = "name one with --agent, or all with --on ''") -> str:
    """The agent, if it is one.

    Raises:
        Usage: there are several; one has to be chosen.
    """
    from muster_client.errors import Usage  # noqa: PLC0415

    if len(agents) > 1:
        raise Usage(f"cannot choose: {what} {len(agents)} agents: {some(agents)}; {choice}")
    return agents[0]


def some(names: Sequence[str], total: int | None = None) -> str:
    """``a, b, c and 9 more``, where there are ``total``."""
    shown = ", ".join(names[:NAMED_AGENTS])
    rest = (total or len(names)) - len(names[:NAMED_AGENTS])
    return f"{shown} and {rest} more" if rest > 0 else shown


# To the end ------------------------------------------------------------------------------------------


async def give(fleet: "Fleet", body: "Body", selector: str, terms: Terms) -> "Command":
    """Order it; at least one agent has to be meant.

    Raises:
        NotFound: no agent matches.
    """
    from muster_bus.errors import AskFailed  # noqa: PLC0415
    from muster_client.errors import NotFound  # noqa: PLC0415
    from muster_contracts.selector import parse  # noqa: PLC0415

    parse(selector)
    try:
        command = await fleet.order(body, selector, **terms.options)
    except AskFailed as error:
        if error.code != "not-found":
            raise
        raise await _nobody(fleet, selector) or NotFound(error.problem.text) from None
    if command.targets == 0:
        raise await _nobody(fleet, selector) or NotFound(f"cannot order it: no agent matches {selector!r}")
    if command.repeated:
        note(f"this was ordered before, as {command.id}")
    return command


async def _nobody(fleet: "Fleet", selector: str) -> Exception | None:
    """Why a selector that names one agent matches none: it is not known, or retired."""
    from muster_bus.errors import AskFailed  # noqa: PLC0415
    from muster_client.errors import NotFound  # noqa: PLC0415
    from muster_client.humanise import near  # noqa: PLC0415

    agent = selector.removeprefix("id=")
    if agent == selector or "*" in agent:
        return None
    try:
        known = (await fleet.agent(agent)).agent
    except AskFailed as error:
        ids = [one.id for one in (await fleet.find()).agents]
        guess = near(agent, ids) or "see who is there with: muster agents"
        return NotFound(f"{error.problem.text.partition(';')[0]}; {guess}")
    return NotFound(f"cannot order anything of {agent}: it is {known.state}")


async def carry_out(fleet: "Fleet", output: str, body: "Body", selector: str, terms: Terms) -> None:
    """Order it, wait for the end unless told not to, print what became of it.

    Raises:
        typer.Exit: 1 where a target did not succeed; each is told on standard error.
    """
    command = await give(fleet, body, selector, terms)
    await _tell_away(fleet, selector, terms)
    if terms.no_wait:
        await _leave(fleet, command, output, json=terms.json)
        return
    from muster_client.cli.following import follow  # noqa: PLC0415

    targets = await follow(command, f"{body.verb.partition('.')[2]} {body.about}", json=terms.json)
    if terms.json:
        emit(output, targets)
    judge(command, targets, await _hints(fleet, body, targets))


async def _tell_away(fleet: "Fleet", selector: str, terms: Terms) -> None:
    """Who will not begin at once, because nobody is there."""
    from muster_contracts.fleet.v1 import Presence  # noqa: PLC0415

    away = [Presence.EXPECTED, Presence.LOST, Presence.LEFT]
    page = await fleet.find(selector, away, limit=NAMED_AGENTS)
    if page.total:
        names = some([row.id for row in page.agents], page.total)
        note(f"away just now: {names}; it begins there if they are back within {terms.expires}")


async def _hints(fleet: "Fleet", body: "Body", targets: "Sequence[Target]") -> dict[str, str]:
    """Agent → the package that may have been meant, for a few agents that do not know the one named."""
    from muster_client.cli.packages_asking import likeliest  # noqa: PLC0415

    package = getattr(body, "package", None)
    unknown = [target.agent for target in targets if target.reason == "not-found"][:HINTS]
    return {agent: await likeliest(fleet, agent, package) for agent in unknown if package}


async def _leave(fleet: "Fleet", command: "Command", output: str, *, json: bool) -> None:
    """It is ordered, and nobody waits."""
    if json:
        emit(output, [target async for target in fleet.targets(command=command.id)])
    else:
        agents = f"{command.targets} agent{'s' if command.targets > 1 else ''}"
        typer.echo(f"{command.id}  ordered of {agents}; see it with: muster command watch {command.id}")


def judge(command: "Command", targets: "Sequence[Target]", hints: Mapping[str, str] | None = None) -> None:
    """Tell what failed, and why.

    Raises:
        typer.Exit: 1 if anything did.
    """
    failed = [target for target in targets if target.state != "succeeded"]
    for target in failed[:TOLD_FAILURES]:
        note(failure(target, (hints or {}).get(target.agent, "")))
    if len(failed) > TOLD_FAILURES:
        note(f"and {len(failed) - TOLD_FAILURES} more; see them with: muster command show {command.id}")
    if failed:
        raise typer.Exit(FAILED)


def failure(target: "Target", hint: str = "") -> str:
    """``web-1: failed (ready): cannot start web``."""
    from muster_client.humanise import clean  # noqa: PLC0415

    reason = f" ({target.reason})" if target.reason else ""
    why = "; ".join(filter(None, [target.text, hint]))
    return clean(f"{target.agent}: {target.state}{reason}" + (f": {why}" if why else ""))
