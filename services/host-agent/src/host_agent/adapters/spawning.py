"""Making the process of a package: another user, a session of its own, and nothing of ours.

Processes are made by a thread that has given up privileges for good (no new privileges, no ambient
capabilities, no blocked signals): these are properties of a thread, and its children inherit them. The rest
is done by CPython's own fork-and-exec in C, so no Python runs between fork and exec. A change of user empties
the capabilities; it is looked at afterwards, and what is not as it was asked for is killed at once.
"""

import ctypes
import grp
import os
import pwd
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from host_agent.adapters.process_tree import Process, identities, look
from host_agent.ports import CannotRun

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a process runs as."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    name: str
    home: str
    shell: str
    switched: bool
    """Whether that is somebody else than the agent."""

    def variables(self) -> dict[str, str]:
        """What every process is told of itself."""
        shell = {"SHELL": self.shell} if self.shell else {}
        return shell | {
            "PATH": PATH,
            "LANG": "C.UTF-8",
            "HOME": self.home,
            "USER": self.name,
            "LOGNAME": self.name,
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """A process to be made."""

    what: str
    """What it is for, in errors: ``start package web``."""
    argv: Sequence[str]
    executable: str
    directory: Path
    environment: Mapping[str, str]
    identity: Identity
    umask: int = -1


@dataclass(frozen=True, slots=True)
class Spawned:
    """A process that has been executed; ``handle`` is a pidfd that whoever has this closes."""

    process: Process
    handle: int


class Spawner:
    """Makes processes, one at a time, on a thread of its own.

    This process becomes the parent of orphans among their descendants, so that they can be found and buried.

    Raises:
        CannotRun: the system is not one this works on.
    """

    def __init__(self) -> None:
        if not hasattr(os, "pidfd_open"):
            raise CannotRun("cannot keep processes: this needs Linux 5.3 or later", "no-driver")
        _prctl(PR_SET_CHILD_SUBREAPER, 1)
        _hear_what_is_ignored()
        self._thread = ThreadPoolExecutor(1, "spawner", initializer=_give_up_privileges)

    @property
    def thread(self) -> ThreadPoolExecutor:
        """Where ``spawn`` has to be called."""
        return self._thread

    def close(self) -> None:
        """Make no more."""
        self._thread.shutdown(wait=False)

    def spawn(self, plan: Plan, output: int) -> Spawned:
        """Make a process that prints to the descriptor ``output``.

        Raises:
            CannotRun: it cannot be executed; nothing is left of it.
        """
        child = _execute(plan, output)
        # The process is ours until we bury it, so its pid is its own here.
        handle = os.pidfd_open(child.pid)
        try:
            status = look(child.pid)
            assert status, "a child that nobody has buried"
            if plan.identity.switched:
                _verify(plan, child.pid)
        except BaseException:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            child.wait()
            os.close(handle)
            raise
        child.returncode = 0  # subprocess shall forget it: whoever has the handle waits for it
        return Spawned(status.process, handle)


def identity(what: str, user: str | None, group: str | None = None) -> Identity:
    """Whom to run as.

    Raises:
        CannotRun: there is no such user or group, or we may not become it.
    """
    entry = _user(what, user)
    gid = _group(what, group) if group else entry.pw_gid if user else os.getegid()
    switched = (entry.pw_uid, gid) != (os.geteuid(), os.getegid())
    if switched and os.geteuid() != 0:
        asked = f"user {entry.pw_name}" + (f" and group {group}" if group else "")
        text = f"cannot {what} as {asked}: the agent is not root; run it as root, or as {entry.pw_name}"
        raise CannotRun(text, "not-permitted")
    groups = tuple(sorted(set(os.getgrouplist(entry.pw_name, gid)))) if switched else ()
    return Identity(entry.pw_uid, gid, groups, entry.pw_name, entry.pw_dir or "/", entry.pw_shell, switched)


def executable(what: str, program: str, directory: Path, search: str) -> str:
    """The file to execute: as given, below ``directory`` if it has a slash, else on the path ``search``.

    Raises:
        CannotRun: there is none.
    """
    if "/" in program:
        path = directory / program
        if path.is_file():
            return str(path)
        raise CannotRun(f"cannot {what}: there is no program {path}", "no-executable")
    for place in search.split(":"):
        path = directory / place / program
        if path.is_file() and os.access(path, os.X_OK):
            return str(path)
    raise CannotRun(f"cannot {what}: there is no program {program} on PATH ({search})", "no-executable")


def _user(what: str, user: str | None) -> pwd.struct_passwd:
    if user is None:
        try:
            return pwd.getpwuid(os.geteuid())
        except KeyError:  # as in a container that was given a bare number
            number = os.geteuid()
            return pwd.struct_passwd((str(number), "x", number, os.getegid(), "", "/", ""))
    try:
        return pwd.getpwnam(user)
    except KeyError:
        raise CannotRun(f"cannot {what}: there is no user {user} on this machine", "no-user") from None


def _group(what: str, group: str) -> int:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise CannotRun(f"cannot {what}: there is no group {group} on this machine", "no-user") from None


def _execute(plan: Plan, output: int) -> "subprocess.Popen[bytes]":
    who = plan.identity
    switch = {"user": who.uid, "group": who.gid, "extra_groups": list(who.groups)} if who.switched else {}
    try:
        return subprocess.Popen(  # type: ignore[call-overload,no-any-return]  # (of the user, if any)
            plan.argv,
            executable=plan.executable,
            cwd=plan.directory,
            env=plan.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            umask=plan.umask,
            **switch,
        )
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise _refusal(plan, error) from None


def _refusal(plan: Plan, error: Exception) -> CannotRun:
    why = (error.strerror if isinstance(error, OSError) else None) or str(error)
    if isinstance(error, FileNotFoundError):
        why = "it is gone, or the interpreter its first line names is missing"
    text = f"cannot {plan.what}: {plan.executable} cannot be executed by user {plan.identity.name}: {why}"
    return CannotRun(text, "no-executable" if isinstance(error, OSError | ValueError) else "failed")


def _verify(plan: Plan, pid: int) -> None:
    """What the kernel says a process is has to be what was asked for.

    Raises:
        CannotRun: it is not.
    """
    who, found = plan.identity, identities(pid)
    right = (
        set(found["Uid"]) == {str(who.uid)}
        and set(found["Gid"]) == {str(who.gid)}
        and set(found["Groups"]) == set(map(str, who.groups))
        and (who.uid == 0 or int(found["CapEff"][0], 16) == 0)
        and found["NoNewPrivs"] == ["1"]
    )
    if not right:
        text = f"cannot {plan.what}: its process did not become user {who.name} in every respect"
        raise CannotRun(text, "not-permitted")


def _give_up_privileges() -> None:
    """Of this thread and whoever it makes."""
    _prctl(PR_SET_NO_NEW_PRIVS, 1)
    _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, may_fail=True)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _hear_what_is_ignored() -> None:
    """A signal that is ignored is ignored by all our children; one with a handler is not."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:  # subprocess resets these
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def _prctl(option: int, value: int, *, may_fail: bool = False) -> None:
    """Change a property of this process or thread.

    Raises:
        OSError: the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    unused = [ctypes.c_ulong(0)] * 3
    if libc.prctl(option, ctypes.c_ulong(value), *unused) != 0 and not may_fail:
        raise OSError(ctypes.get_errno(), f"cannot set property {option} of this process")
