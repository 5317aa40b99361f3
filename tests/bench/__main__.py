"""``python -m tests.bench [B1 B2 …]``: run benchmarks, each in a process of its own; print one table."""

import argparse
import contextlib
import importlib
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

from tests.bench.measure import Row


@dataclass(frozen=True)
class Benchmark:
    """Which module runs a benchmark, and the seconds after which it is ended from outside."""

    module: str
    limit_seconds: float


_CLEAN_UP_SECONDS = 20.0

BENCHMARKS = {
    "B1": Benchmark("tests.bench.b01_ingest", 120),
    "B2": Benchmark("tests.bench.b02_sweep", 120),
    "B3": Benchmark("tests.bench.b03_history", 240),
    "B5": Benchmark("tests.bench.b05_orders", 300),
    "B6": Benchmark("tests.bench.b06_fanout", 300),
    "B7": Benchmark("tests.bench.b07_footprint", 120),
    "B8": Benchmark("tests.bench.b08_restart", 180),
    "B9": Benchmark("tests.bench.b09_adoption", 180),
    "B14": Benchmark("tests.bench.b14_connections", 360),
    "B18": Benchmark("tests.bench.b18_cold_start", 120),
    "B19": Benchmark("tests.bench.b19_codec", 60),
    "H1": Benchmark("tests.bench.h01_checks", 300),
    "H2": Benchmark("tests.bench.h02_judging", 420),
}


def main(arguments: list[str] | None = None) -> int:
    """Run what was asked for: 0: every target met; 1: one missed; 2: one could not be measured."""
    options = _parser().parse_args(arguments)
    if options.inside:
        return _inside(options.only[0])
    chosen = options.only or list(BENCHMARKS)
    rows, failures = [], []
    for name in chosen:
        found, failure = _outside(name)
        rows += found
        failures += [failure] if failure else []
    sys.stdout.write(_as_json(rows, failures) if options.json else table(rows))
    for failure in failures:
        sys.stderr.write(f"{failure}\n")
    return 2 if failures else int(any(row.met is False for row in rows))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("only", nargs="*", choices=[[], *BENCHMARKS], metavar="ID", help="for example B1 B19")
    parser.add_argument("--json", action="store_true", help="rows for programs")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser


def _inside(name: str) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    rows: list[Row] = importlib.import_module(BENCHMARKS[name].module).run()
    sys.stdout.write(json.dumps([row.as_dict() for row in rows]))
    return 0


def _outside(name: str) -> tuple[list[Row], str]:
    """Run one benchmark; its processes and files are gone afterwards, whatever happens."""
    sys.stderr.write(f"{name} …")
    sys.stderr.flush()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="muster-bench-", ignore_cleanup_errors=True) as directory:
        outcome = _child(name, directory)
    sys.stderr.write(f" {time.monotonic() - began:.0f} s\n")
    return outcome


def _child(name: str, directory: str) -> tuple[list[Row], str]:
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.bench", "--inside", name],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=os.environ | {"TMPDIR": directory},
    )
    try:
        out, err = child.communicate(timeout=BENCHMARKS[name].limit_seconds)
    except subprocess.TimeoutExpired:
        return [], f"cannot finish {name} within {BENCHMARKS[name].limit_seconds:.0f} s"
    finally:
        _end(child)
    if child.returncode != 0:
        return [], f"cannot measure {name}: {err.decode(errors='replace')[-2000:]}"
    return [Row(**row) for row in json.loads(out)], ""


def _end(child: "subprocess.Popen[bytes]") -> None:
    """Let it clean up (a fleet in the background is not of its group), then end the whole group."""
    child.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(_CLEAN_UP_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _as_json(rows: list[Row], failures: list[str]) -> str:
    # What was never seen took for ever, which JSON cannot say.
    finite = [
        {key: None if value in {math.inf, -math.inf} else value for key, value in row.as_dict().items()}
        for row in rows
    ]
    return json.dumps({"rows": finite, "failures": failures}, indent=2) + "\n"


_HEADS = ("id", "what", "Muster", "peer or limit", "ratio", "target", "verdict")


def table(rows: list[Row]) -> str:
    """The rows for people, columns as wide as they must be."""
    lines = [_HEADS, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADS))]
    return "".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() + "\n"
                   for line in lines)  # fmt: skip


def _cells(row: Row) -> tuple[str, ...]:
    peer = "" if row.peer is None else f"{_number(row.peer)} {row.unit} {row.peer_name}".strip()
    verdict = {True: "met", False: "MISSED", None: "-"}[row.met]
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    what = f"{row.what} ({row.note})" if row.note else row.what
    return row.id, what, f"{_number(row.muster)} {row.unit}", peer, ratio, row.target, verdict


def _number(value: float) -> str:
    if abs(value) >= 1000 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


if __name__ == "__main__":
    sys.exit(main())
