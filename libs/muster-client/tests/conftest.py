"""A town for each test module, and a place without a fleet."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from muster_testing.shell import Shell
from muster_testing.town import Town


@pytest.fixture(scope="module")
def _town() -> Iterator[Town]:
    town = Town()
    town.start()
    yield town
    town.stop()


@pytest.fixture
def town(_town: Town) -> Town:
    """The town, everybody as at the beginning."""
    _town.reset()
    return _town


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory without a fleet, which commands are pointed to."""
    monkeypatch.setenv("MUSTER_DIR", str(tmp_path / "none"))
    monkeypatch.delenv("MUSTER_NATS_URL", raising=False)
    return tmp_path / "none"


@pytest.fixture
def muster(town: Town) -> Shell:
    """The command in the town."""
    return Shell(town)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there answers however busy this machine is."""
    monkeypatch.setattr("muster_client.cli.running.WITHIN_SECONDS", 20.0)
    monkeypatch.setattr("muster_client.cli.running.PATIENCE_SECONDS", 20.0)
    monkeypatch.setattr("muster_client.cli.agents_live.VITALS_SECONDS", 20.0)
    monkeypatch.setattr("muster_client.machines.ANSWER_SECONDS", 20.0)


@pytest.fixture
def hasty(patient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not there is not waited for."""
    monkeypatch.setattr("muster_client.cli.running.WITHIN_SECONDS", 0.5)
    monkeypatch.setattr("muster_client.cli.running.PATIENCE_SECONDS", 0.5)
