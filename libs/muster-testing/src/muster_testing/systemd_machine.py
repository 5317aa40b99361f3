"""A machine that runs systemd, in a container: for tests of what controls units.

``with engine.running() as host, SystemdMachine(host) as machine: machine.install("web.service",
"[Service]…")``

It is no privileged container (the machines of CI lack one capability for that): SYS_ADMIN, no seccomp
filter and the machine's own control groups are enough. ``--cgroupns=host`` makes the paths systemd tells
of those this machine knows. Root in there lingers (``images``), so that ``systemctl --user`` has somebody
to talk to.
"""

import os
import subprocess
import time
from typing import Self

from muster_testing import engine, images

BOOT_SECONDS = 60.0
FLAGS = (
    *("--detach", "--rm", "--cgroupns=host", "--cap-add=SYS_ADMIN"),
    *("--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined"),
    *("--volume=/sys/fs/cgroup:/sys/fs/cgroup:rw", "--tmpfs=/run", "--tmpfs=/tmp", "--env=container=docker"),
)


def is_to_be_had() -> bool:
    """Whether this machine can run one: root, an engine, and an image that was made."""
    return os.geteuid() == 0 and engine.is_to_be_had() and images.has_systemd()


class SystemdMachine:
    """A booted systemd; removed at the end."""

    def __init__(self, host: str) -> None:
        self._docker = ("docker", "--host", host)
        self._image = images.systemd(host)
        self._container = ""
        self._init = 0

    def command(self, name: str) -> tuple[str, ...]:
        """The argument list that runs a program in there, as root with a user session."""
        # Ten times as quick as 'docker exec', and drivers call a lot.
        enter = ("nsenter", f"--target={self._init}", "--mount", "--uts", "--ipc", "--net", "--pid")
        return (*enter, "env", "XDG_RUNTIME_DIR=/run/user/0", name)

    @property
    def systemctl(self) -> tuple[str, ...]:
        """The beginning of a systemctl call."""
        return self.command("systemctl")

    @property
    def journalctl(self) -> tuple[str, ...]:
        """The beginning of a journalctl call."""
        return self.command("journalctl")

    def install(self, unit: str, text: str, *, user: bool = False) -> None:
        """Put a unit file in its place and let systemd read it."""
        path = f"/etc/systemd/{'user' if user else 'system'}/{unit}"
        self.run("sh", "-c", f"cat > {path}", stdin=text)
        self.run("systemctl", *(["--user"] if user else []), "daemon-reload")

    def run(self, program: str, *arguments: str, stdin: str = "") -> str:
        """Run a program in there and return what it printed."""
        argv = (*self.command(program), *arguments)
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode:
            raise RuntimeError(f"cannot run {program} {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def __enter__(self) -> Self:
        argv = (*self._docker, "run", *FLAGS, self._image, "/sbin/init")
        done = subprocess.run(argv, capture_output=True, text=True, check=True)
        self._container = done.stdout.strip()
        try:
            pid = ("inspect", "--format={{.State.Pid}}", self._container)
            self._init = int(subprocess.check_output((*self._docker, *pid)))
            self._wait_until_booted()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        argv = (*self._docker, "rm", "--force", self._container)
        subprocess.run(argv, capture_output=True, check=False)

    def _wait_until_booted(self) -> None:
        deadline = time.monotonic() + BOOT_SECONDS
        while not (self._is_up() and self._is_up("--user")):
            if time.monotonic() > deadline:
                raise RuntimeError(f"cannot boot systemd within {BOOT_SECONDS:g} s: {self._state()}")
            time.sleep(0.05)

    def _is_up(self, *scope: str) -> bool:
        return self._state(*scope) in {"running", "degraded"}

    def _state(self, *scope: str) -> str:
        argv = (*self.systemctl, *scope, "is-system-running")
        return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.strip()
