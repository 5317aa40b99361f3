"""Looks by gRPC: against a real server, and against what is none."""

import sys
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from hypothesis import given
from hypothesis import strategies as st
from looks_ground import descriptors, repeats, says, seen, serving

from host_agent.domain import grpc_health
from host_agent.domain.grpc_health import Serving
from muster_contracts.health.v1 import Health
from muster_testing.wait import until

STATES = {"up": Serving.SERVING, "down": Serving.NOT_SERVING, "dunno": Serving.UNKNOWN, "": Serving.SERVING}
PREFACE = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
"""An empty SETTINGS frame."""


@pytest.fixture(scope="module")
def ports() -> Generator[tuple[int, int]]:
    """A server with health, and one without."""
    with ThreadPoolExecutor(2) as threads:
        servers = [grpc.server(threads), grpc.server(threads)]
        servicer = health.HealthServicer()
        for service, state in STATES.items():
            servicer.set(service, int(state))
        health_pb2_grpc.add_HealthServicer_to_server(servicer, servers[0])
        opened = [server.add_insecure_port("127.0.0.1:0") for server in servers]
        for server in servers:
            server.start()
        yield opened[0], opened[1]
        for server in servers:
            server.stop(None).wait()


@pytest.mark.parametrize(
    ("service", "health", "reason"),
    [
        ("", Health.OK, "ok"),
        ("up", Health.OK, "ok"),
        ("down", Health.CRITICAL, "not-serving"),
        ("dunno", Health.UNKNOWN, "unknown"),
        ("nobody", Health.CRITICAL, "grpc-status"),
    ],
)
async def test_a_server_says_how_its_services_are(
    tmp_path: Path, ports: tuple[int, int], service: str, health: Health, reason: str
) -> None:
    found = await seen(tmp_path, "grpc", port=ports[0], service=service)
    assert (found.health, found.reason) == (health, reason), found.text


async def test_a_server_without_health_is_unknown(tmp_path: Path, ports: tuple[int, int]) -> None:
    found = await seen(tmp_path, "grpc", port=ports[1])
    assert (found.health, found.reason) == (Health.UNKNOWN, "unimplemented")


async def test_what_is_no_grpc_is_critical_and_leaves_no_socket(tmp_path: Path) -> None:
    before = descriptors()
    for answer, reason in ((b"HTTP/1.1 400 Bad Request\r\n\r\n", "protocol"), (b"", "closed")):
        async with serving(says(answer, stays=bool(answer))) as port:
            found = await seen(tmp_path, "grpc", port=port)
        assert (found.health, found.reason) == (Health.CRITICAL, reason), found.text
    async with serving(says(PREFACE, stays=True)) as port:
        assert (await seen(tmp_path, "grpc", port=port, timeout_seconds=0.2)).reason == "timeout"
    await until(lambda: descriptors() <= before)


async def test_a_server_that_talks_without_end_is_given_up(tmp_path: Path) -> None:
    async with serving(repeats(PREFACE, b"\x00\x00\x08\x06\x01\x00\x00\x00\x00" + bytes(8), [])) as port:
        found = await seen(tmp_path, "grpc", port=port)
    assert (found.reason, found.health) == ("protocol", Health.CRITICAL)
    assert found.text.endswith("says more than an answer takes")


async def test_without_the_extra_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "h2.config", None)
    found = await seen(tmp_path, "grpc", port=1)
    assert (found.health, found.text) == (Health.UNKNOWN, "cannot ask by gRPC: install host-agent[grpc]")


@given(st.text(max_size=300))
def test_a_request_is_what_googles_own_library_makes(service: str) -> None:
    own: bytes = health_pb2.HealthCheckRequest(service=service).SerializeToString()
    assert grpc_health.request(service) == b"\x00" + len(own).to_bytes(4, "big") + own


@given(st.binary(max_size=40))
def test_what_is_no_response_is_refused(message: bytes) -> None:
    try:
        grpc_health.response(b"\x00" + len(message).to_bytes(4, "big") + message)
    except ValueError:
        return
