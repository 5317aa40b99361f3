"""The doctor: what is wrong is found by name, with what to do about it."""

import os
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest

from muster_client.embedded import binaries, checkup_machine, doctor
from muster_client.embedded.errors import CannotStart
from muster_client.embedded.finding import Finding
from muster_client.embedded.layout import Layout
from muster_client.embedded.processes import Process
from muster_client.embedded.record import Entry, Phase, Record, State, write
from muster_client.outputs import CheckResult, Health


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout.at(tmp_path / "fleet")
    made.create()
    return made


async def look(layout: Layout) -> dict[str, CheckResult]:
    return {check.name: check for check in (await doctor.examine(layout)).checks}


async def test_a_machine_where_nothing_was_started_is_well_and_told_how_to_start(tmp_path: Path) -> None:
    found = await doctor.examine(Layout.at(tmp_path / "none"))
    assert found.verdict is Health.WARN
    assert [check.name for check in found.checks if check.verdict is not Health.OK] == ["fleet"]
    assert found.checks[-1].advice == "start it with muster up"


async def test_every_check_that_is_not_well_says_what_to_do(layout: Layout) -> None:
    write(layout, Record(Phase.READY, None, entries=(Entry("nats", State.RUNNING, process=Process.me()),)))
    found = await look(layout)
    assert set(found) == set(doctor.names())
    assert found["processes"].verdict is Health.FAIL
    assert all(check.advice for check in found.values() if check.verdict is not Health.OK)
    assert not [check.name for check in found.values() if check.verdict is Health.OK and check.advice]


async def test_the_reason_of_the_last_failure_is_told(layout: Layout) -> None:
    write(layout, Record(Phase.FAILED, problem="cannot start nats: exited with 1; the end of x.log:\n  much"))
    assert (await look(layout))["fleet"].text.endswith(
        "the last start failed: cannot start nats: exited with 1"
    )


async def test_a_key_others_may_read_is_named_with_the_command_that_mends_it(layout: Layout) -> None:
    key = layout.seed("operator")
    key.write_text("SU…")
    key.chmod(0o640)
    found = (await look(layout))["keys"]
    assert found.verdict is Health.FAIL
    assert found.advice == f"chmod go-rwx {key}"
    assert "SU" not in found.text
    key.chmod(0o600)
    assert (await look(layout))["keys"].verdict is Health.OK
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


@pytest.mark.parametrize(("free", "verdict"), [(100 << 20, "fail"), (1 << 30, "warn"), (100 << 30, "ok")])
async def test_a_disk_is_judged_by_what_is_free(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, free: int, verdict: str
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(free * 2, free, free))
    assert (await look(layout))["disk"].verdict == verdict


@pytest.mark.parametrize(("limit", "verdict"), [(1024, "warn"), (65536, "ok"), (-1, "ok")])
async def test_a_limit_on_open_files_is_judged(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, limit: int, verdict: str
) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (limit, limit))
    assert (await look(layout))["open-files"].verdict == verdict


async def test_a_clock_that_was_set_back_is_noticed(layout: Layout) -> None:
    write(layout, Record())
    ahead = datetime.now(UTC).timestamp() + 3600
    os.utime(layout.state, (ahead, ahead))
    assert (await look(layout))["clock"].verdict is Health.WARN


async def test_a_server_that_does_not_run_here_is_a_finding(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> Path:
        raise CannotStart("cannot start nats: there is no nats-server")

    monkeypatch.setattr(binaries, "nats_server", missing)
    found = await doctor.examine(layout)
    assert found.verdict is Health.FAIL
    assert [check.name for check in found.checks if check.verdict is Health.FAIL] == ["nats-server"]


async def test_a_check_that_breaks_is_a_finding_and_the_others_go_on(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Layout) -> Finding:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(checkup_machine, "CHECKS", {**checkup_machine.CHECKS, "disk": broken})
    found = await look(layout)
    assert found["disk"].verdict is Health.FAIL
    assert found["disk"].text == "ZeroDivisionError: oops"
    assert found["clock"].verdict is Health.OK
