"""A Salt master and its minions on loopback, asked by Salt's own client: the peer of orders."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.peers import program

from muster_testing.servers import free_port

_ASK = """
import json, logging, sys, time
import salt.client
logging.disable(logging.CRITICAL)
directory, minions, times = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
client = salt.client.LocalClient(c_path=directory + "/master")
deadline = time.monotonic() + 60
while len(client.cmd("*", "test.ping", timeout=5)) < minions:
    if time.monotonic() > deadline:
        sys.exit("not all minions answer")
took = []
for _ in range(times):
    began = time.perf_counter()
    answers = client.cmd("*", "test.ping", timeout=10)
    took.append(time.perf_counter() - began)
    if len(answers) != minions:
        sys.exit("a minion did not answer")
print(json.dumps(took))
"""
_START_SECONDS = 120.0


@dataclass(frozen=True)
class Salt:
    """A master with its minions; ``python`` is the interpreter Salt is installed for."""

    python: str
    home: Path
    minions: int

    def pings(self, times: int) -> list[float]:
        """Seconds of each ``test.ping`` to all minions, one after the other, by one client."""
        done = subprocess.run(
            [self.python, "-c", _ASK, str(self.home), str(self.minions), str(times)],
            capture_output=True, text=True, check=True, timeout=300,
        )  # fmt: skip
        times_taken: list[float] = json.loads(done.stdout.strip().splitlines()[-1])
        return times_taken


@contextmanager
def salt(directory: Path, minions: int) -> Iterator[Salt | None]:
    """Start a master and its minions; None where there is no Salt. Everything ends with the block."""
    master, minion = program("salt-master"), program("salt-minion")
    if master is None or minion is None:
        yield None
        return
    home = directory / "salt"
    home.mkdir()
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        publish, ret = free_port(), free_port()
        _configure(home / "master", "master", home, interface="127.0.0.1", publish_port=publish, ret_port=ret,
                   auto_accept=True, worker_threads=3)  # fmt: skip
        stack.enter_context(_running([master, "-c", str(home)], home))
        for number in range(minions):
            place = home / f"minion-{number}"
            place.mkdir()
            _configure(place / "minion", "minion", place, master="127.0.0.1", master_port=ret,
                       publish_port=publish, id=f"bench-{number}")  # fmt: skip
            stack.enter_context(_running([minion, "-c", str(place)], place))
        _wait_until_accepted(home, minions)
        yield Salt(str(Path(master).with_name("python")), home, minions)


def _wait_until_accepted(home: Path, minions: int) -> None:
    """Until the master knows all; a client made before there is a master reads no key, and never will."""
    deadline = time.monotonic() + _START_SECONDS
    while len(list((home / "pki-master" / "minions").glob("bench-*"))) < minions:
        if time.monotonic() > deadline:
            raise TimeoutError(f"cannot start salt: {(home / 'output').read_text()[-1000:]}")
        time.sleep(0.1)


def _configure(path: Path, kind: str, home: Path, **options: object) -> None:
    common = {"root_dir": str(home), "pki_dir": f"{home}/pki-{kind}", "cachedir": f"{home}/cache-{kind}",
              "sock_dir": f"{home}/sock-{kind}", "log_file": "/dev/null", "log_level": "error",
              "pidfile": f"{home}/{kind}.pid"}  # fmt: skip
    path.write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in {**common, **options}.items()))


@contextmanager
def _running(argv: list[str], home: Path) -> Iterator[None]:
    with (home / "output").open("ab") as out:
        process = subprocess.Popen(argv, stdout=out, stderr=out, stdin=subprocess.DEVNULL, cwd=home)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
