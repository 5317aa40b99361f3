"""What a fleet on one machine is made of, in the order it starts."""

import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from muster_client.embedded import binaries, readiness, redis
from muster_client.embedded.child import Part
from muster_client.embedded.files import keep
from muster_client.embedded.layout import Layout
from muster_client.embedded.ports import LOOPBACK

NATS, REDIS, REGISTRY, STORE = "nats", "redis", "fleet-registry", "state-store"
HEALTH, AGENT = "health-recovery", "host-agent"
NAMES = (NATS, REDIS, REGISTRY, STORE, HEALTH, AGENT)
"""Every process, in the order of starting; they stop the other way round."""
PORTS = NAMES
"""What needs a port; a service's is that of its health and metrics."""
_SERVICE_STOP_SECONDS = 15.0
"""Services drain for up to 10 s."""
_AGENT_STOP_SECONDS = 45.0
"""An agent stops its packages first, each with a timeout of its own."""


def nats(layout: Layout, ports: Mapping[str, int], provision: Callable[[], Awaitable[None]]) -> Part:
    """The broker; it counts as running only when its streams are as they should be."""
    return Part(
        name=NATS,
        command=[str(binaries.nats_server()), "-c", str(layout.broker_config)],
        directory=layout.broker,
        endpoint=f"nats://{LOOPBACK}:{ports[NATS]}",
        ready=readiness.nats(ports[NATS]),
        pulse=readiness.nats(ports[NATS]),
        then=provision,
    )


def redis_part(layout: Layout, ports: Mapping[str, int], warn: Callable[[str], None]) -> Part:
    """Redis, over its own append-only file; a damaged one is put aside, since it is a cache only."""
    ready = readiness.redis(ports[REDIS], redis.ensure_password(layout, warn))
    keep(layout.redis_config, redis.config(layout, ports[REDIS]))
    return Part(
        name=REDIS,
        command=[str(binaries.redis_server()), str(layout.redis_config)],
        directory=layout.redis,
        endpoint=f"redis://{LOOPBACK}:{ports[REDIS]}",
        ready=ready,
        pulse=ready,
        mend=lambda: redis.put_data_aside(layout, warn),
    )


def registry(layout: Layout, ports: Mapping[str, int]) -> Part:
    """fleet-registry, its truth in SQLite."""
    return _service(
        layout,
        ports,
        REGISTRY,
        {
            "NATS_URL": f"nats://{LOOPBACK}:{ports[NATS]}",
            "SEED_FILE": str(layout.seed(REGISTRY)),
            "SYSTEM_SEED_FILE": str(layout.seed("system")),
            "REDIS_URL": f"redis://{LOOPBACK}:{ports[REDIS]}/0",
            "REDIS_PASSWORD_FILE": str(layout.redis_password),
            "DATABASE_URL": f"sqlite+aiosqlite:///{layout.registry}/registry.db",
            "IDENTITIES_FILE": str(layout.identities),
        },
    )


def store(layout: Layout, ports: Mapping[str, int]) -> Part:
    """state-store, its ledger in SQLite."""
    return _service(
        layout,
        ports,
        STORE,
        {
            "NATS_URL": f"nats://{LOOPBACK}:{ports[NATS]}",
            "SEED_FILE": str(layout.seed(STORE)),
            "DATABASE_URL": f"sqlite+aiosqlite:///{layout.store}/store.db",
        },
    )


def health(layout: Layout, ports: Mapping[str, int]) -> Part:
    """health-recovery, its picture in SQLite; what a person set of it is in a file of its own."""
    part = _service(
        layout,
        ports,
        HEALTH,
        {
            "NATS_URL": f"nats://{LOOPBACK}:{ports[NATS]}",
            "SEED_FILE": str(layout.seed(HEALTH)),
            "DATABASE_URL": f"sqlite+aiosqlite:///{layout.health}/health.db",
        },
    )
    chosen = ["--config", str(layout.health_settings)] if layout.health_settings.exists() else []
    return replace(part, command=[*part.command, *chosen])


def agent(layout: Layout, ports: Mapping[str, int]) -> Part:
    """The host-agent of this machine. Its first restart waits, so that its loss can be seen."""
    settings = {
        "SERVERS": f"nats://{LOOPBACK}:{ports[NATS]}",
        "STATE_DIR": str(layout.agent),
        "PACKAGE_DIRS": json.dumps([str(layout.packages)]),
        "POLICY_FILE": str(layout.policy),
        "LOG_DIR": str(layout.logs),
        # What this fleet started on this machine ends with it, unless the agent is killed.
        "STOP_PACKAGES_ON_EXIT": "true",
    }
    part = _service(layout, ports, AGENT, settings, first_restart_seconds=5.0)
    return replace(part, stop_seconds=_AGENT_STOP_SECONDS)


def step(module: str, *options: str) -> list[str]:
    """The command of something done once, by a process of its own."""
    return [sys.executable, "-P", "-m", f"muster_client.embedded.{module}", *options]


def _service(
    layout: Layout,
    ports: Mapping[str, int],
    name: str,
    settings: Mapping[str, str],
    *,
    first_restart_seconds: float = 0.2,
) -> Part:
    prefix = name.upper().replace("-", "_")
    everywhere = {"HEALTH_PORT": str(ports[name])}
    return Part(
        name=name,
        command=binaries.service(name),
        directory=layout.root,
        endpoint=f"http://{LOOPBACK}:{ports[name]}",
        ready=readiness.http(ports[name], "/readyz"),
        pulse=readiness.http(ports[name], "/livez"),
        env={f"{prefix}_{key}": value for key, value in {**everywhere, **settings}.items()},
        first_restart_seconds=first_restart_seconds,
        stop_seconds=_SERVICE_STOP_SECONDS,
    )
