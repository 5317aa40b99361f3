"""The life of a fleet on one machine: up, shown, hurt, mended, down; through the command only."""

import contextlib
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import jsonschema
import psutil
import pytest

from muster_bus.identity import Keypair

MUSTER = str(Path(sys.executable).parent / "muster")
SCHEMAS = Path(__file__).parents[2] / "contracts" / "cli"
NAMES = ["nats", "redis", "fleet-registry", "state-store", "health-recovery", "host-agent"]
STOPPED = f"Stopped {', '.join(reversed(NAMES))}."
LIMIT_BYTES = 450 << 20


class Home:
    """One fleet in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = {**os.environ, "MUSTER_DIR": str(directory)}

    def run(
        self, *words: str, code: int | None = 0, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """One command; its exit code must be ``code``, unless that does not matter."""
        done = subprocess.run(
            [MUSTER, *words],
            env=self.environment,
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert code is None or done.returncode == code, (words, done.stdout, done.stderr, self.logs())
        assert "Traceback" not in done.stderr
        return done

    def start(self, *words: str) -> "subprocess.Popen[str]":
        """A command that goes on beside the test."""
        return subprocess.Popen(
            [MUSTER, *words],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def status(self, code: int = 0) -> Any:
        """``muster status`` for programs, seen to be as published."""
        told = json.loads(self.run("status", "--json", code=code).stdout)
        jsonschema.validate(told, json.loads((SCHEMAS / "status.json").read_text()))
        return told

    def look(self) -> dict[str, Any]:
        """Each process by name, whatever the exit code."""
        done = subprocess.run(
            [MUSTER, "status", "--json"],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        return {one["name"]: one for one in json.loads(done.stdout)["processes"]}

    def pids(self) -> dict[str, int]:
        """The pid of each process that runs, the supervisor among them."""
        told = json.loads(self.run("status", "--json").stdout)
        return {one["name"]: one["pid"] for one in [*told["processes"], told["supervisor"]]}

    def agent(self) -> Any:
        """This machine in its own fleet."""
        [agent] = json.loads(self.run("agents", "list", "--json").stdout)
        return agent

    def comes_online(self) -> Any:
        """This machine, once it is online."""
        return eventually(lambda: (agent := self.agent())["state"] == "online" and agent)

    def logs(self) -> str:
        """The last words of everybody, for a test that failed."""
        return "\n".join(
            f"--- {log.name}\n{log.read_text(errors='replace')[-2000:]}"
            for log in sorted((self.directory / "logs").glob("*.log"))
        )


def eventually(condition: Callable[[], Any], seconds: float = 40) -> Any:
    """What ``condition`` gives once it is true.

    Most conditions are commands, and each takes a third of a second from whoever is waited for.
    """
    deadline = time.monotonic() + seconds
    while not (outcome := condition()):
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.25)
    return outcome


def gone(pids: dict[str, int]) -> bool:
    """Whether none of the processes runs any more."""
    return not [pid for pid in pids.values() if psutil.pid_exists(pid) and not _is_dead(pid)]


def _is_dead(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """A place for a fleet; whatever a test leaves running there is stopped."""
    place = Home(tmp_path / "fleet")
    yield place
    subprocess.run([MUSTER, "down"], env=place.environment, capture_output=True, timeout=90, check=True)


@pytest.fixture(scope="module")
def _running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    place = Home(tmp_path_factory.mktemp("running") / "fleet")
    place.run("up", "--detach")
    yield place
    place.run("down")


@pytest.fixture
def running(_running: Home) -> Home:
    """A fleet that runs and is whole, shared by tests that leave it so."""
    _running.run("up", "--detach")
    _running.comes_online()
    return _running


def test_a_fleet_comes_up_shows_itself_and_leaves_nothing_running(home: Home) -> None:
    told = home.run("up", "--detach")
    assert all(name in told.stdout for name in (*NAMES, "Ready after", "muster agents"))
    seen = home.status()
    assert [one["name"] for one in seen["processes"]] == NAMES
    assert {one["state"] for one in seen["processes"]} == {"running"}
    assert all(one["memory_bytes"] > 0 for one in [*seen["processes"], seen["supervisor"]])
    assert seen["memory_bytes"] < LIMIT_BYTES
    pids = home.pids()
    listening = [
        seen.laddr.ip
        for pid in pids.values()
        for seen in psutil.Process(pid).net_connections(kind="inet")
        if seen.status == psutil.CONN_LISTEN
    ]
    assert len(listening) == len(NAMES)  # and none to monitor the broker, which would tell everybody
    assert all(ip_address(address).is_loopback for address in listening)
    home.comes_online()
    assert "Nothing failed" in home.run("doctor").stdout
    down = home.run("down")
    assert down.stdout.startswith(STOPPED)
    assert gone(pids)
    home.status(code=3)
    assert "Nothing runs" in home.run("status", code=3).stdout
    assert "Nothing runs" in home.run("down").stdout


def test_nobody_but_the_owner_can_read_a_key_and_none_is_an_argument(running: Home) -> None:
    secrets = [path for path in (running.directory / "keys").iterdir() if path.is_file()]
    secrets += [running.directory / "agent" / "agent.seed"]
    assert len(secrets) >= 6
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets} == {0o600}
    texts = [path.read_text().strip() for path in secrets]
    arguments = [" ".join(psutil.Process(pid).cmdline()) for pid in running.pids().values()]
    for place in (*arguments, running.logs(), (running.directory / "fleet.json").read_text()):
        assert not [text for text in texts if text in place]


def test_starting_again_finds_the_same_agent_its_history_and_its_ports(home: Home) -> None:
    home.run("up", "--detach")
    agent = home.comes_online()["id"]
    endpoints = {one["name"]: one["endpoint"] for one in home.status()["processes"]}
    home.run("down")
    home.run("up", "--detach")
    assert home.comes_online()["id"] == agent
    history = json.loads(home.run("agents", "history", agent, "--json").stdout)
    assert [event["event"] for event in history if event["event"] in {"online", "left"}] == [
        "online",
        "left",
        "online",
    ]
    assert {one["name"]: one["endpoint"] for one in home.status()["processes"]} == endpoints


@pytest.mark.soak
@pytest.mark.parametrize("name", ["nats", "redis", "fleet-registry", "state-store", "health-recovery"])
def test_a_process_killed_is_started_again_and_nobody_else_is(running: Home, name: str) -> None:
    before, restarts = running.pids(), running.look()[name]["restarts"]
    os.kill(before[name], signal.SIGKILL)
    eventually(lambda: running.look()[name]["pid"] not in {None, before[name]})
    seen = eventually(lambda: (now := running.look()[name])["state"] == "running" and now)
    assert seen["restarts"] == restarts + 1
    assert seen["detail"] == "killed by SIGKILL"
    after = running.pids()
    assert [one for one in after if after[one] != before[one]] == [name]
    running.comes_online()
    eventually(lambda: "Nothing failed" in running.run("doctor", code=None).stdout)


@pytest.mark.soak
def test_streams_that_were_lost_are_made_anew_and_told_until_a_person_accepts_it(home: Home) -> None:
    assert "warning" not in home.run("up", "--detach").stdout
    home.comes_online()
    shutil.rmtree(home.directory / "broker" / "jetstream")
    os.kill(home.pids()["nats"], signal.SIGKILL)
    eventually(lambda: home.look()["nats"]["state"] == "running")
    told = eventually(lambda: (said := home.run("doctor", code=None).stdout).count("✗") == 1 and said)
    assert "streams lost what they kept and were made anew: " in told
    assert "restore " in told
    home.run("down")
    again = home.run("up", "--detach").stdout
    assert "warning: streams lost what they kept and were made anew: " in again
    marker = home.directory / "STREAMS-LOST"
    assert str(marker) in again
    marker.unlink()
    eventually(lambda: "Nothing failed" in home.run("doctor", code=None).stdout)
    home.run("down")
    assert "warning" not in home.run("up", "--detach").stdout


@pytest.mark.soak
def test_a_service_that_hangs_is_killed_and_started_again(running: Home) -> None:
    before = running.pids()
    restarts = running.look()["fleet-registry"]["restarts"]
    os.kill(before["fleet-registry"], signal.SIGSTOP)
    seen = eventually(lambda: (now := running.look()["fleet-registry"])["restarts"] > restarts and now, 60)
    assert seen["detail"] == "hung"
    eventually(lambda: running.look()["fleet-registry"]["state"] == "running")
    after = running.pids()
    assert [name for name in after if after[name] != before[name]] == ["fleet-registry"]
    running.comes_online()


@pytest.mark.soak
def test_a_redis_that_cannot_use_its_data_or_its_password_starts_without_them(home: Home) -> None:
    home.run("up", "--detach")
    home.run("down")
    for damaged in ("redis/appendonly.aof", "keys/redis.password"):
        (home.directory / damaged).write_bytes(b"\xff\n*1\r\n$-7 garbage\nmaxclients 1")
    told = home.run("up", "--detach").stdout
    assert "warning: redis could not start with its data: starts empty" in told
    assert "warning: the password of redis was damaged" in told
    assert (home.directory / "redis" / "appendonly.aof.damaged").exists()
    assert (home.directory / "keys" / "redis.password.damaged").exists()
    home.comes_online()
    eventually(lambda: "Nothing failed" in home.run("doctor", code=None).stdout)


def test_the_doctor_names_what_is_wrong_and_what_to_do(running: Home) -> None:
    redis = running.pids()["redis"]
    os.kill(redis, signal.SIGSTOP)
    (running.directory / "keys" / "operator.seed").chmod(0o644)
    try:
        told = json.loads(running.run("doctor", "--json", code=1).stdout)
    finally:
        (running.directory / "keys" / "operator.seed").chmod(0o600)
        os.kill(redis, signal.SIGCONT)
    jsonschema.validate(told, json.loads((SCHEMAS / "doctor.json").read_text()))
    failed = {check["name"]: check["advice"] for check in told["checks"] if check["verdict"] == "fail"}
    assert {"redis", "keys"} <= set(failed)
    assert failed["keys"].startswith("chmod go-rwx")


def test_streams_are_provisioned_by_hand_and_only_by_the_provisioner(running: Home) -> None:
    server = running.look()["nats"]["endpoint"]
    keys = running.directory / "keys"
    told = running.run("provision", "--server", server, "--seed", str(keys / "provisioner.seed"))
    assert "as they should be" in told.stdout
    refused = running.run("provision", "--server", server, "--seed", str(keys / "operator.seed"), code=1)
    assert refused.stderr.startswith("cannot ")


def test_an_agent_told_to_end_stays_down_until_up_is_said_again(running: Home) -> None:
    before = running.pids()
    os.kill(before["host-agent"], signal.SIGTERM)
    eventually(lambda: running.look()["host-agent"]["state"] == "stopped")
    eventually(lambda: running.agent()["state"] == "left")
    assert "host-agent is stopped" in running.status(code=1)["problem"]
    assert "Already running" in running.run("up", "--detach").stdout
    after = running.pids()
    assert after["host-agent"] != before["host-agent"]
    assert after["supervisor"] == before["supervisor"]
    running.comes_online()


def test_up_on_a_fleet_that_runs_changes_nothing(running: Home) -> None:
    before = running.pids()
    assert "Already running" in running.run("up").stdout
    assert running.pids() == before


def test_two_starts_at_once_make_one_fleet(home: Home) -> None:
    starts = [home.start("up", "--detach") for _ in range(3)]
    said = [(start.communicate(timeout=90)[0], start.returncode) for start in starts]
    assert [code for _, code in said] == [0, 0, 0], said
    assert all("Ready after" in text for text, _ in said)
    assert set(home.pids()) == {*NAMES, "supervisor"}


@pytest.mark.soak
@pytest.mark.parametrize("then", ["up", "down"])
def test_what_a_killed_supervisor_leaves_behind_is_found_and_stopped(home: Home, then: str) -> None:
    home.run("up", "--detach")
    agent = home.comes_online()["id"]
    before = home.pids()
    os.kill(before["supervisor"], signal.SIGKILL)
    eventually(lambda: _is_dead(before["supervisor"]))
    seen = home.status(code=1)
    assert seen["phase"] == "abandoned"
    assert "the supervisor was killed" in seen["problem"]
    assert not gone(before)
    if then == "down":
        assert home.run("down").stdout.startswith(STOPPED)
        assert gone(before)
    home.run("up", "--detach")
    assert gone(before)
    assert home.comes_online()["id"] == agent


@pytest.mark.soak
def test_processes_nobody_wrote_down_are_found_by_the_locks_they_hold(home: Home) -> None:
    home.run("up", "--detach")
    before = home.pids()
    os.kill(before["supervisor"], signal.SIGKILL)
    (home.directory / "fleet.json").unlink()
    home.run("up", "--detach")
    assert gone(before)
    assert "as declared" in home.run("doctor", code=None).stdout


@pytest.mark.soak
def test_two_fleets_live_side_by_side(home: Home, tmp_path: Path) -> None:
    other = Home(tmp_path / 'it\'s a "second" flåte')
    # A file in the current directory that shadows the standard library must not matter.
    (tmp_path / "asyncio.py").write_text("raise RuntimeError('shadowed')")
    home.run("up", "--detach")
    try:
        other.run("up", "--detach", cwd=tmp_path)
        assert not set(home.pids().values()) & set(other.pids().values())
        assert home.comes_online()["id"] != other.comes_online()["id"]
    finally:
        other.run("down")
    home.status()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_fleet_in_the_foreground_ends_with_its_terminal(home: Home, how: signal.Signals) -> None:
    front = home.start("up")
    try:
        eventually(lambda: home.directory.exists() and (home.directory / "fleet.json").exists())
        eventually(lambda: json.loads((home.directory / "fleet.json").read_text())["phase"] == "ready")
        pids = home.pids()
        assert pids["supervisor"] == front.pid
        front.send_signal(how)
        said, _ = front.communicate(timeout=60)
    finally:
        front.kill()
        front.communicate()
    assert front.returncode == 0
    assert "Ready after" in said
    assert "Stopped; the next muster up finds everything as it was." in said
    assert gone(pids)


def is_ready(home: Home) -> bool:
    """Whether the fleet says so."""
    try:
        return bool(json.loads((home.directory / "fleet.json").read_text())["phase"] == "ready")
    except FileNotFoundError:
        return False


@pytest.mark.soak
def test_a_fleet_whose_reader_goes_away_runs_on(home: Home) -> None:
    front = home.start("up")
    assert front.stdout
    front.stdout.readline()
    front.stdout.close()
    eventually(lambda: is_ready(home))
    os.kill(home.pids()["redis"], signal.SIGKILL)  # something to tell to nobody
    eventually(lambda: home.look()["redis"]["restarts"])
    assert home.pids()["supervisor"] == front.pid
    front.terminate()
    assert front.wait(60) == 0


@pytest.mark.soak
def test_a_fleet_started_without_standard_streams_runs(home: Home) -> None:
    front = subprocess.Popen(["sh", "-c", f"exec {MUSTER} up <&- >&- 2>&-"], env=home.environment)
    eventually(lambda: is_ready(home))
    assert home.pids()["supervisor"] == front.pid
    front.terminate()
    assert front.wait(60) == 0


def test_whatever_a_fleet_makes_is_its_owners_alone_under_any_umask(home: Home) -> None:
    subprocess.run(
        ["sh", "-c", f"umask 000; exec {MUSTER} up --detach"],
        env=home.environment, check=True, timeout=90, capture_output=True,
    )  # fmt: skip
    home.comes_online()
    open_to = [path for path in home.directory.rglob("*") if path.lstat().st_mode & 0o077]
    # Public by the agent's own decision, and within a directory that is not.
    assert {path.name for path in open_to} <= {"agent-id"}


def test_an_agent_that_has_the_name_of_a_service_is_told_so(home: Home) -> None:
    (home.directory / "agent").mkdir(parents=True)
    (home.directory / "agent" / "agent-id").write_text("operator\n")
    (home.directory / "agent" / "agent.seed").touch(mode=0o600)
    Keypair.generate().save(home.directory / "agent" / "agent.seed")
    told = home.run("up", "--detach", code=1)
    assert told.stderr.startswith("cannot start host-agent: cannot let the agent 'operator' in")
    assert "remove " in told.stderr


def test_a_start_interrupted_leaves_nothing_running(home: Home) -> None:
    front = home.start("up")
    eventually((home.directory / "fleet.json").exists)
    eventually(lambda: [one["pid"] for one in home.look().values() if one["pid"]])
    front.send_signal(signal.SIGHUP)
    front.communicate(timeout=60)
    assert front.returncode == 0
    assert not [one for one in home.look().values() if one["pid"]]


@pytest.mark.soak
def test_a_service_that_cannot_start_is_named_with_its_last_words(home: Home) -> None:
    (home.directory / "registry" / "registry.db").mkdir(parents=True)
    told = home.run("up", "--detach", code=1)
    assert "cannot start fleet-registry: exited with" in told.stderr
    assert "fleet-registry.log" in told.stderr
    assert not [one for one in home.look().values() if one["pid"]]
    assert "The last start failed: cannot start fleet-registry" in home.run("status", code=3).stdout
    (home.directory / "registry" / "registry.db").rmdir()
    home.run("up", "--detach")


@pytest.mark.soak
def test_a_port_that_was_taken_meanwhile_is_replaced(home: Home) -> None:
    home.run("up", "--detach")
    before = {one["name"]: one["endpoint"] for one in home.status()["processes"]}
    home.run("down")
    with contextlib.closing(socket.socket()) as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of before may linger there
        thief.bind(("127.0.0.1", int(before["nats"].rpartition(":")[2])))
        thief.listen()
        home.run("up", "--detach")
        after = {one["name"]: one["endpoint"] for one in home.status()["processes"]}
    assert after["nats"] != before["nats"]
    assert after["redis"] == before["redis"]
    home.comes_online()


def test_a_place_that_cannot_be_written_to_is_refused_by_name(home: Home, tmp_path: Path) -> None:
    for place in ("/proc/muster", str(tmp_path / ("x" * 300))):
        told = home.run("up", "--detach", "--dir", place, code=1)
        assert told.stderr.startswith(f"cannot start in {place}: ")
        assert "--dir" in told.stderr


def test_a_record_that_is_a_directory_is_refused_for_that_reason(home: Home) -> None:
    home.directory.mkdir(mode=0o700)
    (home.directory / "fleet.json").mkdir()
    told = home.run("up", "--detach", code=1)
    assert told.stderr.startswith("cannot write ")
    assert "fleet.json: is a directory; move that directory away" in told.stderr


def test_a_directory_that_others_may_write_to_is_neither_started_nor_stopped_in(home: Home) -> None:
    home.directory.mkdir()
    home.directory.chmod(0o777)
    for words in (("up", "--detach"), ("up",), ("down",)):
        told = home.run(*words, code=1)
        assert told.stderr.startswith(f"cannot use {home.directory}: others may write to it, do chmod")
    home.directory.chmod(0o700)


@pytest.mark.soak
def test_who_only_reads_a_lock_is_left_alone(home: Home) -> None:
    home.run("up", "--detach")
    home.run("down")
    with subprocess.Popen(["tail", "-f", str(home.directory / "run" / "nats.lock")]) as reader:
        assert "Nothing runs" in home.run("down").stdout
        assert reader.poll() is None
        reader.terminate()


def test_a_full_disk_is_told_and_leaves_nothing_running(home: Home) -> None:
    """A limit on the size of files stands in for the disk; it needs no root."""
    done = subprocess.run(
        ["sh", "-c", f"ulimit -f 0; exec {MUSTER} up --detach"],
        env=home.environment, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert not [one for one in home.look().values() if one["pid"]]


def test_logs_are_shown_readable_and_followed(running: Home) -> None:
    shown = running.run("logs", "--service", "host-agent", "-n", "100").stdout
    assert "agent runs" in shown
    assert not shown.startswith("{")
    assert all(name in running.run("logs").stdout for name in NAMES)
    assert "known: nats" in running.run("logs", "--service", "nobody", code=3).stderr
    following = running.start("logs", "--service", "fleet-registry", "--follow", "-n", "0", "--raw")
    assert following.stdout
    os.kill(running.pids()["fleet-registry"], signal.SIGKILL)
    assert following.stdout.readline().startswith("{")
    following.send_signal(signal.SIGINT)
    following.communicate(timeout=30)
