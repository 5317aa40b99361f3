"""B19: how fast a heartbeat is read and written, against msgspec without any check of the values.

The limit decodes into a frozen struct of the same fields. It is no candidate: ids that are not checked
could be wildcards. It says what reading JSON itself costs.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
from tests.bench.measure import Row, alternately

from muster_contracts.agent.v1 import AgentKind, Heartbeat
from muster_contracts.ids import make_epoch

_TIMES = 50_000


class Struct(msgspec.Struct, frozen=True):
    """The fields of a heartbeat, unchecked."""

    occurred_at: datetime
    agent_id: str
    kind: str
    epoch: str
    sequence: int
    interval_seconds: float


def run() -> list[Row]:
    """Reading and writing, each alternately with the limit."""
    beat = _long_heartbeat()
    raw = beat.model_dump_json().encode()
    decoder, encoder = msgspec.json.Decoder(Struct), msgspec.json.Encoder()
    struct = decoder.decode(raw)
    read = alternately(
        lambda: _rate(lambda: Heartbeat.model_validate_json(raw)), lambda: _rate(lambda: decoder.decode(raw))
    )
    write = alternately(lambda: _rate(beat.model_dump_json), lambda: _rate(lambda: encoder.encode(struct)))
    met = read.first >= 200_000
    what = f"read a heartbeat of {len(raw)} bytes"
    return [
        Row("B19", what, read.first, "/s", ">= 200,000/s", met, read.second, "msgspec", read.ratio),
        Row("B19", "write it", write.first, "/s", "", None, write.second, "msgspec", write.ratio),
    ]


def _long_heartbeat() -> Heartbeat:
    """A heartbeat of an agent with the longest id there may be."""
    return Heartbeat(
        occurred_at=datetime.now(UTC),
        agent_id="web-frontend".ljust(63, "x"),
        kind=AgentKind.HOST,
        epoch=make_epoch("0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0", 1_795_000_000_000),
        sequence=123_456_789,
        interval_seconds=15.5,
    )


def _rate(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    for _ in range(_TIMES):
        action()
    return _TIMES / (time.perf_counter() - began)
