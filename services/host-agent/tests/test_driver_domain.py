"""What systemctl and the engine say, and what it means."""

import pytest

from host_agent.domain.container import Container, entries, first_page, stamp
from host_agent.domain.package import Exit
from host_agent.domain.unit import Unit


def unit(**shown: str) -> Unit:
    return Unit.parse("\n".join(f"{name}={value}" for name, value in shown.items()))


def container(code: int, **state: object) -> Container:
    known = {"Running": False, "Paused": False, "Pid": 0, "StartedAt": "2026-11-25T19:13:45.735962595Z"}
    return Container.parse(
        {"Id": "c0ffee", "State": {**known, "ExitCode": code, **state}, "Config": {"Labels": None}}
    )


@pytest.mark.parametrize(
    ("active", "sub", "pid", "goes_on"),
    [
        ("active", "running", "7", True),
        ("active", "exited", "0", True),
        ("activating", "start", "7", True),
        ("activating", "auto-restart", "0", False),
        ("deactivating", "stop-sigterm", "7", True),
        ("deactivating", "stop-post", "0", False),
        ("inactive", "dead", "0", False),
        ("failed", "failed", "0", False),
    ],
)
def test_a_unit_that_waits_to_be_restarted_does_not_run(
    active: str, sub: str, pid: str, *, goes_on: bool
) -> None:
    assert unit(ActiveState=active, SubState=sub, MainPID=pid).goes_on is goes_on


@pytest.mark.parametrize(
    ("code", "status", "result", "told"),
    [
        ("1", "0", "success", 0),
        ("1", "3", "exit-code", 3),
        ("2", "9", "signal", -9),
        ("3", "11", "core-dump", -11),
        ("0", "0", "success", 0),
        ("0", "0", "resources", None),
    ],
)
def test_a_unit_tells_a_code_a_signal_or_that_it_was_well(
    code: str, status: str, result: str, told: int | None
) -> None:
    assert unit(ExecMainCode=code, ExecMainStatus=status, Result=result).exit == Exit(told)


def test_what_systemd_does_not_account_for_is_unknown_and_not_zero() -> None:
    one = unit(MemoryCurrent="18446744073709551615", CPUUsageNSec="[not set]")
    assert (one.memory_bytes, one.cpu_seconds) == (None, None)
    assert unit(CPUUsageNSec="1500000000").cpu_seconds == 1.5


@pytest.mark.parametrize(("status", "reason"), [("203", "no-executable"), ("217", "no-user"), ("3", None)])
def test_a_unit_whose_program_never_began_says_why(status: str, reason: str | None) -> None:
    begun = unit(ActiveState="failed", ExecMainCode="1", ExecMainStatus=status).could_not_begin
    assert (begun and begun[0]) == reason


@pytest.mark.parametrize(("code", "told"), [(0, 0), (3, 3), (127, 127), (137, -9), (143, -15), (255, 255)])
def test_a_container_killed_by_a_signal_is_told_from_one_that_failed(code: int, told: int) -> None:
    assert container(code).exit == Exit(told)


def test_a_container_without_our_labels_has_no_run_and_no_digest() -> None:
    assert (container(0).run, container(0).digest) == ("", "")


def test_stamps_are_microseconds_however_many_digits_the_engine_prints() -> None:
    assert stamp("1970-01-01T00:00:02.000003999Z") == 2_000_003
    assert stamp("1970-01-01T00:00:02.5Z") == 2_500_000
    assert stamp("1970-01-01T00:00:02Z") == 2_000_000


def test_a_long_line_that_comes_in_pieces_is_one_line() -> None:
    first, second = b"1970-01-01T00:00:01.0Z ", b"1970-01-01T00:00:02.0Z "
    frames = [first + b"be", second + b"gun\n", second + b"end\n", second + b"open"]
    assert list(entries(frames)) == [(1_000_000, "begun"), (2_000_000, "end"), (2_000_000, "open")]


LOG = [(1, "a"), (2, "b"), (2, "c"), (2, "d"), (3, "e")]


@pytest.mark.parametrize("lines", [1, 2, 3, 4, 5, 9])
def test_pages_of_any_size_give_every_line_once_also_those_of_one_moment(lines: int) -> None:
    read, offset, more = [], 0, True
    while more:
        page, more = first_page(LOG, lines, offset)
        read += page
        offset = page[-1][0]
    assert read == LOG


def test_a_page_with_room_for_nothing_says_whether_there_is_something() -> None:
    assert first_page(LOG, 0, 2) == ([], True)
    assert first_page(LOG, 0, 3) == ([], False)
