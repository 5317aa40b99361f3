"""The least a Python agent can be: nats-py, psutil, Pydantic; heartbeats every 5 s, samples every 15 s."""

import asyncio
import itertools
import json
import sys
import time

import nats
import psutil
from pydantic import BaseModel


class Vitals(BaseModel):
    """A few numbers."""

    at: float
    cpu: float
    memory: float
    load: tuple[float, float, float]
    disk: float
    sent: int
    received: int


def sample() -> Vitals:
    """What psutil sees now."""
    network = psutil.net_io_counters()
    return Vitals(
        at=time.time(),
        cpu=psutil.cpu_percent(),
        memory=psutil.virtual_memory().percent,
        load=psutil.getloadavg(),
        disk=psutil.disk_usage("/").percent,
        sent=network.bytes_sent,
        received=network.bytes_recv,
    )


async def main(url: str, name: str, seed_file: str) -> None:
    """Beat and sample until killed."""
    client = await nats.connect(url, nkeys_seed=seed_file, inbox_prefix=f"_INBOX.{name}")
    for beat in itertools.count():
        await client.publish(f"muster.agent.v1.{name}.heartbeat", json.dumps({"sequence": beat}).encode())
        if beat % 3 == 0:
            await client.publish(f"muster.host.v1.{name}.vitals", sample().model_dump_json().encode())
        await asyncio.sleep(5)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
