"""Looks by scripts: what they say is told, what they hold is hidden, and nothing of them is left."""

import asyncio
import os
import pwd
from pathlib import Path
from typing import Any

import pytest
from looks_ground import check, context, descriptors, loaded, seen

from host_agent.adapters.looks import make_look, script, secrecy
from host_agent.domain.look import Seen
from host_agent.domain.package import Loaded
from muster_contracts.health.v1 import LONGEST_TEXT, Health
from muster_contracts.package.specification import Specification
from muster_testing.wait import until


async def ran(tmp_path: Path, text: str, package: dict[str, Any] | None = None, **more: Any) -> Seen:
    """What is seen by a shell script of a package."""
    spec = Specification.model_validate({"name": "web", "command": ["true"]} | (package or {}))
    what = check("script", command=["sh", "-c", text], **more)
    return await make_look(what, context(Loaded(spec, tmp_path / "package.json", ""))).look()


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and not yet buried does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False


def number_in(path: Path) -> int:
    return int(path.read_text().strip() or 0) if path.exists() else 0


@pytest.mark.parametrize(
    ("code", "found"),
    [
        (0, Seen(Health.OK, "ok", "all is said")),
        (1, Seen(Health.WARNING, "exit", "all is said")),
        (2, Seen(Health.CRITICAL, "exit", "all is said")),
        (
            3,
            Seen(
                Health.UNKNOWN,
                "exit",
                "cannot judge: it ended with exit code 3, which says nothing; all is said",
            ),
        ),
    ],
)
async def test_the_exit_code_tells_how_and_the_output_why(tmp_path: Path, code: int, found: Seen) -> None:
    assert await ran(tmp_path, f"echo all is; echo said >&2; exit {code}") == found


async def test_a_script_that_says_nothing_is_told_by_its_code(tmp_path: Path) -> None:
    assert (await ran(tmp_path, "exit 0")).text == "exit code 0"
    assert (await ran(tmp_path, "exit 2")).text == "exit code 2"
    killed = await ran(tmp_path, "kill -9 $$")
    assert (killed.health, killed.reason) == (Health.UNKNOWN, "exit")
    assert "signal 9" in killed.text


async def test_what_cannot_be_run_is_unknown_and_named(tmp_path: Path) -> None:
    found = await seen(tmp_path, "script", command=["/no/such"])
    assert (found.health, found.reason) == (Health.UNKNOWN, "no-executable")
    assert found.text == "cannot run /no/such: there is no program /no/such"
    found = await ran(tmp_path, "true", directory="nowhere")
    assert (found.health, found.reason) == (Health.UNKNOWN, "no-directory")
    found = await seen(tmp_path, "script", command=["true"], user="nobody-like-that")
    assert (found.health, found.reason) == (Health.UNKNOWN, "no-user")


async def test_a_script_runs_where_the_package_does_with_its_own_variables_alone(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    me = pwd.getpwuid(os.geteuid())
    found = await ran(
        tmp_path,
        "pwd; env | sed 's/=.*//' | sort",
        {"directory": "work", "environment": {"OF_THE_PACKAGE": "1"}},
        environment={"OF_THE_CHECK": "1"},
    )
    place, *names = found.text.split()
    assert place == str(tmp_path / "work")
    assert set(names) - {"PWD", "SHLVL", "_", "OLDPWD"} == {
        *("HOME", "LANG", "LOGNAME", "MUSTER_RUN", "OF_THE_CHECK", "PATH", "USER"),
        *({"SHELL"} if me.pw_shell else ()),
    }


async def test_a_script_lies_below_the_directory_of_package_json(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    file = tmp_path / "checks" / "it"
    file.parent.mkdir()
    file.write_text("#!/bin/sh\npwd\n")
    file.chmod(0o755)
    found = await make_look(
        check("script", command=["checks/it"], directory="work"), context(loaded(tmp_path))
    ).look()
    assert found.text == str(tmp_path / "work")


async def test_of_a_container_neither_user_nor_directory_are_taken(tmp_path: Path) -> None:
    package = {"driver": "docker", "image": "any", "user": "inside", "directory": "/inside"}
    found = await ran(tmp_path, "pwd", package)
    assert (found.health, found.text) == (Health.OK, str(tmp_path))


@pytest.mark.needs("root")
@pytest.mark.parametrize(
    ("package", "more"),
    [({"user": "nobody"}, {}), ({}, {"user": "nobody"}), ({"user": "root"}, {"user": "nobody"})],
)
async def test_a_script_is_its_user_in_every_respect(
    tmp_path: Path, package: dict[str, Any], more: dict[str, Any]
) -> None:
    nobody = pwd.getpwnam("nobody")
    script = "id; id -G; grep -E 'CapEff|NoNewPrivs' /proc/self/status; echo $HOME $USER"
    found = await ran(tmp_path, script, package, directory="/", **more)
    assert found.text.startswith(f"uid={nobody.pw_uid}(nobody) gid={nobody.pw_gid}")
    assert "root" not in found.text
    assert f"{nobody.pw_gid} CapEff: 0000000000000000 NoNewPrivs: 1 {nobody.pw_dir} nobody" in found.text


@pytest.mark.needs("root")
async def test_a_script_may_have_a_group_of_its_own(tmp_path: Path) -> None:
    found = await ran(tmp_path, "id -gn; id -un", {"user": "nobody"}, directory="/", group="daemon")
    assert found.text == "daemon nobody"


# Output ------------------------------------------------------------------------------------------------


async def test_output_is_cut_to_one_line_that_may_be_shown(tmp_path: Path) -> None:
    found = await ran(tmp_path, r"printf 'a\tb\n\n\033[31mred\0 \377'; yes many | head -c 10000; exit 1")
    assert found.text.startswith("a b [31mred �many many")
    assert len(found.text) == LONGEST_TEXT
    assert found.text.endswith("…")
    assert found.text.isprintable()


async def test_a_script_that_prints_without_end_is_killed_soon(tmp_path: Path) -> None:
    before = descriptors()
    found = await ran(tmp_path, "echo $$ > pid; yes", directory=".")
    assert (found.health, found.reason) == (Health.UNKNOWN, "output")
    assert found.text == "cannot judge: it was killed after 1 MiB of output; have it print less"
    assert not alive(number_in(tmp_path / "pid"))
    await until(lambda: descriptors() <= before)


async def test_without_that_bound_it_would_be_read_until_its_time_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "MOST_BYTES", 1 << 60)
    found = await ran(tmp_path, "yes", timeout_seconds=0.5)
    assert found.reason == "timeout"


SECRET = "correct horse battery"


def secretive(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "password").write_text(f"{SECRET}\n")
    (tmp_path / "key.pem").write_text("-----BEGIN KEY-----\nMIIEvQIBADANBg\n-----END KEY-----\n")
    (tmp_path / "variables").write_text("DB_PASSWORD=of-the-file\nCOLOUR=green\n")
    return {
        "secrets": {"PASSPHRASE": {"file": "password"}, "KEY": {"file": "key.pem"}},
        "environment_files": ["variables"],
        "environment": {"API_TOKEN": "of-the-package", "MODE": "plain", "PIN_SECRET": "1"},
    }


async def test_the_secrets_of_a_package_are_hidden_in_what_its_script_says(tmp_path: Path) -> None:
    package = secretive(tmp_path)
    text = (
        f"echo '{SECRET}'; echo of-the-file of-the-package of-the-check green plain 11; cat key.pem; exit 2"
    )
    text += "; echo http://u:pw@host/"
    found = await ran(
        tmp_path,
        "echo http://u:hunter2@host/; " + text,
        package,
        directory=".",
        environment={"PASSWORD": "of-the-check"},
    )
    assert found.health is Health.CRITICAL
    for secret in (SECRET, "of-the-file", "of-the-package", "of-the-check", "MIIEvQIBADANBg", "hunter2"):
        assert secret not in found.text
    assert "[redacted] [redacted] [redacted] green plain 11" in found.text


async def test_without_that_they_would_be_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrecy, "_hidden", lambda text, secrets: text)
    found = await ran(tmp_path, "cat password", secretive(tmp_path), directory=".")
    assert SECRET in found.text


async def test_nothing_is_shown_where_secrets_cannot_be_read(tmp_path: Path) -> None:
    found = await ran(tmp_path, "echo boo; exit 2", {"secrets": {"PASSPHRASE": {"file": "gone"}}})
    assert (found.health, found.reason) == (Health.CRITICAL, "exit")
    assert found.text == (
        "(not shown: a file of the package's secrets cannot be read, so they could not be hidden)"
    )


# The end -----------------------------------------------------------------------------------------------

STUBBORN = "trap '' TERM INT HUP; echo $$ > main; "
CHILDREN = {
    "child": "sh -c 'echo $$ > other; sleep 600; sleep 600' & ",
    "double-fork": "(setsid sh -c 'echo $$ > other; sleep 600; sleep 600' &); ",
    "unmarked": "(unset MUSTER_RUN; sh -c 'echo $$ > other; sleep 600; sleep 600' &); ",
}
STAY = "sleep 600; sleep 600"
LEAVE = "while [ ! -s other ]; do sleep 0.01; done"


def gone(tmp_path: Path) -> bool:
    """Whether neither the script nor its child is there, not even as a zombie."""
    pids = [number_in(tmp_path / name) for name in ("main", "other")]
    assert all(pids)
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.mark.parametrize("child", CHILDREN)
async def test_a_script_that_takes_too_long_is_killed_and_buried_with_its_tree(
    tmp_path: Path, child: str
) -> None:
    before = descriptors()
    found = await ran(tmp_path, STUBBORN + CHILDREN[child] + STAY, directory=".", timeout_seconds=1.0)
    assert (found.health, found.reason) == (Health.CRITICAL, "timeout")
    assert found.text == "not done within 1 s, while waiting for its end; it was killed"
    assert gone(tmp_path)
    assert descriptors() <= before


@pytest.mark.parametrize("child", CHILDREN)
async def test_what_a_script_leaves_behind_is_killed_and_buried(tmp_path: Path, child: str) -> None:
    found = await ran(tmp_path, STUBBORN + CHILDREN[child] + LEAVE, directory=".")
    assert found.health is Health.OK
    assert gone(tmp_path)


async def test_a_look_that_is_called_off_leaves_nothing(tmp_path: Path) -> None:
    before = descriptors()
    look = asyncio.create_task(ran(tmp_path, STUBBORN + CHILDREN["double-fork"] + STAY, directory="."))
    await until(lambda: number_in(tmp_path / "other"))
    look.cancel()
    with pytest.raises(asyncio.CancelledError):
        await look
    assert gone(tmp_path)
    await until(lambda: descriptors() <= before)


async def test_a_child_that_ends_by_itself_is_buried(tmp_path: Path) -> None:
    for _ in range(3):
        (tmp_path / "other").unlink(missing_ok=True)
        await ran(tmp_path, STUBBORN + "(sh -c 'echo $$ > other' &); " + LEAVE, directory=".")
        assert gone(tmp_path)
