"""A replica of its own process for the tests of the lease: ``lease_holder.py URL SEED TTL``.

It prints ``held EPOCH`` and ``lost EPOCH``, a line each, and begins anew.
"""

import asyncio
import sys

from muster_bus import Bus, BusSettings
from muster_bus.lease import Cell, Lease


def tell(what: str, epoch: int) -> None:
    sys.stdout.write(f"{what} {epoch}\n")
    sys.stdout.flush()


async def lead(url: str, seed: str, ttl_seconds: float) -> None:
    settings = BusSettings.model_validate(
        {"servers": [url], "identity": "health-recovery", "seed_file": seed}
    )
    bus = await Bus.connect(settings, first_try_seconds=10)
    lease = Lease(Cell(bus, "health-recovery"), ttl_seconds=ttl_seconds)
    while True:
        epoch = await lease.acquire()
        tell("held", epoch)
        await lease.lost()
        tell("lost", epoch)


if __name__ == "__main__":
    asyncio.run(lead(sys.argv[1], sys.argv[2], float(sys.argv[3])))
