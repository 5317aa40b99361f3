"""Log files are kept small, read from their end, followed over a rotation, and made readable."""

import errno
import os
import shutil
import stat
from pathlib import Path

import pytest

from muster_client.embedded.logfiles import KEPT, Follower, Line, open_log, rotate, rotate_live, tail


def test_a_file_below_the_limit_stays(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(b"x" * 10)
    assert not rotate(log, limit=10)
    assert not rotate(tmp_path / "none.log", limit=10)
    assert log.stat().st_size == 10


def test_files_put_aside_grow_older_and_the_oldest_goes(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    for turn in range(KEPT + 2):
        log.write_text(f"turn {turn}" + "." * 20)
        assert rotate(log, limit=10)
    assert not log.exists()
    aside = sorted(path.name for path in tmp_path.iterdir())
    assert aside == [f"a.log.{age}" for age in range(1, KEPT + 1)]
    assert (tmp_path / "a.log.1").read_text().startswith(f"turn {KEPT + 1}")


def test_a_process_goes_on_writing_while_its_file_is_put_aside(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    with os.fdopen(open_log(log), "ab", buffering=0) as writer:
        writer.write(b"before the turn\n")
        assert rotate_live(log, limit=10)
        writer.write(b"after\n")
    assert log.read_text() == "after\n"
    assert (tmp_path / "a.log.1").read_text() == "before the turn\n"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


@pytest.mark.parametrize(("count", "expected"), [(0, []), (1, ["c"]), (2, ["b", "c"]), (9, ["a", "b", "c"])])
def test_the_last_lines_are_read(tmp_path: Path, count: int, expected: list[str]) -> None:
    (tmp_path / "a.log").write_text("a\nb\nc\n")
    assert tail(tmp_path / "a.log", count) == expected


def test_the_last_lines_of_a_long_file_are_found_across_blocks(tmp_path: Path) -> None:
    lines = [f"{number:06} {'x' * 90}" for number in range(5000)]
    (tmp_path / "a.log").write_text("\n".join(lines))
    assert tail(tmp_path / "a.log", 1500) == lines[-1500:]
    assert tail(tmp_path / "none.log", 5) == []


def test_a_follower_sees_each_complete_line_once_also_over_rotations(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("old\n")
    follower = Follower(log)
    assert list(follower.lines()) == []
    with log.open("a") as file:
        file.write("new\nhalf")
    assert list(follower.lines()) == ["new"]
    with log.open("a") as file:
        file.write(" a line\n")
    assert list(follower.lines()) == ["half a line"]
    rotate(log, limit=1)
    assert list(follower.lines()) == []
    log.write_text("fresh\n")
    assert list(follower.lines()) == ["fresh"]
    rotate_live(log, limit=1)
    with log.open("a") as file:
        file.write("1\n")
    assert list(follower.lines()) == ["1"]


def test_a_structured_line_reads_as_a_sentence_with_its_values() -> None:
    frame = '{"at": "2026-01-01T12:00:00Z", "level": "warning", "service": "x", "event": "cannot reach",'
    text = f'{frame} "n": 1, "s": "a b"}}'
    line = Line.parse(text)
    assert line.is_grave
    assert line.readable().endswith('warning  cannot reach n=1 s="a b"')


def test_a_traceback_follows_its_line() -> None:
    line = Line.parse('{"at": "2026-01-01", "level": "error", "event": "no", "exception": "Traceback\\n  x"}')
    assert line.readable().split("\n")[1:] == ["Traceback", "  x"]


@pytest.mark.parametrize("text", ["plain words", "[1, 2]", '{"no": "event"}', "{broken", ""])
def test_a_line_that_is_not_ours_is_shown_as_it_is(text: str) -> None:
    assert Line.parse(text).readable() == text


@pytest.mark.parametrize(
    ("text", "grave"),
    [
        ('{"event": "x", "level": "info"}', False),
        ('{"event": "x", "level": "ERROR"}', True),
        ("[123] 2026/11/21 02:16:45.110604 [INF] Starting", False),
        ("[123] 2026/11/21 02:16:45.110604 [ERR] disk", True),
        ("16263:M 21 Nov 2026 02:23:06.397 # WARNING Memory", True),
    ],
)
def test_warnings_are_told_from_news(text: str, grave: bool) -> None:
    assert Line.parse(text).is_grave is grave


def test_a_log_is_emptied_also_where_the_disk_has_no_room_for_its_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    log = tmp_path / "x.log"
    log.write_text("a line\n" * 100)
    assert rotate_live(log, limit=10)
    assert log.read_text() == ""
    assert list(tmp_path.iterdir()) == [log]
