"""Who holds a lock is found by the lock, not by the file: reading it is no reason to be stopped."""

import subprocess
import sys
from pathlib import Path

from muster_client.embedded.locks import Lock, holders

WAIT = [sys.executable, "-S", "-c", "import sys; sys.stdin.read()"]


def test_who_inherited_the_lock_holds_it_and_who_only_reads_the_file_does_not(tmp_path: Path) -> None:
    path = tmp_path / "it.lock"
    lock = Lock(path)
    assert lock.take()
    with (
        path.open("rb") as reading,
        subprocess.Popen(WAIT, stdin=subprocess.PIPE, pass_fds=[lock.descriptor]) as holder,
        subprocess.Popen(WAIT, stdin=subprocess.PIPE, pass_fds=[reading.fileno()]) as reader,
    ):
        lock.drop()
        assert holders(path) == [holder.pid]
        for process in (holder, reader):
            process.communicate()


def test_nobody_holds_what_is_no_ordinary_file(tmp_path: Path) -> None:
    path, lock = tmp_path / "link", Lock(tmp_path / "it.lock")
    path.symlink_to(lock.path)
    assert lock.take()
    with subprocess.Popen(WAIT, stdin=subprocess.PIPE, pass_fds=[lock.descriptor]) as holder:
        lock.drop()
        assert holders(path) == []
        holder.communicate()
