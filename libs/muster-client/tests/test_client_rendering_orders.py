"""What people are shown of packages, commands and the audit: from values alone."""

import io
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, get_args
from uuid import UUID

import pytest
from rich.console import Console, RenderableType

from muster_client import humanise, render_orders
from muster_client.bodies import body_from_words, verbs
from muster_client.cli.command import STATES, moment_of
from muster_client.cli.ordering import Whom, some
from muster_client.cli.packages_acting import SIGNALS
from muster_client.cli.streaming import lines_of
from muster_client.commands import OutputGrew, Progress, TargetEnded
from muster_client.errors import Usage
from muster_client.outputs import PackageLine
from muster_client.tally import Tally
from muster_contracts.command.v1 import Body, CommandState, Target
from muster_contracts.package.v1 import PackageState, RunScript, SignalPackage, StopPackage, StopSignal
from muster_testing.town_orders import package

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def text(*things: RenderableType, width: int = 80) -> str:
    out = Console(file=io.StringIO(), width=width, highlight=False, markup=False)
    for thing in things:
        out.print(thing)
    assert isinstance(out.file, io.StringIO)
    return "\n".join(line.rstrip() for line in out.file.getvalue().splitlines())


def target(agent: str = "web-1", state: str = "succeeded", **changes: Any) -> Target:
    told = {
        "id": UUID(int=0xABCDEF12 << 96),
        "agent": agent,
        "verb": "package.restart",
        "subject": "web",
        "state": state,
        "reason": "done",
        "issuer": "ann@laptop",
        "submitted_at": NOON,
        "not_after": NOON + timedelta(minutes=5),
        "started_at": NOON + timedelta(seconds=1),
        "ended_at": NOON + timedelta(seconds=3.5),
        **changes,
    }
    return Target.model_validate(told)


def line(name: str, agent: str = "web-1", **changes: Any) -> PackageLine:
    return PackageLine(**dict(package(name, **changes)), agent=agent)


# Packages ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", PackageState)
def test_every_state_of_a_package_has_a_look(state: PackageState) -> None:
    assert text(render_orders.state(state)).endswith(f" {state}")


@pytest.mark.parametrize("state", CommandState)
def test_every_state_of_a_command_has_a_look(state: CommandState) -> None:
    assert text(render_orders.state(state)).endswith(f" {state}")


PROBLEM = (
    "cannot keep flaky running: it exited with code 3 five times in a row, see muster packages logs flaky"
)


def test_a_problem_stands_in_its_line_where_there_is_room_and_else_beneath() -> None:
    lines = [line("web"), line("flaky", state="crash_loop", problem=PROBLEM)]
    narrow = text(*render_orders.packages(lines, 80)).splitlines()
    assert max(len(one) for one in narrow) <= 80
    assert "PROBLEM" not in narrow[0]
    assert " ".join(narrow[4:]).startswith(f"web-1 flaky: {PROBLEM}")
    wide = text(*render_orders.packages(lines, 160), width=160).splitlines()
    assert "VERSION" in wide[0]
    assert "PROBLEM" in wide[0]
    assert len(wide) >= 3


def test_foreign_text_has_no_power_over_the_terminal() -> None:
    shown = text(*render_orders.packages([line("web", problem="\x1b[2J")], 80))
    assert "\x1b" not in shown
    assert r"\x1b[2J" in shown
    assert r"\x1b" in text(render_orders.outcome(target(text="\x1b[2J", state="failed")))


@pytest.mark.parametrize(
    ("code", "shown"),
    [(None, None), (0, "exit code 0"), (3, "exit code 3"), (-9, "signal 9 (SIGKILL)"), (-99, "signal 99")],
)
def test_an_exit_is_told_as_code_or_signal(code: int | None, shown: str | None) -> None:
    assert humanise.exit_code(code) == shown


# Commands ----------------------------------------------------------------------------------------


def test_targets_fit_a_narrow_terminal_and_say_more_on_a_wide_one() -> None:
    targets = [target(), target("web-2", "failed", reason="ready", text=PROBLEM)]
    narrow = text(render_orders.targets(targets, NOON + timedelta(minutes=1), 80)).splitlines()
    assert max(len(one) for one in narrow) <= 80
    assert [one.split() for one in narrow] == [
        ["ID", "WHAT", "AGENT", "STATE", "ORDERED", "TOOK", "WHY"],
        ["abcdef12", "restart", "web", "web-1", "●", "succeeded", "1", "min", "ago", "2.5", "s", "done"],
        ["abcdef12", "restart", "web", "web-2", "✗", "failed", "1", "min", "ago", "2.5", "s", "ready"],
    ]
    wide = text(render_orders.targets(targets, NOON, 200), width=200)
    assert "abcdef12-0000-0000-0000-000000000000" in wide
    assert PROBLEM in wide
    assert "ann@laptop" in wide


def test_what_an_agent_said_too_late_is_told() -> None:
    late = target(state="lost", reason="silence", reported_late="succeeded")
    assert text(render_orders.outcome(late)).endswith("silence; it said succeeded later")


# Tally -------------------------------------------------------------------------------------------


def tally_of(*events: tuple[float, Any], total: int = 4) -> Tally:
    made = Tally(total)
    for clock, event in events:
        made.take(event, clock)
    return made


def test_a_tally_counts_each_target_once_and_names_the_slowest_first() -> None:
    tally = tally_of(
        (0, Progress("a", CommandState.PENDING)),
        (0, Progress("b", CommandState.PENDING)),
        (0, Progress("c", CommandState.PENDING)),
        (5, Progress("c", CommandState.RUNNING)),
        (6, Progress("b", CommandState.RUNNING)),
        (7, Progress("c", CommandState.RUNNING, percent=50)),
        (8, OutputGrew("c", 10, complete=False)),
        (9, TargetEnded(target("d", "failed", text="cannot start web"))),
    )
    assert [agent for agent, _ in tally.slowest(5)] == ["c", "b", "a"]
    assert tally.by_state == {CommandState.PENDING: 1, CommandState.RUNNING: 2, CommandState.FAILED: 1}
    shown = text(render_orders.progress(tally, "restart web", 15, 80)).splitlines()
    assert shown[0].endswith("1 of 4")
    assert shown[2:4] == ["  c  ◐ running  for 10 s  50 %", "  b  ◐ running  for 9 s"]
    assert "cannot start web" in shown[-1]


def test_a_progress_never_leaves_its_width() -> None:
    tally = tally_of((0, Progress("a" * 60, CommandState.RUNNING, text="x" * 200)))
    for width in (40, 80, 120):
        shown = text(render_orders.progress(tally, "restart web", 15, width), width=width)
        assert len(shown.splitlines()) == 3


# Command lines -----------------------------------------------------------------------------------


def test_what_the_command_line_spells_out_is_what_the_contracts_have() -> None:
    assert set(STATES) == set(CommandState)
    assert set(SIGNALS) == set(StopSignal)
    bodies = {body.model_fields["verb"].default for part in get_args(get_args(Body)[0]) for body in [part]}
    assert set(verbs()) == bodies


def test_words_become_the_body_of_their_verb() -> None:
    assert body_from_words("package.stop", ["package=web", "cascade=yes"]) == StopPackage(
        package="web", cascade=True
    )
    assert body_from_words("package.signal", ["package=web", "signal=HUP"]) == SignalPackage(
        package="web", signal=StopSignal.HUP
    )
    assert body_from_words("script.run", ["script=a", "arguments=x=1", "arguments="]) == RunScript(
        script="a", arguments=["x=1", ""]
    )
    with pytest.raises(Usage, match="package: "):
        body_from_words("package.stop", ["package=web", "package=db"])


def test_agents_and_selectors_name_whom_is_meant() -> None:
    assert Whom(["a"], None).given == "id=a"
    assert Whom(["a", "b"], None).given == "id in (a,b)"
    assert Whom(None, "").given == ""
    assert Whom([], None).given is None


def test_many_names_are_cut_short() -> None:
    assert some(["a", "b"]) == "a, b"
    assert some([str(number) for number in range(12)]).endswith("7 and 4 more")


def test_a_moment_is_read_as_an_age_or_a_date() -> None:
    assert moment_of(None) is None
    assert moment_of("2026-01-01T12:00:00+00:00") == NOON
    age = moment_of("2h")
    assert age
    assert timedelta(0) <= datetime.now(UTC) - age - timedelta(hours=2) < timedelta(minutes=1)
    for wrong in ("soon", "2026-13-01", "-5m"):
        with pytest.raises(Exception, match="cannot read"):
            moment_of(wrong)


async def test_bytes_become_lines_wherever_they_were_cut() -> None:
    data = "eins\r\nzwölf\n\xff€".encode() + b"\xff"

    async def pieces(size: int) -> AsyncIterator[bytes]:
        for start in range(0, len(data), size):
            yield data[start : start + size]

    for size in range(1, len(data) + 1):
        assert [one async for one in lines_of(pieces(size))] == ["eins", "zwölf", "\xff€\\xff"]
