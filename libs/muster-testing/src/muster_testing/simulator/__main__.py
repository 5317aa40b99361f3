"""``python -m muster_testing.simulator``: a fleet of simulated agents on this machine, for a while.

Without ``--url`` it brings a control plane of its own, which the muster command can look at.
"""

import argparse
import asyncio
import contextlib
import json
import signal
import sys
from pathlib import Path
from typing import Literal

from muster_testing.control_plane import ControlPlane
from muster_testing.simulator import CannotSimulate, Condition, Fleet, Roster, Settings
from muster_testing.simulator.limits import loopback


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 when the time is over or on Ctrl-C, 2 when the fleet cannot be simulated."""
    options = _parser().parse_args(arguments)
    try:
        _check(options)  # before ten thousand keys are made for nothing
        roster = _roster(options)
        if options.print_keys:
            sys.stdout.write(json.dumps(_keys(roster), indent=2) + "\n")
            return 0
        asyncio.run(_simulate(options, roster) if options.url else _simulate_all(options, roster))
    except CannotSimulate as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def _check(options: argparse.Namespace) -> None:
    if options.url:
        loopback(options.url)
    elif options.connections != "each":
        raise CannotSimulate("cannot share connections on a broker of the simulator's own: give --url")


def _connections(text: str) -> Literal["each"] | int:
    if text == "each":
        return "each"
    if text.isdigit() and 1 <= int(text) <= 1000:
        return int(text)
    raise argparse.ArgumentTypeError(f"cannot use {text!r}: 'each' or a number from 1 to 1000")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m muster_testing.simulator", description=__doc__)
    add = parser.add_argument
    add("--agents", type=int, default=1000, help="how many (default 1000)")
    add("--connections", type=_connections, default="each", help="'each', or how many in all (default each)")
    add("--interval", type=float, default=15.0, help="seconds between heartbeats until granted others (15)")
    add("--url", help="a broker on this machine that knows their keys; by default one of the simulator's own")
    add("--connect-rate", type=float, default=400.0, help="connections per second at most (default 400)")
    add("--seconds", type=float, default=60.0, help="stop after this long (default 60)")
    add("--report-every", type=float, default=5.0, help="seconds between two lines of numbers (default 5)")
    add("--prefix", default="sim", help="what the agents' ids begin with (default sim)")
    add("--sites", type=int, default=1, help="how many values the label 'site' takes (default 1)")
    add("--no-hello", action="store_true", help="only heartbeats")
    add("--secret-file", type=Path, help="derive the keys from this file, made if missing")
    add("--print-keys", action="store_true", help="print the public keys as JSON, for the broker, and stop")
    return parser


def _roster(options: argparse.Namespace) -> Roster:
    if options.secret_file:
        return Roster.kept(options.secret_file, options.agents, options.prefix)
    return Roster.fresh(options.agents, options.prefix)


def _keys(roster: Roster) -> dict[str, str]:
    return roster.public_keys | {roster.carrier.agent_id: roster.carrier.public_key}


async def _simulate_all(options: argparse.Namespace, roster: Roster) -> None:
    """The agents and all they speak to, in a directory of its own that is gone at the end."""
    interval = {"FLEET_REGISTRY_PRESENCE__INTERVAL_SECONDS": str(options.interval)}
    async with ControlPlane(others=roster.identities, settings=interval) as plane:
        sys.stdout.write(f"Look at them from another terminal:\n  export MUSTER_DIR={plane.directory}\n")
        sys.stdout.write("  muster summary; muster agents; muster agents watch\n")
        options.url = plane.server.url
        await _simulate(options, roster)


async def _simulate(options: argparse.Namespace, roster: Roster) -> None:
    settings = Settings(
        interval=options.interval,
        connections=options.connections,
        connect_rate=options.connect_rate,
        says_hello=not options.no_hello,
        sites=options.sites,
    )
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Fleet(roster, options.url, settings) as fleet:
        reporter = asyncio.ensure_future(_report(fleet, options.report_every))
        connecting = asyncio.ensure_future(fleet.connect())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), options.seconds)
        for task in (reporter, connecting):
            task.cancel()
        await asyncio.gather(reporter, connecting, return_exceptions=True)
        _print_line(fleet)


async def _report(fleet: Fleet, seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        _print_line(fleet)


def _print_line(fleet: Fleet) -> None:
    numbers = {"up": fleet.count(Condition.UP), "of": len(fleet)} | fleet.stats.as_dict()
    sys.stdout.write(json.dumps(numbers) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
