"""Waiting for this machine's agent to be online in its own fleet, so that "ready" means it can be seen."""

import argparse
import asyncio
import sys
from pathlib import Path

from muster_bus.errors import AskFailed, MusterError
from muster_bus.settings import BusSettings
from muster_client.embedded.errors import CannotStart
from muster_client.embedded.layout import Layout
from muster_client.embedded.ports import LOOPBACK
from muster_client.fleet import Fleet
from muster_client.hush import hush_libraries
from muster_contracts.fleet.v1 import Presence
from muster_contracts.message import Role

WAIT_SECONDS = 20.0
_POLL_SECONDS = 0.05


async def greet(layout: Layout, port: int) -> None:
    """Return when the registry has the agent of this directory online.

    Raises:
        CannotStart: not within ``WAIT_SECONDS``.
    """
    settings = BusSettings(
        servers=[f"nats://{LOOPBACK}:{port}"], identity=Role.OPERATOR, seed_file=layout.seed(Role.OPERATOR)
    )
    try:
        async with (
            asyncio.timeout(WAIT_SECONDS),
            Fleet.connect(settings, within=WAIT_SECONDS, patience=WAIT_SECONDS) as fleet,
        ):
            while not await _is_online(fleet, layout.agent_id()):  # noqa: ASYNC110  (not an event of ours)
                await asyncio.sleep(_POLL_SECONDS)
    except (TimeoutError, MusterError) as error:
        raise CannotStart(
            f"cannot see this machine in its fleet yet: {error or 'it took too long'}"
        ) from error


async def _is_online(fleet: Fleet, agent_id: str) -> bool:
    try:
        return (await fleet.agent(agent_id)).agent.state is Presence.ONLINE
    except AskFailed as error:
        if error.code == "not-found":
            return False
        raise


def main() -> int:
    """One sentence on standard error and exit code 1 if it cannot be seen."""
    options = argparse.ArgumentParser(prog="greeting")
    options.add_argument("--dir", type=Path, required=True)
    options.add_argument("--port", type=int, required=True)
    chosen = options.parse_args()
    hush_libraries()  # it asks before anybody can answer, on purpose
    try:
        asyncio.run(greet(Layout.at(chosen.dir), chosen.port))
    except CannotStart as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
