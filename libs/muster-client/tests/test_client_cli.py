"""The query commands, run as a shell runs them, against a real broker and a registry by the contracts."""

import base64
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from muster_bus import Keypair
from muster_client.outputs import OUTPUTS, schema_of
from muster_contracts.agent.v1 import Heartbeat
from muster_contracts.bus.v1 import DeadLettered
from muster_contracts.fleet.v1 import AgentFlapping, PartitionSuspected, PresenceChanged
from muster_contracts.message import DurableFact
from muster_testing.servers import NatsServer
from muster_testing.shell import Shell, invoke
from muster_testing.town import EPOCH, Meanwhile, Town, sample

pytestmark = pytest.mark.usefixtures("patient")


def change(agent_id: str = "web-1", now: str = "lost", **fields: Any) -> PresenceChanged:
    told = {
        "occurred_at": datetime.now(UTC),
        "agent_id": agent_id,
        "kind": "host",
        "was": "online",
        "now": now,
        "reason": "disconnected",
        **fields,
    }
    return PresenceChanged.model_validate(told)


def beat(agent_id: str = "web-1") -> bytes:
    told = {
        "occurred_at": datetime.now(UTC),
        "agent_id": agent_id,
        "kind": "host",
        "epoch": EPOCH,
        "sequence": 1,
        "interval_seconds": 5,
    }
    return Heartbeat.model_validate(told).model_dump_json().encode()


def say(town: Town, *facts: DurableFact) -> None:
    town.do(town.buses["fleet-registry"].say(*facts))


# Lists -------------------------------------------------------------------------------------------


def test_a_list_has_a_line_for_each_agent_with_its_vitals(muster: Shell) -> None:
    lines = muster("agents", "list").stdout.splitlines()
    assert lines[0].split() == [
        "ID",
        "KIND",
        "STATE",
        "REASON",
        "FOR",
        "SEEN",
        "CPU",
        "MEMORY",
        "LOAD",
        "LABELS",
    ]
    [web] = [line for line in lines if line.startswith("web-1 ")]
    assert "● online" in web
    assert "43 %" in web
    assert "role=web site=ams" in web
    assert not any(line.startswith("old-1") for line in lines), "retired ones are asked for by name"
    assert lines[-1] == "db-1 speaks under the id of web-1: two machines share it"


def test_a_list_for_programs_has_what_was_promised(muster: Shell) -> None:
    told = muster.json("agents", "list")
    assert [one["id"] for one in told] == ["db-1", "web-1", "web-2"]
    assert told[1] | {"since": None, "last_seen": None} == {
        "id": "web-1",
        "kind": "host",
        "state": "online",
        "reason": "heartbeat",
        "since": None,
        "last_seen": None,
        "labels": {"role": "web", "site": "ams"},
        "groups": ["web"],
        "agent_version": "0.1.0",
        "epoch": EPOCH,
        "address": None,
        "flapping": False,
        "conflict_with": None,
        "vitals": {"cpu_percent": 43.2, "memory_used_percent": 75.0, "load_1m": 0.5},
    }
    assert told[0]["vitals"] is None, "an agent that does not answer has none"


@pytest.mark.parametrize("words", [(), ("--json",), ("role=web",), ("-h",), ("id=web-*", "--state", "lost")])
def test_agents_alone_means_list(muster: Shell, words: tuple[str, ...]) -> None:
    alone = muster("agents", *words).stdout
    listed = muster("agents", "list" if "-h" not in words else "-h", *words).stdout
    assert re.sub(r"\d+", "#", alone) == re.sub(r"\d+", "#", listed), "but for ages, which a second changes"


def test_a_list_is_chosen_by_selector_and_state(muster: Shell) -> None:
    assert [one["id"] for one in muster.json("agents", "list", "role=web", "--state", "lost")] == ["web-2"]
    assert [one["id"] for one in muster.json("agents", "list", "--state", "retired")] == ["old-1"]
    assert muster.json("agents", "list", "group=none") == []


def test_a_list_says_how_many_it_left_out(muster: Shell) -> None:
    told = muster("agents", "list", "--limit", "2", "--no-vitals").stdout
    assert "2 of 3 agents; --all shows every one" in told
    assert "CPU" not in told


def test_programs_get_every_page(muster: Shell, town: Town) -> None:
    for number in range(1100):
        town.registry.agents[f"x-{number:04}"] = town.registry.agents["web-2"].model_copy(
            update={"id": f"x-{number:04}"}
        )
    assert len(muster.json("agents", "list", "id=x-*")) == 1100
    assert len(muster("agents", "list", "id=x-*", "--all").stdout.splitlines()) == 1101
    assert len(muster("agents", "list", "id=x-*").stdout.splitlines()) == 102


# One agent ---------------------------------------------------------------------------------------


def test_an_agent_is_shown_with_its_machine_and_its_vitals(muster: Shell) -> None:
    told = muster("agents", "show", "web-1").stdout
    for text in (
        "● online",
        "role=web (assigned)",
        "every 5 s, lost after 12.5 s of silence",
        "of 4 CPUs",
        "133",
    ):
        assert text in told
    assert muster.json("agents", "show", "web-1")["vitals"]["cpu_percent"] == 43.2
    assert muster.json("agents", "show", "web-2")["vitals"] is None


def test_a_history_is_newest_first_and_whole_for_programs(muster: Shell) -> None:
    told = muster.json("agents", "history", "web-1")
    assert [one["event"] for one in told] == ["online", "lost", "online", "expected"]
    assert {"event", "at", "reason", "duration_seconds"} <= told[0].keys()
    assert len(muster.json("agents", "history", "web-1", "--limit", "3")) == 3
    assert "until now" in muster("agents", "history", "web-1").stdout


def test_connections_are_shown(muster: Shell) -> None:
    assert muster.json("agents", "connections", "web-1")[0]["address"] == "10.0.0.1:5"
    assert "active" in muster("agents", "connections", "web-1").stdout


def test_vitals_come_from_the_agent(muster: Shell) -> None:
    told = muster("agents", "vitals", "web-1").stdout
    assert "disk /" in told
    assert "95 %" in told
    assert muster.json("agents", "vitals", "web-1")["memory_used_percent"] == 75.0


def test_vitals_are_followed_sample_by_sample(muster: Shell, town: Town) -> None:
    with Meanwhile(
        town, ("web-1", "muster.host.v1.web-1.vitals", sample("web-1").model_dump_json().encode())
    ):
        lines = muster.lines("agents-vitals", "agents", "vitals", "web-1", "--watch", "--count", "3")
    assert [line["processes"] for line in lines] == [133, 133, 133]


def test_vitals_of_an_absent_agent_say_why_there_are_none(muster: Shell) -> None:
    told = muster("agents", "vitals", "web-2", code=3).stderr
    assert told == "cannot read the vitals of web-2: it does not answer, it is lost (disconnected)\n"


def test_labels_are_assigned_and_taken_back(muster: Shell, town: Town) -> None:
    assert muster.json("agents", "label", "web-1", "env=prod", "site-")["agent"]["labels"] == {
        "role": "web",
        "env": "prod",
    }
    assert town.registry.asked[-1].labels == {"env": "prod", "site": None}
    assert "cannot read 'env'" in muster("agents", "label", "web-1", "env", code=2).stderr


def test_agents_are_expected_and_retired(muster: Shell) -> None:
    expected = muster.json("agents", "expect", "new-1", "--label", "role=web")["agent"]
    assert (expected["state"], expected["last_seen"], expected["labels"]) == (
        "expected",
        None,
        {"role": "web"},
    )
    assert muster.json("agents", "retire", "new-1")["agent"]["state"] == "retired"
    assert "· retired" in muster("agents", "retire", "web-2").stdout


# The fleet ---------------------------------------------------------------------------------------


def test_groups_are_made_and_removed(muster: Shell) -> None:
    assert [one["name"] for one in muster.json("groups", "define", "db", "role=db")] == ["db", "web"]
    assert "role=db" in muster("groups", "list").stdout
    assert [one["name"] for one in muster.json("groups", "delete", "db")] == ["web"]
    assert (
        muster("groups", "delete", "wbe", code=3).stderr == "cannot find the group wbe; did you mean web?\n"
    )
    assert muster("groups", "delete", "web").stderr == "no groups\n"


def test_the_summary_counts_and_warns(muster: Shell) -> None:
    assert muster.json("summary")["by_state"]["online"] == 2
    told = muster("summary").stdout
    for text in ("4 agents", "● online", "site ams seems cut off", "2 dead letters; see muster dead-letters"):
        assert text in told


def test_the_map_needs_no_fleet(nowhere: Path) -> None:
    result = invoke("map", "--json")
    told = json.loads(result.stdout)
    jsonschema.validate(told, schema_of("map"))
    [beats] = [one for one in told if one["contract"] == "agent.v1.Heartbeat"]
    assert beats["subject"] == "muster.agent.v1.{agent_id}.heartbeat"
    assert (beats["delivery"], beats["said_by"]) == ("live", ["agent"])


@pytest.mark.parametrize(
    "words", [("--contract", "Heartbeat"), ("--contract", "fleet.v1.*"), ("--roles",), ()]
)
def test_the_map_is_readable(words: tuple[str, ...]) -> None:
    result = invoke("map", *words)
    assert result.exit_code == 0
    assert "fleet" in result.stdout


# What goes wrong ---------------------------------------------------------------------------------


def test_without_a_fleet_the_way_to_one_is_told(nowhere: Path) -> None:
    result = invoke("agents")
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == f"cannot reach a fleet: none is set up in {nowhere}; start one with: muster up\n"


@pytest.mark.usefixtures("hasty")
def test_a_fleet_that_does_not_run_is_told_within_seconds(muster: Shell) -> None:
    told = muster("agents", code=3, MUSTER_NATS_URL="nats://127.0.0.1:1").stderr
    assert told.startswith("cannot ")
    assert told.endswith("is the fleet running? start it with: muster up\n")
    assert told.count("\n") == 1


@pytest.mark.usefixtures("hasty")
def test_a_key_the_broker_does_not_know_is_told_as_such(muster: Shell, tmp_path: Path) -> None:
    Keypair.generate().save(tmp_path / "other.seed")
    told = muster("agents", code=3, MUSTER_SEED_FILE=str(tmp_path / "other.seed")).stderr
    assert told.startswith("cannot reach the broker")
    assert told.endswith("it does not know this key: is it the key of another fleet?\n")


@pytest.mark.parametrize("url", ["nats://a:b:c", "http://host", "nats://", "bad url ::"])
def test_a_url_that_is_none_is_told_without_its_value(muster: Shell, url: str) -> None:
    told = muster("agents", code=3, MUSTER_NATS_URL=url).stderr
    assert told == "cannot use $MUSTER_NATS_URL: write nats://host:port, several with commas between them\n"


def test_an_identity_that_may_not_ask_is_told_so(muster: Shell, town: Town) -> None:
    seed = str(town.ground.settings("web-1").seed_file)
    told = muster("summary", code=1, MUSTER_SEED_FILE=seed, MUSTER_IDENTITY="web-1").stderr
    assert told.startswith("cannot use muster.fleet.v1.fleet-registry.get-summary")


def test_an_absent_registry_is_told_with_where_to_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("muster_client.cli.running.PATIENCE_SECONDS", 0.5)
    with NatsServer() as server:
        result = invoke("agents", "show", "web-1", MUSTER_NATS_URL=server.url, MUSTER_DIR="")
    assert result.exit_code == 3
    assert result.stderr.startswith("cannot ask fleet.v1.GetAgent: nobody answers")
    assert result.stderr.endswith("see what runs with: muster doctor\n")


def test_a_registry_that_hangs_is_told_with_where_to_look(
    muster: Shell, town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("muster_client.cli.running.PATIENCE_SECONDS", 0.2)
    town.registry.delay_seconds = 5
    told = muster("summary", code=1).stderr
    assert told.startswith("cannot tell what became of fleet.v1.GetSummary")
    assert told.endswith("see what is wrong with: muster doctor\n")


def test_an_unknown_agent_is_answered_with_likely_ones(muster: Shell) -> None:
    told = muster("agents", "show", "wbe-1", code=3).stderr
    assert told == "cannot find the agent wbe-1; did you mean web-1, db-1 or web-2?\n"


def test_a_wrong_selector_is_a_wrong_command_line(muster: Shell, town: Town) -> None:
    told = muster("agents", "list", "a in b", code=2).stderr
    assert told.startswith("cannot read the selector 'a in b' at position 5")
    assert town.registry.asked == []


@pytest.mark.parametrize(
    "words",
    [
        ("agents", "list", "--state", "dead"),
        ("agents", "show", "WEB.1"),
        ("agents", "lits"),
        ("watch", "--since", "soon"),
        ("agents", "history"),
    ],
)
def test_a_wrong_command_line_has_exit_code_2(muster: Shell, words: tuple[str, ...]) -> None:
    assert muster(*words, code=2).stdout == ""


def test_an_unknown_contract_is_answered_with_likely_ones(muster: Shell) -> None:
    told = muster("watch", "Hartbeat", code=3).stderr
    assert told == "cannot find a contract 'Hartbeat'; did you mean Heartbeat?\n"


def test_a_busy_registry_is_asked_again(muster: Shell, town: Town) -> None:
    town.registry.unavailable = 2
    assert len(muster.json("agents", "list", "--no-vitals")) == 3
    assert len({question.message_id for question in town.registry.asked}) == 1, "the same question, repeated"


# Watching ----------------------------------------------------------------------------------------


def test_agents_are_watched_as_they_come_and_go(muster: Shell, town: Town) -> None:
    with Meanwhile(town, change("web-1"), change("db-1", "left", labels={"role": "db"})):
        [line] = muster.lines("agents-watch", "agents", "watch", "role=db", "--count", "1")
    assert (line["agent_id"], line["was"], line["now"]) == ("db-1", "online", "left")


def test_watching_agents_can_begin_in_the_past(muster: Shell, town: Town) -> None:
    at = datetime.now(UTC)
    flaps = AgentFlapping(occurred_at=at, agent_id="web-2", changes=7, window_seconds=60)
    other = AgentFlapping(occurred_at=at, agent_id="web-1", changes=7, window_seconds=60)
    cut = PartitionSuspected(occurred_at=at, site="ams", missing=40, known=50)
    say(town, change("web-2", "online"), other, flaps, cut)
    command = ("agents", "watch", "id=web-2", "--since", "10m", "--count", "3")
    lines = muster.lines("agents-watch", *command)
    assert [line["event"] for line in lines] == ["presence-changed", "agent-flapping", "partition-suspected"]
    told = muster(*command).stdout
    assert "ams seems cut off: 40 of 50 agents vanished" in told


def test_any_contract_is_watched_and_what_cannot_be_read_is_shown_as_such(muster: Shell, town: Town) -> None:
    subject = "muster.agent.v1.web-1.heartbeat"
    with Meanwhile(
        town,
        ("web-1", subject, beat()),
        ("web-1", subject, b"{not json"),
        ("web-1", subject, beat("web-2")),
        ("fleet-registry", "muster.agent.v9.web-1.introduce", b"{}"),
    ):
        lines = muster.lines("watch", "watch", "agent.v1.*", "--count", "12")
    verdicts = {line["verdict"]: line for line in lines}
    assert verdicts["ok"]["message"]["sequence"] == 1
    assert verdicts["ok"]["contract"] == "agent.v1.Heartbeat"
    assert "JSON" in verdicts["malformed"]["error"]
    assert verdicts["foreign-id"]["error"] == "the payload belongs on muster.agent.v1.web-2.heartbeat"


def test_watching_shows_people_one_line_each(muster: Shell, town: Town) -> None:
    with Meanwhile(town, ("web-1", "muster.agent.v1.web-1.heartbeat", beat())):
        told = muster("watch", "Heartbeat", "--agent", "web-1", "--count", "2").stdout.splitlines()
    assert len(told) == 2
    assert "agent.v1.Heartbeat" in told[0]
    assert "sequence=1" in told[0]


def test_watching_can_begin_in_the_past(muster: Shell, town: Town) -> None:
    say(town, change("web-7"))
    [line] = muster.lines(
        "watch", "watch", "PresenceChanged", "--agent", "web-7", "--since", "1h", "--count", "1"
    )
    assert line["message"]["agent_id"] == "web-7"


# Dead letters ------------------------------------------------------------------------------------


def dead_letter(at: datetime, payload: bytes = b"{oh\x1b[31m") -> DeadLettered:
    told = {
        "occurred_at": at,
        "service": "fleet-registry",
        "original_subject": "muster.agent.v1.web-1.left",
        "reason": "malformed",
        "detail": "not JSON",
        "size_bytes": len(payload),
        "payload": base64.b64encode(payload).decode(),
    }
    return DeadLettered.model_validate(told)


def test_dead_letters_are_read_back_with_their_reasons(muster: Shell, town: Town) -> None:
    say(town, *(dead_letter(datetime.now(UTC) - timedelta(hours=age)) for age in (2, 1)))
    told = muster.json("dead-letters")
    assert [one["reason"] for one in told] == ["malformed"] * len(told)
    assert muster("dead-letters", "--service", "host-agent").stderr == "no dead letters\n"
    shown = muster("dead-letters", "--payload", "--limit", "1").stdout.splitlines()
    assert len(shown) == 2
    assert r"{oh\x1b[31m" in shown[1], "a payload has no power over the terminal"


def test_every_output_of_the_query_commands_has_a_schema() -> None:
    for command in OUTPUTS:
        jsonschema.Draft202012Validator.check_schema(schema_of(command))


def test_groups_without_a_verb_lists_them_for_people_and_programs(muster: Shell) -> None:
    assert muster("groups", "define", "web", "role=web").exit_code == 0
    assert "role=web" in muster("groups").stdout
    assert muster("groups", "--json").stdout == muster("groups", "list", "--json").stdout
