"""Verbs of ``muster packages``: what is ordered of a package by one word, and scripts."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from muster_client.cli import completing
from muster_client.cli.common import Directory
from muster_client.cli.ordering import (
    FIVE_MINUTES,
    Agents,
    Expires,
    NoWait,
    On,
    Terms,
    Timeout,
    Whom,
    carry_out,
    only,
)
from muster_client.cli.packages_asking import Name
from muster_client.cli.running import Json, run

if TYPE_CHECKING:
    from muster_client.fleet import Fleet

SIGNALS = ("HUP", "INT", "QUIT", "TERM", "KILL", "USR1", "USR2", "WINCH")
"""Those of ``package.v1.StopSignal``, spelled here so that ``--help`` does without the contracts."""

PLAIN = {
    "start": "Start a package and what it needs, and wait until it is ready; what runs is left alone.",
    "restart": "Stop a package if it runs, start it, wait until it is ready; what needs it is left alone.",
    "pause": "Hold every process of a package where it is, until it is resumed.",
    "resume": "Let a paused package go on.",
}
"""Verbs that take nothing but the package, and what they promise."""


def register(packages: typer.Typer) -> None:
    """Add the commands."""
    for verb, promise in PLAIN.items():
        packages.command(verb)(plain(verb, promise))
        if verb == "start":
            packages.command()(stop)
    packages.command()(signal)
    packages.command("run")(run_script)


def plain(verb: str, promise: str) -> Callable[..., None]:
    """The command of a verb that takes nothing but the package; ``promise`` is its help."""

    def act(
        name: Name,
        *,
        agents: Agents = None,
        on: On = None,
        no_wait: NoWait = False,
        timeout: Timeout = FIVE_MINUTES,
        expires: Expires = FIVE_MINUTES,
        json: Json = False,
        directory: Directory = None,
    ) -> None:
        terms = Terms(timeout, expires, no_wait=no_wait, json=json)
        _act(verb, {"package": name}, Whom(agents, on), terms, directory)

    act.__doc__ = promise
    return act


def stop(
    name: Name,
    *,
    agents: Agents = None,
    on: On = None,
    cascade: Annotated[bool, typer.Option("--cascade", help="Stop what needs it, too.")] = False,
    no_wait: NoWait = False,
    timeout: Timeout = FIVE_MINUTES,
    expires: Expires = FIVE_MINUTES,
    json: Json = False,
    directory: Directory = None,
) -> None:
    """Stop a package, for good: it stays so until it is started. Refused while others that need it run."""
    terms = Terms(timeout, expires, no_wait=no_wait, json=json)
    _act("stop", {"package": name, "cascade": cascade}, Whom(agents, on), terms, directory)


class _NoSuchSignal(typer.BadParameter):
    """Told as it is: Click would put words of its own before it."""

    def format_message(self) -> str:
        """What people read."""
        return self.message


def known_signal(word: str) -> str:
    """``hup`` and ``SIGHUP`` as ``HUP``, if a package can be sent it."""
    told = word.upper().removeprefix("SIG")
    if told not in SIGNALS:
        raise _NoSuchSignal(f"cannot send the signal {word!r}: it is not one of {', '.join(SIGNALS)}")
    return told


def signal(
    name: Name,
    which: Annotated[
        str,
        typer.Argument(
            metavar="SIGNAL",
            autocompletion=completing.among(SIGNALS),
            callback=known_signal,
            help=f"One of {', '.join(SIGNALS)}.",
        ),
    ],
    *,
    agents: Agents = None,
    on: On = None,
    no_wait: NoWait = False,
    timeout: Timeout = FIVE_MINUTES,
    expires: Expires = FIVE_MINUTES,
    json: Json = False,
    directory: Directory = None,
) -> None:
    """Send a signal to the main process of a package."""
    terms = Terms(timeout, expires, no_wait=no_wait, json=json)
    _act("signal", {"package": name, "signal": which}, Whom(agents, on), terms, directory)


def _act(verb: str, fields: Mapping[str, object], whom: Whom, terms: Terms, directory: Path | None) -> None:
    """Order one verb of a package of whoever is meant, and see it through."""

    async def work(fleet: "Fleet") -> None:
        from muster_client.bodies import body_of  # noqa: PLC0415

        selector = await whom.who_have(fleet, str(fields["package"]))
        body = body_of(f"package.{verb}", fields)
        await carry_out(fleet, f"packages-{verb}", body, selector, terms)

    run(work, directory)


def run_script(
    script: Annotated[str, typer.Argument(metavar="SCRIPT", help="The name the machine's policy gives it.")],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ARGS]...", help="Passed on as they are; those with a dash behind --."),
    ] = None,
    *,
    agents: Agents = None,
    on: On = None,
    no_wait: NoWait = False,
    timeout: Timeout = FIVE_MINUTES,
    expires: Expires = FIVE_MINUTES,
    json: Json = False,
    directory: Directory = None,
) -> None:
    """Run a script that the machine's own policy lists, and show what it prints as it prints it.

    For example: muster packages run backup --on role=db -- --full
    """
    whom = Whom(agents, on)
    terms = Terms(timeout, expires, no_wait=no_wait, json=json)

    async def work(fleet: "Fleet") -> None:
        from muster_client.bodies import body_of  # noqa: PLC0415
        from muster_client.cli.streaming import run_and_print  # noqa: PLC0415

        selector = whom.given if whom.given is not None else f"id={await _only_host(fleet)}"
        body = body_of("script.run", {"script": script, "arguments": arguments or []})
        if no_wait or json:
            await carry_out(fleet, "packages-run", body, selector, terms)
        else:
            await run_and_print(fleet, body, selector, terms)

    run(work, directory)


async def _only_host(fleet: "Fleet") -> str:
    """The one host that is online."""
    from muster_client.errors import NotFound  # noqa: PLC0415

    hosts = [row.id async for row in fleet.agents("kind=host,state in (online,late)")]
    if not hosts:
        raise NotFound("cannot run it: no host is online; see who is there with: muster agents")
    return only(hosts, "there are")
