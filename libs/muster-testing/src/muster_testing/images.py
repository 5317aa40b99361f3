"""Images for tests, made on this machine: no registry is asked.

``python -m muster_testing.images`` makes what takes a minute and the network, once for each user: Debian with
systemd. Tests that want it are skipped until then. It needs root, ``debootstrap`` and nothing but Python.
"""

import contextlib
import fcntl
import shutil
import subprocess
import tempfile
from collections.abc import Generator
from pathlib import Path

from muster_testing.engine import WHERE, cache

BUSYBOX = "muster-test-busybox"
APPLETS = ("cat", "echo", "false", "kill", "printf", "seq", "setsid", "sh", "sleep", "true")
SYSTEMD = "muster-test-systemd"
SYSTEMD_PACKAGES = ("systemd", "systemd-sysv", "dbus", "dbus-user-session")
"""dbus-user-session brings the pam module without which a user's own systemd has no place for its socket."""


def busybox(host: str) -> str:
    """A shell and a dozen programs in 2 MB, from the package busybox-static; returns the image's name."""
    with _once(BUSYBOX):
        if not _is_there(host, BUSYBOX):
            with tempfile.TemporaryDirectory() as root:
                _fill_with_busybox(Path(root))
                _import(host, BUSYBOX, _tarball(Path(root), Path(root).with_suffix(".tar"))).unlink()
    return BUSYBOX


def systemd(host: str) -> str:
    """Debian 12 with systemd, from debootstrap; returns the image's name."""
    tarball = systemd_tarball()
    with _once(SYSTEMD):
        if not _is_there(host, SYSTEMD):
            _import(host, SYSTEMD, tarball)
    return SYSTEMD


def has_systemd() -> bool:
    """Whether the files of that image are there; no test fetches them."""
    return _systemd_tarball().exists()


def systemd_tarball() -> Path:
    """Its files, made if they are not there."""
    tarball = _systemd_tarball()
    with _once(tarball.name):
        if not tarball.exists():
            with tempfile.TemporaryDirectory(dir=cache()) as root:
                _debootstrap(Path(root), SYSTEMD_PACKAGES)
                # Root's own systemd runs from the start, as after 'loginctl enable-linger root'.
                linger = Path(root, "var/lib/systemd/linger")
                linger.mkdir(parents=True, exist_ok=True)
                (linger / "root").touch()
                _tarball(Path(root), tarball)
    return tarball


def _systemd_tarball() -> Path:
    return cache() / "images" / f"{SYSTEMD}.tar"


def _debootstrap(root: Path, packages: tuple[str, ...]) -> None:
    argv = [
        _program("debootstrap"),
        "--variant=minbase",
        f"--include={','.join(packages)}",
        "bookworm",
        str(root),
    ]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"cannot make a Debian: {(done.stdout + done.stderr)[-2000:]}")
    for litter in (*root.glob("var/cache/apt/archives/*.deb"), *root.glob("var/lib/apt/lists/*_*")):
        litter.unlink()


def _fill_with_busybox(root: Path) -> None:
    for folder in ("bin", "tmp", "proc", "sys", "dev", "etc"):
        (root / folder).mkdir()
    busybox = _program("busybox")
    if b"/ld-linux" in Path(busybox).read_bytes()[:4096]:
        raise RuntimeError(f"cannot run {busybox} without its libraries: apt-get install busybox-static")
    shutil.copy(busybox, root / "bin/busybox")
    for applet in APPLETS:
        (root / "bin" / applet).symlink_to("busybox")


def _tarball(root: Path, path: Path) -> Path:
    """Pack a folder; the file is there once it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    subprocess.run(["tar", "-C", root, "-cf", part, "."], check=True)
    return part.rename(path)


def _import(host: str, name: str, tarball: Path) -> Path:
    subprocess.run(["docker", "--host", host, "import", tarball, name], check=True, capture_output=True)
    return tarball


def _is_there(host: str, name: str) -> bool:
    argv = ["docker", "--host", host, "image", "inspect", name]
    return subprocess.run(argv, check=False, capture_output=True).returncode == 0


@contextlib.contextmanager
def _once(what: str) -> Generator[None]:
    """Several test processes want the same image at the same time; one makes it."""
    with (cache() / f"{what}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _program(name: str) -> str:
    path = shutil.which(name, path=WHERE)
    if path is None:
        raise RuntimeError(f"cannot make images without {name}: apt-get install {name}")
    return path


if __name__ == "__main__":
    systemd_tarball()
