"""Starting and stopping a fleet from a command: in the background, in this very process, or by waking one."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from muster_client.embedded.errors import CannotStart, FleetError
from muster_client.embedded.layout import Layout
from muster_client.embedded.locks import Lock
from muster_client.embedded.logfiles import open_log, rotate, tail
from muster_client.embedded.orphans import orphans, stop_orphans
from muster_client.embedded.record import Phase, Record, State, read

WAKE_SECONDS = 60.0
"""What has not started by then does not start by waiting."""
STOP_SECONDS = 90.0
SETTLE_SECONDS = 10.0
"""A supervisor that holds the lock has written its record by then, also on a busy machine."""
ANOTHER_RUNS = 75
"""Exit code of a supervisor that found another one at work."""
_POLL_SECONDS = 0.02

Show = Callable[[Record], None]


def in_foreground(layout: Layout) -> NoReturn:
    """Become the supervisor: the same process, without what the command line had to import.

    Raises:
        CannotStart: this Python cannot be started again.
    """
    with suppress(OSError):  # whoever read us is gone
        sys.stdout.flush()
    command = [*_supervisor(layout), "--foreground"]
    try:
        os.execv(command[0], command)  # noqa: S606  (no shell wanted)
    except OSError as error:
        raise CannotStart(f"cannot start {command[0]}: {error.strerror}") from error


def in_background(layout: Layout, show: Show) -> Record:
    """Start a supervisor of its own session and return when the fleet is ready.

    Raises:
        CannotStart: it could not be started; the text names the part and quotes its log.
    """
    rotate(layout.log("supervisor"))
    log = open_log(layout.log("supervisor"))
    try:
        process = subprocess.Popen(
            _supervisor(layout),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
        )
    finally:
        os.close(log)
    return _until_ready(layout, process, show)


def is_running(layout: Layout) -> bool:
    """Whether a supervisor looks after the directory; one that is about to end is waited for."""
    record = read(layout)
    if record.supervisor and record.phase in (Phase.STOPPING, Phase.STOPPED, Phase.FAILED):
        record.supervisor.wait(STOP_SECONDS)
    return read(layout).supervised


def wake(layout: Layout, show: Show) -> Record:
    """Have the running supervisor start what has stopped, and return when everything runs.

    Raises:
        CannotStart: something still does not run after a while.
    """
    deadline = time.monotonic() + WAKE_SECONDS
    woken = False
    while time.monotonic() < deadline:
        record = _settled(layout)
        show(record)
        if not record.supervised:
            raise CannotStart(_why(layout, record))
        if record.phase is Phase.READY and all(entry.state is State.RUNNING for entry in record.entries):
            return record
        # Only once it is ready: before that everything is being started anyway.
        if record.phase is Phase.READY and not woken:
            woken = record.supervisor is not None and record.supervisor.signal(signal.SIGUSR1)
        time.sleep(_POLL_SECONDS)
    raise CannotStart("cannot start everything: " + _missing(read(layout)))


def stop(layout: Layout) -> list[str]:
    """Stop the fleet in order, its supervisor last; the names of what was stopped, none if nothing ran.

    Raises:
        FleetError: something did not end, or others may have written what would be believed here.
    """
    if not os.path.lexists(layout.root):
        return []
    layout.check()
    record = _settled(layout)
    stopped = [entry.name for entry in reversed(record.survivors)]
    if record.supervised and record.supervisor:
        # The supervisor ends its processes one by one; beyond its own limits it is stuck.
        record.supervisor.stop(STOP_SECONDS)
    stopped += [name for name in stop_orphans(layout, read(layout)) if name not in stopped]
    left = orphans(layout, read(layout))
    if left:
        names = ", ".join(f"{name} (pid {process.pid})" for name, process in left)
        raise FleetError(f"cannot stop {names}: still there after SIGKILL; look at the disk it waits for")
    return stopped


def _supervisor(layout: Layout) -> list[str]:
    return [sys.executable, "-P", "-m", "muster_client.embedded", "--dir", str(layout.root)]


def _until_ready(layout: Layout, process: "subprocess.Popen[bytes]", show: Show) -> Record:
    while True:
        code = process.poll()
        record = read(layout)
        if record.supervisor and record.supervisor.pid == process.pid and record.supervisor.alive:
            show(record)
            if record.phase is Phase.READY:
                return record
        if code == ANOTHER_RUNS:
            return wake(layout, show)
        if code is not None:
            raise CannotStart(_why(layout, read(layout)))
        time.sleep(_POLL_SECONDS)


def _settled(layout: Layout) -> Record:
    """The record, once a supervisor that has just started has written its own."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        record = read(layout)
        if record.supervised or not _is_locked(layout) or time.monotonic() > deadline:
            return record
        time.sleep(_POLL_SECONDS)


def _is_locked(layout: Layout) -> bool:
    if not layout.lock("supervisor").exists():
        return False
    lock = Lock(layout.lock("supervisor"))
    free = lock.take()
    lock.drop()
    return not free


def _why(layout: Layout, record: Record) -> str:
    lines = tail(layout.log("supervisor"), 8)
    if lines and lines[-1].startswith("cannot"):  # it could not even write its record
        return lines[-1]
    if record.phase is Phase.FAILED and record.problem:
        return record.problem
    if record.phase in (Phase.STOPPING, Phase.STOPPED):
        return "cannot start: it was told to stop meanwhile"
    quoted = "".join(f"\n  {line}" for line in lines)
    return f"cannot start the supervisor; the end of {layout.log('supervisor')}:{quoted}"


def _missing(record: Record) -> str:
    return ", ".join(
        f"{entry.name} is {entry.state} ({entry.detail or 'no reason known'}; see {entry.log})"
        for entry in record.entries
        if entry.state is not State.RUNNING
    )
