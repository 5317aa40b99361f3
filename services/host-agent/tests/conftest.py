"""Engines and machines that the tests of drivers share, one of each per test process."""

from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import pytest
from driver_grounds import DockerGround, DriverGround, ProcessGround, SystemdGround

from host_agent.ports import Driver
from muster_testing import engine, images
from muster_testing.systemd_machine import SystemdMachine


@pytest.fixture(scope="session")
def docker_host() -> Generator[str]:
    """The address of a container engine."""
    with engine.running() as host:
        yield host


@pytest.fixture(scope="session")
def machine(docker_host: str) -> Generator[SystemdMachine]:
    """A booted systemd."""
    with SystemdMachine(docker_host) as booted:
        yield booted


@pytest.fixture(
    params=[
        "process",
        pytest.param("systemd", marks=pytest.mark.needs("systemd-machine")),
        pytest.param("systemd-user", marks=pytest.mark.needs("systemd-machine")),
        pytest.param("docker", marks=pytest.mark.needs("docker", "busybox")),
    ]
)
async def ground(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[DriverGround]:
    """Where one kind of driver is tried."""
    made = _make(request, tmp_path)
    yield made
    await made.clean_up()


def _make(request: pytest.FixtureRequest, directory: Path) -> DriverGround:
    if request.param == "process":
        return ProcessGround(directory)
    if request.param == "docker":
        host = request.getfixturevalue("docker_host")
        return DockerGround(directory, host, images.busybox(host))
    user = request.param == "systemd-user"
    return SystemdGround(directory, request.getfixturevalue("machine"), user=user)


@pytest.fixture
def driver(ground: DriverGround) -> Driver:
    """A driver of that kind."""
    return ground.driver()
