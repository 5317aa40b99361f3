"""Servers and services are found where they are, and named when they are not."""

import sys
from pathlib import Path

import pytest

from muster_client.embedded import binaries
from muster_client.embedded.errors import CannotStart


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with nothing on its PATH and nothing beside its Python."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(binaries, "_beside_python", lambda _: None)
    monkeypatch.setattr(binaries, "_in_package", lambda *_: None)
    monkeypatch.setattr(binaries, "_falkordb", lambda: None)
    return tmp_path


def program(folder: Path, name: str, says: str = "v1") -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\necho {says}\n")
    path.chmod(0o755)
    return path


def test_what_the_wheels_brought_is_found_and_runs() -> None:
    assert "2." in binaries.version(binaries.nats_server())
    assert "v=" in binaries.version(binaries.redis_server())


def test_a_redis_or_valkey_on_the_path_is_taken(bare: Path) -> None:
    valkey = program(bare, "valkey-server")
    assert binaries.redis_server() == valkey
    redis = program(bare, "redis-server")
    assert binaries.redis_server() == redis


def test_a_missing_server_is_named_with_what_to_install(bare: Path) -> None:
    with pytest.raises(CannotStart, match=r"cannot start nats: .*muster-client"):
        binaries.nats_server()
    with pytest.raises(CannotStart, match=r"cannot start redis: .*muster-client"):
        binaries.redis_server()


def test_a_program_that_does_not_run_here_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "nats-server"
    broken.write_bytes(b"\x7fELF of another machine")
    broken.chmod(0o755)
    with pytest.raises(CannotStart, match=f"cannot run {broken}"):
        binaries.version(broken)


def test_a_service_is_started_by_its_script_else_by_its_module(bare: Path) -> None:
    assert binaries.service("host-agent")[:3] == [sys.executable, "-P", "-c"]
    with pytest.raises(CannotStart, match="cannot start no-such-service: it is not installed"):
        binaries.service("no-such-service")


def test_a_service_installed_has_a_script_beside_its_python() -> None:
    assert binaries.service("fleet-registry")[-1].endswith("/fleet-registry")
