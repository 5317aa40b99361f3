"""The real process against a real broker that checks every subject it uses."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self, TypeVar

import psutil
import pytest

from muster_bus.bus import Bus
from muster_contracts.agent.v1 import (
    AdoptInterval,
    AgentKind,
    Heartbeat,
    Hello,
    LeaveReason,
    Left,
    Reconfigured,
    Welcome,
)
from muster_contracts.host.v1 import Described, ReadVitals, Vitals
from muster_contracts.message import Message
from muster_testing.ground import Ground
from muster_testing.wait import until

PROGRAM = str(Path(sys.executable).with_name("host-agent"))
WHO = "web-1"
CANARY = "canary-7f3a"

M = TypeVar("M", bound=Message)


class Process:
    """A host-agent with a state directory of its own."""

    def __init__(self, ground: Ground, directory: Path, **settings: str) -> None:
        self.state, self.config = directory / "state", directory / "agent.yaml"
        self.port_file = directory / "port"
        self.log = directory / "log"
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "HOST_AGENT_CONFIG": str(self.config),
            "HOST_AGENT_SERVERS": ground.server.url,
            "HOST_AGENT_STATE_DIR": str(self.state),
            "HOST_AGENT_HEALTH_PORT_FILE": str(self.port_file),
            **settings,
        }
        self.child: subprocess.Popen[bytes] | None = None
        if not self.config.exists():
            self.config.write_text("interval_seconds: 0.2\nsample_seconds: 1\n")
        if not self.state.exists():
            self._give_identity(ground)

    def _give_identity(self, ground: Ground) -> None:
        self.state.mkdir(mode=0o700)
        seed = ground.settings(WHO).seed_file
        assert seed
        shutil.copy(seed, self.state / "agent.seed")
        (self.state / "agent-id").write_text(f"{WHO}\n")

    def start(self) -> Self:
        with self.log.open("ab") as log:
            self.child = subprocess.Popen([PROGRAM], env=self.environment, stdout=log, stderr=log)
        return self

    async def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        assert self.child
        self.child.send_signal(how)
        return await asyncio.to_thread(self.child.wait, 15)

    async def page(self, path: str) -> str:
        port = await until(lambda: self.port_file.exists() and self.port_file.read_text().strip())
        return await asyncio.to_thread(
            lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}{path}").read().decode()
        )


class Ear:
    """Hears everything the agent says, live, as an operator."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.said: list[Any] = []

    async def listen(self) -> Self:
        for contract in (Heartbeat, Vitals, Left, Described, Reconfigured):
            await self.bus.hear(contract, self._keep)
        return self

    async def _keep(self, message: Any) -> None:
        self.said.append(message)

    def heard(self, kind: type[M]) -> list[M]:
        return [message for message in self.said if isinstance(message, kind)]

    async def first(self, kind: type[M], after: int = 0) -> M:
        await until(lambda: len(self.heard(kind)) > after, 15)
        return self.heard(kind)[after]


@pytest.fixture
async def ground() -> AsyncIterator[Ground]:
    async with Ground(WHO) as ground:
        yield ground


@pytest.fixture
async def ear(ground: Ground) -> Ear:
    return await Ear(await ground.bus("operator")).listen()


@pytest.fixture
async def process(ground: Ground, tmp_path: Path) -> AsyncIterator[Process]:
    process = Process(ground, tmp_path)
    try:
        yield process
    finally:
        if process.child and process.child.poll() is None:
            process.child.kill()
            process.child.wait(10)


async def test_an_agent_describes_its_machine_beats_and_says_how_it_is(process: Process, ear: Ear) -> None:
    process.start()
    described, beat, vitals = await ear.first(Described), await ear.first(Heartbeat), await ear.first(Vitals)
    assert described.agent_id == beat.agent_id == vitals.agent_id == WHO
    assert described.epoch == beat.epoch == vitals.epoch
    assert (beat.kind, beat.interval_seconds) == (AgentKind.HOST, 0.2)
    memory = psutil.virtual_memory()
    assert described.memory_bytes == vitals.memory_total_bytes == memory.total
    assert vitals.memory_available_bytes == pytest.approx(memory.available, abs=512 << 20)
    assert vitals.load_1m == pytest.approx(os.getloadavg()[0], abs=2)
    assert {disk.mount_point for disk in vitals.disks} == {disk.mount_point for disk in described.disks}
    sequence = [each.sequence for each in ear.heard(Heartbeat)]
    assert sequence == list(range(sequence[0], sequence[0] + len(sequence)))


async def test_an_agent_told_to_stop_says_goodbye_as_a_durable_fact(
    process: Process, ear: Ear, ground: Ground
) -> None:
    process.start()
    beat = await ear.first(Heartbeat)
    assert await process.stop() == 0
    stream = (await ground.bus("provisioner")).client.jetstream()
    kept = await stream.get_last_msg("AGENT", f"muster.agent.v1.{WHO}.left")
    assert kept.data
    left = Left.model_validate_json(kept.data)
    assert (left.epoch, left.reason) == (beat.epoch, LeaveReason.SHUTDOWN)
    assert not process.port_file.exists()
    await until(lambda: ear.heard(Left))
    after = ear.said[ear.said.index(ear.heard(Left)[0]) :]
    assert not [each for each in after if isinstance(each, Heartbeat)]


async def test_a_killed_agent_leaves_no_goodbye_and_the_next_run_has_another_epoch(
    process: Process, ear: Ear
) -> None:
    process.start()
    first = await ear.first(Heartbeat)
    await process.stop(signal.SIGKILL)
    said = len(ear.heard(Heartbeat))
    process.start()
    second = await ear.first(Heartbeat, after=said)
    assert second.epoch != first.epoch
    assert second.sequence == 0
    assert not ear.heard(Left)
    await process.stop()


async def test_an_agent_started_before_its_broker_loses_nothing(process: Process, ground: Ground) -> None:
    ground.server.kill()
    process.start()
    await until(lambda: (process.state / "spool.db").exists() and process.port_file.exists(), 15)
    ready = json.loads(await process.page("/livez"))
    assert ready["alive"]
    ground.server.start()
    stream = (await ground.bus("provisioner")).client.jetstream()

    async def described() -> int:
        with contextlib.suppress(Exception):
            return (await stream.get_last_msg("HOST", f"muster.host.v1.{WHO}.described")).seq or 0
        return 0

    sequence: int = await until(described, 20)
    assert sequence == 1
    assert await process.stop() == 0


async def test_an_agent_beats_again_after_its_broker_was_killed(
    process: Process, ear: Ear, ground: Ground
) -> None:
    process.start()
    beat = await ear.first(Heartbeat)
    ground.server.restart()
    before = len(ear.heard(Heartbeat))
    again = await ear.first(Heartbeat, after=before + 2)
    assert again.epoch == beat.epoch
    assert "muster_bus_disconnects_total 1.0" in await process.page("/metrics")


async def test_a_grant_is_lived_by_without_a_restart_and_by_the_next_run(
    process: Process, ear: Ear, ground: Ground
) -> None:
    registry = await ground.bus("fleet-registry")
    granted = [0.3]

    async def on_hello(hello: Hello) -> Welcome:
        return Welcome(
            agent_id=hello.agent_id, interval_seconds=granted[0], deadline_seconds=2.5 * granted[0]
        )

    await registry.answer(Hello, on_hello)
    process.start()
    await until(lambda: any(beat.interval_seconds == 0.3 for beat in ear.heard(Heartbeat)), 15)
    last = ear.heard(Heartbeat)[-1]
    await registry.say(
        AdoptInterval(occurred_at=last.occurred_at, agent_id=WHO, interval_seconds=0.5, deadline_seconds=1.25)
    )
    await until(lambda: ear.heard(Heartbeat)[-1].interval_seconds == 0.5)
    assert {beat.epoch for beat in ear.heard(Heartbeat)} == {last.epoch}
    await process.stop()
    granted[0], said = 0.5, len(ear.heard(Heartbeat))
    process.start()
    assert (await ear.first(Heartbeat, after=said)).interval_seconds == 0.5


async def test_vitals_asked_for_are_those_of_this_moment(process: Process, ear: Ear) -> None:
    process.start()
    await ear.first(Vitals)
    vitals = await ear.bus.ask(ReadVitals(occurred_at=ear.said[-1].occurred_at, agent_id=WHO))
    assert vitals.uptime_seconds == pytest.approx(asyncio.get_running_loop().time(), abs=5)
    assert vitals.cpu_count == len(psutil.Process().cpu_affinity() or [])


async def test_changed_settings_are_applied_and_told_by_their_keys(process: Process, ear: Ear) -> None:
    process.start()
    await ear.first(Described)
    process.config.write_text(
        f"interval_seconds: 0.3\nsample_seconds: 1\nlog_level: debug\nlabels: {{role: {CANARY}}}\n"
    )
    told = await ear.first(Reconfigured)
    assert told.changed == ["interval_seconds", "labels", "log_level"]
    assert (told.needs_restart, told.error) == (["interval_seconds"], None)
    assert CANARY not in told.model_dump_json()
    assert (await ear.first(Described, after=1)).labels == {"role": CANARY}


async def test_a_settings_file_that_cannot_be_used_changes_nothing_and_is_told_once(
    process: Process, ear: Ear
) -> None:
    process.start()
    before = await ear.first(Heartbeat)
    process.config.write_text(f"sample_seconds: {CANARY}\n")
    refused = await ear.first(Reconfigured)
    assert refused.changed == []
    assert refused.error
    assert "sample_seconds" in refused.error
    assert CANARY not in refused.error
    process.config.write_text("interval_seconds: 0.2\nsample_seconds: 1\nlabels: {role: web}\n")
    assert process.child
    process.child.send_signal(signal.SIGHUP)  # no need to wait for the next look
    assert (await ear.first(Reconfigured, after=1)).changed == ["labels"]
    assert ear.heard(Heartbeat)[-1].epoch == before.epoch


async def test_the_key_is_in_no_fact_log_metric_or_argument(
    process: Process, ear: Ear, ground: Ground
) -> None:
    process.environment["HOST_AGENT_LOG_LEVEL"] = "debug"
    process.environment["HOST_AGENT_SERVERS"] = ground.server.url.replace("//", f"//ada:{CANARY}@")
    seed = (process.state / "agent.seed").read_text().strip()
    process.start()
    for kind in (Described, Heartbeat, Vitals):
        await ear.first(kind)
    assert process.child
    shown = [await process.page(path) for path in ("/metrics", "/readyz", "/livez")]
    shown += psutil.Process(process.child.pid).cmdline()
    await process.stop()
    shown += [process.log.read_text(), *(message.model_dump_json() for message in ear.said)]
    for text in shown:
        assert seed not in text
        assert CANARY not in text


async def test_a_scrape_shows_the_machine_and_the_agent(process: Process, ear: Ear) -> None:
    process.start()
    await ear.first(Vitals)
    page = await process.page("/metrics")
    machine = ("node_load1", "node_memory_MemTotal_bytes", 'node_filesystem_size_bytes{mountpoint="/"}')
    agent = ("muster_agent_heartbeats_total", "muster_spool_letters", "muster_host_agent_samples_total")
    for name in machine + agent:
        assert f"\n{name} " in page
    assert WHO not in page
    assert json.loads(await process.page("/readyz"))["ready"]


def command(process: Process, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [PROGRAM, *words], env=process.environment, capture_output=True, text=True, check=False
    )


async def test_an_identity_can_be_asked_for_before_the_first_run(process: Process) -> None:
    shutil.rmtree(process.state)
    first, second = command(process, "identity"), command(process, "identity")
    assert (first.returncode, first.stdout) == (0, second.stdout)
    assert json.loads(first.stdout)["public_key"].startswith("U")
    assert (process.state / "agent.seed").read_text().strip() not in first.stdout


async def test_a_machine_can_be_described_without_a_broker(process: Process, ground: Ground) -> None:
    ground.server.kill()
    done = command(process, "describe")
    assert (done.returncode, done.stderr) == (0, "")
    assert Described.model_validate_json(done.stdout).memory_bytes == psutil.virtual_memory().total


async def test_wrong_settings_end_with_two_and_a_sentence_for_each(process: Process) -> None:
    process.config.write_text("sample_seconds: never\nlog_level: loud\n")
    for words in (["check-config"], ["run"], ["identity"]):
        done = command(process, *words)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 2)
        assert all(line.startswith(f"cannot use {process.config}") for line in done.stderr.splitlines())


async def test_settings_that_can_be_used_are_shown_without_passwords(process: Process) -> None:
    process.environment["HOST_AGENT_SERVERS"] = f"nats://ada:{CANARY}@127.0.0.1:4222"
    done = command(process, "check-config")
    assert done.returncode == 0
    assert json.loads(done.stdout)["sample_seconds"] == 1
    assert CANARY not in done.stdout


async def test_a_state_directory_that_cannot_be_used_ends_with_two_and_a_sentence(process: Process) -> None:
    process.environment["HOST_AGENT_STATE_DIR"] = "/proc/muster"
    done = command(process, "run")
    assert done.returncode == 2
    assert done.stderr.startswith("cannot use the state directory /proc/muster")
    assert "Traceback" not in done.stderr


async def test_a_second_agent_in_one_state_directory_is_refused(process: Process, ear: Ear) -> None:
    process.start()
    await ear.first(Heartbeat)
    done = command(process, "run")
    assert done.returncode == 2
    assert process.child
    assert f"the host-agent with pid {process.child.pid} does" in done.stderr
