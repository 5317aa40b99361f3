"""Scripts: what they print arrives, how they end is told, and nothing of them is left."""

import asyncio
import pwd
from functools import partial
from pathlib import Path

import pytest

from host_agent.adapters.script_runner import SessionRunner
from host_agent.ports import CannotRun, Task
from muster_testing.wait import until


class Paper:
    """What a script printed."""

    def __init__(self) -> None:
        self.text = b""

    async def write(self, chunk: bytes) -> None:
        self.text += chunk


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and not yet buried does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False


async def run(tmp_path: Path, *argv: str, user: str | None = None) -> tuple[int, bytes]:
    paper = Paper()
    code = await SessionRunner().run(Task(argv, tmp_path, user, {"A": "1"}), paper.write)
    return code, paper.text


async def test_output_of_any_size_and_the_exit_code_arrive(tmp_path: Path) -> None:
    code, text = await run(tmp_path, "sh", "-c", "head -c 1000000 /dev/zero; echo done >&2; exit 7")
    assert (code, len(text)) == (7, 1_000_005)


async def test_a_signal_is_told_as_a_negative_number(tmp_path: Path) -> None:
    assert (await run(tmp_path, "sh", "-c", "kill -9 $$"))[0] == -9


async def test_nothing_of_the_agents_environment_is_inherited(tmp_path: Path) -> None:
    _, text = await run(tmp_path, "env")
    names = {line.partition(b"=")[0] for line in text.splitlines()}
    assert names == {b"A", b"PATH", b"MUSTER_RUN"}


async def test_what_cannot_be_executed_is_named(tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match="cannot run /no/such: there is no program /no/such") as refused:
        await run(tmp_path, "/no/such")
    assert refused.value.reason == "no-executable"
    with pytest.raises(CannotRun, match="there is no user nobody-like-that") as refused:
        await run(tmp_path, "true", user="nobody-like-that")
    assert refused.value.reason == "no-user"


@pytest.mark.needs("root")
async def test_another_user_is_taken_on_completely(tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    paper = Paper()
    await SessionRunner().run(Task(("id",), Path("/"), "nobody"), paper.write)
    assert f"uid={nobody.pw_uid}(nobody) gid={nobody.pw_gid}" in paper.text.decode()
    assert b"root" not in paper.text


@pytest.mark.needs("ordinary-user")
async def test_another_user_is_refused_to_an_ordinary_one(tmp_path: Path) -> None:
    with pytest.raises(CannotRun) as refused:
        await run(tmp_path, "true", user="root")
    assert refused.value.reason == "not-permitted"


async def test_a_cancelled_script_is_ended_with_all_its_children(tmp_path: Path) -> None:
    script = "sleep 600 & echo $! > a; (sleep 600 & echo $! > b; wait) & wait"
    task = asyncio.create_task(run(tmp_path, "sh", "-c", script))
    pids = [await until(partial(_number, tmp_path / file)) for file in ("a", "b")]
    assert all(map(alive, pids))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: not any(map(alive, pids)))


@pytest.mark.parametrize(
    "escape", ["setsid sleep 600 & echo $! > a", "(setsid sh -c 'echo $$ > a; sleep 600' &)"]
)
async def test_a_cancelled_script_is_ended_with_all_who_escaped(tmp_path: Path, escape: str) -> None:
    task = asyncio.create_task(run(tmp_path, "sh", "-c", f"{escape}; sleep 600"))
    pid = await until(partial(_number, tmp_path / "a"))
    assert alive(pid)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not alive(pid)


async def test_a_script_called_off_at_once_leaves_nothing(tmp_path: Path) -> None:
    for seconds in (0.0, 0.001, 0.003, 0.01):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(seconds):
                await run(tmp_path, "sh", "-c", "echo $$ >> a; sleep 600")
    pids = [int(pid) for pid in (tmp_path / "a").read_text().split()] if (tmp_path / "a").exists() else []
    assert not any(map(alive, pids))


async def test_a_child_left_behind_holds_nobody_up_and_is_ended(tmp_path: Path) -> None:
    code, _ = await run(tmp_path, "sh", "-c", "sleep 600 & echo $! > a")
    assert code == 0
    pid = int((tmp_path / "a").read_text())
    await until(lambda: not alive(pid))


async def test_output_that_cannot_be_kept_ends_the_script(tmp_path: Path) -> None:
    async def refuse(chunk: bytes) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        await SessionRunner().run(Task(("sh", "-c", "echo $$ > a; yes"), tmp_path), refuse)
    pid = int((tmp_path / "a").read_text())
    await until(lambda: not alive(pid))


def _number(path: Path) -> int:
    return int(path.read_text().strip() or 0) if path.exists() else 0
