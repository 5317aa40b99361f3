"""What is wrong with a package.json is said by file and key, and disturbs nothing else."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from packages_ground import Machine, settle

from host_agent.adapters.good_files import GoodFiles
from host_agent.adapters.package_files import LARGEST_BYTES, WatchedPackageFiles
from host_agent.domain.specifying import RESTARTS_FOR, name_for
from host_agent.ports import Described
from muster_contracts.package.specification import Specification
from muster_contracts.package.v1 import PackageState

S = PackageState


class Directory:
    """A directory of packages on a real disk."""

    def __init__(self, root: Path, *, as_root: bool = False) -> None:
        self.root = root
        root.chmod(0o755)
        self.as_root = as_root
        self.next_agent()
        self.last: Mapping[str, Described] = {}

    def next_agent(self) -> None:
        """Look as an agent does that knows only what the one before has kept."""
        memory = GoodFiles(self.root / ".state")
        self.files = WatchedPackageFiles([self.root], memory, as_root=self.as_root)

    def file(self, directory: str) -> Path:
        return self.root / directory / "package.json"

    def write(self, directory: str, content: str | bytes | dict[str, Any]) -> Path:
        """Write a package.json as an editor does: beside it, then in its place."""
        file = self.file(directory)
        file.parent.mkdir(exist_ok=True)
        raw = json.dumps(content) if isinstance(content, dict) else content
        beside = file.with_name(".new")
        beside.write_bytes(raw.encode() if isinstance(raw, str) else raw)
        beside.replace(file)
        return file

    def good(self, name: str, directory: str = "", **keys: Any) -> Path:
        return self.write(directory or name, {"name": name, "command": ["run"], **keys})

    def look(self) -> Mapping[str, Described]:
        found = self.files.look()
        self.last = self.last if found is None else found
        return self.last

    def problem(self, name: str) -> str | None:
        return self.look()[name].problem


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return Directory(tmp_path)


MISTAKES: dict[str, tuple[str | bytes | dict[str, Any], str]] = {
    "broken JSON": ('{"name": "web",\n  "command": [run]}', "line 2, column 15: expecting value"),
    "JSON that ends early": ('{"name": "web"', "line 1, column 15: expecting ',' delimiter"),
    "nothing": ("", "line 1, column 1: expecting value"),
    "a list": ("[]", 'it is no object; give {"name": …}'),
    "bytes that are no text": (b'{"name": "\xff"}', "byte 11 is not UTF-8"),
    "a key twice": ('{"name": "web", "name": "api"}', "key 'name' is given twice"),
    "no number of JSON": ('{"name": "web", "ready": {"after_seconds": NaN}}', "NaN is no number of JSON"),
    "too deep": ("[" * 100_000, "it is nested too deeply"),
    "a number of many digits": ('{"name": ' + "1" * 5000 + "}", "Exceeds the limit"),
    "an unknown key": (
        {"name": "web", "comand": ["run"], "command": ["x"]},
        "key 'comand': is unknown, did you mean 'command'?",
    ),
    "an unknown key inside": (
        {"name": "web", "command": ["x"], "restart": {"delay": 1}},
        "key 'restart.delay': is unknown, did you mean 'delay_seconds'?",
    ),
    "an unknown key like no other": (
        {"name": "web", "command": ["x"], "stop": {"zzz": 1}},
        "key 'stop.zzz': is unknown, give one of signal, timeout_seconds",
    ),
    "an unknown key of a configuration file": (
        {"name": "web", "command": ["x"], "configuration": {"a": {"path": "a", "mod": "0600"}}},
        "key 'configuration.a.mod': is unknown, did you mean 'mode'?",
    ),
    "an unknown key of a check": (
        {
            "name": "web",
            "command": ["x"],
            "checks": [{"name": "c", "check": {"kind": "tcp", "prt": 1, "port": 1}}],
        },
        "key 'checks.0.check.tcp.prt': is unknown, did you mean 'port'?",
    ),
    "two checks of one name": (
        {"name": "web", "command": ["x"], "checks": [{"name": "c", "check": {"kind": "process"}}] * 2},
        "key 'checks.1.name': 'c' is the name of an earlier check, too",
    ),
    "a native check of a process": (
        {"name": "web", "command": ["x"], "checks": [{"name": "c", "check": {"kind": "native"}}]},
        "key 'checks.0.check.kind': 'native': the driver process cannot tell",
    ),
    "a pattern that is none": (
        {
            "name": "web",
            "command": ["x"],
            "checks": [{"name": "c", "check": {"kind": "http", "url": "http://x", "body_matches": "(a"}}],
        },
        "key 'checks.0.check.http.body_matches': cannot use body_matches '(a': missing ): (a (RE2 syntax)",
    ),
    "a check of no known kind": (
        {"name": "web", "command": ["x"], "checks": [{"name": "c", "check": {"kind": "ping"}}]},
        "key 'checks.0.check': input tag 'ping' found using 'kind' does not match any of the expected tags",
    ),
    "a period of nothing": (
        {
            "name": "web",
            "command": ["x"],
            "checks": [{"name": "c", "check": {"kind": "process"}, "every_seconds": 0}],
        },
        "key 'checks.0.every_seconds': '0': input should be greater than or equal to 0.1",
    ),
    "no such signal": (
        {"name": "web", "command": ["x"], "stop": {"signal": "SIGTERM"}},
        "key 'stop.signal': 'SIGTERM': input should be 'HUP', 'INT',",
    ),
    "a name that is none": (
        {"name": "Web Server", "command": ["x"]},
        "key 'name': 'Web Server': string should match pattern",
    ),
    "no name": ({"command": ["x"]}, "key 'name': is missing"),
    "a number as text": (
        {"name": "web", "command": ["x"], "ready": {"tcp_port": "80"}},
        "key 'ready.tcp_port': '80': input should be a valid integer",
    ),
    "no program": ({"name": "web"}, "key 'command': the driver process needs the program to run"),
    "no unit": ({"name": "web", "driver": "systemd"}, "key 'unit': the driver systemd needs the unit"),
    "no image": ({"name": "web", "driver": "docker"}, "key 'image': the driver docker needs the image"),
    "a circle of one": (
        {"name": "web", "command": ["x"], "depends_on": ["web"]},
        "key 'depends_on': web cannot depend on itself",
    ),
    "a way out": (
        {"name": "web", "command": ["x"], "configuration": {"a": {"path": "../../etc/passwd"}}},
        "key 'configuration.a.path': '../../etc/passwd': it leads out of the directory of package.json",
    ),
    "several mistakes": (
        {"name": "web", "command": ["x"], "x1": 1, "x2": 1, "x3": 1, "x4": 1, "x5": 1, "x6": 1, "x7": 1},
        "; and 2 more",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_said_by_file_and_place(directory: Directory, mistake: str) -> None:
    content, problem = MISTAKES[mistake]
    file = directory.write("web", content)
    directory.good("other")
    found = directory.look()
    assert found["web"].problem is not None
    assert found["web"].problem.startswith(f"cannot use {file}: ")
    assert problem in found["web"].problem
    assert len(found["web"].problem) < 1000
    assert found["other"].problem is None


def test_a_value_that_may_be_secret_is_not_repeated(directory: Directory) -> None:
    directory.write("web", {"name": "web", "command": ["x"], "environment": {"A": 4711}})
    problem = directory.problem("web")
    assert problem is not None
    assert "environment.A" in problem
    assert "4711" not in problem


@pytest.mark.parametrize(
    "check",
    [
        {"kind": "http", "url": "ftp://user:hunter2@x"},
        {"kind": "http", "url": "http://x", "headers": {"Authorization": "hunter2\0"}},
        {"kind": "script", "command": ["x"], "environment": {"A": "hunter2\0"}},
    ],
    ids=["url", "header", "environment"],
)
def test_a_value_of_a_check_that_may_be_secret_is_not_repeated(
    directory: Directory, check: dict[str, Any]
) -> None:
    directory.write("web", {"name": "web", "command": ["x"], "checks": [{"name": "c", "check": check}]})
    problem = directory.problem("web")
    assert problem is not None
    assert f"checks.0.check.{check['kind']}" in problem
    assert "hunter2" not in problem


def test_a_file_that_is_too_large_is_not_read(directory: Directory) -> None:
    file = directory.write("web", b" " * (LARGEST_BYTES + 1))
    assert directory.problem("web") == f"cannot use {file}: it is larger than 256 KiB"


def test_a_named_pipe_holds_nobody_up(directory: Directory) -> None:
    directory.file("web").parent.mkdir()
    os.mkfifo(directory.file("web"))
    assert directory.problem("web") == f"cannot use {directory.file('web')}: it is no regular file"


def test_a_directory_of_that_name_is_no_file(directory: Directory) -> None:
    directory.file("web").mkdir(parents=True)
    assert directory.problem("web") == f"cannot use {directory.file('web')}: it is no regular file"


def test_a_link_that_leads_nowhere_is_a_mistake(directory: Directory) -> None:
    directory.file("web").parent.mkdir()
    directory.file("web").symlink_to("gone.json")
    assert directory.problem("web") == f"cannot use {directory.file('web')}: no such file or directory"


@pytest.mark.needs("ordinary-user")
def test_a_file_that_must_not_be_read_is_a_mistake(directory: Directory) -> None:
    directory.good("web").chmod(0)
    assert directory.problem("web") == f"cannot use {directory.file('web')}: permission denied"


def test_root_takes_no_file_that_everybody_may_write(tmp_path: Path) -> None:
    directory = Directory(tmp_path, as_root=True)
    file = directory.good("web")
    file.chmod(0o644)  # whatever the umask is
    file.parent.chmod(0o755)
    assert directory.problem("web") is None
    file.chmod(0o666)
    assert directory.problem("web") == (
        f"cannot use {file}: everybody may write to it; run 'chmod o-w {file}'"
    )
    file.chmod(0o644)
    file.parent.chmod(0o777)
    problem = directory.problem("web")
    assert problem is not None
    assert problem.startswith(f"cannot use {file}: everybody may write to its directory {file.parent}")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("what", ["package.json", "."])
def test_root_takes_no_file_that_a_group_may_write(tmp_path: Path, what: str) -> None:
    directory = Directory(tmp_path, as_root=True)
    file = directory.good("web")
    shared = file.parent / what
    shared.chmod(0o775)
    assert directory.problem("web") is None
    os.chown(shared, -1, 1234)
    problem = directory.problem("web")
    assert problem is not None
    assert problem.startswith(f"cannot use {file}: group 1234 may write to it")
    assert problem.endswith(f"; run 'chmod g-w {shared}'")
    shared.chmod(0o755)
    assert directory.problem("web") is None
    shared.chmod(0o775)
    assert Directory(tmp_path).problem("web") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("what", ["package.json", "."])
def test_root_takes_no_file_that_another_user_could_have_written(tmp_path: Path, what: str) -> None:
    directory = Directory(tmp_path, as_root=True)
    file = directory.good("web")
    assert directory.problem("web") is None
    given_away = file.parent / what
    os.chown(given_away, 1234, -1)
    assert directory.problem("web") == (
        f"cannot use {file}: {given_away} belongs to user 1234, who could have root run anything; "
        f"run 'chown root {given_away}'"
    )
    os.chown(given_away, 0, -1)
    assert directory.problem("web") is None
    careless = Directory(tmp_path)
    os.chown(given_away, 1234, -1)
    assert careless.problem("web") is None


def test_anybody_else_may_be_as_careless_as_they_like(directory: Directory) -> None:
    directory.good("web").chmod(0o666)
    assert directory.problem("web") is None


def test_two_files_of_one_name_are_both_named_and_the_first_keeps_it(directory: Directory) -> None:
    first = directory.good("web", directory="b")
    directory.look()
    second = directory.good("web", directory="a")
    found = directory.look()
    assert found["web"].file == first
    assert found["a"].problem == f"cannot use {second}: key 'name': web is the name of {first}, too"


def test_a_second_file_in_a_directory_of_that_name_gets_another_name(directory: Directory) -> None:
    directory.good("web", directory="a")
    directory.good("web", directory="web")
    assert sorted(directory.look()) == ["web", "web-2"]


def test_a_circle_is_refused_by_the_names_of_all_on_it(directory: Directory) -> None:
    directory.good("a", depends_on=["b"])
    directory.good("b", depends_on=["c"])
    directory.good("c", depends_on=["a"])
    directory.good("d", depends_on=["a"])
    found = directory.look()
    assert found["a"].problem == (
        f"cannot use {directory.file('a')}: key 'depends_on': a -> b -> c -> a goes round in a circle"
    )
    assert "b -> c -> a -> b" in (found["b"].problem or "")
    assert found["d"].problem is None
    directory.good("c")
    assert {each.problem for each in directory.look().values()} == {None}


def test_a_package_may_lie_in_the_directory_itself(tmp_path: Path) -> None:
    directory = Directory(tmp_path)
    (tmp_path / "package.json").write_text('{"name": "web", "command": ["run"]}')
    assert list(directory.look()) == ["web"]


def test_hidden_directories_are_skipped(directory: Directory) -> None:
    directory.good("web", directory=".web.new")
    assert directory.look() == {}


def test_what_is_invalid_is_named_by_its_directory() -> None:
    assert name_for("Web Server_2") == "web-server-2"
    assert name_for("---") == "package"
    assert name_for("é") == "package"
    assert len(name_for("a" * 200)) == 63


def test_what_was_good_is_kept_while_the_file_is_not(directory: Directory) -> None:
    directory.good("web", directory="dir")
    directory.look()
    directory.write("dir", "{")
    found = directory.look()
    assert found["web"].loaded is not None
    assert found["web"].problem is not None
    assert list(found) == ["web"]


def test_a_look_at_unchanged_files_tells_nothing(directory: Directory) -> None:
    directory.good("web")
    assert directory.files.look() is not None
    assert directory.files.look() is None


def test_a_file_rewritten_in_place_with_as_many_bytes_is_noticed(directory: Directory) -> None:
    file = directory.good("web")
    directory.look()
    before = file.stat()
    file.write_text(file.read_text().replace("run", "ran"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    loaded = directory.look()["web"].loaded
    assert loaded is not None
    assert loaded.spec.command == ["ran"]


def test_a_directory_that_cannot_be_listed_is_no_order_to_stop(tmp_path: Path) -> None:
    root = tmp_path / "packages"
    root.mkdir()
    directory = Directory(root)
    directory.good("web")
    directory.look()
    root.rename(tmp_path / "elsewhere")
    assert "web" in directory.look()
    (tmp_path / "elsewhere").rename(root)
    assert directory.problem("web") is None


def test_the_order_of_keys_and_spaces_mean_nothing(directory: Directory) -> None:
    directory.good("web", environment={"A": "1", "B": "2"})
    first = directory.look()["web"].loaded
    directory.write("web", '{"environment": {"B": "2", "A": "1"},\n\n"command": ["run"], "name": "web"}')
    second = directory.look()["web"].loaded
    assert first
    assert second
    assert first.digest == second.digest


def test_every_key_is_known_to_restart_or_not_to() -> None:
    of_the_agent = {
        "description", "enabled", "depends_on", "stop", "reload_signal", "ready", "restart", "log", "checks",
        "relies_on", "recovery", "configuration",
    }  # fmt: skip
    assert set(Specification.model_fields) == RESTARTS_FOR | of_the_agent


def test_the_guide_lists_the_keys_that_restart() -> None:
    guide = (Path(__file__).parents[1] / "PACKAGES.md").read_text()
    sentence = guide.partition("A change of ")[2].partition("restarts the")[0]
    assert set(sentence.split("`")[1::2]) == RESTARTS_FOR


# With the manager --------------------------------------------------------------------------------------


@pytest.mark.looptime
async def test_bad_files_disturb_nothing_that_runs(directory: Directory) -> None:
    machine = Machine()
    directory.good("db")
    directory.good("web", depends_on=["db"])
    machine.disk = directory.files
    async with machine.agent() as packages:
        await settle(2)
        before = {name: packages.state(name)[1] for name in ("db", "web")}
        for number, (content, _) in enumerate(MISTAKES.values()):
            directory.write(f"bad{number}", content)
            directory.write("web", content)
            await settle(1)
            (shown, _) = await packages.page()
            bad = next(each for each in shown if each.name == f"bad{number}")
            assert bad.state is S.INVALID
            assert (bad.problem or "").startswith(f"cannot use {directory.file(f'bad{number}')}: ")
            web = next(each for each in shown if each.name == "web")
            assert (web.problem or "").startswith(f"cannot use {directory.file('web')}: ")
        directory.good("web", depends_on=["db"])
        await settle(2)
        assert {name: packages.state(name)[1] for name in before} == before
        assert machine.driver.count() == {"db": 1, "web": 1}


@pytest.mark.looptime
async def test_a_circle_made_while_all_run_stops_nobody(directory: Directory) -> None:
    machine = Machine()
    directory.good("a")
    directory.good("b", depends_on=["a"])
    machine.disk = directory.files
    async with machine.agent() as packages:
        await settle(2)
        directory.good("a", depends_on=["b"], version="2")
        await settle(2)
        assert machine.state("a") is machine.state("b") is S.RUNNING
        assert packages.state("a")[2] == "0"
        assert machine.driver.count() == {"a": 1, "b": 1}
        directory.good("b")
        await settle(2)
        assert packages.state("a")[2] == "2"


@pytest.mark.looptime
async def test_files_are_noticed_within_a_second(directory: Directory) -> None:
    machine = Machine()
    machine.disk = directory.files
    async with machine.agent():
        await settle(0.3)
        directory.good("web")
        await settle(1)
        assert machine.state("web") is S.RUNNING
        directory.file("web").unlink()
        await settle(1)
        assert machine.driver.stops == ["web"]


@pytest.mark.looptime
async def test_what_became_unusable_while_no_agent_ran_is_taken_over_all_the_same(
    directory: Directory,
) -> None:
    machine = Machine()
    directory.good("web", directory="dir")
    machine.disk = directory.files
    async with machine.agent() as packages:
        await settle(2)
        pid = packages.state("web")[1]
    directory.write("dir", "{")
    directory.next_agent()
    machine.disk = directory.files
    async with machine.agent() as packages:
        await settle(2)
        assert packages.state("web")[:2] == (S.RUNNING, pid)
        (shown, _) = await packages.page()
        assert (shown[0].problem or "").startswith(f"cannot use {directory.file('dir')}: line 1")


@pytest.mark.looptime
async def test_what_was_removed_while_no_agent_ran_is_found_and_stopped(directory: Directory) -> None:
    machine = Machine()
    directory.good("web")
    directory.good("other", enabled=False)
    machine.disk = directory.files
    async with machine.agent():
        await settle(2)
    directory.file("web").unlink()
    directory.file("other").unlink()
    directory.next_agent()
    machine.disk = directory.files
    async with machine.agent() as packages:
        await settle(2)
        assert machine.driver.stops == ["web"]
        assert machine.driver.count() == {"web": 1}
        assert (await packages.page())[0] == []
    directory.next_agent()
    assert directory.look() == {}


@pytest.mark.parametrize("damage", ["", "[]", '{"file": 1}', '{"file": "/x", "said": "{"}'])
def test_damaged_memory_is_left_out(directory: Directory, damage: str) -> None:
    directory.good("web")
    directory.look()
    [kept] = (directory.root / ".state").iterdir()
    kept.write_text(damage)
    directory.next_agent()
    assert directory.look()["web"].problem is None


def test_what_is_kept_of_a_package_is_for_the_agent_alone(directory: Directory) -> None:
    directory.good("web", environment={"TOKEN": "x"})
    directory.look()
    [kept] = (directory.root / ".state").iterdir()
    assert kept.stat().st_mode & 0o077 == 0
