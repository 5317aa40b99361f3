"""A process: signals, the drain deadline, and the exit codes orchestrators read."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from typing import Self

import pytest

from muster_runtime import ConfigurationError, Shutdown, run


class Child:
    """A process that runs ``body`` as its main, with ``shutdown`` in reach."""

    def __init__(self, body: str, drain_seconds: float = 20) -> None:
        program = (
            "import asyncio, threading, time\n"
            "from muster_runtime import ConfigurationError, launch\n"
            "def say(text): print(text, flush=True)\n"
            "async def main(shutdown):\n"
            + textwrap.indent(textwrap.dedent(body), "    ")
            + f"\nlaunch(main, drain_seconds={drain_seconds})\n"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def end(self) -> tuple[int, str]:
        _, errors = self.process.communicate(timeout=30)
        return self.process.returncode, errors

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


WAIT = """
say("ready")
say(await shutdown.wait())
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_for_the_end_and_a_clean_end_is_0(number: signal.Signals) -> None:
    with Child(WAIT) as child:
        assert child.line() == "ready"
        child.signal(number)
        assert child.line() == number.name
        assert child.end()[0] == 0


def test_a_failure_is_1_with_its_traceback() -> None:
    with Child("raise RuntimeError('bent')") as child:
        code, errors = child.end()
    assert code == 1
    assert "RuntimeError: bent" in errors


def test_a_configuration_that_cannot_be_used_is_2_with_sentences_only() -> None:
    with Child("raise ConfigurationError(['cannot use a: b', 'cannot use c: d'])") as child:
        code, errors = child.end()
    assert (code, errors) == (2, "cannot use a: b\ncannot use c: d\n")


def test_work_that_outlives_the_drain_is_cancelled_and_that_is_1() -> None:
    with Child(
        """
        say("ready")
        try:
            await asyncio.Event().wait()
        finally:
            say("cancelled")
        """,
        drain_seconds=0.1,
    ) as child:
        assert child.line() == "ready"
        child.signal(signal.SIGTERM)
        assert child.line() == "cancelled"
        code, errors = child.end()
        assert code == 1
        assert "cannot drain in time" in errors


def test_a_second_signal_does_not_wait_for_the_drain() -> None:
    with Child(WAIT + "await asyncio.Event().wait()", drain_seconds=3600) as child:
        assert child.line() == "ready"
        child.signal(signal.SIGTERM)
        assert child.line() == "SIGTERM"
        child.signal(signal.SIGTERM)
        assert child.end()[0] == 1


def test_work_that_ignores_its_cancellation_is_ended() -> None:
    with Child(
        """
        say("ready")
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                say("no")
        """,
        drain_seconds=0.05,
    ) as child:
        assert child.line() == "ready"
        child.signal(signal.SIGTERM)
        code, errors = child.end()
        assert code == 1
        assert "ignores its cancellation" in errors


def test_a_third_signal_ends_even_a_stuck_loop() -> None:
    with Child(
        """
        say("ready")
        while True:
            time.sleep(0.01)
        """
    ) as child:
        assert child.line() == "ready"
        while child.process.poll() is None:
            child.signal(signal.SIGTERM)
            try:
                child.process.wait(0.2)
            except subprocess.TimeoutExpired:
                continue
        assert child.end()[0] == 1


def test_a_hanging_worker_thread_does_not_hold_up_the_exit() -> None:
    with Child(
        """
        asyncio.get_running_loop().run_in_executor(None, time.sleep, 3600)
        say("ready")
        """
    ) as child:
        assert child.line() == "ready"
        assert child.end()[0] == 0


async def test_a_shutdown_can_be_asked_for_from_within_and_keeps_its_first_reason() -> None:
    shutdown = Shutdown()

    async def main(given: Shutdown) -> None:
        given.request("lease lost")
        given.request("something later")
        assert await given.wait() == "lease lost"

    assert await run(main, shutdown=shutdown) == 0
    assert shutdown.requested
    assert shutdown.reason == "lease lost"


async def test_the_handlers_of_before_are_back_afterwards() -> None:
    before = signal.getsignal(signal.SIGTERM)

    async def main(_: Shutdown) -> None:
        assert signal.getsignal(signal.SIGTERM) is not before

    assert await run(main) == 0
    assert signal.getsignal(signal.SIGTERM) is before


async def test_run_gives_the_exit_codes_itself(capsys: pytest.CaptureFixture[str]) -> None:
    async def wrong(_: Shutdown) -> None:
        raise ConfigurationError(["cannot use x"])

    async def kill(_: Shutdown) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()

    assert await run(wrong) == 2
    assert capsys.readouterr().err == "cannot use x\n"
    assert await run(kill, drain_seconds=0.01) == 1
