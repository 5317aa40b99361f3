"""Engines and machines that the tests of drivers share, one of each per test process."""

from collections.abc import Generator

import pytest

from muster_testing import engine
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
