"""fleet.json is replaced in one step, and a damaged one is no obstacle."""

import os
import stat
from pathlib import Path

import pytest

from muster_client.embedded.layout import Layout
from muster_client.embedded.processes import Process
from muster_client.embedded.record import Entry, Phase, Record, State, read, write


def test_what_is_written_is_read(tmp_path: Path) -> None:
    layout = Layout.at(tmp_path)
    entry = Entry("nats", State.RUNNING, "nats://x", "/log", Process(7, "1@b"), 2, "killed by SIGKILL")
    record = Record(Phase.READY, Process.me(), "", {"nats": 4222}, (entry, Entry("redis", State.STOPPED)))
    write(layout, record)
    assert read(layout) == record
    assert stat.S_IMODE(layout.state.stat().st_mode) == 0o600
    assert record.supervised


def test_no_record_is_a_fleet_that_never_ran(tmp_path: Path) -> None:
    assert read(Layout.at(tmp_path)) == Record()
    assert not Record().supervised


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"phase": "x"}',
        '{"phase": "ready", "ports": 3}',
        "\0\0",
        "[" * 100_000,
        '{"phase": "ready", "supervisor": null, "problem": "", "ports": {"nats": 1e999}, "entries": []}',
    ],
)
def test_a_damaged_record_is_a_fleet_that_never_ran(tmp_path: Path, text: str) -> None:
    (tmp_path / "fleet.json").write_text(text)
    assert read(Layout.at(tmp_path)) == Record()


def test_only_processes_that_live_survive(tmp_path: Path) -> None:
    alive = Entry("nats", State.RUNNING, process=Process.me())
    dead = Entry("redis", State.RUNNING, process=Process(Process.me().pid, "1@another-boot"))
    assert Record(entries=(alive, dead)).survivors == [alive]


@pytest.mark.parametrize("port", [70_000, -5, 0])
def test_what_is_no_port_is_forgotten(tmp_path: Path, port: int) -> None:
    layout = Layout.at(tmp_path)
    write(layout, Record(ports={"nats": port, "redis": 4222}))
    assert read(layout).ports == {"redis": 4222}


def test_a_directory_a_link_or_a_pipe_in_its_place_is_no_record(tmp_path: Path) -> None:
    write(Layout.at(tmp_path), Record(ports={"nats": 4222}))
    other = Layout.at(tmp_path / "other")
    other.root.mkdir()
    other.state.symlink_to(tmp_path / "fleet.json")
    assert read(other) == Record()
    other.state.unlink()
    other.state.mkdir()
    assert read(other) == Record()
    other.state.rmdir()
    os.mkfifo(other.state)
    assert read(other) == Record()


def test_what_somebody_else_wrote_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout, mine = Layout.at(tmp_path), os.fstat
    write(layout, Record(supervisor=Process.me()))

    def theirs(handle: int) -> os.stat_result:
        seen = mine(handle)
        return os.stat_result((*seen[:4], seen.st_uid + 1, *seen[5:]))

    monkeypatch.setattr("os.fstat", theirs)
    assert read(layout) == Record()
