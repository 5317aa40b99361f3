"""The directory of a fleet: where it is, that it is private, and what is said when it cannot be had."""

import os
import stat
from pathlib import Path

import pytest

from muster_client.embedded.errors import CannotStart
from muster_client.embedded.layout import Layout, default_directory


def test_the_directory_is_the_one_given_then_the_environments_then_the_users(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MUSTER_DIR", "/a")
    monkeypatch.setenv("XDG_DATA_HOME", "/b")
    monkeypatch.setenv("HOME", "/c")
    assert Layout.at(tmp_path).root == tmp_path
    assert default_directory() == Path("/a")
    monkeypatch.delenv("MUSTER_DIR")
    assert default_directory() == Path("/b/muster")
    monkeypatch.delenv("XDG_DATA_HOME")
    assert default_directory() == Path("/c/.local/share/muster")


def test_everything_in_it_is_its_owners_alone(tmp_path: Path) -> None:
    layout = Layout.at(tmp_path / "deep" / "fleet")
    layout.create()
    for path in (layout.root, *layout.parts):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_the_mode_of_a_place_that_was_there_before_is_left_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    Layout.at(tmp_path).create()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_a_relative_directory_is_fixed_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert Layout.at(Path("here")).root == tmp_path / "here"


def test_a_file_in_its_place_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotStart, match=r"cannot start in .*/file: .*--dir"):
        Layout.at(tmp_path / "file").create()


def test_a_path_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match="File name too long"):
        Layout.at(tmp_path / ("x" * 300)).create()


def test_a_directory_that_cannot_be_written_to_is_refused() -> None:
    # /proc refuses root as well, so that the claim holds for every user who runs the tests.
    with pytest.raises(CannotStart, match=r"cannot start in /proc/muster: .*give a directory"):
        Layout.at(Path("/proc/muster")).create()


@pytest.mark.needs("ordinary-user")  # root may write anywhere
def test_a_read_only_directory_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(CannotStart, match="Permission denied"):
        Layout.at(tmp_path / "fleet").create()


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777, 0o702])
@pytest.mark.parametrize("part", ["", "run", "logs"])
def test_a_directory_that_others_may_write_to_is_refused(tmp_path: Path, part: str, mode: int) -> None:
    place = tmp_path / part
    place.mkdir(exist_ok=True)
    place.chmod(mode)
    with pytest.raises(CannotStart, match=f"cannot use {place}: others may write to it, do chmod go-w"):
        Layout.at(tmp_path).create()
    place.chmod(0o755)
    Layout.at(tmp_path).create()


def test_a_directory_of_somebody_else_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    owner = os.geteuid()
    monkeypatch.setattr("os.geteuid", lambda: owner + 1)
    with pytest.raises(
        CannotStart, match=f"cannot use .*: it belongs to user {owner} and you are {owner + 1}"
    ):
        Layout.at(tmp_path).create()


def test_a_directory_that_others_may_replace_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(CannotStart, match=f"others may replace it, do chmod o-w {tmp_path}"):
        Layout.at(tmp_path / "fleet").create()
    tmp_path.chmod(0o1777)  # as /tmp is: only owners may rename there
    Layout.at(tmp_path / "fleet").create()


def test_a_link_to_ones_own_directory_is_followed_once_and_one_inside_is_refused(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.mkdir(mode=0o700)
    link.symlink_to(real)
    assert Layout.at(link).root == real
    (real / "logs").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CannotStart, match=f"cannot use {real}/logs: it is a symbolic link"):
        Layout.at(link).create()
    assert not (tmp_path / "elsewhere").exists()


def test_a_link_where_it_tries_to_write_is_not_followed(tmp_path: Path) -> None:
    layout, precious = Layout.at(tmp_path / "fleet"), tmp_path / "precious"
    precious.write_text("precious")
    layout.create()
    (layout.run / "writable").symlink_to(precious)
    layout.create()
    assert precious.read_text() == "precious"
