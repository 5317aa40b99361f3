"""What the bus leans on: keys, streams as data, the broker's file, and the parts of nats-py it replaces."""

import ast
import inspect
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.js.api import DiscardPolicy
from pydantic import ValidationError

from muster_bus import BadSeed, BusSettings, FileSpool, Keypair
from muster_bus.broker import Identity, render
from muster_bus.link import Link
from muster_bus.permissions import Special
from muster_bus.streams import CONSUMERS, LIMITS, STREAMS, Limits, reconcile, stream_config
from muster_bus.subjects import group_of
from muster_contracts.agent.v1 import LeaveReason, Left
from muster_contracts.catalogue import contracts, heard_by
from muster_contracts.generate.asyncapi import document
from muster_contracts.message import Delivery, Role
from muster_testing.ground import Ground
from muster_testing.servers import NatsServer
from muster_testing.wait import until

REPLACED = {
    "_select_next_server",
    "_attempt_reconnect",
    "_process_err",
    "_process_msg",
    "_process_pong",
    "flush",
}
LEANED_ON = {"_init_request_sub", "_flush_pending", "_connect_to_server", "_process_op_err"}


def test_every_part_of_nats_py_that_the_link_replaces_is_still_there() -> None:
    assert {name for name in vars(Link) if name in vars(Client)} - {
        "__init__",
        "__doc__",
        "__module__",
    } == REPLACED
    assert all(callable(getattr(Client, name)) for name in REPLACED | LEANED_ON)
    for name in REPLACED - {"flush"}:
        assert list(inspect.signature(getattr(Link, name)).parameters) == list(
            inspect.signature(getattr(Client, name)).parameters
        )


def test_a_key_is_kept_by_its_owner_alone_and_comes_back_the_same(tmp_path: Path) -> None:
    key = Keypair.generate()
    key.save(tmp_path / "keys" / "a1.seed")
    assert Keypair.load(tmp_path / "keys" / "a1.seed").public == key.public
    assert (tmp_path / "keys" / "a1.seed").stat().st_mode & 0o077 == 0
    assert key.public.startswith("U")
    assert [path.name for path in (tmp_path / "keys").iterdir()] == ["a1.seed"]


def test_a_key_never_shows_its_seed(tmp_path: Path) -> None:
    key = Keypair.generate()
    seed = key.seed.get_secret_value()
    assert seed not in f"{key!r} {key.seed} {vars(key)}"
    (tmp_path / "bad.seed").write_text(seed[:-3])
    (tmp_path / "bad.seed").chmod(0o600)
    with pytest.raises(BadSeed) as bad:
        Keypair.load(tmp_path / "bad.seed")
    assert seed[:-3] not in str(bad.value)
    with pytest.raises(BadSeed, match="FileNotFoundError"):
        Keypair.load(tmp_path / "none.seed")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_a_key_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "a1.seed"
    Keypair.generate().save(path)
    path.chmod(mode)
    with pytest.raises(BadSeed, match=rf"cannot use the key in {path}: its mode is {mode:04o}.*: chmod 600"):
        Keypair.load(path)


def test_an_identity_that_could_be_a_wildcard_is_refused() -> None:
    for name in ("*", ">", "a.b", "", "A", "a" * 64, "a b"):
        with pytest.raises(ValidationError):
            BusSettings(servers=["nats://127.0.0.1"], identity=name)
        with pytest.raises(ValueError, match="cannot let"):
            render(
                [Identity(Role.AGENT, name, Keypair.generate().public)], port=1, store_dir=Path("/nowhere")
            )


def test_no_secret_is_in_the_places_that_logs_name() -> None:
    settings = BusSettings(servers=["nats://me:secret@10.0.0.1:4222", "10.0.0.2"], identity="a1")
    assert settings.places == ["10.0.0.1:4222", "10.0.0.2"]


def test_the_brokers_file_holds_no_seed_and_asks_everybody_for_a_key() -> None:
    keys = {name: Keypair.generate() for name in ("a1", "system")}
    text = render(
        [
            Identity(Role.AGENT, "a1", keys["a1"].public),
            Identity(Special.SYSTEM, "system", keys["system"].public),
        ],
        port=4222,
        store_dir=Path("/var/lib/muster"),
    )
    assert all(key.seed.get_secret_value() not in text for key in keys.values())
    assert "no_auth_user" not in text
    assert "sync_interval: always" in text
    assert text.index(keys["a1"].public) < text.index("SYS {") < text.index(keys["system"].public)


def test_a_broker_for_nobody_yet_starts() -> None:
    server = NatsServer()
    server.config = render([], port=server.port, store_dir=server.directory / "js")
    with server:
        assert "Server is ready" in server.log


async def test_reconciling_twice_changes_nothing_and_drift_is_named() -> None:
    async with Ground() as ground:
        js = (await ground.bus("provisioner")).client.jetstream()
        assert await reconcile(js) == []
        config = (await js.stream_info("FLEET")).config
        config.subjects, config.max_age = ["muster.fleet.v0.x"], 3600
        await js.update_stream(config)
        assert await reconcile(js) == ["updated stream FLEET: subjects, max_age"]
        kept = (await js.stream_info("FLEET")).config.subjects or []
        assert set(kept) == {*STREAMS["FLEET"], "muster.fleet.v0.x"}
        await js.delete_consumer(CONSUMERS[0].stream, CONSUMERS[0].name)
        assert await reconcile(js) == [f"made consumer {CONSUMERS[0].name}"]


async def test_streams_made_before_they_had_bounds_get_them() -> None:
    async with Ground() as ground:
        js = (await ground.bus("provisioner")).client.jetstream()
        config = (await js.stream_info("AGENT")).config
        await js.update_stream(config.evolve(max_msg_size=-1, max_msgs_per_subject=-1))
        changed = await reconcile(js)
        assert [sorted(one.replace(",", "").split()[2:]) for one in changed] == [
            ["AGENT:", "max_msg_size", "max_msgs_per_subject"]
        ]
        for name, kept in (
            ("AGENT", 1000),
            ("HOST", 1000),
            ("FLEET", 1000),
            ("COMMAND", 20_000),
            ("BUS", -1),
        ):
            config = (await js.stream_info(name)).config
            assert (config.max_msg_size, config.max_msgs_per_subject) == (72 << 10, kept)


def test_each_area_says_what_its_stream_holds() -> None:
    assert {area.upper() for area in LIMITS} == set(STREAMS)
    for name in STREAMS:
        config = stream_config(name)
        limits = LIMITS[name.lower()]
        assert (config.max_bytes, config.max_age) == (limits.max_bytes, limits.max_age_seconds)
        assert (config.discard, config.discard_new_per_subject) == (DiscardPolicy.OLD, False)


def test_all_streams_together_fit_the_store_a_broker_is_given() -> None:
    promised = re.search(r"max_file_store: (\d+)", render([], port=1, store_dir=Path("/nowhere")))
    assert promised
    assert sum(limits.max_bytes for limits in LIMITS.values()) <= int(promised[1])


async def test_a_full_stream_that_refuses_lets_new_facts_wait_with_their_sayer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LIMITS, "agent", Limits(discard=DiscardPolicy.NEW))
    monkeypatch.setattr("muster_bus.streams.MAX_KEPT_OF_ONE_AGENT", 1)
    spool = FileSpool(tmp_path / "spool")
    async with Ground("a1") as ground:
        agent = await ground.bus("a1", spool=spool)
        first, second = (
            Left(
                occurred_at=datetime.now(UTC),
                agent_id="a1",
                epoch="0123456789ab-0123456789ab",
                reason=LeaveReason.SHUTDOWN,
            )
            for _ in range(2)
        )
        await agent.say(first)
        await agent.settled()
        await agent.say(second)
        await until(lambda: agent.courier and agent.courier.complaint)
        assert [one.id for one in await spool.take(9)] == [str(second.message_id)]
        js = (await ground.bus("provisioner")).client.jetstream()
        state = (await js.stream_info("AGENT")).state
        assert (state.messages, state.first_seq) == (1, 1)
        await agent.close()
    spool.close()


def test_the_published_queue_groups_are_those_in_use() -> None:
    operations = document(list(contracts()))["operations"]
    for contract in heard_by(Role.FLEET_REGISTRY):
        if contract.DELIVERY is not Delivery.DURABLE:
            published = operations[f"fleet-registry.hears.{contract.contract()}"]["bindings"]["nats"]["queue"]
            assert published == group_of("fleet-registry", contract)


def test_only_this_package_touches_fast_stream() -> None:
    """And within it only what services use: the core stays light."""
    source = Path(inspect.getfile(Link)).parent
    for path in source.glob("*.py"):
        imported = {
            name
            for node in ast.walk(ast.parse(path.read_text()))
            for name in ([one.name for one in node.names] if isinstance(node, ast.Import) else [])
            + ([node.module or ""] if isinstance(node, ast.ImportFrom) else [])
        }
        assert not any(name.startswith("faststream") for name in imported), path
