"""What a person sees: each change once, columns that line up, colours only where they are wanted."""

import io
from pathlib import Path

import pytest

from muster_client.embedded.layout import Layout
from muster_client.embedded.logfiles import open_log
from muster_client.embedded.processes import Process
from muster_client.embedded.record import Entry, Phase, Record, State
from muster_client.embedded.view import View, Warnings, columns, fleet_table, has_colour, paint_state


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_each_change_is_shown_once() -> None:
    out = io.StringIO()
    view = View(out)
    view.show(Record(entries=(Entry("nats", State.STOPPED),)))
    for _ in range(3):
        view.show(Record(entries=(Entry("nats", State.STARTING),)))
    view.show(Record(entries=(Entry("nats", State.RUNNING, endpoint="nats://here"),)))
    lines = out.getvalue().splitlines()
    assert [line.split()[2:] for line in lines] == [["nats", "starting"], ["nats", "running", "nats://here"]]


def test_how_a_process_ended_is_shown_in_the_place_of_its_endpoint() -> None:
    out = io.StringIO()
    View(out).show(
        Record(entries=(Entry("nats", State.RESTARTING, "nats://here", detail="killed by SIGKILL"),))
    )
    assert out.getvalue().rstrip().endswith("killed by SIGKILL")
    assert "nats://here" not in out.getvalue()


def test_columns_line_up() -> None:
    assert columns(("A", "B"), [("long", "1"), ("x", "22")], right=(1,)) == [
        "A      B",
        "long   1",
        "x     22",
    ]


def test_the_table_names_every_process_and_the_supervisor(tmp_path: Path) -> None:
    entry = Entry("nats", State.RUNNING, "nats://here", "/log", Process.me())
    record = Record(Phase.READY, Process.me(), entries=(entry, Entry("redis", State.STOPPED)))
    table = fleet_table(record, colour=False)
    assert [line.split()[0] for line in table] == ["PROCESS", "nats", "redis", "supervisor"]
    assert str(Process.me().pid) in table[1]
    assert "MiB" in table[1]


def test_the_next_commands_are_told_and_where_the_fleet_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MUSTER_DIR", raising=False)
    out = io.StringIO()
    View(out).ready(Layout.at(tmp_path / "a b"), Record(supervisor=Process.me()))
    assert "muster agents" in out.getvalue()
    assert f"export MUSTER_DIR='{tmp_path}/a b'" in out.getvalue()
    monkeypatch.setenv("MUSTER_DIR", str(tmp_path / "a b"))
    out = io.StringIO()
    View(out).ready(Layout.at(None), Record(supervisor=Process.me()))
    assert "export" not in out.getvalue()


def test_a_reader_that_went_away_does_not_stop_the_supervisor() -> None:
    out = io.StringIO()
    view = View(out)
    out.close()
    view.say("nobody hears this")


def test_colours_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert has_colour(Terminal())
    assert not has_colour(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not has_colour(Terminal())
    assert "\033[32mrunning\033[0m" in paint_state("nats  running  1", colour=True)
    assert paint_state("nats  running  1", colour=False) == "nats  running  1"
    assert paint_state("PROCESS  STATE", colour=True) == "PROCESS  STATE"


def test_only_warnings_are_shown_and_only_new_ones(tmp_path: Path) -> None:
    layout = Layout.at(tmp_path)
    layout.create()
    path = layout.log("it")
    path.write_text('{"level": "error", "event": "old"}\n')
    out = io.StringIO()
    warnings = Warnings(layout, ["it", "silent"], View(out))
    with open(open_log(path), "w") as log:  # noqa: PTH123  (a descriptor, not a path)
        log.write(
            '{"at": "x", "level": "info", "event": "fine"}\n{"at": "x", "level": "error", "event": "bad"}\n'
        )
    warnings.look()
    warnings.look()
    assert [line.split()[-1] for line in out.getvalue().splitlines()] == ["bad"]
