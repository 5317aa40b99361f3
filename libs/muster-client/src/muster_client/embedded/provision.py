"""Streams and consumers as they should be: what the provisioner does once the broker is up."""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from nats.js import JetStreamContext

from muster_bus.bus import Bus
from muster_bus.errors import MusterError
from muster_bus.permissions import Special
from muster_bus.settings import BusSettings
from muster_bus.streams import reconcile
from muster_client.embedded import losses
from muster_client.embedded.errors import CannotStart
from muster_client.embedded.layout import Layout
from muster_client.embedded.ports import LOOPBACK

FIRST_TRY_SECONDS = 10.0

First = Callable[[JetStreamContext], Awaitable[None]]
"""Done before anything is changed."""


async def _nothing(_: JetStreamContext) -> None:
    return


async def provision(
    servers: list[str], seed_file: Path, *, replicas: int = 1, first: First = _nothing
) -> list[str]:
    """Reconcile streams and consumers as the provisioner; what was changed, for people.

    ``first`` sees the streams as they were before.

    Raises:
        CannotStart: the broker cannot be reached, or refuses.
    """
    settings = BusSettings(servers=servers, identity=Special.PROVISIONER.value, seed_file=seed_file)
    try:
        bus = await Bus.connect(settings, first_try_seconds=FIRST_TRY_SECONDS)
        try:
            await first(bus.client.jetstream())
            return await reconcile(bus.client.jetstream(), replicas=replicas)
        finally:
            await bus.close()
    except CannotStart:
        raise
    except MusterError as error:
        raise CannotStart(str(error)) from error
    except Exception as error:
        # nats-py raises many kinds; whichever it is, the streams are not as they should be.
        raise CannotStart(
            f"cannot provision {', '.join(servers)}: {error or type(error).__name__}"
        ) from error


def main() -> int:
    """Say what was changed; if it cannot be done, one sentence on standard error and exit code 1."""
    options = argparse.ArgumentParser(prog="provision")
    options.add_argument("--dir", type=Path, required=True)
    options.add_argument("--port", type=int, required=True)
    chosen = options.parse_args()
    layout = Layout.at(chosen.dir)
    servers, seed = [f"nats://{LOOPBACK}:{chosen.port}"], layout.seed(Special.PROVISIONER.value)
    try:
        changed = asyncio.run(provision(servers, seed, first=partial(losses.note, layout)))
        losses.remember(layout)
    except (CannotStart, MusterError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if lost := losses.complaint(layout):
        sys.stderr.write(f"warning: {lost}; {losses.advice(layout)}\n")
    sys.stdout.write("".join(f"{change}\n" for change in changed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
