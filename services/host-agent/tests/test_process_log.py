"""The log of a package, cut while it is written: no line is lost, doubled or out of order."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from host_agent.adapters import package_log
from host_agent.adapters.package_log import PackageLog


class Killed(Exception):
    """The agent is gone, in the middle of something."""


@pytest.fixture
def log(tmp_path: Path) -> PackageLog:
    return PackageLog(tmp_path / "p.log", max_bytes=4096, keep_files=1000)


def opened(log: PackageLog) -> int:
    return log.open(os.getuid(), os.getgid())


def whole(log: PackageLog, page: int = 1000) -> list[str]:
    offset, more, lines = 0, True, list[str]()
    while more:
        found, offset, more = log.read(page, offset)
        lines += found
    return lines


steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(1, 200)),
        st.tuples(st.just("rotate"), st.just(0)),
        st.tuples(st.just("kill"), st.integers(0, 12)),
        st.tuples(st.just("restart"), st.just(0)),
    ),
    max_size=40,
)


@given(steps)
@settings(max_examples=60)
def test_set_and_order_are_those_that_were_written(story: list[tuple[str, int]]) -> None:
    with TemporaryDirectory() as directory:
        path, written = Path(directory, "p.log"), list[str]()
        log = PackageLog(path, max_bytes=4096, keep_files=1000)
        writer = opened(log)
        for what, number in story:
            log = PackageLog(path, max_bytes=4096, keep_files=1000)
            if what == "write":
                fresh = [f"line {len(written) + more} {'x' * 30}" for more in range(number)]
                os.write(writer, "".join(f"{line}\n" for line in fresh).encode())
                written += fresh
            elif what == "rotate":
                log.rotate()
            elif what == "kill":
                killed_at(log, number)
            else:
                os.close(writer)
                writer = opened(log)
            assert whole(log, 73) == written
        os.close(writer)


def killed_at(log: PackageLog, step: int) -> None:
    """Turn the log over in an agent that is killed at one of its steps."""
    left = step

    def dying(real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **more: object) -> object:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return real(*arguments, **more)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in ("_punch", "_write_all", "sync_directory"):
            patch.setattr(package_log, name, dying(getattr(package_log, name)))
        patch.setattr(Path, "rename", dying(Path.rename))
        with suppress(Killed):
            log.rotate()


def test_copying_and_cutting_off_the_whole_file_loses_what_comes_between(tmp_path: Path) -> None:
    """The twin: copytruncate, as log rotators do it."""
    path = tmp_path / "p.log"
    writer = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(writer, b"one\n")
    kept = path.read_bytes()
    os.write(writer, b"two\n")
    os.truncate(path, 0)
    os.write(writer, b"three\n")
    os.close(writer)
    assert kept + path.read_bytes() == b"one\nthree\n"


def test_what_was_cut_off_takes_no_room_where_it_was(log: PackageLog, tmp_path: Path) -> None:
    writer = opened(log)
    for _ in range(200):
        os.write(writer, b"x" * 1023 + b"\n")
    log.rotate()
    log.rotate()
    status = os.fstat(writer)
    os.close(writer)
    assert status.st_size == 200 * 1024
    assert status.st_blocks * 512 <= 3 * 4096


def test_only_so_many_older_pieces_are_kept(tmp_path: Path) -> None:
    log = PackageLog(tmp_path / "p.log", max_bytes=4096, keep_files=2)
    writer = opened(log)
    for number in range(100):
        os.write(writer, f"{number:03} {'x' * 507}\n".encode())
        log.rotate()
    os.close(writer)
    lines = [int(line.split()[0]) for line in whole(log)]
    assert lines == list(range(lines[0], 100))
    assert 12 <= len(lines) <= 24
    assert len(list(tmp_path.iterdir())) == 3


def test_with_no_older_pieces_kept_the_offsets_go_on(tmp_path: Path) -> None:
    log = PackageLog(tmp_path / "p.log", max_bytes=4096, keep_files=0)
    writer = opened(log)
    for number in range(100):
        os.write(writer, f"{number:03} {'x' * 507}\n".encode())
        log.rotate()
    os.close(writer)
    found, end, _ = log.read(1000, None)
    assert (int(found[-1].split()[0]), end) == (99, 100 * 512)
    assert len(found) <= 8


def test_where_holes_cannot_be_made_the_log_is_cut_at_the_next_start(
    log: PackageLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(package_log, "_punch", lambda *_, **__: False)
    writer = opened(log)
    lines = [f"{number} {'x' * 100}" for number in range(300)]
    os.write(writer, "".join(f"{line}\n" for line in lines).encode())
    log.rotate()
    os.close(writer)
    writer = opened(log)
    os.write(writer, b"later\n")
    assert whole(log) == [*lines, "later"]
    assert os.fstat(writer).st_blocks * 512 <= 3 * 4096
    os.close(writer)


def test_a_line_that_was_cut_short_by_an_end_is_whole_for_the_next_life(log: PackageLog) -> None:
    for text in (b"Segmentation fa", b"begun\n"):
        writer = opened(log)
        os.write(writer, text)
        os.close(writer)
    assert whole(log) == ["Segmentation fa", "begun"]


def test_a_log_that_somebody_emptied_goes_on_behind_its_pieces(log: PackageLog, tmp_path: Path) -> None:
    writer = opened(log)
    os.write(writer, b"old\n" * 3000)
    log.rotate()
    os.close(writer)
    end = log.read(1, None)[1]
    (tmp_path / "p.log").unlink()
    writer = opened(log)
    os.write(writer, b"new\n")
    os.close(writer)
    lines, after, _ = log.read(1, None)
    assert lines == ["new"]
    assert after <= end + 4


@pytest.mark.parametrize("offset", [0, 10_000_000])
def test_an_offset_that_is_gone_reads_from_the_beginning(log: PackageLog, offset: int) -> None:
    os.close(opened(log))
    writer = opened(log)
    os.write(writer, b"one\ntwo\n")
    os.close(writer)
    assert log.read(1, offset) == (["one"], 4, True)


def test_an_answer_is_bounded_and_a_line_without_end_moves_on(log: PackageLog) -> None:
    writer = opened(log)
    os.write(writer, b"\0" * 1_000_000)
    os.write(writer, b"\nend\n")
    os.close(writer)
    log.rotate()
    answers, offset, more = list[list[str]](), 0, True
    while more:
        lines, offset, more = log.read(1000, offset)
        answers.append(lines)
    assert answers[-1][-1] == "end"
    assert all(len(lines) <= 2 for lines in answers)


def test_a_link_in_place_of_the_log_is_not_followed(log: PackageLog, tmp_path: Path) -> None:
    (tmp_path / "p.log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic link"):
        opened(log)
    assert not (tmp_path / "elsewhere").exists()
