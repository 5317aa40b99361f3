"""The streams and durable consumers of Muster, as data, and how they are made so.

One stream per area that has durable contracts, its subjects listed one by one; one durable pull consumer
per service and durable contract it hears. The provisioner alone reconciles them (decision 1).
"""

from dataclasses import dataclass, fields
from typing import Any

from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import NotFoundError

from muster_bus.roles import SERVICES
from muster_contracts import catalogue
from muster_contracts.message import Message, kebab

DAY = 24 * 3600.0
LEASES = "KV_leases"
"""The stream of the KV bucket ``leases``: one key per service, the last value of each (``lease.py``)."""
LEASES_BYTES = 1 << 20
MAX_KEPT_OF_ONE_AGENT = 1000
"""Messages of one subject; the oldest leave first, so that one agent cannot push out what others said."""
MAX_ACK_PENDING = 20 * MAX_KEPT_OF_ONE_AGENT
"""Waiting for another try counts as well: what one agent can leave waiting must not stop the rest."""
HEADER_ROOM_BYTES = 8 << 10
"""A stream takes nothing larger than its largest contract and this."""
DUPLICATE_WINDOW_SECONDS = 600.0
"""A letter repeated within this has one copy in the stream; the courier's retries stay well below."""
ACK_WAIT_SECONDS = 10.0
"""A message neither acked nor worked on for this long is delivered again."""


@dataclass(frozen=True)
class Limits:
    """What a stream holds, and what happens beyond it.

    ``DiscardPolicy.OLD`` forgets the oldest: news beats history. ``DiscardPolicy.NEW`` refuses new messages,
    so that they wait with their sayer: back-pressure, for what must not be forgotten before it is done.
    """

    max_bytes: int = 1 << 30
    max_age_seconds: float = 30 * DAY
    discard: DiscardPolicy = DiscardPolicy.OLD
    kept_of_one_agent: int | None = None
    """In the place of ``MAX_KEPT_OF_ONE_AGENT``."""


LIMITS = {
    "agent": Limits(),
    "audit": Limits(max_bytes=256 << 20, max_age_seconds=365 * DAY),
    "bus": Limits(),
    # An outcome must wait for its ledger: as many as one agent can have open there, and twice that.
    "command": Limits(max_bytes=2 << 30, kept_of_one_agent=20_000),
    "fleet": Limits(),
    "health": Limits(kept_of_one_agent=5000),
    "host": Limits(),
    "package": Limits(max_bytes=512 << 20),
}
"""The limits of the stream of each area."""


@dataclass(frozen=True)
class Consumer:
    """A durable consumer and the stream it reads."""

    stream: str
    name: str
    service: str
    contract: type[Message]


def stream_of(contract: type[Message]) -> str:
    """The stream that keeps a durable contract: the area in capitals."""
    return catalogue.area_of(contract).upper()


def consumer_name(service: str, contract: type[Message]) -> str:
    """For example ``fleet-registry_agent-v1-left``."""
    area, version, what = contract.contract().split(".")
    return f"{service}_{area}-{version}-{kebab(what)}"


def _streams() -> dict[str, list[str]]:
    subjects: dict[str, list[str]] = {}
    for contract in catalogue.durable():
        subjects.setdefault(stream_of(contract), []).append(contract.SUBJECT.pattern)
    return subjects


def _consumers() -> list[Consumer]:
    return [
        Consumer(stream_of(contract), consumer_name(role, contract), role, contract)
        for role in SERVICES
        for contract in catalogue.heard_by(role)
        if contract in catalogue.durable()
    ]


STREAMS = _streams()
"""Stream name to its subjects, listed one by one."""

CONSUMERS = _consumers()
"""Every durable consumer there is."""


def _largest(name: str) -> int:
    return max(one.MAX_BYTES for one in catalogue.durable() if stream_of(one) == name) + HEADER_ROOM_BYTES


def _kept_of_each(name: str) -> int:
    """None (-1) where only services speak, each on one subject for all agents."""
    theirs = all("{service}" in one.SUBJECT for one in catalogue.durable() if stream_of(one) == name)
    return -1 if theirs else LIMITS[name.lower()].kept_of_one_agent or MAX_KEPT_OF_ONE_AGENT


def stream_config(name: str, *, replicas: int = 1, max_bytes: int | None = None) -> StreamConfig:
    """What the stream ``name`` should be like: on disk, kept by the limits of its area."""
    limits, of_each = LIMITS[name.lower()], _kept_of_each(name)
    return StreamConfig(
        name=name,
        subjects=STREAMS[name],
        storage=StorageType.FILE,
        retention=RetentionPolicy.LIMITS,
        discard=limits.discard,
        # Stock, a stream that refuses what is new still forgets the oldest of a subject for it.
        discard_new_per_subject=limits.discard is DiscardPolicy.NEW and of_each > 0,
        max_age=limits.max_age_seconds,
        max_bytes=max_bytes or limits.max_bytes,
        max_msg_size=_largest(name),
        max_msgs_per_subject=of_each,
        duplicate_window=DUPLICATE_WINDOW_SECONDS,
        num_replicas=replicas,
        allow_direct=True,
        deny_delete=True,
        deny_purge=True,
    )


def lease_subject(service: str) -> str:
    """Where the lease of a service lies."""
    return f"$KV.leases.{service}"


def leases_config(*, replicas: int = 1) -> StreamConfig:
    """What the bucket of leases should be like: as JetStream's KV has it, with a history of one."""
    return StreamConfig(
        name=LEASES,
        subjects=[lease_subject(">")],
        storage=StorageType.FILE,
        retention=RetentionPolicy.LIMITS,
        discard=DiscardPolicy.NEW,
        max_bytes=LEASES_BYTES,
        max_msg_size=1 << 10,
        duplicate_window=DUPLICATE_WINDOW_SECONDS,
        max_msgs_per_subject=1,
        num_replicas=replicas,
        allow_direct=True,
        allow_rollup_hdrs=True,
        deny_delete=True,
    )


def consumer_config(consumer: Consumer) -> ConsumerConfig:
    """What a durable consumer should be like; how often it delivers is the hearer's decision (decision 2)."""
    return ConsumerConfig(
        durable_name=consumer.name,
        filter_subject=consumer.contract.SUBJECT.pattern,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=ACK_WAIT_SECONDS,
        max_deliver=-1,
        max_ack_pending=MAX_ACK_PENDING,
    )


async def reconcile(js: JetStreamContext, *, replicas: int = 1, max_bytes: int | None = None) -> list[str]:
    """Make every stream and consumer as it should be and return what was changed, for people.

    ``max_bytes`` takes the place of every area's own, for small disks.
    Only adds: subjects a stream has beside ours stay, and nothing is ever deleted.
    """
    changed = []
    for name in STREAMS:
        changed += await _reconcile_stream(js, stream_config(name, replicas=replicas, max_bytes=max_bytes))
    changed += await _reconcile_stream(js, leases_config(replicas=replicas))
    for consumer in CONSUMERS:
        changed += await reconcile_consumer(js, consumer)
    return changed


async def _reconcile_stream(js: JetStreamContext, wanted: StreamConfig) -> list[str]:
    assert wanted.name
    try:
        seen = (await js.stream_info(wanted.name)).config
    except NotFoundError:
        await js.add_stream(wanted)
        return [f"made stream {wanted.name}"]
    wanted = wanted.evolve(subjects=sorted({*(seen.subjects or []), *(wanted.subjects or [])}))
    differing = _differing(wanted, seen)
    if differing:
        await js.update_stream(wanted)
        return [f"updated stream {wanted.name}: {', '.join(differing)}"]
    return []


async def reconcile_consumer(js: JetStreamContext, consumer: Consumer) -> list[str]:
    """Make one consumer as it should be and return what was changed; a service may do so for its own."""
    wanted = consumer_config(consumer)
    try:
        seen = (await js.consumer_info(consumer.stream, consumer.name)).config
    except NotFoundError:
        await js.add_consumer(consumer.stream, wanted)
        return [f"made consumer {consumer.name}"]
    if differing := _differing(wanted, seen):
        await js.add_consumer(consumer.stream, wanted)
        return [f"updated consumer {consumer.name}: {', '.join(differing)}"]
    return []


def _differing(wanted: Any, seen: Any) -> list[str]:
    def plain(value: Any) -> Any:
        return sorted(value) if isinstance(value, list) else value

    return [
        one.name
        for one in fields(wanted)
        if getattr(wanted, one.name) is not None
        and plain(getattr(wanted, one.name)) != plain(getattr(seen, one.name))
    ]
