"""Packages, commands and the audit on the command line, against machines and a ledger by the contracts."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from muster_client.cli import completing
from muster_testing.shell import Shell
from muster_testing.town import Town, row
from muster_testing.town_orders import package

pytestmark = pytest.mark.usefixtures("patient")


@pytest.fixture
def two_webs(town: Town) -> Town:
    """A town where web runs on two hosts that are online."""
    town.registry.agents = {name: row(name, labels={"role": "web"}) for name in ("web-1", "web-2")}
    return town


@pytest.fixture
def only_web_1(town: Town) -> Town:
    """A town with one host."""
    town.registry.agents = {"web-1": row("web-1")}
    return town


# Packages ----------------------------------------------------------------------------------------


def test_packages_are_listed_with_how_they_are(muster: Shell, two_webs: Town) -> None:
    two_webs.machines["web-2"].packages["flaky"] = package(
        "flaky",
        state="crash_loop",
        restarts=7,
        pid=None,
        uptime_seconds=None,
        problem="cannot run: exit code 3",
    )
    lines = muster("packages", "list").stdout.splitlines()
    assert lines[0].split() == [
        "AGENT", "NAME", "STATE", "UPTIME", "PID", "RESTARTS", "MEMORY", "CPU", "VERSION", "PROBLEM",
    ]  # fmt: skip
    [flaky] = [line for line in lines if "flaky" in line]
    for text in ("web-2", "✗ crash_loop", "7", "cannot run: exit code 3"):
        assert text in flaky
    assert [line.split()[:2] for line in lines[1:]] == [
        ["web-1", "web"],
        ["web-2", "flaky"],
        ["web-2", "web"],
    ]


def test_packages_for_programs_have_what_was_promised(muster: Shell, only_web_1: Town) -> None:
    [told] = muster.json("packages", "list")
    assert {key: told[key] for key in ("agent", "name", "state", "pid", "restarts", "uptime_seconds")} == {
        "agent": "web-1",
        "name": "web",
        "state": "running",
        "pid": 4711,
        "restarts": 0,
        "uptime_seconds": 93_784.0,
    }


@pytest.mark.parametrize("words", [(), ("--json",), ("role=web",), ("--agent", "web-1")])
def test_packages_alone_means_list(muster: Shell, two_webs: Town, words: tuple[str, ...]) -> None:
    assert muster("packages", *words).stdout == muster("packages", "list", *words).stdout


def test_a_machine_that_does_not_answer_is_named_and_the_others_are_shown(
    muster: Shell, two_webs: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("muster_client.machines.ANSWER_SECONDS", 0.5)
    two_webs.registry.agents["db-1"] = row("db-1")
    two_webs.registry.agents["gone-1"] = row("gone-1", state="lost", reason="silence")
    told = muster("packages", "list", "--json")
    assert "without db-1: it does not answer\n" in told.stderr
    assert "without gone-1: it is lost (silence)\n" in told.stderr
    assert '"web-2"' in told.stdout


def test_that_nobody_answers_is_not_taken_for_no_packages(muster: Shell, only_web_1: Town) -> None:
    only_web_1.registry.agents["web-1"] = row("web-1", state="lost", reason="silence")
    why = (
        "without web-1: it is lost (silence)\n"
        "cannot tell what packages there are: no host that matches answered\n"
    )
    told = muster("packages", "list", code=3)
    assert (told.stdout, told.stderr) == ("", why)
    told = muster("packages", "list", "--json", code=3)
    assert (told.stdout.strip(), told.stderr) == ("[]", why)


def test_no_packages_are_said_of_those_that_answer_only(muster: Shell, two_webs: Town) -> None:
    two_webs.machines["web-1"].packages.clear()
    two_webs.registry.agents["web-2"] = row("web-2", state="lost", reason="silence")
    told = muster("packages", "list").stderr
    assert told == "without web-2: it is lost (silence)\nno packages on those that answer\n"


def test_packages_of_one_agent_need_its_answer(muster: Shell, town: Town) -> None:
    assert [one["agent"] for one in muster.json("packages", "list", "--agent", "web-1")] == ["web-1"]
    told = muster("packages", "list", "--agent", "web-2", code=3)
    assert told.stderr == "cannot ask web-2 about its packages: it is lost (disconnected)\n"
    assert "did you mean web-1" in muster("packages", "list", "--agent", "web-11", code=3).stderr


def test_a_mistyped_command_is_corrected(muster: Shell) -> None:
    assert "did you mean restart" in muster("packages", "restrat", "web", code=2).stderr
    assert "write muster packages show db-1x" in " ".join(
        muster("packages", "db-1x", code=2).stderr.replace("│", " ").split()
    )


def test_a_package_is_shown_whole(muster: Shell, only_web_1: Town) -> None:
    told = muster("packages", "show", "web").stdout
    for text in (
        "web on web-1  ● running",
        "python -m http.server",
        "PORT",
        "TOKEN",
        "/etc/main.conf",
        "4711 4712",
    ):
        assert text in told
    assert muster.json("packages", "show", "web", "--agent", "web-1")["package"]["name"] == "web"


def test_a_package_nobody_has_is_told_with_the_likeliest(muster: Shell, town: Town) -> None:
    told = muster("packages", "show", "wbe", code=3).stderr
    assert "cannot find the package wbe" in told
    assert "did you mean web?" in told
    told = muster("packages", "show", "wbe", "--agent", "web-1", code=3).stderr
    assert told == "cannot find the package wbe on web-1; did you mean web?\n"


def test_a_package_on_several_agents_has_to_be_chosen(muster: Shell, two_webs: Town) -> None:
    for words in (("show", "web"), ("restart", "web"), ("logs", "web")):
        told = muster("packages", *words, code=2).stderr
        assert told.startswith("cannot choose: web is on 2 agents: web-1, web-2; name one with --agent")
    assert not two_webs.ledger.submitted


def test_logs_are_shown_and_have_no_power_over_the_terminal(muster: Shell, only_web_1: Town) -> None:
    only_web_1.machines["web-1"].logs["web"] = ["one", "\ttwo\x1b[31m"]
    assert muster("packages", "logs", "web").stdout == "one\n\ttwo\\x1b[31m\n"
    [line] = muster.lines("packages-logs", "packages", "logs", "web", "-n", "1")
    assert line == {"agent": "web-1", "package": "web", "line": "\ttwo\x1b[31m"}


def test_configuration_files_are_listed_and_shown(muster: Shell, only_web_1: Town) -> None:
    assert "/etc/main.conf" in muster("packages", "config", "list", "web").stdout
    assert [one["name"] for one in muster.json("packages", "config", "list", "web")] == ["main"]
    assert muster("packages", "config", "show", "web", "main").stdout == "port = 80\n"
    assert muster.json("packages", "config", "show", "web", "main")["content"] == "port = 80\n"
    assert (
        "cannot find the configuration file"
        in muster("packages", "config", "show", "web", "mian", code=3).stderr
    )


# Acting ------------------------------------------------------------------------------------------


def test_a_restart_waits_for_the_end_and_says_what_became_of_it(muster: Shell, only_web_1: Town) -> None:
    only_web_1.ledger.fates["web-1"] = {"text": "web runs, pid 4712"}
    told = muster("packages", "restart", "web", "--timeout", "7s", "--expires", "1h")
    assert told.stdout.startswith("web-1  ● succeeded")
    assert "web runs, pid 4712" in told.stdout
    [submitted] = only_web_1.ledger.submitted
    assert (submitted.body.verb, submitted.selector, submitted.run_seconds) == (
        "package.restart",
        "id=web-1",
        7,
    )
    assert submitted.not_after > datetime.now(UTC) + timedelta(minutes=59)


def test_a_target_that_did_not_succeed_is_told_and_fails_the_command(muster: Shell, two_webs: Town) -> None:
    two_webs.ledger.fates["web-2"] = {
        "state": "failed",
        "reason": "ready",
        "text": "cannot start web: port 80 is in use",
    }
    told = muster("packages", "restart", "web", "--on", "role=web", code=1)
    assert told.stderr == "web-2: failed (ready): cannot start web: port 80 is in use\n"
    assert "restart web: ● 1 succeeded, ✗ 1 failed" in told.stdout
    targets = muster.json("packages", "restart", "web", "--on", "role=web", code=1)
    assert [(one["agent"], one["state"]) for one in targets] == [("web-1", "succeeded"), ("web-2", "failed")]


def test_who_is_away_is_told_at_once(muster: Shell, two_webs: Town) -> None:
    two_webs.registry.agents["web-2"] = row("web-2", state="lost", reason="silence")
    told = muster("packages", "restart", "web", "--on", "", "--expires", "2h")
    assert told.stderr == "away just now: web-2; it begins there if they are back within 2h\n"


def test_a_package_that_its_agent_does_not_know_is_told_with_the_likeliest(
    muster: Shell, only_web_1: Town
) -> None:
    only_web_1.ledger.fates["web-1"] = {"state": "rejected", "reason": "not-found", "text": "cannot find wub"}
    told = muster("packages", "restart", "wub", "--agent", "web-1", code=1).stderr
    assert told == "web-1: rejected (not-found): cannot find wub; did you mean web?\n"


@pytest.mark.parametrize(
    ("words", "body"),
    [
        (("start", "web"), {"verb": "package.start"}),
        (("stop", "web", "--cascade"), {"verb": "package.stop", "cascade": True}),
        (("pause", "web"), {"verb": "package.pause"}),
        (("resume", "web"), {"verb": "package.resume"}),
        (("signal", "web", "sighup"), {"verb": "package.signal", "signal": "HUP"}),
    ],
)
def test_each_verb_orders_its_body(
    muster: Shell, only_web_1: Town, words: tuple[str, ...], body: dict[str, Any]
) -> None:
    [target] = muster.json("packages", *words, "--agent", "web-1")
    assert target["state"] == "succeeded"
    [submitted] = only_web_1.ledger.submitted
    assert submitted.body.model_dump(mode="json") == {"package": "web", **body}


def test_agents_can_be_named_one_by_one(muster: Shell, two_webs: Town) -> None:
    told = muster.json("packages", "restart", "web", "--agent", "web-1", "--agent", "web-2")
    assert [one["agent"] for one in told] == ["web-1", "web-2"]


def test_who_does_not_wait_gets_the_id(muster: Shell, only_web_1: Town) -> None:
    only_web_1.ledger.waiting = {"web-1"}
    told = muster("packages", "restart", "web", "--no-wait").stdout
    [target] = only_web_1.ledger.targets
    assert told.startswith(f"{target.id}  ordered of 1 agent")
    [one] = muster.json("packages", "restart", "web", "--no-wait")
    assert one["state"] == "pending"


def test_a_configuration_is_applied_from_a_pipe_or_a_file(
    muster: Shell, only_web_1: Town, tmp_path: Path
) -> None:
    muster("packages", "config", "apply", "web", "main", "--then", "reload", stdin="port = 81\n")
    (tmp_path / "new.conf").write_text("port = 82\n")
    muster(
        "packages",
        "config",
        "apply",
        "web",
        "main",
        "--from",
        str(tmp_path / "new.conf"),
        "--if-sha256",
        "0" * 64,
    )
    first, second = (one.body.model_dump() for one in only_web_1.ledger.submitted)
    assert (first["content"], first["then"], first["expected_sha256"]) == ("port = 81\n", "reload", None)
    assert (second["content"], second["then"], second["expected_sha256"]) == (
        "port = 82\n",
        "nothing",
        "0" * 64,
    )


def test_a_configuration_that_cannot_be_applied_is_not_shown(muster: Shell, only_web_1: Town) -> None:
    told = muster("packages", "config", "apply", "web", "main", stdin="secret" * 10_000, code=2)
    assert "content: string should have at most 32768 characters" in told.stderr
    assert "secret" not in told.stderr
    assert "no UTF-8" in muster("packages", "config", "apply", "web", "main", stdin=b"\xff", code=2).stderr
    missing = muster("packages", "config", "apply", "web", "main", "--from", "/nowhere", code=2).stderr
    assert missing == "cannot read /nowhere: No such file or directory\n"


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("restart", "web", "--agent", "web-1", "--on", ""), 2, "cannot take both --agent and --on"),
        (("restart", "web", "--agent", "web-11"), 3, "did you mean web-1"),
        (("restart", "web", "--agent", "old-1"), 3, "cannot order anything of old-1: it is retired"),
        (("restart", "web", "--on", "role=nobody"), 3, "no agent matches 'role=nobody'"),
        (("restart", "web", "--on", "role in"), 2, "cannot read the selector"),
        (("restart", "Web!", "--agent", "web-1"), 2, "cannot order package.restart: package:"),
        (("restart", "web", "--timeout", "soon", "--agent", "web-1"), 2, "write 45s, 5m, 2h or 7d"),
        (("signal", "web", "STOP"), 2, "╮ cannot send the signal 'STOP': it is not one of HUP"),
        (("config", "apply", "web", "/tmp/new.conf"), 2, "give the path with --from /tmp/new.conf"),
        (("restart", "wub"), 3, "did you mean web?"),
    ],
)
def test_what_cannot_be_ordered_is_told_before_it_is(
    muster: Shell, town: Town, words: tuple[str, ...], code: int, text: str
) -> None:
    told = muster("packages", *words, code=code).stderr
    assert text in " ".join(told.replace("│", " ").split())
    assert not town.ledger.targets


def test_a_ledger_that_refuses_is_told(
    muster: Shell, only_web_1: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("muster_client.cli.running.PATIENCE_SECONDS", 0.3)
    only_web_1.ledger.unavailable = True
    assert muster("packages", "restart", "web", code=1).stderr == "cannot answer: the database is busy\n"


# Scripts -----------------------------------------------------------------------------------------


def test_a_script_prints_on_one_agent_as_it_is_and_on_several_by_line(
    muster: Shell, two_webs: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    prints(two_webs, monkeypatch, {"web-1": b"one\ntwo", "web-2": b"\x1b[31mred\n"})
    told = muster("packages", "run", "backup", "--agent", "web-1", "--", "--full", "a b")
    assert told.stdout == "one\ntwo"
    assert two_webs.ledger.submitted[0].body.model_dump()["arguments"] == ["--full", "a b"]
    told = muster("packages", "run", "backup", "--on", "")
    assert sorted(told.stdout.splitlines()) == ["web-1 | one", "web-1 | two", r"web-2 | \x1b[31mred"]


def prints(town: Town, monkeypatch: pytest.MonkeyPatch, output: dict[str, bytes]) -> None:
    """Have every command print something before it ends."""
    end = town.ledger.end

    async def print_and_end(command_id: UUID, agent: str, **fate: Any) -> None:
        data = output[agent]
        await town.ledger.put(command_id, agent, data, complete=True)
        await end(command_id, agent, output_bytes=len(data), **fate)

    monkeypatch.setattr(town.ledger, "end", print_and_end)


def test_a_script_that_fails_fails_the_command(muster: Shell, only_web_1: Town) -> None:
    only_web_1.ledger.fates["web-1"] = {"state": "failed", "reason": "exit", "text": "exit code 3"}
    told = muster("packages", "run", "backup", code=1)
    assert (told.stdout, told.stderr) == ("", "web-1: failed (exit): exit code 3\n")


def test_where_a_script_runs_has_to_be_chosen_if_there_is_a_choice(muster: Shell, two_webs: Town) -> None:
    told = muster("packages", "run", "backup", code=2).stderr
    assert told.startswith("cannot choose: there are 2 agents: web-1, web-2; name one")


# Commands ----------------------------------------------------------------------------------------


def test_any_verb_can_be_submitted(muster: Shell, only_web_1: Town) -> None:
    words = ("package.signal", "package=web", "signal=HUP", "--on", "", "--key", "k", "--issuer", "ann")
    [target] = muster.json("command", "submit", *words)
    assert (target["verb"], target["issuer"], target["subject"]) == ("package.signal", "ann", "web")
    again = muster("command", "submit", *words)
    assert again.stderr == f"this was ordered before, as {target['id']}\n"
    muster("command", "submit", "script.run", "script=backup", "arguments=a", "--on", "")
    assert only_web_1.ledger.submitted[-1].body.model_dump()["arguments"] == ["a"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("package.restrat",), "did you mean package.restart"),
        (("reboot",), "there are package.start, package.stop"),
        (("package.restart", "pack=web"), "it does not take 'pack', but package"),
        (("package.restart", "web"), "cannot read 'web': write key=value"),
        (("package.restart",), "package: field required"),
        (("package.stop", "package=web", "cascade=perhaps"), "cascade: input should be a valid boolean"),
    ],
)
def test_what_cannot_be_submitted_is_explained(
    muster: Shell, town: Town, words: tuple[str, ...], text: str
) -> None:
    assert text in muster("command", "submit", *words, "--on", "", code=2).stderr


def test_nothing_is_submitted_to_nobody_in_particular(muster: Shell) -> None:
    assert "with --agent, or" in muster("command", "submit", "package.restart", "package=web", code=2).stderr


def test_commands_are_listed_newest_first_and_by_what_is_asked_for(muster: Shell, two_webs: Town) -> None:
    two_webs.ledger.fates["web-2"] = {
        "state": "rejected",
        "reason": "policy",
        "text": "cannot: not allowed here",
    }
    muster("packages", "restart", "web", "--on", "", code=1)
    muster("packages", "stop", "web", "--agent", "web-1")
    told = muster.json("command", "list")
    assert [(one["verb"], one["agent"]) for one in told] == [
        ("package.stop", "web-1"),
        ("package.restart", "web-1"),
        ("package.restart", "web-2"),
    ]
    assert {"id", "verb", "agent", "state", "reason", "submitted_at", "ended_at"} <= told[0].keys()
    assert [one["reason"] for one in muster.json("command", "list", "--state", "rejected")] == ["policy"]
    for words, count in (
        (("--verb", "package.stop"), 1),
        (("--agent", "web-1"), 2),
        (("--since", "1h"), 3),
        (("--until", "1h"), 0),
        (("--since", "2020-01-31T14:05"), 3),
        (("--issuer", "nobody"), 0),
        (("--command", told[1]["id"]), 2),
        (("--limit", "1"), 1),
    ):
        assert len(muster.json("command", "list", *words)) == count, words
    table = muster("command", "list")
    assert "cannot: not allowed here" in table.stdout
    assert "the newest 1; --limit shows more" in muster("command", "list", "--limit", "1").stderr
    assert muster("command", "--json").stdout == muster("command", "list", "--json").stdout


def test_a_command_is_found_by_the_beginning_of_its_id(muster: Shell, only_web_1: Town) -> None:
    [target] = muster.json("packages", "restart", "web")
    shown = muster.json("command", "show", target["id"][:8])
    assert (shown["id"], shown["ended"], len(shown["each"])) == (target["id"], True, 1)
    told = muster("command", "show", target["id"]).stdout
    for text in ("package.restart  package=web", "id=web-1", "may run", "● 1 succeeded"):
        assert text in told
    assert "cannot read" in muster("command", "show", "x", code=2).stderr
    assert "cannot find a command" in muster("command", "show", "0000", code=3).stderr
    unknown = "8c3f0a1b-0000-4000-8000-000000000000"
    assert muster("command", "show", unknown, code=3).stderr == f"cannot find the command {unknown}\n"


def test_watching_a_command_tells_each_event_and_how_it_ended(muster: Shell, two_webs: Town) -> None:
    two_webs.ledger.fates["web-2"] = {"state": "lost", "reason": "silence"}
    [first, _] = muster.json("packages", "restart", "web", "--on", "", code=1)
    lines = muster.lines("command-watch", "command", "watch", first["id"], code=1)
    assert [(one["event"], one["agent"], one["state"]) for one in lines] == [
        ("ended", "web-1", "succeeded"),
        ("ended", "web-2", "lost"),
    ]
    told = muster("command", "watch", first["id"], code=1)
    assert "● succeeded" in told.stdout
    assert told.stderr == "web-2: lost (silence)\n"


def test_a_command_is_cancelled_where_it_has_not_ended(muster: Shell, two_webs: Town) -> None:
    two_webs.ledger.waiting = {"web-1", "web-2"}
    [first, _] = muster.json("packages", "restart", "web", "--on", "", "--no-wait")
    assert "1 pending, ○ 1 cancelled" in muster("command", "cancel", first["id"], "--agent", "web-2").stdout
    assert muster.json("command", "cancel", first["id"])["by_state"]["cancelled"] == 2
    assert "not meant for" in muster("command", "cancel", first["id"], "--agent", "db-1", code=3).stderr


def test_output_is_printed_byte_by_byte(
    muster: Shell, two_webs: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    prints(two_webs, monkeypatch, {"web-1": b"\xff\x00\n", "web-2": b""})
    [first, _] = muster.json("packages", "run", "backup", "--on", "")
    for words in ((), ("--follow",)):
        told = muster("command", "output", first["id"], "--agent", "web-1", *words)
        assert told.stdout_bytes == b"\xff\x00\n"
    assert (
        "cannot choose: it was ordered of 2 agents" in muster("command", "output", first["id"], code=2).stderr
    )


# Audit -------------------------------------------------------------------------------------------


def test_the_audit_tells_who_ordered_what(muster: Shell, only_web_1: Town) -> None:
    muster("packages", "restart", "web")
    assert "command.submit" in muster("audit").stdout
    [entry] = muster.json("audit", "list")
    assert (entry["action"], entry["decision"]) == ("command.submit", "allowed")
    assert muster.json("audit", "list", "--after", "1") == []
    only_web_1.ledger.note("command.cancel", "c-1")
    assert [one["sequence"] for one in muster.json("audit", "list", "--limit", "1")] == [2]


def test_the_audit_is_verified_against_its_anchors(muster: Shell, town: Town) -> None:
    for number in range(1100):
        town.ledger.note("command.submit", f"c-{number}")
    town.do(town.ledger.anchor())
    assert muster("audit", "verify").stdout.startswith("1100 entries, intact, anchored at ")
    assert muster.json("audit", "verify")["anchored_sequence"] == 1100

    town.ledger.entries[41] = town.ledger.entries[41].model_copy(update={"actor": "nobody"})
    told = muster("audit", "verify", code=1)
    assert told.stderr.startswith("cannot trust the audit from entry 42 on: it was altered")
    assert muster.json("audit", "verify", code=1)["bad_sequence"] == 42


# Completion --------------------------------------------------------------------------------------


def test_the_shell_is_offered_packages_commands_and_verbs(
    muster: Shell, two_webs: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completing, "CONNECT_SECONDS", 20.0)
    monkeypatch.setattr(completing, "ANSWER_SECONDS", 20.0)
    [target] = muster.json("packages", "restart", "web", "--agent", "web-1")
    for name, value in two_webs.environment.items():
        monkeypatch.setenv(name, value)
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(completing.package_names, "w").result(60) == ["web"]
        assert thread.submit(completing.command_ids, target["id"][:3]).result(60) == [target["id"]]
    assert completing.verbs("package.re") == ["package.restart", "package.resume"]
    assert completing.among(("HUP", "USR1"))("u") == ["USR1"]
