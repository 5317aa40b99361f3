"""Files of a fleet are written in one step, and never through a link that somebody planted."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from muster_client.embedded.errors import CannotStart
from muster_client.embedded.files import keep, open_own, put_aside
from muster_client.embedded.locks import Lock
from muster_client.embedded.logfiles import open_log, rotate, rotate_live


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    made = tmp_path / "precious"
    made.write_text("precious " * 10)
    return made


@pytest.mark.parametrize("use", [open_log, open_own, lambda path: Lock(path).take()])
def test_a_link_is_refused_by_name_and_what_it_points_to_stays(
    tmp_path: Path, precious: Path, use: Callable[[Path], object]
) -> None:
    link = tmp_path / "link"
    link.symlink_to(precious)
    with pytest.raises(CannotStart, match=f"cannot open {link}: it is a symbolic link; remove it"):
        use(link)
    assert precious.read_text() == "precious " * 10


def test_a_pipe_in_the_place_of_a_lock_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CannotStart, match="no ordinary file"):
        Lock(tmp_path / "pipe").take()


def test_a_link_is_replaced_by_what_is_kept(tmp_path: Path, precious: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(precious)
    for name in (".link.new", "link.new"):
        (tmp_path / name).symlink_to(precious)
    keep(link, "mine")
    assert (link.read_text(), link.is_symlink()) == ("mine\n", False)
    assert stat.S_IMODE(link.stat().st_mode) == 0o600
    assert precious.read_text() == "precious " * 10


def test_what_cannot_be_kept_is_told_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(CannotStart, match=r"cannot write .*/x: is a directory; move that directory away"):
        keep(tmp_path / "x", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_links_among_logs_are_neither_copied_nor_written_to(tmp_path: Path, precious: Path) -> None:
    log = tmp_path / "a.log"
    log.symlink_to(precious)
    assert not rotate(log, limit=1)
    assert not rotate_live(log, limit=1)
    log.unlink()
    log.write_text("long enough")
    (tmp_path / "a.log.1").symlink_to(tmp_path / "made")  # dangling: would be made by who follows it
    assert rotate_live(log, limit=1)
    assert not (tmp_path / "made").exists()
    assert (tmp_path / "a.log.1").read_text() == "long enough"
    assert precious.read_text() == "precious " * 10


def test_what_is_damaged_is_put_aside_in_the_place_of_what_was_before(tmp_path: Path) -> None:
    for turn in ("first", "second"):
        (tmp_path / "it").write_text(turn)
        assert put_aside(tmp_path / "it") == tmp_path / "it.damaged"
    assert (tmp_path / "it.damaged").read_text() == "second"
    (tmp_path / "it.damaged").unlink()
    for _ in range(2):
        (tmp_path / "it").mkdir()
        (tmp_path / "it" / "inside").touch()
        put_aside(tmp_path / "it")
    assert not (tmp_path / "it").exists()
