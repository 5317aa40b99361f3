"""Processes are known by pid and birth: a reused pid, a zombie and somebody else are never mistaken."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from muster_client.embedded.processes import Process, memory_of, uptime_of


@pytest.fixture
def sleeper() -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen([sys.executable, "-S", "-c", "import signal; signal.pause()"])
    yield process
    process.kill()
    process.wait()


def test_a_process_that_runs_is_alive_and_has_memory_and_an_age(sleeper: "subprocess.Popen[bytes]") -> None:
    process = Process.of(sleeper.pid)
    assert process
    assert process.alive
    memory = memory_of(process)
    assert memory
    assert memory[0] > 100_000
    assert memory[1] in {"pss", "rss"}
    age = uptime_of(process)
    assert age is not None
    assert 0 <= age < 60


def test_the_next_process_with_the_same_pid_is_another_one(sleeper: "subprocess.Popen[bytes]") -> None:
    process = Process.of(sleeper.pid)
    assert process
    before = replace(process, born="17@an-earlier-boot")
    assert not before.alive
    assert not before.signal(signal.SIGKILL)
    assert not before.stop(1)
    assert memory_of(before) is None
    assert uptime_of(before) is None
    assert sleeper.poll() is None


def test_the_remains_of_a_process_do_not_count_as_alive(sleeper: "subprocess.Popen[bytes]") -> None:
    process = Process.of(sleeper.pid)
    assert process
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)  # dead, and not buried yet
    assert not process.alive
    assert Process.of(sleeper.pid) is None


def test_a_process_that_ignores_sigterm_is_killed_when_patience_ends() -> None:
    code = (
        "import signal\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('deaf', flush=True)\n"
        "signal.pause()\n"
    )
    deaf = subprocess.Popen([sys.executable, "-S", "-c", code], stdout=subprocess.PIPE)
    assert deaf.stdout
    assert deaf.stdout.readline() == b"deaf\n"
    process = Process.of(deaf.pid)
    assert process
    assert process.stop(0.05)
    assert deaf.wait() == -signal.SIGKILL
    deaf.stdout.close()


def test_a_paused_process_is_stopped_as_well(sleeper: "subprocess.Popen[bytes]") -> None:
    process = Process.of(sleeper.pid)
    assert process
    process.signal(signal.SIGSTOP)
    assert process.stop(10)
    assert sleeper.wait() == -signal.SIGTERM


def test_this_very_process_is_known() -> None:
    assert Process.me().pid == os.getpid()
    assert Process.me() == Process.me()
