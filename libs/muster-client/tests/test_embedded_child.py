"""A supervised process is restarted when it dies, left alone when it ended well, and stopped for certain."""

import asyncio
import io
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from muster_client.embedded import child as child_module
from muster_client.embedded import pulse, readiness
from muster_client.embedded.child import Child, Part, how_ended
from muster_client.embedded.errors import CannotStart, PortTaken
from muster_client.embedded.journal import Journal
from muster_client.embedded.layout import Layout
from muster_client.embedded.locks import Lock, holders
from muster_client.embedded.record import State
from muster_testing.wait import until

PAUSE = "import signal; signal.pause()"

Make = Callable[..., Child]


async def _always() -> bool:
    return True


async def _never() -> bool:
    return False


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    layout = Layout.at(tmp_path)
    layout.create()
    async with AsyncExitStack() as stack:

        def build(
            code: str = PAUSE, ready: Callable[[], Awaitable[bool]] = _always, **options: object
        ) -> Child:
            part = Part("it", [sys.executable, "-S", "-c", code], tmp_path, "here", ready, **options)  # type: ignore[arg-type]
            child = Child(part, layout, Journal(io.StringIO()), lambda: None)
            stack.push_async_callback(child.stop)
            return child

        yield build


def yesterday(child: Child) -> None:
    Path(child.entry.log).write_text("boom of yesterday\n")


def pid(child: Child) -> int:
    assert child.entry.process
    return child.entry.process.pid


async def test_a_process_killed_is_started_again_under_another_pid(make: Make) -> None:
    child = make(first_restart_seconds=0.01)
    await child.start()
    first = pid(child)
    os.kill(first, signal.SIGKILL)
    await until(lambda: child.entry.state is State.RUNNING and pid(child) != first)
    assert child.entry.restarts == 1
    assert child.entry.detail == "killed by SIGKILL"


async def test_a_process_that_ends_well_stays_down_until_it_is_woken(make: Make) -> None:
    code = (
        "import signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
        "print('up', flush=True)\n"
        "signal.pause()\n"
    )
    child = make(code)
    await child.start()
    first = pid(child)
    await until(lambda: Path(child.entry.log).read_text())
    os.kill(first, signal.SIGTERM)
    await until(lambda: child.entry.state is State.STOPPED)
    assert child.entry.restarts == 0
    child.wake()
    await until(lambda: child.entry.state is State.RUNNING)
    assert pid(child) != first


async def test_a_waiting_restart_can_be_hurried(make: Make) -> None:
    child = make(first_restart_seconds=3600.0)
    await child.start()
    os.kill(pid(child), signal.SIGKILL)
    await until(lambda: child.entry.state is State.RESTARTING)
    child.wake()
    await until(lambda: child.entry.state is State.RUNNING)


async def test_waking_what_runs_changes_nothing(make: Make) -> None:
    child = make()
    await child.start()
    first = pid(child)
    child.wake()
    assert child.entry.state is State.RUNNING
    os.kill(first, 0)


async def test_waits_between_restarts_double_up_to_a_limit(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    async def note(self: Child, how: str, backoff: float) -> None:
        waits.append(backoff)
        self._stopping = len(waits) == 7

    child = make()
    monkeypatch.setattr(Child, "_after", note)
    monkeypatch.setattr(Child, "_live", lambda self: asyncio.sleep(0, "exited with 1"))
    child._was_ready = True
    await child._keep()
    assert waits == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0]


async def test_a_process_that_was_stable_is_forgiven(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def note(self: Child, how: str, backoff: float) -> None:
        waits.append(backoff)
        self._stopping = len(waits) == 3

    child = make()
    monkeypatch.setattr(child_module, "STABLE_SECONDS", -1.0)
    monkeypatch.setattr(Child, "_after", note)
    monkeypatch.setattr(Child, "_live", lambda self: asyncio.sleep(0, "exited with 1"))
    child._was_ready = True
    await child._keep()
    assert waits == [0.2, 0.2, 0.2]


async def test_a_start_that_fails_quotes_the_log_of_this_start_only(make: Make) -> None:
    child = make("import sys; sys.exit('boom of today')", ready=_never)
    yesterday(child)
    with pytest.raises(
        CannotStart, match=r"(?s)cannot start it: exited with 1; the end of .*boom of today"
    ) as caught:
        await child.start()
    assert "yesterday" not in str(caught.value)
    assert child.entry.state is State.FAILED


async def test_a_process_that_ends_well_before_it_was_ready_has_failed(make: Make) -> None:
    child = make("pass", ready=_never)
    with pytest.raises(CannotStart, match="ended before it was ready"):
        await child.start()


async def test_a_process_that_is_not_ready_in_time_has_failed(make: Make) -> None:
    child = make(ready=_never, ready_seconds=0.1)
    with pytest.raises(CannotStart, match="not ready within"):
        await child.start()


async def test_a_port_that_was_taken_meanwhile_is_told_from_other_failures(make: Make) -> None:
    child = make("import sys; sys.exit('bind: Address already in use')", ready=_never)
    with pytest.raises(PortTaken, match="somebody else listens on here"):
        await child.start()


async def test_a_program_that_is_missing_is_named(tmp_path: Path) -> None:
    layout = Layout.at(tmp_path)
    layout.create()
    part = Part("it", ["/nowhere/it"], tmp_path, "here", _always)
    with pytest.raises(CannotStart, match="/nowhere/it"):
        await Child(part, layout, Journal(io.StringIO()), lambda: None).start()


async def test_what_follows_readiness_is_done_after_every_start(make: Make) -> None:
    done = []

    async def then() -> None:
        done.append(1)

    child = make(then=then, first_restart_seconds=0.01)
    await child.start()
    assert len(done) == 1
    os.kill(pid(child), signal.SIGKILL)
    await until(lambda: len(done) == 2)


async def test_a_failure_of_what_follows_the_first_start_fails_it(make: Make) -> None:
    async def then() -> None:
        raise CannotStart("cannot provision: no")

    with pytest.raises(CannotStart, match="cannot provision: no"):
        await make(then=then).start()


async def test_a_failure_of_what_follows_a_restart_does_not_stop_the_process(make: Make) -> None:
    calls = []

    async def then() -> None:
        calls.append(1)
        if len(calls) > 1:
            raise CannotStart("cannot provision: not now")

    child = make(then=then, first_restart_seconds=0.01)
    await child.start()
    os.kill(pid(child), signal.SIGKILL)
    await until(lambda: len(calls) == 2 and child.entry.state is State.RUNNING)


async def test_what_follows_a_restart_is_tried_until_it_succeeds(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_module, "FIRST_RETRY_SECONDS", 0.01)
    calls: list[str] = []
    told = []

    async def then() -> None:
        calls.append(child.entry.detail)
        if 1 < len(calls) < 5:
            raise CannotStart("cannot provision: not now")

    child = make(then=then, first_restart_seconds=0.01)
    child._changed = lambda: told.append(child.entry.detail)
    await child.start()
    os.kill(pid(child), signal.SIGKILL)
    await until(lambda: len(calls) == 5 and child.entry.detail == "killed by SIGKILL")
    assert "cannot provision: not now" in told
    assert child.entry.state is State.RUNNING


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGTERM])
async def test_a_process_that_hangs_is_killed_and_started_again(
    make: Make, monkeypatch: pytest.MonkeyPatch, how: signal.Signals
) -> None:
    monkeypatch.setattr(pulse, "EVERY_SECONDS", 0.01)
    hangs: set[int] = set()

    async def answers() -> bool:
        return pid(child) not in hangs

    code = (
        "import signal\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('up', flush=True)\n"
        "while True: signal.pause()\n"
    )
    child = make(code, pulse=answers, first_restart_seconds=0.01, stop_seconds=0.1)
    await child.start()
    first = pid(child)
    await until(lambda: Path(child.entry.log).read_text())
    os.kill(first, how)
    hangs.add(first)
    await until(lambda: child.entry.state is State.RUNNING and pid(child) != first)
    assert (child.entry.restarts, child.entry.detail) == (1, "hung")


async def test_a_process_that_misses_a_beat_or_two_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "EVERY_SECONDS", 0.0)
    beats = iter([True, False, False, True, False, False, False, True])

    async def probe() -> bool:
        return next(beats)

    await pulse.until_it_stops(probe)
    assert list(beats) == [True]


def test_a_pause_of_15_seconds_is_tolerated() -> None:
    # The worst case: it begins as the first probe does, and each probe is missed only at its own limit.
    probes = pulse.MISSES * readiness._SECONDS + (pulse.MISSES - 1) * pulse.EVERY_SECONDS
    assert probes > 15


async def test_what_keeps_a_process_from_starting_is_put_aside_once(make: Make, tmp_path: Path) -> None:
    bad, calls = tmp_path / "bad", []
    bad.touch()

    def mend() -> bool:
        calls.append(1)
        bad.unlink(missing_ok=True)
        return True

    code = f"import os, signal, sys\nos.path.exists({str(bad)!r}) and sys.exit('bad')\nsignal.pause()"

    async def ready() -> bool:
        return not bad.exists()

    child = make(code, ready=ready, mend=mend)
    await child.start()
    assert (child.entry.restarts, calls) == (0, [1])
    hopeless = make("import sys; sys.exit('bad')", ready=_never, mend=mend)
    await child.stop()
    with pytest.raises(CannotStart, match="exited with 1"):
        await hopeless.start()
    assert calls == [1, 1]


async def test_nothing_is_put_aside_because_of_a_port_or_of_somebody_elses_signal(make: Make) -> None:
    for code in ("sys.exit('bind: Address already in use')", "os.kill(os.getpid(), 9)"):
        calls: list[bool] = []
        with pytest.raises(CannotStart):
            await make(
                f"import os, sys; {code}", ready=_never, mend=lambda told=calls: told.append(True) or True
            ).start()
        assert not calls


async def test_a_process_deaf_to_sigterm_is_killed_with_its_children(make: Make, tmp_path: Path) -> None:
    code = (
        "import os, signal\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "if os.fork(): print('deaf', flush=True)\n"
        "while True: signal.pause()\n"
    )
    child = make(code, stop_seconds=0.1)
    await child.start()
    await until(lambda: "deaf" in Path(child.entry.log).read_text())
    lock = Layout.at(tmp_path).lock("it")
    assert len(holders(lock)) == 2
    await child.stop()
    assert child.entry.state is State.STOPPED
    await until(lambda: not holders(lock))


async def test_two_processes_never_work_on_the_same_directory(make: Make, tmp_path: Path) -> None:
    child = make()
    await child.start()
    again = make()
    with pytest.raises(CannotStart, match="has not ended yet"):
        await again.start()
    assert not Lock(Layout.at(tmp_path).lock("it")).take()
    assert holders(Layout.at(tmp_path).lock("it")) == [pid(child)]


async def test_a_stop_while_it_starts_leaves_nothing_behind(make: Make, tmp_path: Path) -> None:
    child = make(ready=_never)
    starting = asyncio.create_task(child.start())
    await until(lambda: child.entry.process)
    await child.stop()
    assert not holders(Layout.at(tmp_path).lock("it"))
    starting.cancel()
    await asyncio.wait([starting])


@pytest.mark.parametrize(
    ("code", "said"),
    [(0, ""), (3, "exited with 3"), (-9, "killed by SIGKILL"), (-200, "killed by signal 200")],
)
def test_an_end_is_told_in_words(code: int, said: str) -> None:
    assert how_ended(code) == said
