"""The query commands against a whole fleet on this machine, as a person and as a program use them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

MUSTER = str(Path(sys.executable).parent / "muster")
SCHEMAS = Path(__file__).parents[2] / "contracts" / "cli"


class Household:
    """One fleet in a directory, spoken to through its command only."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = {**os.environ, "MUSTER_DIR": str(directory)}

    def run(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """One command; its exit code must be ``code``."""
        done = subprocess.run(
            [MUSTER, *words], env=self.environment, capture_output=True, text=True, timeout=90, check=False
        )
        assert done.returncode == code, (words, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done

    def ask(self, *words: str, schema: str | None = None) -> Any:
        """What a command answers to programs, seen to be as published."""
        told = json.loads(self.run(*words, "--json").stdout)
        name = schema or "-".join(words[:2] if words[0] in {"agents", "groups"} else words[:1])
        jsonschema.validate(told, json.loads((SCHEMAS / f"{name}.json").read_text()))
        return told

    def pid(self, name: str) -> int:
        """Of one process of the fleet."""
        [one] = [one for one in self.ask("status")["processes"] if one["name"] == name]
        return int(one["pid"])

    @property
    def agent_id(self) -> str:
        """The agent of this machine."""
        [one] = self.ask("agents", "list", "--no-vitals", "kind=host")
        return str(one["id"])


def eventually(condition: Callable[[], Any], seconds: float = 30) -> Any:
    """What ``condition`` gives once it is true; each look takes from whoever is waited for."""
    deadline = time.monotonic() + seconds
    while not (outcome := condition()):
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.25)
    return outcome


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Household]:
    """A fleet that runs, with its agent online."""
    household = Household(tmp_path_factory.mktemp("fleet"))
    household.run("up", "--detach", "--dir", str(household.directory))
    try:
        eventually(lambda: household.ask("agents", "list", "--no-vitals", "--state", "online"))
        yield household
    finally:
        household.run("down", "--dir", str(household.directory))


def test_this_machine_is_in_the_list_with_true_vitals(home: Household) -> None:
    # A busy machine may not answer within the list's patience; then it is asked again.
    [agent] = eventually(lambda: (told := home.ask("agents", "list"))[0]["vitals"] and told)
    assert agent["state"] == "online"
    assert agent["kind"] == "host"
    assert 0 <= agent["vitals"]["cpu_percent"] <= 100
    assert 0 < agent["vitals"]["memory_used_percent"] < 100
    assert agent["id"] in home.run("agents").stdout


def test_an_agent_is_shown_whole(home: Household) -> None:
    told = eventually(lambda: (it := home.ask("agents", "show", home.agent_id))["vitals"] and it)
    assert (
        told["description"]["cpu_count"] == len(os.sched_getaffinity(0))
        or told["description"]["cpu_count"] > 0
    )
    assert told["vitals"]["memory_total_bytes"] > 0
    assert told["active"]["epoch"] == told["agent"]["epoch"]
    assert "machine" in home.run("agents", "show", home.agent_id).stdout
    assert home.ask("agents", "vitals", home.agent_id)["processes"] > 0
    assert home.ask("agents", "connections", home.agent_id)[0]["disconnected_at"] is None


def test_a_killed_agent_is_lost_and_comes_back_and_a_watcher_sees_both(home: Household) -> None:
    agent_id = home.agent_id
    before = len(home.ask("agents", "history", agent_id))
    os.kill(home.pid("host-agent"), signal.SIGKILL)
    history = eventually(
        lambda: (
            (told := home.ask("agents", "history", agent_id))[0]["event"] == "online"
            and len(told) >= before + 2
            and told
        )
    )
    assert [one["event"] for one in history[:3]] == ["online", "lost", "online"]
    assert history[1]["reason"] == "disconnected"
    assert history[0]["duration_seconds"] is None
    assert history[1]["duration_seconds"] >= 0
    lines = home.run("agents", "watch", f"id={agent_id}", "--since", "10m", "--count", "3", "--json").stdout
    schema = json.loads((SCHEMAS / "agents-watch.json").read_text())
    news = [json.loads(line) for line in lines.splitlines()]
    for line in news:
        jsonschema.validate(line, schema)
    assert [line["now"] for line in news] == ["online", "lost", "online"]


def test_labels_and_groups_choose_agents(home: Household) -> None:
    agent_id = home.agent_id
    home.ask("agents", "label", agent_id, "site=ams")
    assert [group["members"] for group in home.ask("groups", "define", "ams", "site=ams")] == [1]
    assert [one["id"] for one in home.ask("agents", "list", "group=ams")] == [agent_id]
    assert home.ask("agents", "list", "site!=ams") == []
    home.ask("agents", "label", agent_id, "site-")
    assert [group["members"] for group in home.ask("groups", "list")] == [0]
    assert home.ask("groups", "delete", "ams") == []


def test_an_agent_is_expected_and_retired(home: Household) -> None:
    assert home.ask("agents", "expect", "web-9", "--label", "role=web")["agent"]["state"] == "expected"
    assert home.ask("summary")["by_state"]["expected"] == 1
    assert home.ask("agents", "retire", "web-9")["agent"]["state"] == "retired"
    assert "web-9" not in home.run("agents").stdout


def test_heartbeats_are_watched_decoded(home: Household) -> None:
    line = json.loads(home.run("watch", "agent.v1.Heartbeat", "--count", "1", "--json").stdout)
    jsonschema.validate(line, json.loads((SCHEMAS / "watch.json").read_text()))
    assert (line["contract"], line["verdict"]) == ("agent.v1.Heartbeat", "ok")


def test_what_happened_before_is_watched_from_the_stream(home: Household) -> None:
    told = home.run("watch", "host.v1.Described", "--since", "1h", "--count", "1").stdout
    assert f"host.v1.Described            {home.agent_id}" in told


def test_there_are_no_dead_letters_in_a_healthy_fleet(home: Household) -> None:
    assert home.ask("dead-letters") == []


def test_a_registry_that_is_gone_is_told_with_where_to_look(home: Household) -> None:
    registry = home.pid("fleet-registry")
    os.kill(registry, signal.SIGSTOP)
    try:
        told = home.run("agents", code=1).stderr
    finally:
        os.kill(registry, signal.SIGCONT)
    assert told.startswith("cannot tell what became of fleet.v1.FindAgents")
    assert told.endswith("see what is wrong with: muster doctor\n")


@pytest.mark.parametrize(
    ("words", "code", "beginning"),
    [
        (("agents", "show", "nobody-1"), 3, "cannot find"),
        (("agents", "list", "a in b"), 2, "cannot read the selector"),
        (("agents", "show", "No.Id"), 2, "cannot ask that"),
        (("groups", "delete", "nothing"), 3, "cannot"),
        (("watch", "Nothing.at.all"), 3, "cannot find a contract"),
    ],
)
def test_an_error_is_one_sentence(home: Household, words: tuple[str, ...], code: int, beginning: str) -> None:
    told = home.run(*words, code=code).stderr
    assert told.startswith(beginning)
    assert told.count("\n") == 1
