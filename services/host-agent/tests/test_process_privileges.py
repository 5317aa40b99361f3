"""A package becomes its user in every respect, and gets nothing of the agent's."""

import asyncio
import grp
import os
import pwd
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from driver_grounds import ProcessGround

from host_agent.adapters import process_tree, spawning
from host_agent.ports import CannotRun
from muster_testing.wait import until

FOREVER = "while :; do sleep 0.1; done"
USER = "nobody"
CANARY = "canary-5d2e"


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncGenerator[ProcessGround]:
    made = ProcessGround(tmp_path)
    yield made
    await made.clean_up()


def variables(pid: int) -> dict[str, str]:
    """The environment of a process."""
    text = Path(f"/proc/{pid}/environ").read_text()
    return dict(line.split("=", 1) for line in text.split("\0") if line)


def descriptors(pid: int) -> dict[int, str]:
    """What a process has open."""
    return {int(link.name): str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()}


def files_with(text: str, directory: Path) -> list[str]:
    """The files that hold a text."""
    return [file.name for file in directory.rglob("*") if file.is_file() and text in file.read_text()]


async def begun(ground: ProcessGround, script: str = FOREVER, **more: Any) -> int:
    """The pid of a package that has executed its program."""
    run = await ground.driver().start(ground.package(script, **more))
    assert run.pid
    return run.pid


@pytest.mark.needs("root")
async def test_all_four_ids_groups_and_capabilities_are_the_users(ground: ProcessGround) -> None:
    told = process_tree.identities(await begun(ground, user=USER))
    who = pwd.getpwnam(USER)
    assert told["Uid"] == [str(who.pw_uid)] * 4
    assert told["Gid"] == [str(who.pw_gid)] * 4
    assert sorted(map(int, told["Groups"])) == sorted(set(os.getgrouplist(USER, who.pw_gid)))
    assert {told[name][0] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}
    assert told["NoNewPrivs"] == ["1"]


@pytest.mark.needs("root")
async def test_a_group_of_its_own_choice_takes_the_place_of_the_users(ground: ProcessGround) -> None:
    told = process_tree.identities(await begun(ground, user=USER, group="daemon"))
    assert told["Gid"] == [str(grp.getgrnam("daemon").gr_gid)] * 4


async def test_privileges_cannot_be_gained_and_no_signal_is_blocked_or_ignored(ground: ProcessGround) -> None:
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    try:
        told = process_tree.identities(await begun(ground, "exec sleep 1000"))
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR2])
        signal.signal(signal.SIGUSR1, before)
    assert told["NoNewPrivs"] == ["1"]
    # Signals 32 and 33 are the C library's own: whoever runs the tests may ignore them, and nobody can tell.
    assert [int(told[name][0], 16) & ~(0b11 << 31) for name in ("SigBlk", "SigIgn")] == [0, 0]


async def test_descriptors_of_the_agent_are_closed(ground: ProcessGround, tmp_path: Path) -> None:
    handle = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(handle, True)  # noqa: FBT003
    try:
        pid = await begun(ground, "exec sleep 1000")
    finally:
        os.close(handle)
    await until(lambda: process_tree.identities(pid)["Name"] == ["sleep"])
    open_ones = descriptors(pid)
    assert set(open_ones) == {0, 1, 2}
    assert open_ones[0] == "/dev/null"
    assert open_ones[1] == open_ones[2]
    assert open_ones[1].endswith(".log")


async def test_it_leads_a_session_and_a_group_of_its_own(ground: ProcessGround) -> None:
    pid = await begun(ground)
    assert (os.getsid(pid), os.getpgid(pid)) == (pid, pid)


async def test_no_variable_of_the_agent_is_inherited(
    ground: ProcessGround, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOST_AGENT_SECRET", CANARY)
    (tmp_path / "secret").write_text("s3cret\n")
    (tmp_path / "more.env").write_text("A=1\nB=2\n")
    pid = await begun(
        ground, "exec sleep 1000",
        environment={"B": "3"}, environment_files=[str(tmp_path / "more.env")],
        secrets={"KEY": {"file": str(tmp_path / "secret")}},
    )  # fmt: skip
    found = await until(lambda: variables(pid))  # for a moment of its exec it has none
    assert set(found) == {
        "PATH", "LANG", "HOME", "USER", "LOGNAME", "SHELL", "MUSTER_PACKAGE", "MUSTER_RUN", "A", "B", "KEY",
    } | ({"PWD"} & set(found))  # fmt: skip
    assert (found["A"], found["B"], found["KEY"]) == ("1", "3", "s3cret")
    assert CANARY not in str(found)
    assert files_with("s3cret", tmp_path) == ["secret"]


@pytest.mark.needs("root")
async def test_its_log_is_for_the_user_and_the_agent_alone(ground: ProcessGround, tmp_path: Path) -> None:
    package = ground.package(FOREVER, user=USER)
    driver = ground.driver()
    await driver.start(package)
    status = driver.log_file(package).stat()
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (pwd.getpwnam(USER).pw_uid, 0o600)
    assert stat.S_IMODE((tmp_path / "state" / "runs").stat().st_mode) == 0o700


async def test_its_umask_is_set(ground: ProcessGround, tmp_path: Path) -> None:
    await begun(ground, f"touch {tmp_path}/made; {FOREVER}", umask="027")
    await until((tmp_path / "made").exists)
    assert stat.S_IMODE((tmp_path / "made").stat().st_mode) == 0o640


@pytest.mark.needs("root")
async def test_a_user_without_a_shell_is_a_user(
    ground: ProcessGround, monkeypatch: pytest.MonkeyPatch
) -> None:
    who = list(pwd.getpwnam(USER))
    who[6] = ""
    monkeypatch.setattr(pwd, "getpwnam", lambda _: pwd.struct_passwd(who))
    pid = await begun(ground, user=USER)
    assert process_tree.identities(pid)["Uid"] == [str(who[2])] * 4
    assert "SHELL" not in variables(pid)


@pytest.mark.parametrize(
    ("more", "reason", "text"),
    [
        ({"user": "no-such-user"}, "no-user", "no user no-such-user"),
        ({"user": "root", "group": "no-such-group"}, "no-user", "no group no-such-group"),
        ({"directory": "/no/such/place"}, "no-directory", "no directory /no/such/place"),
        ({"command": ["./none"]}, "no-executable", "no program .*/none"),
        ({"command": ["no-such-program"]}, "no-executable", "no-such-program on PATH"),
        ({"command": ["/etc/hostname"]}, "no-executable", "/etc/hostname cannot be executed"),
        ({"environment_files": ["none.env"]}, "no-environment", "none.env"),
        ({"secrets": {"KEY": {"file": "none.key"}}}, "no-secret", "none.key"),
    ],
)
async def test_what_is_missing_is_named_and_nothing_is_left(
    ground: ProcessGround, more: dict[str, Any], reason: str, text: str
) -> None:
    package = ground.package(FOREVER, **more)
    with pytest.raises(CannotRun, match=text) as refused:
        await ground.driver().start(package)
    assert refused.value.reason == reason
    assert str(refused.value).startswith(f"cannot start package {package.name}")
    assert ground.traces(package) == ""


@pytest.mark.needs("root")
async def test_a_process_that_did_not_become_its_user_is_killed(
    ground: ProcessGround, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def other(pid: int) -> dict[str, list[str]]:
        seen.append(pid)
        return process_tree.identities(pid) | {"Groups": ["0"]}

    monkeypatch.setattr(spawning, "identities", other)
    package = ground.package(FOREVER, user=USER)
    with pytest.raises(CannotRun, match="did not become user nobody") as refused:
        await ground.driver().start(package)
    assert refused.value.reason == "not-permitted"
    assert process_tree.look(seen[0]) is None
    assert ground.traces(package) == ""


ORDINARY = """
import os
from host_agent.adapters.spawning import identity
from host_agent.ports import CannotRun
os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    identity("start package web", "root")
except CannotRun as error:
    print(error.reason, error)
"""


@pytest.mark.needs("root")
async def test_who_is_not_root_is_told_that_another_user_needs_it() -> None:
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", ORDINARY], capture_output=True, text=True, check=False
    )
    expected = (
        "not-permitted cannot start package web as user root: the agent is not root; "
        "run it as root, or as root"
    )
    assert done.stdout.strip() == expected
