"""The health server: what an orchestrator learns from the outside."""

import asyncio
import contextlib
import http.client
import json
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from muster_runtime import Count, HealthServer, Shutdown
from muster_runtime.health_http import SEATS
from muster_runtime.metrics import GAUGES_UNREADABLE, TASK_CRASHES, Gauge
from muster_testing.servers import free_port
from muster_testing.wait import until

APPLES = Count("test_runtime_apples_total", "Apples seen.", ("kind",))


@pytest.fixture
async def health() -> AsyncIterator[HealthServer]:
    async with HealthServer() as server:
        yield server


def fetch(
    health: HealthServer, path: str, method: str = "GET", **headers: str
) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection(health.host, health.port, timeout=20)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()
    finally:
        connection.close()


async def get(health: HealthServer, path: str, **headers: str) -> tuple[int, dict[str, str], str]:
    return await asyncio.to_thread(fetch, health, path, **headers)


async def ready(health: HealthServer) -> tuple[int, dict[str, Any]]:
    status, _, body = await get(health, "/readyz")
    return status, json.loads(body)["checks"]


async def test_a_turning_loop_is_alive(health: HealthServer) -> None:
    status, headers, body = await get(health, "/livez")
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert json.loads(body)["event_loop"] == "ok"


async def test_a_loop_that_has_not_turned_for_ten_seconds_is_dead_and_named(health: HealthServer) -> None:
    health._tick = time.monotonic() - 11
    status, _, body = await get(health, "/livez")
    assert status == 503
    assert json.loads(body)["event_loop"].startswith("has not turned for 11.")


async def test_it_answers_while_the_loop_hangs(health: HealthServer) -> None:
    assert fetch(health, "/livez")[0] == 200  # called on the loop itself, which cannot turn meanwhile


async def test_ready_means_every_check_is_content(health: HealthServer) -> None:
    async def database() -> None:
        return None

    health.check("database", database)
    health.check("bus", lambda: True)
    health.check("consumers", list)
    assert await ready(health) == (200, {"database": "ok", "bus": "ok", "consumers": "ok"})


async def test_each_complaint_is_listed_by_its_check(health: HealthServer) -> None:
    async def fail() -> None:
        raise ConnectionError("nats://me:hunter2@host refused")

    async def consumers() -> list[str]:
        return ["heartbeat is silent", "hello is silent"]

    health.check("well", lambda: None)
    health.check("bus", fail)
    health.check("consumers", consumers)
    health.check("lease", lambda: False)
    health.check("redis", lambda: "cannot reach redis")
    assert await ready(health) == (
        503,
        {
            "well": "ok",
            "bus": "ConnectionError: nats://me:[redacted]@host refused",
            "consumers": "heartbeat is silent; hello is silent",
            "lease": "not ready",
            "redis": "cannot reach redis",
        },
    )


async def test_a_check_that_hangs_is_a_complaint(
    health: HealthServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("muster_runtime.health.CHECK_SECONDS", 0.05)

    async def hang() -> None:
        await asyncio.Event().wait()

    health.check("slow", hang)
    health.check("quick", lambda: None)
    status, checks = await ready(health)
    assert status == 503
    assert checks["slow"].startswith("no answer within")
    assert checks["quick"] == "ok"


async def test_a_hanging_loop_is_not_ready(health: HealthServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("muster_runtime.health.CHECK_SECONDS", -0.9)
    status, _, body = fetch(health, "/readyz")  # called on the loop itself
    assert status == 503
    assert "did not answer" in json.loads(body)["checks"]["event_loop"]


async def test_a_process_that_shuts_down_is_not_ready(health: HealthServer) -> None:
    shutdown = Shutdown()
    health.check("running", lambda: shutdown.reason)
    assert (await ready(health))[0] == 200
    shutdown.request("SIGTERM")
    assert await ready(health) == (503, {"running": "SIGTERM"})


async def test_metrics_show_the_counts_of_the_process(health: HealthServer) -> None:
    APPLES.add("red", by=2)
    TASK_CRASHES.add("sampler")
    status, headers, body = await get(health, "/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain; version=")
    assert 'test_runtime_apples_total{kind="red"} 2.0' in body
    assert 'muster_task_crashes_total{task="sampler"}' in body


async def test_metrics_speak_openmetrics_to_who_asks_for_it(health: HealthServer) -> None:
    accept = "application/openmetrics-text; version=1.0.0"
    _, headers, body = await get(health, "/metrics", Accept=accept)
    assert headers["Content-Type"].startswith("application/openmetrics-text")
    assert body.endswith("# EOF\n")


async def test_a_gauge_that_cannot_be_read_hides_no_other(health: HealthServer) -> None:
    def fail() -> dict[tuple[str, ...], float]:
        raise OSError("gone")

    broken = Gauge("test_runtime_broken", "Cannot be read.", fail)
    Gauge("test_runtime_sound", "Can be read.", lambda: {("a",): 3.0}, ("name",))
    try:
        _, _, body = await get(health, "/metrics")
        assert 'test_runtime_sound{name="a"} 3.0' in body
        assert GAUGES_UNREADABLE.get(broken.name) == 1
    finally:
        del Gauge.all["test_runtime_broken"], Gauge.all["test_runtime_sound"]


async def test_everything_else_is_not_found(health: HealthServer) -> None:
    for path in ("/", "/livez/", "/../etc/passwd", "/metricsx"):
        assert (await get(health, path))[0] == 404
    status, _, body = await asyncio.to_thread(fetch, health, "/livez", "HEAD")
    assert (status, body) == (200, "")
    assert (await asyncio.to_thread(fetch, health, "/livez", "POST"))[0] == 501


async def test_the_chosen_port_is_written_whole_and_taken_away_at_the_end(tmp_path: Path) -> None:
    port_file = tmp_path / "run" / "health.port"
    async with HealthServer(0, port_file=port_file) as health:
        assert health.host == "127.0.0.1"
        assert int(port_file.read_text()) == health.port > 0
        assert list(port_file.parent.iterdir()) == [port_file]
    assert not port_file.exists()


async def test_a_port_in_use_is_named(health: HealthServer) -> None:
    second = HealthServer(health.port)
    with pytest.raises(
        OSError, match=f"cannot serve health on 127.0.0.1:{health.port}: address already in use"
    ):
        await second.start()


async def test_a_port_can_be_had_again_at_once() -> None:
    port = free_port()
    for _ in range(3):
        async with HealthServer(port) as health:
            assert (await get(health, "/livez"))[0] == 200


async def test_a_client_that_sends_nothing_blocks_nobody(health: HealthServer) -> None:
    _, writer = await asyncio.open_connection(health.host, health.port)
    assert (await get(health, "/livez"))[0] == 200
    writer.close()
    await writer.wait_closed()


async def test_a_client_that_drips_is_cut_off_when_its_time_is_up(
    health: HealthServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("muster_runtime.health_http.REQUEST_SECONDS", 0.3)
    reader, writer = await asyncio.open_connection(health.host, health.port)

    async def drip() -> None:
        with contextlib.suppress(OSError):
            for byte in b"GET /livez HTTP/1.0\r\nX: " + b"y" * 10_000:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.02)

    dripping = asyncio.create_task(drip())
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    dripping.cancel()
    writer.close()


async def test_who_comes_when_every_seat_is_taken_is_sent_away_until_one_is_free(
    health: HealthServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("muster_runtime.health_http.REQUEST_SECONDS", 2.0)
    before = threading.active_count()
    idle = [await asyncio.open_connection(health.host, health.port) for _ in range(SEATS)]
    await until(lambda: threading.active_count() == before + SEATS)
    reader, late = await asyncio.open_connection(health.host, health.port)
    assert (await reader.read()).startswith(b"HTTP/1.0 503 ")
    assert threading.active_count() <= before + SEATS

    idle[0][1].close()

    async def served() -> bool:
        try:
            return (await get(health, "/livez"))[0] == 200
        except OSError:
            return False

    _: bool = await until(served)
    for _reader, writer in idle:
        writer.close()
    late.close()
