"""B18: how long `muster up` takes in an empty directory and in a used one, and what then is resident."""

import contextlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from tests.bench.measure import Row

_TIMES = 3
_SETTLE_SECONDS = 3.0
_MUSTER = str(Path(sys.executable).parent / "muster")
_MIB = 1 << 20
_AGENT = "host-agent"
"""Looks after this machine and is no part of the control plane."""


def run() -> list[Row]:
    """Three directories, each started empty and started again."""
    first, again, resident = [], [], []
    for _ in range(_TIMES):
        directory = tempfile.mkdtemp(prefix="muster-cold-")
        try:
            first.append(_seconds_up(directory))
            _muster("down", directory)
            again.append(_seconds_up(directory))
            time.sleep(_SETTLE_SECONDS)
            resident.append(_resident(json.loads(_muster("status", directory, "--json"))))
        finally:
            with contextlib.suppress(RuntimeError):
                _muster("down", directory)
            shutil.rmtree(directory, ignore_errors=True)
    return _rows(statistics.median(first), statistics.median(again), *max(resident))


def _rows(first: float, again: float, resident: float, proportional: float) -> list[Row]:
    return [
        Row("B18", "muster up in an empty directory", first, "s", "<= 6 s", first <= 6),
        Row("B18", "muster up again", again, "s", "<= 6 s", again <= 6),
        Row("B18", "control plane, resident", resident, "MiB", "<= 450 MiB", resident <= 450),
        Row("B18", "control plane, proportional", proportional, "MiB", "", None),
    ]


def _seconds_up(directory: str) -> float:
    began = time.monotonic()
    _muster("up", directory, "--detach")
    return time.monotonic() - began


def _resident(status: dict[str, Any]) -> tuple[float, float]:
    """Resident and proportional memory, the supervisor included; status itself tells the proportional one."""
    control_plane = [one for one in status["processes"] if one["name"] != _AGENT]
    pids = [one["pid"] for one in [*control_plane, status["supervisor"]]]
    # Alone, not with its children: the supervisor is the parent of all the others.
    infos = [psutil.Process(pid).memory_full_info() for pid in pids]
    return sum(one.rss for one in infos) / _MIB, sum(one.pss for one in infos) / _MIB


def _muster(command: str, directory: str, *options: str) -> str:
    full = [_MUSTER, command, "--dir", directory, *options]
    done = subprocess.run(full, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"cannot measure: muster {command} says {done.stdout}{done.stderr}")
    return done.stdout
