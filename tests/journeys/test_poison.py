"""What no service can take: each bad message is kept with its reason, shown by muster, and harms nobody."""

import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from muster_bus import Bus
from muster_bus.errors import AskFailed
from muster_contracts.agent.v1 import AgentKind, Heartbeat, Hello, LeaveReason, Left
from muster_testing.control_plane import ControlPlane
from muster_testing.wait import until

EPOCH = "0123456789ab-018f00000000"
NOW = datetime.now(UTC)


def beat(agent_id: str) -> Heartbeat:
    return Heartbeat(
        occurred_at=NOW, agent_id=agent_id, kind=AgentKind.HOST, epoch=EPOCH, sequence=0, interval_seconds=5
    )


def left(agent_id: str) -> Left:
    return Left(occurred_at=NOW, agent_id=agent_id, epoch=EPOCH, reason=LeaveReason.SHUTDOWN)


async def keep(bus: Bus, payload: bytes, **headers: str) -> None:
    """Have the stream keep a goodbye as it stands."""
    subject = Left.SUBJECT.bound(bus.identity)
    ack = await bus.client.request(subject, payload, headers={"Nats-Msg-Id": str(uuid4()), **headers})
    assert b'"error"' not in ack.data


async def flash(bus: Bus, payload: bytes, **headers: str) -> None:
    """Send a heartbeat as it stands."""
    await bus.client.publish(Heartbeat.SUBJECT.bound(bus.identity), payload, headers=headers or None)


def json_of(message: Heartbeat | Left, **changes: object) -> bytes:
    return json.dumps({**message.model_dump(mode="json"), **changes}).encode()


POISON: dict[str, tuple[str, Callable[[Bus], Awaitable[None]]]] = {
    "live, no JSON": ("malformed", lambda bus: flash(bus, b"\x00garbage")),
    "live, wrong type": ("malformed", lambda bus: flash(bus, json_of(beat("web-1"), sequence="many"))),
    "live, deeply nested": ("malformed", lambda bus: flash(bus, b"[" * 2000)),
    "live, too large": ("oversized", lambda bus: flash(bus, json_of(beat("web-1"), padding="x" * 100_000))),
    "live, of another": ("foreign-id", lambda bus: flash(bus, json_of(beat("web-2")))),
    "durable, no JSON": ("malformed", lambda bus: keep(bus, b"{")),
    "durable, too large": ("oversized", lambda bus: keep(bus, json_of(left("web-1"), padding="x" * 66_000))),
    "durable, of another": ("foreign-id", lambda bus: keep(bus, json_of(left("web-2")))),
    "durable, newer version": (
        "wrong-version",
        lambda bus: keep(bus, json_of(left("web-1")), **{"Muster-Contract": "agent.v9.Left"}),
    ),
}


async def test_each_kind_of_poison_is_kept_with_its_reason_and_the_registry_serves_on() -> None:
    async with ControlPlane("web-1") as plane:
        bus = await plane.bus("web-1")
        for _, poison in POISON.values():
            await poison(bus)
        # Who asks badly is told at once, so nothing needs to be kept of it.
        with pytest.raises(AskFailed, match="cannot"):
            await bus.ask(Hello.model_construct(**{**hello().__dict__, "epoch": "no epoch"}))
        letters = await until(lambda: dead_letters(plane, len(POISON)), 20, every=0.3)
        assert sorted(letter["reason"] for letter in letters) == sorted(
            reason for reason, _ in POISON.values()
        )
        assert all(letter["service"] == "fleet-registry" and letter["detail"] for letter in letters)
        welcome = await bus.ask(hello())
        assert welcome.agent_id == "web-1"
        assert plane.registry.running


def hello() -> Hello:
    return Hello(
        occurred_at=NOW,
        agent_id="web-1",
        kind=AgentKind.HOST,
        epoch=EPOCH,
        agent_version="0",
        interval_seconds=5,
    )


def dead_letters(plane: ControlPlane, at_least: int) -> list[dict[str, Any]]:
    """What ``muster dead-letters`` shows, once there are so many."""
    done = subprocess.run(
        [str(Path(sys.executable).parent / "muster"), "dead-letters", "--json"],
        env={
            **os.environ,
            "MUSTER_NATS_URL": plane.server.url,
            "MUSTER_SEED_FILE": str(plane.seed_file("operator")),
        },
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    letters: list[dict[str, Any]] = json.loads(done.stdout)
    return letters if len(letters) >= at_least else []
