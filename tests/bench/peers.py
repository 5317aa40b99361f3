"""Peers this machine may have: agents people use, each idle and alone, as they come.

Looked for on the PATH and in ``MUSTER_BENCH_PEERS`` (the ``bin`` of an environment with ``pip install
supervisor salt celery redis``); those that are not there are left out.
"""

import os
import shutil
from pathlib import Path


def peers(directory: Path) -> dict[str, list[str]]:
    """The command of each peer that is there, configured to live in ``directory`` only."""
    found = {}
    for name, configure in {"supervisord": _supervisord, "salt-minion": _salt_minion}.items():
        if where := program(name):
            home = directory / name
            home.mkdir()
            found[name] = configure(where, home)
    return found


def program(name: str) -> str | None:
    """Where a peer's program is, if this machine has it."""
    places = [os.environ.get("MUSTER_BENCH_PEERS", ""), os.environ.get("PATH", "")]
    return shutil.which(name, path=os.pathsep.join(places))


def _supervisord(program: str, home: Path) -> list[str]:
    config = home / "supervisord.conf"
    config.write_text(
        f"[supervisord]\nnodaemon=true\nlogfile=/dev/null\nlogfile_maxbytes=0\n"
        f"pidfile={home}/pid\nchildlogdir={home}\n"
    )
    return [program, "-n", "-c", str(config)]


def _salt_minion(program: str, home: Path) -> list[str]:
    # No master: it goes on trying to reach one, which takes less memory than being its minion.
    (home / "minion").write_text(
        f"master: 127.0.0.1\nmaster_port: 1\nid: bench\nroot_dir: {home}\npki_dir: {home}/pki\n"
        f"cachedir: {home}/cache\nsock_dir: {home}/sock\nlog_file: /dev/null\nlog_level: quiet\n"
    )
    return [program, "-c", str(home)]
