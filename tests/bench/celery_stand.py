"""A celery worker on loopback with Redis as broker and result store: the peer of orders to one machine."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.peers import program

from muster_testing.servers import RedisServer

_APP = """
from celery import Celery
app = Celery("bench_app", broker={url!r}, backend={url!r})
app.conf.worker_hijack_root_logger = False
@app.task
def add(a, b):
    return a + b
"""
_ASK = """
import json, sys, time
from bench_app import add
add.delay(1, 2).get(timeout=60)
took = []
for _ in range(int(sys.argv[1])):
    began = time.perf_counter()
    add.delay(1, 2).get(timeout=10)
    took.append(time.perf_counter() - began)
print(json.dumps(took))
"""


@dataclass(frozen=True)
class Celery:
    """One worker with one process; ``python`` is the interpreter celery is installed for."""

    python: str
    home: Path

    def round_trips(self, times: int) -> list[float]:
        """Seconds of each ``add.delay().get()``, one after the other."""
        done = subprocess.run(
            [self.python, "-c", _ASK, str(times)],
            capture_output=True, text=True, check=True, timeout=120, cwd=self.home,
        )  # fmt: skip
        took: list[float] = json.loads(done.stdout.strip().splitlines()[-1])
        return took


@contextmanager
def celery(directory: Path) -> Iterator[Celery | None]:
    """Start Redis and a worker; None where there is no celery. Everything ends with the block."""
    where = program("celery")
    if where is None:
        yield None
        return
    home = directory / "celery"
    home.mkdir()
    with RedisServer() as redis:
        (home / "bench_app.py").write_text(_APP.format(url=redis.url))
        command = [where, "-A", "bench_app", "worker", "-c", "1", "-l", "ERROR", "--without-mingle"]
        with (home / "output").open("ab") as out:
            worker = subprocess.Popen(command, stdout=out, stderr=out, cwd=home)
        try:
            yield Celery(str(Path(where).with_name("python")), home)
        finally:
            worker.terminate()
            worker.wait(20)
