"""Checks of a fleet that runs: its processes, its broker, its Redis, its services, its agent."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from ipaddress import ip_address
from typing import Any

from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from muster_bus.bus import Bus
from muster_bus.permissions import Special
from muster_bus.settings import BusSettings
from muster_bus.streams import CONSUMERS, STREAMS, consumer_config, stream_config
from muster_client.embedded import losses, plan, readiness, redis
from muster_client.embedded.finding import Finding, fail, ok, warn
from muster_client.embedded.layout import Layout
from muster_client.embedded.ports import LOOPBACK
from muster_client.embedded.record import Record, State
from muster_client.fleet import Fleet
from muster_contracts.bus.v1 import DeadLettered
from muster_contracts.fleet.v1 import Presence
from muster_contracts.message import Role

CONNECT_SECONDS = 3.0
LOOKS_AGAIN_AFTER = (0.0, 0.5, 1.0, 1.5)
"""Seconds before each look at a service: what it complains of for a moment is no finding."""
SEE_LOGS = "see muster logs --service"


@dataclass(frozen=True, slots=True)
class Patient:
    """The fleet to look at."""

    layout: Layout
    record: Record

    @classmethod
    def of(cls, layout: Layout, record: Record) -> "Patient":
        """The fleet of a directory."""
        return cls(layout, record)

    def port(self, name: str) -> int:
        """Where ``name`` listens; 0, where nobody does, if the record does not know."""
        return self.record.ports.get(name, 0)

    def settings(self, identity: str) -> BusSettings:
        """How ``identity`` connects."""
        return BusSettings(
            servers=[f"nats://{LOOPBACK}:{self.port(plan.NATS)}"],
            identity=identity,
            seed_file=self.layout.seed(identity),
        )


async def processes(patient: Patient) -> Finding:
    """Whether every process lives and is looked after."""
    if not patient.record.supervised:
        return fail(
            "the supervisor was killed", "start anew with muster up, or stop the rest with muster down"
        )
    ill = [
        f"{entry.name} is {entry.state}"
        for entry in patient.record.entries
        if entry.state is not State.RUNNING or not (entry.process and entry.process.alive)
    ]
    if ill:
        return fail(", ".join(ill), f"{SEE_LOGS} {ill[0].split()[0]}; start what has stopped with muster up")
    restarts = sum(entry.restarts for entry in patient.record.entries)
    if restarts:
        return warn(f"all run, after {restarts} restarts", f"{SEE_LOGS} supervisor")
    return ok(f"{len(patient.record.entries)} run")


async def loopback(patient: Patient) -> Finding:
    """Whether anything can be reached from outside this machine."""
    listening = await asyncio.to_thread(_listening, patient)
    exposed = [f"{name} on {address}" for name, address in listening if not ip_address(address).is_loopback]
    if exposed:
        return fail(f"reachable from outside: {', '.join(exposed)}", "stop it with muster down and tell us")
    return ok(f"{len(listening)} ports, all on loopback")


async def broker(patient: Patient) -> Finding:
    """Whether the broker takes the operator's key."""
    async with _connected(patient, Role.OPERATOR) as bus:
        return ok(f"takes the operator's key at {', '.join(bus.settings.servers)}")


async def strangers(patient: Patient) -> Finding:
    """Whether the broker refuses who has no key."""
    reader, writer = await asyncio.open_connection(LOOPBACK, patient.port(plan.NATS))
    try:
        hello = json.loads((await reader.readline()).removeprefix(b"INFO "))
        writer.write(b'CONNECT {"verbose":false,"pedantic":false,"lang":"doctor","version":"1"}\r\nPING\r\n')
        answer = await reader.readline()
    finally:
        writer.close()
    if not hello.get("auth_required") or b"Authorization Violation" not in answer:
        return fail(
            "the broker lets in who has no key", "stop it with muster down; muster up writes its keys anew"
        )
    return ok("refused without a key")


async def streams(patient: Patient) -> Finding:
    """Whether streams and consumers are as declared, and keep what they were given."""
    if lost := losses.complaint(patient.layout):
        return fail(lost, losses.advice(patient.layout))
    async with _connected(patient, Special.PROVISIONER) as bus:
        differing = await _differences(bus.client.jetstream())
    if differing:
        return fail("; ".join(differing), "muster down, then muster up, makes them so")
    return ok(f"{len(STREAMS)} streams and {len(CONSUMERS)} consumers as declared")


async def redis_answers(patient: Patient) -> Finding:
    """Whether Redis answers, with the password and not without."""
    password = redis.password(patient.layout)
    port = patient.port(plan.REDIS)
    if not await readiness.redis(port, password)():
        return fail("no answer", f"{SEE_LOGS} redis; presence goes on without it, with older last_seen")
    if await readiness.redis(port, "wrong")():
        return fail("takes any password", "muster down, then muster up, writes its configuration anew")
    return ok(f"answers at redis://{LOOPBACK}:{port}")


def is_ready(name: str) -> Callable[[Patient], Awaitable[Finding]]:
    """Whether a service says it is ready."""

    async def check(patient: Patient) -> Finding:
        for pause in LOOKS_AGAIN_AFTER:
            await asyncio.sleep(pause)
            if await readiness.http(patient.port(name), "/readyz")():
                return ok("ready")
        return fail("not ready", f"curl http://{LOOPBACK}:{patient.port(name)}/readyz says why")

    return check


async def agent(patient: Patient) -> Finding:
    """Whether this machine is in its own fleet."""
    agent_id = patient.layout.agent_id()
    async with Fleet.connect(patient.settings(Role.OPERATOR), within=CONNECT_SECONDS) as fleet:
        seen = (await fleet.agent(agent_id)).agent
    if seen.state is Presence.ONLINE:
        return ok(f"{agent_id} is online")
    return fail(
        f"{agent_id} is {seen.state} ({seen.reason})", f"{SEE_LOGS} host-agent; start it with muster up"
    )


async def dead_letters(patient: Patient) -> Finding:
    """Whether there is something nobody could take."""
    async with _connected(patient, Special.PROVISIONER) as bus:
        kept = await bus.client.jetstream().stream_info("BUS", subjects_filter=DeadLettered.SUBJECT.pattern)
    count = sum((kept.state.subjects or {}).values())
    if count:
        return warn(f"{count} messages could not be taken", "see muster dead-letters")
    return ok("none")


CHECKS: Mapping[str, Callable[[Patient], Awaitable[Finding]]] = {
    "processes": processes,
    "loopback": loopback,
    "broker": broker,
    "strangers": strangers,
    "streams": streams,
    "redis": redis_answers,
    "fleet-registry": is_ready(plan.REGISTRY),
    "state-store": is_ready(plan.STORE),
    "health-recovery": is_ready(plan.HEALTH),
    "agent": agent,
    "dead-letters": dead_letters,
}


@asynccontextmanager
async def _connected(patient: Patient, role: Role | Special) -> AsyncIterator[Bus]:
    bus = await Bus.connect(patient.settings(role.value), first_try_seconds=CONNECT_SECONDS)
    try:
        yield bus
    finally:
        await bus.close()


def _listening(patient: Patient) -> list[tuple[str, str]]:
    import psutil  # noqa: PLC0415  (only the doctor needs it)

    return [
        (entry.name, seen.laddr.ip)
        for entry in patient.record.survivors
        if entry.process
        for seen in psutil.Process(entry.process.pid).net_connections(kind="inet")
        if seen.status == psutil.CONN_LISTEN
    ]


async def _differences(js: JetStreamContext) -> list[str]:
    """What is not as declared, without changing it."""
    found = []
    for name in STREAMS:
        try:
            seen: Any = (await js.stream_info(name)).config
        except NotFoundError:
            found.append(f"stream {name} is missing")
            continue
        found += [f"stream {name} has another {what}" for what in _other(stream_config(name), seen)]
    for consumer in CONSUMERS:
        try:
            seen = (await js.consumer_info(consumer.stream, consumer.name)).config
        except NotFoundError:
            found.append(f"consumer {consumer.name} is missing")
            continue
        found += [
            f"consumer {consumer.name} has another {what}" for what in _other(consumer_config(consumer), seen)
        ]
    return found


def _other(declared: Any, seen: Any) -> list[str]:
    """The fields that differ; subjects a stream has beside the declared ones are nobody's harm."""
    differing = []
    for one in fields(declared):
        wanted, found = getattr(declared, one.name), getattr(seen, one.name)
        if isinstance(wanted, list):
            if not set(wanted) <= set(found or []):
                differing.append(one.name)
        elif wanted is not None and wanted != found:
            differing.append(one.name)
    return differing
