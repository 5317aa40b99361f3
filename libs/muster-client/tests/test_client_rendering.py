"""What people are shown: numbers, tables and verdicts, from values alone."""

import base64
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, RenderableType

from muster_client import humanise, render
from muster_client.cataloguing import UnknownContract, fields_of, map_line, named
from muster_client.cli.agents import STATES, label_changes
from muster_client.cli.agents_live import news_line
from muster_client.cli.running import length_of_time
from muster_client.connection import connection
from muster_client.decode import Heard, contract_of, judge, watched
from muster_client.errors import NoFleet
from muster_client.outputs import AgentLine, DeadLetterLine, Verdict, VitalsBrief
from muster_client.taps import covering, covers
from muster_contracts.agent.v1 import Heartbeat
from muster_contracts.catalogue import contracts
from muster_contracts.fleet.v1 import (
    AgentEvent,
    AgentStable,
    GetAgent,
    IdentityConflict,
    PartitionEnded,
    Presence,
    PresenceChanged,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
EPOCH = "0123456789ab-018f00000000"


def drawn(*things: RenderableType, width: int = 200, colour: bool = False) -> str:
    out = Console(file=io.StringIO(), width=width, markup=False, emoji=False, force_terminal=colour,
                  color_system="standard" if colour else None)  # fmt: skip
    for thing in things:
        out.print(thing)
    text = out.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.splitlines())


def line(**changes: Any) -> AgentLine:
    told = {
        "id": "web-1",
        "kind": "host",
        "state": "online",
        "reason": "heartbeat",
        "since": NOW - timedelta(hours=3),
        "last_seen": NOW - timedelta(seconds=2),
        **changes,
    }
    return AgentLine.model_validate(told)


# Numbers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0, "0 s"),
        (0.42, "0.4 s"),
        (12.5, "12.5 s"),
        (60, "1 min"),
        (125, "2 min 5 s"),
        (3605, "1 h"),
        (90_061, "1 d 1 h"),
        (10_000_000, "115 d 17 h"),
    ],
)
def test_a_length_of_time_has_its_two_largest_units(seconds: float | None, text: str) -> None:
    assert humanise.duration(seconds) == text


def test_what_was_just_now_and_what_never_was() -> None:
    assert humanise.ago(NOW + timedelta(seconds=3), NOW) == "now", "a clock ahead of ours is no error"
    assert humanise.ago(None, NOW) == "never"
    assert humanise.ago(NOW - timedelta(minutes=125), NOW) == "2 h ago"


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (1024, "1 KiB"), (4.2e9, "3.91 GiB"), (None, "-")])
def test_bytes_are_told_in_binary_units(count: float | None, text: str) -> None:
    assert humanise.size(count) == text


def test_a_bar_never_leaves_its_frame() -> None:
    assert [humanise.bar(share, 4, plain=True) for share in (-5, 0, 50, 100, 130)] == [
        "....", "....", "##..", "####", "####",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("45s", 45), ("5m", 300), ("2h", 7200), ("7d", 604_800)]
)
def test_a_length_of_time_is_read(text: str, seconds: float) -> None:
    assert length_of_time(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-5m", "5y", "inf", "nan", "1e9d"])
def test_what_is_no_length_of_time_is_refused(text: str) -> None:
    with pytest.raises(Exception, match="write 45s, 5m, 2h or 7d"):
        length_of_time(text)


def test_labels_are_assigned_and_taken_back_by_word() -> None:
    assert label_changes(["env=prod", "site-", "empty=", "odd=a=b"]) == {
        "env": "prod",
        "site": None,
        "empty": "",
        "odd": "a=b",
    }


# Tables ------------------------------------------------------------------------------------------


def test_every_state_has_a_symbol_and_a_place_in_help() -> None:
    assert render.STATES.keys() == set(Presence)
    assert set(STATES) == set(Presence)
    assert len({symbol for symbol, _, _ in render.STATES.values()}) == len(Presence)
    assert len({symbol for _, symbol, _ in render.STATES.values()}) == len(Presence)


def test_a_state_is_read_without_colour_and_seen_with_it() -> None:
    assert drawn(render.state(Presence.LOST)) == "✗ lost"
    assert drawn(render.state(Presence.LOST), colour=True) == "\x1b[1;31m✗ lost\x1b[0m"


def test_a_narrow_terminal_keeps_what_matters() -> None:
    vitals = VitalsBrief(cpu_percent=43, memory_used_percent=91, load_1m=0.4)
    told = drawn(render.agents([line(vitals=vitals, labels={"a": "b"})], NOW, 80), width=80).splitlines()
    assert told[0].split() == ["ID", "STATE", "REASON", "FOR", "SEEN", "CPU", "MEMORY", "LABELS"]
    assert " ".join(told[1].split()) == "web-1 ● online heartbeat 3 h 2 s ago 43 % 91 % a=b"


def test_columns_nobody_filled_are_left_out() -> None:
    assert "CPU" not in drawn(render.agents([line()], NOW))


def test_a_list_tells_of_flapping_and_of_clones() -> None:
    clone = line(id="web-1-2", conflict_with="web-1", flapping=True)
    told = drawn(render.agents([clone], NOW), *render.agents_footer([clone], 7))
    assert "● online (flaps)" in told
    assert "web-1-2 speaks under the id of web-1: two machines share it" in told
    assert "1 of 7 agents" in told


def test_text_of_other_machines_has_no_power_over_the_terminal() -> None:
    told = drawn(render.machine({"hostname": "\x1b[2J\x07evil", "markup": "[red]x[/red]"}, NOW), colour=True)
    assert "\x1b[2J" not in told
    assert r"\x1b[2J\x07evil" in told
    assert "[red]x[/red]" in told


def test_a_payload_is_shown_as_text_and_never_raw() -> None:
    letter = DeadLetterLine.model_validate(
        {
            "at": NOW,
            "service": "fleet-registry",
            "reason": "malformed",
            "subject": "muster.agent.v1.web-1.left",
            "detail": "not\x1b[31m JSON",
            "size_bytes": 3,
            "deliveries": 1,
            "payload": base64.b64encode(b"\x1b]0;owned\x07\xff").decode(),
        }
    )
    told = drawn(render.dead_letters([letter], payload=True))
    assert "\x1b" not in told
    assert r"\x1b]0;owned\x07\xff" in told


def test_a_history_tells_what_lasts_until_now() -> None:
    told = {"id": "1", "event": "online", "was": "lost", "at": NOW, "reason": "heartbeat"}
    events = [AgentEvent.model_validate({**told, "duration_seconds": seconds}) for seconds in (None, 65)]
    first, second = drawn(render.history(events)).splitlines()[1:]
    assert "until now" in first
    assert "1 min 5 s" in second


@pytest.mark.parametrize("contract", contracts(), ids=lambda one: one.contract())
def test_every_contract_can_be_shown_with_its_fields(contract: Any) -> None:
    told = drawn(render.contract_card(map_line(contract), fields_of(contract)))
    assert contract.SUBJECT in told
    assert all(name in told for name in contract.model_fields)


# News --------------------------------------------------------------------------------------------


def test_news_are_told_in_words() -> None:
    at = {"occurred_at": NOW}
    clash = IdentityConflict.model_validate(
        {**at, "agent_id": "a", "epoch": EPOCH, "known_as": "a-2", "other_epoch": EPOCH}
    )
    ended = PartitionEnded.model_validate(
        {**at, "site": "ams", "returned": 9, "still_lost": 1, "lasted_seconds": 61}
    )
    stable = AgentStable.model_validate({**at, "agent_id": "a", "presence": "online"})
    assert [news_line(fact).text for fact in (clash, ended, stable)] == [
        "two machines speak under a; the later one is a-2",
        "ams is back after 1 min 1 s: 9 returned, 1 lost",
        "is stable again: online",
    ]
    assert "ams is back" in drawn(render.presence_line(news_line(ended)))


def test_a_change_is_one_line() -> None:
    fact = PresenceChanged.model_validate(
        {"occurred_at": NOW, "agent_id": "web-1", "kind": "host", "was": "online", "now": "lost",
         "reason": "silence", "labels": {"site": "ams"}}
    )  # fmt: skip
    told = drawn(render.presence_line(news_line(fact)))
    assert "web-1" in told
    assert told.endswith("✗ lost  was online, silence  site=ams")


# Verdicts ----------------------------------------------------------------------------------------


def heard(subject: str, data: bytes) -> Heard:
    return Heard(subject, data, NOW)


def beat(agent_id: str = "web-1", **changes: Any) -> bytes:
    told = {
        "occurred_at": NOW.isoformat(),
        "agent_id": agent_id,
        "kind": "host",
        "epoch": EPOCH,
        "sequence": 1,
    }
    return json.dumps({**told, "interval_seconds": 5, **changes}).encode()


@pytest.mark.parametrize(
    ("subject", "data", "verdict"),
    [
        ("muster.agent.v1.web-1.heartbeat", beat(), Verdict.OK),
        ("muster.agent.v1.web-1.heartbeat", beat(news="of a later version"), Verdict.OK),
        ("muster.agent.v1.web-1.heartbeat", beat("web-2"), Verdict.FOREIGN_ID),
        ("muster.agent.v1.web-1.heartbeat", beat(kind="toaster"), Verdict.MALFORMED),
        ("muster.agent.v1.web-1.heartbeat", b"\xff\x00", Verdict.MALFORMED),
        ("muster.agent.v1.web-1.heartbeat", b" " * 5000, Verdict.MALFORMED),
        ("muster.agent.v9.web-1.heartbeat", beat(), Verdict.UNKNOWN),
        ("muster.fleet.v1.other.get-agent", b"{}", Verdict.UNKNOWN),
        ("elsewhere", b"{}", Verdict.UNKNOWN),
    ],
)
def test_a_message_is_judged_by_the_catalogue(subject: str, data: bytes, verdict: Verdict) -> None:
    told = watched(heard(subject, data))
    assert (told.verdict, told.size_bytes) == (verdict, len(data))
    assert drawn(render.watched(told)).count("\n") == 0


def test_an_error_never_quotes_the_payload() -> None:
    _, _, error = judge(heard("muster.agent.v1.web-1.heartbeat", beat(kind="my-secret")))
    assert error
    assert "my-secret" not in error


def test_a_subject_of_a_service_and_one_of_an_agent_are_told_apart() -> None:
    assert contract_of("muster.fleet.v1.fleet-registry.get-agent") is GetAgent
    assert contract_of("muster.agent.v1.any-1.heartbeat") is Heartbeat


def test_patterns_cover_what_they_should() -> None:
    assert covering(["muster.fleet.v1.*.a", "muster.fleet.v1.*.b"]) == "muster.fleet.v1.*.*"
    assert covering(["muster.fleet.v1.web-1.a"]) == "muster.fleet.v1.web-1.a"
    assert covers("muster.*.v1.*.a", "muster.fleet.v1.web-1.a")
    assert not covers("muster.fleet.v1.*.a", "muster.fleet.v1.web-1.b")


@pytest.mark.parametrize(
    ("patterns", "count"),
    [(["agent.v1.Heartbeat"], 1), (["heartbeat"], 1), (["fleet.v1.*Group*"], 3), (["host", "host.v1.*"], 3)],
)
def test_contracts_are_named_in_full_in_part_or_by_glob(patterns: list[str], count: int) -> None:
    assert len(named(patterns)) == count


def test_an_unknown_contract_says_what_may_have_been_meant() -> None:
    with pytest.raises(
        UnknownContract, match=r"cannot find a contract 'agent.v1.Hartbeat'; did you mean agent.v1.He"
    ):
        named(["agent.v1.Hartbeat"])


# Connections -------------------------------------------------------------------------------------


def test_a_directory_says_how_to_connect(tmp_path: Path) -> None:
    told = {"servers": ["nats://127.0.0.1:4222"], "identity": "operator", "seed_file": "keys/operator.seed"}
    (tmp_path / "client.json").write_text(json.dumps(told))
    for settings in (connection(tmp_path, {}), connection(None, {"MUSTER_DIR": str(tmp_path)})):
        assert settings.seed_file == tmp_path / "keys" / "operator.seed"
        assert settings.servers == ["nats://127.0.0.1:4222"]


def test_the_environment_says_how_to_connect_unless_a_directory_is_named(tmp_path: Path) -> None:
    there = {"MUSTER_NATS_URL": "nats://a:1, nats://b:2", "MUSTER_SEED_FILE": "/k.seed"}
    settings = connection(None, there)
    assert (settings.servers, settings.identity) == (["nats://a:1", "nats://b:2"], "operator")
    assert settings.seed_file == Path("/k.seed")
    with pytest.raises(NoFleet, match="start one with: muster up"):
        connection(tmp_path, there)


def test_a_broken_directory_is_told_without_quoting_it(tmp_path: Path) -> None:
    (tmp_path / "client.json").write_text('{"servers": [], "identity": "SUSECRET!"}')
    with pytest.raises(NoFleet, match="cannot read") as told:
        connection(tmp_path, {})
    assert "SUSECRET" not in str(told.value)
