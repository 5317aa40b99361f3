"""B18: how long `muster up` takes in an empty directory and in a used one, and what then is resident."""

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.bench.measure import Row

_TIMES = 3
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
            resident.append(_resident(json.loads(_muster("status", directory, "--json"))))
        finally:
            _muster("down", directory)
            shutil.rmtree(directory, ignore_errors=True)
    return _rows(statistics.median(first), statistics.median(again), max(resident))


def _rows(first: float, again: float, resident: float) -> list[Row]:
    return [
        Row("B18", "muster up in an empty directory", first, "s", "<= 6 s", first <= 6),
        Row("B18", "muster up again", again, "s", "<= 6 s", again <= 6),
        Row("B18", "control plane, resident", resident, "MiB", "<= 450 MiB", resident <= 450),
    ]


def _seconds_up(directory: str) -> float:
    began = time.monotonic()
    _muster("up", directory, "--detach")
    return time.monotonic() - began


def _resident(status: dict[str, Any]) -> float:
    return sum(one["memory_bytes"] or 0 for one in status["processes"] if one["name"] != _AGENT) / _MIB


def _muster(command: str, directory: str, *options: str) -> str:
    done = subprocess.run(
        [_MUSTER, command, "--dir", directory, *options],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout
