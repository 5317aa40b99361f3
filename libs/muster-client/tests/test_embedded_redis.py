"""Redis is a cache: whatever is damaged is put aside, told, and never in the way of a start."""

from pathlib import Path

import pytest

from muster_client.embedded.layout import Layout
from muster_client.embedded.redis import config, ensure_password, password, put_data_aside


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout.at(tmp_path)
    made.create()
    return made


def test_a_password_is_made_once(layout: Layout) -> None:
    told: list[str] = []
    first = ensure_password(layout, told.append)
    assert ensure_password(layout, told.append) == first == password(layout)
    assert f"requirepass {first}\n" in config(layout, 1)
    assert not told


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"short", b"x" * 30 + b"\nenable-module-command yes"])
def test_a_damaged_password_is_put_aside_and_made_anew(layout: Layout, damage: bytes) -> None:
    layout.redis_password.write_bytes(damage)
    told: list[str] = []
    assert password(layout) == ""
    fresh = ensure_password(layout, told.append)
    assert fresh == password(layout)
    assert layout.redis_password.with_name("redis.password.damaged").read_bytes() == damage
    assert len(told) == 1
    assert fresh not in told[0]


def test_a_directory_in_its_place_is_put_aside_as_well(layout: Layout) -> None:
    layout.redis_password.mkdir()
    assert ensure_password(layout, lambda _: None)


def test_data_of_any_version_are_put_aside(layout: Layout) -> None:
    told: list[str] = []
    assert not put_data_aside(layout, told.append)
    (layout.redis / "appendonly.aof").touch()
    (layout.redis / "appendonlydir").mkdir()
    assert put_data_aside(layout, told.append)
    assert sorted(path.name for path in layout.redis.iterdir()) == [
        "appendonly.aof.damaged",
        "appendonlydir.damaged",
    ]
    assert len(told) == 2
