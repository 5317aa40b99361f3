"""The parts of the simulator by themselves: limits, names and keys, the reading of the wire, the command."""

import asyncio
import json
import resource
from pathlib import Path

import nkeys
import pytest

from muster_testing.simulator import CannotSimulate, Fleet, Roster, Settings
from muster_testing.simulator.__main__ import main
from muster_testing.simulator.limits import ensure_files, loopback
from muster_testing.simulator.wire import Wire


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("nats://127.0.0.1:4333", ("127.0.0.1", 4333)),
        ("localhost:4333", ("127.0.0.1", 4333)),
        ("nats://127.8.9.1", ("127.8.9.1", 4222)),
        ("nats://[::1]:5", ("::1", 5)),
    ],
)
def test_a_broker_on_this_machine_is_a_target(url: str, target: tuple[str, int]) -> None:
    assert loopback(url) == target


@pytest.mark.parametrize("url", ["nats://10.0.0.1:4222", "nats://example.org", "nats://0.0.0.0:4222", ""])
def test_a_broker_elsewhere_is_refused(url: str) -> None:
    with pytest.raises(CannotSimulate, match="only loopback"):
        Fleet(Roster.fresh(1), url)


def test_too_many_connections_are_refused_with_the_limit_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    with pytest.raises(CannotSimulate, match=r"10064 files needed.*may open 4096.*ulimit -n 10064"):
        ensure_files(10_000)


def test_a_soft_limit_is_raised_as_far_as_the_hard_one_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 20_000))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: wanted.append(limits))
    ensure_files(10_000)
    ensure_files(100)
    assert wanted == [(10_064, 20_000)]


@pytest.mark.parametrize("settings", [Settings(interval=0), Settings(connect_rate=0)])
def test_a_fleet_without_time_is_refused(settings: Settings) -> None:
    with pytest.raises(CannotSimulate):
        Fleet(Roster.fresh(1), "nats://127.0.0.1:1", settings)


def test_one_secret_makes_the_same_fleet_in_any_process(tmp_path: Path) -> None:
    kept = Roster.kept(tmp_path / "secret", 3)
    assert Roster.kept(tmp_path / "secret", 5).public_keys.items() >= kept.public_keys.items()
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
    assert Roster.fresh(3).public_keys.keys() == kept.public_keys.keys()
    assert Roster.fresh(3).public_keys != kept.public_keys


def test_a_member_s_key_is_the_nkey_of_its_seed() -> None:
    [member] = Roster.fresh(1)
    pair = nkeys.from_seed(bytearray(nkeys.encode_seed(member.seed, nkeys.PREFIX_BYTE_USER)))
    assert member.public_key == pair.public_key.decode()
    assert member.seed.hex() not in repr(member)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 1000])
async def test_messages_are_read_whole_however_the_stream_is_cut(size: int) -> None:
    heard: list[tuple[str, bytes]] = []
    wire = Wire(Roster.fresh(1).members[0], lambda *message: heard.append(message), print, print)
    stream = (
        b"PING\r\nMSG a.b 1 5\r\nhe\r\nl\r\nMSG c 2 reply.to 0\r\n\r\n+OK\r\n"
        b"HMSG d 1 12 14\r\nNATS/1.0\r\n\r\nhi\r\nHMSG _INBOX.x 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n"
    )
    for at in range(0, len(stream), size):
        wire.data_received(stream[at : at + size])
    assert heard == [("a.b", b"he\r\nl"), ("c", b""), ("d", b"hi"), ("_INBOX.x", b"")]


async def test_the_end_of_a_connection_before_it_is_ready_is_told_to_whoever_waits() -> None:
    gone = asyncio.Event()
    wire = Wire(Roster.fresh(1).members[0], lambda *_: None, gone.set, print)
    wire.connection_lost(None)
    with pytest.raises(ConnectionResetError):
        await wire.ready
    assert gone.is_set()


def test_the_command_refuses_another_machine_with_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--agents", "1", "--url", "nats://192.0.2.1:4222"]) == 2
    assert capsys.readouterr().err.startswith("cannot simulate")


def test_the_command_prints_the_keys_a_broker_needs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--agents", "2", "--secret-file", str(tmp_path / "secret"), "--print-keys"]) == 0
    keys = json.loads(capsys.readouterr().out)
    assert list(keys) == ["sim-00000", "sim-00001", "sim-carrier"]
    assert all(key.startswith("U") for key in keys.values())


def test_without_a_broker_the_command_brings_a_control_plane_of_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--agents", "3", "--seconds", "2", "--interval", "0.5"]) == 0
    said = capsys.readouterr().out
    last = json.loads(said.splitlines()[-1])
    assert "export MUSTER_DIR=" in said
    assert (last["up"], last["errors"]) == (3, {})


def test_shared_connections_need_a_broker_that_knows_the_carrier(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--agents", "3", "--connections", "2"]) == 2
    assert "give --url" in capsys.readouterr().err
