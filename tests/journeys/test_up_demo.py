"""The sample packages of ``muster up --demo``, told what to do by the command, as a person would."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

MUSTER = str(Path(sys.executable).parent / "muster")


class Demo:
    """One fleet with the samples."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = {**os.environ, "MUSTER_DIR": str(directory), "COLUMNS": "200"}

    def run(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """One command, which has to end with ``code``."""
        done = subprocess.run(
            [MUSTER, *words], env=self.environment, capture_output=True, text=True, timeout=90, check=False
        )
        assert done.returncode == code, (words, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done

    def packages(self) -> dict[str, dict[str, Any]]:
        """Each package by name."""
        return {one["name"]: one for one in json.loads(self.run("packages", "list", "--json").stdout)}

    def pid_of(self, process: str) -> int:
        told = json.loads(self.run("status", "--json").stdout)
        [pid] = [one["pid"] for one in told["processes"] if one["name"] == process]
        return int(pid)

    def until(self, condition: Callable[[], bool], seconds: float = 30) -> None:
        """Look again and again until it is so; what is waited for is in other processes."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.run("packages").stdout
            time.sleep(0.25)


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    fleet = Demo(tmp_path / "fleet")
    try:
        fleet.run("up", "--demo", "--detach")
        # It acts where a test is about it: a busy machine may be too slow for checks that look so often.
        fleet.run("recovery", "pause")
        fleet.until(lambda: {"web", "worker"} <= running(fleet).keys())
        yield fleet
    finally:
        subprocess.run([MUSTER, "down"], env=fleet.environment, capture_output=True, check=False, timeout=90)


def running(fleet: Demo) -> dict[str, int]:
    """The pid of each package that runs."""
    return {
        name: one["pid"]
        for name, one in fleet.packages().items()
        if one["state"] in {"running", "paused"} and one["pid"]
    }


def test_packages_are_told_what_to_do_and_every_order_is_in_the_ledger(demo: Demo) -> None:
    refused = demo.run("packages", "stop", "web", code=1)
    assert "worker" in refused.stderr
    demo.run("packages", "stop", "web", "--cascade")
    assert demo.packages()["worker"]["state"] == "stopped"
    demo.run("packages", "start", "worker")
    before = running(demo)
    assert {"web", "worker"} <= before.keys()
    demo.run("packages", "restart", "web")
    after = running(demo)
    assert after["web"] != before["web"]
    assert after["worker"] == before["worker"], "who depends on it is left alone"
    demo.run("packages", "pause", "web")
    assert demo.packages()["web"]["state"] == "paused"
    assert psutil.Process(after["web"]).status() == psutil.STATUS_STOPPED
    demo.run("packages", "resume", "web")
    assert psutil.Process(after["web"]).status() != psutil.STATUS_STOPPED
    told = json.loads(demo.run("command", "list", "--json").stdout)
    assert [(one["verb"], one["state"]) for one in reversed(told)] == [
        ("package.stop", "rejected"),
        ("package.stop", "succeeded"),
        ("package.start", "succeeded"),
        ("package.restart", "succeeded"),
        ("package.pause", "succeeded"),
        ("package.resume", "succeeded"),
    ]
    assert {"id", "agent", "reason", "submitted_at", "ended_at"} <= told[0].keys()
    assert "6 entries, intact" in demo.run("audit", "verify").stdout


@pytest.mark.soak
def test_a_configuration_is_applied_read_back_and_refused_where_its_check_fails(
    demo: Demo, tmp_path: Path
) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_text('{"greeting": "Hello from a test"}')
    bad.write_text('{"greting": 1}')
    demo.run("packages", "config", "apply", "web", "settings", "--from", str(good), "--then", "reload")
    assert "Hello from a test" in demo.run("packages", "config", "show", "web", "settings").stdout
    demo.until(lambda: "heard: Hello from a test" in demo.run("packages", "logs", "worker").stdout)
    refused = demo.run(
        "packages", "config", "apply", "web", "settings", "--from", str(bad), "--then", "reload", code=1
    )
    assert "greeting" in refused.stderr
    assert "Hello from a test" in demo.run("packages", "config", "show", "web", "settings").stdout


@pytest.mark.soak
def test_what_hangs_is_blamed_for_its_dependents_and_restarted_and_what_leaks_is_too(demo: Demo) -> None:
    before = running(demo)
    demo.run("packages", "signal", "leaky", "USR1")
    os.kill(before["database"], signal.SIGSTOP)
    demo.until(lambda: explained(demo, "worker")["package"]["health"] == "critical")
    told = explained(demo, "worker")
    assert told["chain"][-1]["package"] == "database"
    assert explained(demo, "database")["package"]["cause"] is None
    assert running(demo)["database"] == before["database"], "while it is paused, recovery does nothing"

    demo.run("recovery", "resume")
    demo.until(lambda: acted_on(demo) >= {"database", "leaky"}, 90)
    demo.until(lambda: {"database", "leaky"} <= running(demo).keys())
    now = running(demo)
    assert {name for name in ("database", "leaky") if now[name] == before[name]} == set()
    demo.until(lambda: explained(demo, "worker")["package"]["health"] == "ok")
    ordered = json.loads(demo.run("command", "list", "--verb", "package.restart", "--json").stdout)
    assert {one["issuer"].partition("@")[0] for one in ordered} == {"health-recovery"}


def explained(fleet: Demo, package: str) -> dict[str, Any]:
    """Why a package is as it is."""
    told: dict[str, Any] = json.loads(fleet.run("health", "why", package, "--json").stdout)
    return told


def acted_on(fleet: Demo) -> set[str]:
    """The packages whose acts of recovery have succeeded."""
    acts = json.loads(fleet.run("recovery", "list", "--json").stdout)
    return {one["package"] for one in acts if one["state"] == "succeeded"}


@pytest.mark.soak
def test_a_killed_agents_packages_run_on_and_the_next_one_controls_them(demo: Demo) -> None:
    before = running(demo)
    agent = demo.pid_of("host-agent")
    os.kill(agent, signal.SIGKILL)
    demo.run("up", "--detach")
    assert demo.pid_of("host-agent") != agent
    demo.until(lambda: {"web", "worker"} <= running(demo).keys())
    now = running(demo)
    assert {name: now[name] for name in ("web", "worker")} == {
        name: before[name] for name in ("web", "worker")
    }
    demo.run("packages", "restart", "worker")
    assert running(demo)["worker"] != before["worker"]


@pytest.mark.soak
def test_down_ends_the_packages_too_and_up_starts_them_again(demo: Demo) -> None:
    before = running(demo)
    demo.run("down")
    assert not [name for name in ("web", "worker") if psutil.pid_exists(before[name])]
    demo.run("packages", "stop", "web", code=3)
    demo.run("up", "--detach")
    demo.until(lambda: {"web", "worker"} <= running(demo).keys())


@pytest.mark.soak
def test_a_script_runs_only_where_the_machines_own_policy_lists_it(demo: Demo) -> None:
    refused = demo.run("packages", "run", "greet", code=1)
    assert "policy" in refused.stderr
    policy = {"scripts": {"greet": {"command": ["/bin/echo", "hello"], "arguments": True}}}
    (demo.directory / "policy.yaml").write_text(json.dumps(policy))
    (demo.directory / "policy.yaml").chmod(0o600)
    demo.until(lambda: "hello" in _output_of(demo, "packages", "run", "greet", "world; rm -rf /"))
    assert "hello world; rm -rf /" in demo.run("packages", "run", "greet", "world; rm -rf /").stdout


def _output_of(demo: Demo, *words: str) -> str:
    done = subprocess.run(
        [MUSTER, *words], env=demo.environment, capture_output=True, text=True, timeout=90, check=False
    )
    return done.stdout
