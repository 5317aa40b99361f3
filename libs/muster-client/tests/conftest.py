"""A town for each test module, and a place without a fleet."""

from collections.abc import Iterator
from pathlib import Path

import pytest

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
