"""``muster health`` and ``muster recovery`` as a shell runs them; health-recovery is one by the contracts."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from muster_contracts.health import v1 as health
from muster_contracts.message import DurableFact
from muster_testing.shell import Shell
from muster_testing.town import EPOCH, Meanwhile, Town, row
from muster_testing.town_health import (
    act,
    ago,
    case,
    check_state,
    host_health,
    incident,
    package_health,
)

pytestmark = pytest.mark.usefixtures("patient")

ILL = {"reason": "check", "check": "http", "text": "no answer within 5 s"}


@pytest.fixture
def ill(town: Town) -> Town:
    """A database that is ill by itself on db-1, and webs on two hosts that are ill because of it."""
    town.registry.agents = {
        "db-1": row("db-1", labels={"role": "db"}),
        "web-1": row("web-1", labels={"role": "web"}),
        "web-2": row("web-2", labels={"role": "web"}),
    }
    cause = {"agent": "db-1", "package": "db"}
    town.care.know(
        package_health(
            "db-1", "db", "critical", check="tcp", reason="check", text="refused", recovering=True
        ),
        package_health("web-1", "web", "critical", cause=cause, reason="check"),
        package_health("web-1", "worker", "ok"),
        package_health("web-2", "web", "warning", **ILL, flapping=True),
    )
    town.care.incidents = [
        incident(
            "db-1",
            "db",
            text="refused",
            affected=[{"agent": "web-1", "package": "web"}],
            affected_count=9,
            tried=["restart: failed", "restart: succeeded"],
        )
    ]
    return town


def explained(town: Town, package: str, **changes: Any) -> None:
    """What health-recovery knows of why a package is as it is."""
    known = next(one for one in town.care.packages if one.package == package)
    told = {"package": known, "checks": [], **changes}
    town.care.explanations[str(health.PackageRef(agent=known.agent, package=package))] = (
        health.Explanation.model_validate(told)
    )


def check_health(check: str = "http", state: str = "critical", **changes: Any) -> health.CheckHealth:
    told = {"check": check, "kind": "http", "purpose": "liveness", "health": state, "since": ago(minutes=5)}
    return health.CheckHealth.model_validate({**told, **changes})


# The fleet ---------------------------------------------------------------------------------------


def test_the_ill_agents_come_first_beneath_the_fleet_in_one_line(muster: Shell, ill: Town) -> None:
    ill.care.know(package_health("a-1", "web"))
    ill.registry.agents["a-1"] = row("a-1")
    lines = muster("health").stdout.splitlines()
    assert lines[0].startswith("✗ critical  agents: ✗ 2 critical, ◐ 1 warning, ● 1 ok")
    assert "(1 explained by others)" in lines[0]
    table = lines[2:7]
    assert [line.split()[0] for line in table] == ["AGENT", "db-1", "web-1", "web-2", "a-1"]
    for text in ("✗ critical", "5 min", "db", "check"):
        assert text in table[1]


def test_groups_and_what_needs_an_eye_follow(muster: Shell, ill: Town) -> None:
    whole = {"health": "critical", "agents": {"critical": 1, "ok": 1}, "packages": {"critical": 1, "ok": 2}}
    ill.care.groups = {"webs": health.Rollup.model_validate(whole)}
    ill.care.numbers |= {"open_incidents": 1, "gave_up": 2, "flapping": 3, "recovering": 4, "dry_run": True}
    ill.care.numbers["leader"] = None
    told = muster("health").stdout
    [group] = [line for line in told.splitlines() if line.startswith("webs")]
    assert "✗ 1 critical, ● 2 ok" in group
    for text in (
        "1 open incident; see muster health incidents",
        "2 given up by recovery; see muster recovery",
        "3 flapping; see muster health flapping",
        "4 being recovered",
        "recovery only says what it would do",
        "no replica of health-recovery acts just now",
    ):
        assert text in told


def test_the_fleet_for_programs_has_every_agent_and_the_numbers(muster: Shell, ill: Town) -> None:
    told = muster.json("health", "list")
    assert [one["agent"] for one in told["hosts"]] == ["db-1", "web-1", "web-2"]
    assert told["fleet"]["fleet"]["agents"] == {"ok": 0, "warning": 1, "critical": 2, "unknown": 0}
    assert told["more"] is False
    assert [one["agent"] for one in muster.json("health", "list", "role=web")["hosts"]] == ["web-1", "web-2"]
    [warned] = muster.json("health", "list", "--health", "warning")["hosts"]
    assert warned["agent"] == "web-2"


def test_a_limited_list_says_that_there_are_more(muster: Shell, ill: Town) -> None:
    told = muster("health", "list", "--limit", "2")
    assert "the first 2 agents; --all shows every one" in told.stdout
    assert "web-2" not in told.stdout
    assert muster.json("health", "list", "--limit", "2")["more"] is True
    assert muster.json("health", "list", "--limit", "3")["more"] is False


@pytest.mark.parametrize("words", [(), ("--json",), ("role=web",)])
def test_health_alone_means_list(muster: Shell, ill: Town, words: tuple[str, ...]) -> None:
    assert muster("health", *words).stdout == muster("health", "list", *words).stdout


def test_an_empty_fleet_is_unknown_and_says_so(muster: Shell, town: Town) -> None:
    told = muster("health")
    assert told.stdout.startswith("? unknown  agents: -")
    assert told.stderr == "no agent matches\n"
    assert muster.json("health", "list")["hosts"] == []


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    "words", [("health",), ("health", "why", "web"), ("recovery",), ("health", "notify-test")]
)
def test_without_health_recovery_it_says_what_does_not_run(
    muster: Shell, nowhere: object, words: tuple[str, ...]
) -> None:
    town = muster.town
    town.do(town.buses["health-recovery"].close())
    try:
        told = muster(*words, code=3)
        assert told.stdout == ""
        assert told.stderr.startswith("cannot ask")
        assert told.stderr.endswith("see what runs with: muster doctor\n")
    finally:
        town.do(reopen(town))


async def reopen(town: Town) -> None:
    town.buses["health-recovery"] = await town.ground.bus("health-recovery")
    await town.care.listen(town.buses["health-recovery"])


@pytest.mark.usefixtures("hasty")
def test_a_health_recovery_that_cannot_answer_is_told_in_its_own_words(muster: Shell, ill: Town) -> None:
    ill.care.unavailable = True
    told = muster("health", code=1)
    assert told.stderr == "cannot answer: the database is busy\n"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("health", "list", "a=(b"), "cannot"),
        (("health", "list", "--health", "ill"), "'ill' is not one of ok, unknown, warning, critical"),
        (("health", "history", "--since", "soon"), "cannot read 'soon'"),
        (("health", "packages", "role=web", "--agent", "web-1"), "cannot take both a selector and --agent"),
        (("health", "maintenance", "set", "--for", "2h"), "cannot tell what is worked on"),
        (("health", "maintenance", "set", "--on", ""), "cannot tell how long it takes"),
        (
            ("health", "maintenance", "set", "--on", "", "--for", "1h", "--until", "2027-01-01"),
            "cannot take both",
        ),
        (("health", "maintenance", "set", "--on", "", "--until", "2h"), "cannot read '2h' as a time"),
        (("recovery", "pause", "--for", "long"), "cannot read 'long' as a length of time"),
        (("recovery", "pause", "--on", "a=(b"), "cannot"),
        (("recovery", "resume", "ab"), "cannot choose"),
        (("health", "shwo"), "did you mean show"),
        (("recovery", "stauts"), "did you mean status"),
    ],
)
def test_a_wrong_command_line_is_told_and_nothing_is_decided(
    muster: Shell, ill: Town, words: tuple[str, ...], complaint: str
) -> None:
    told = " ".join(muster(*words, code=2).stderr.replace("│", " ").split())
    assert complaint in told
    decisions = (health.SetMaintenance, health.PauseRecovery, health.ResumeRecovery)
    assert not [one for one in ill.care.asked if isinstance(one, decisions)]


# One agent, packages -----------------------------------------------------------------------------


def test_an_agent_is_shown_as_a_tree_of_packages_checks_and_causes(muster: Shell, ill: Town) -> None:
    ill.care.checks = {"web": [check_health(text="HTTP 500"), check_health("tcp", "ok", kind="tcp")]}
    lines = muster("health", "show", "web-1").stdout.splitlines()
    assert lines[0].startswith("web-1  ✗ critical  for 5 min  host, online")
    assert lines[1].startswith("├── web  ✗ critical  for 5 min  because of db@db-1")
    assert "✗ critical  http (http, liveness)  for 5 min: HTTP 500" in lines[2]
    assert "● ok  tcp (tcp, liveness)" in lines[3]
    assert lines[4] == "└── worker  ● ok  for 5 min"
    told = muster.json("health", "show", "web-1")
    assert [one["package"] for one in told["packages"]] == ["web", "worker"]


def test_an_unknown_agent_is_told_with_the_likeliest(muster: Shell, ill: Town) -> None:
    told = muster("health", "show", "web-11", code=3).stderr
    assert told.startswith("cannot find the agent web-11; did you mean web-1")


def test_an_agent_without_packages_says_so(muster: Shell, ill: Town) -> None:
    ill.care.hosts.append(host_health("web-9", "unknown", presence="lost", packages={}))
    told = muster("health", "show", "web-9").stdout
    assert "? unknown" in told
    assert "host, lost" in told
    assert "no packages are known of it" in told


def test_packages_are_listed_with_what_makes_them_ill(muster: Shell, ill: Town) -> None:
    lines = muster("health", "packages").stdout.splitlines()
    assert lines[0].split() == ["AGENT", "PACKAGE", "HEALTH", "FOR", "STATE", "WHY"]
    assert [line.split()[:2] for line in lines[1:]] == [
        ["db-1", "db"],
        ["web-1", "web"],
        ["web-1", "worker"],
        ["web-2", "web"],
    ]
    assert "check tcp: refused" in lines[1]
    assert lines[1].endswith("recovering")
    assert "because of db@db-1" in lines[2]
    assert lines[4].endswith("flaps")


def test_packages_are_chosen_by_selector_agent_name_and_health(muster: Shell, ill: Town) -> None:
    def chosen(*words: str) -> list[tuple[str, str]]:
        return [(one["agent"], one["package"]) for one in muster.json("health", "packages", *words)]

    assert chosen("role=db") == [("db-1", "db")]
    assert chosen("--agent", "web-2") == [("web-2", "web")]
    assert chosen("--package", "web") == [("web-1", "web"), ("web-2", "web")]
    assert chosen("--health", "ok", "--health", "warning") == [("web-1", "worker"), ("web-2", "web")]
    assert chosen("--limit", "1") == [("db-1", "db")]
    assert muster("health", "packages", "role=none").stderr == "no package matches\n"


def test_what_flaps_is_shown(muster: Shell, ill: Town) -> None:
    [line] = muster("health", "flapping").stdout.splitlines()[1:]
    assert line.split()[:2] == ["web-2", "web"]
    assert [one["agent"] for one in muster.json("health", "flapping")] == ["web-2"]
    assert muster("health", "flapping", "role=db").stderr == "nothing flaps\n"


def test_why_leads_from_what_is_seen_to_the_cause_and_what_is_done(muster: Shell, ill: Town) -> None:
    database = ill.care.packages[0]
    explained(
        ill,
        "web",
        checks=[check_health(text="HTTP 500")],
        chain=[package_health("db-1", "pool", "critical", reason="blocked"), database],
        dependents=[{"agent": f"app-{place}", "package": "app"} for place in range(10)],
        incident=incident("db-1", "db", acknowledged_by="ann@laptop", acknowledged_text="on it"),
        recovery=case(
            "db-1",
            "db",
            attempts=2,
            next_step="restart-with-dependents",
            hold="backoff",
            hold_text="tried lately",
        ),
        acts=[act("db-1", "db", 2, step="restart", state="failed", text="cannot start db")],
    )
    told = muster("health", "why", "web", "--agent", "web-1").stdout
    lines = told.splitlines()
    assert lines[0].startswith("web@web-1  ✗ critical  for 5 min  because of db@db-1")
    order = [
        "what its checks see",
        "  ✗ critical  http (http, liveness)  for 5 min: HTTP 500",
        "\nbecause of",
        "  pool@db-1  ✗ critical  for 5 min  blocked",
        "    db@db-1  ✗ critical  for 5 min  check tcp: refused  recovering  the cause",
        "what it makes ill",
        "app@app-7 and 2 more",
        "incident",
        "open for 5 min, ann@laptop looks after it: on it",
        "recovery",
        "  2 acts so far",
        "  next: restart-with-dependents",
        "  held: backoff: tried lately",
        "what was done",
        "✗ failed",
        "cannot start db",
    ]
    places = [told.index(text) for text in order]
    assert places == sorted(places)
    assert muster.json("health", "why", "web", "--agent", "web-1")["chain"][1]["package"] == "db"


def test_why_needs_no_agent_where_only_one_has_the_package_ill(muster: Shell, ill: Town) -> None:
    assert muster("health", "why", "db").stdout.startswith("db@db-1")
    ill.care.packages[1] = package_health("web-1", "web", "ok")
    assert muster("health", "why", "web").stdout.startswith("web@web-2")


def test_why_of_a_package_that_several_have_ill_has_to_be_chosen(muster: Shell, ill: Town) -> None:
    told = muster("health", "why", "web", code=2).stderr
    assert told == "cannot choose: web is ill on 2 agents: web-1, web-2; name one with --agent\n"


def test_a_package_nobody_has_is_told_with_the_likeliest(muster: Shell, ill: Town) -> None:
    told = muster("health", "why", "wbe", code=3).stderr
    assert told.startswith("cannot find the package wbe in the picture of health-recovery; did you mean web?")
    told = muster("health", "availability", "zzz", code=3).stderr
    assert told.endswith("see which there are with: muster health packages\n")


def test_what_others_say_has_no_power_over_the_terminal(muster: Shell, ill: Town) -> None:
    ill.care.packages[0] = package_health("db-1", "db", "critical", check="tcp", text="\x1b[2Jboo")
    explained(ill, "db", checks=[check_health(text="\x1b[2Jboo")])
    for words in (("packages",), ("why", "db"), ("show", "db-1")):
        told = muster("health", *words).stdout
        assert "\x1b[2J" not in told
        assert "\\x1b[2Jboo" in told


# How it was --------------------------------------------------------------------------------------


def event(
    at: datetime, agent: str = "web-1", package: str | None = "web", **changes: Any
) -> health.HealthEvent:
    told = {"id": str(at), "agent": agent, "package": package, "at": at, "was": "ok", "now": "critical"}
    return health.HealthEvent.model_validate({**told, **changes})


def test_history_is_told_newest_first_page_by_page(muster: Shell, ill: Town) -> None:
    ill.care.events = [
        event(ago(minutes=1), reason="check", text="refused"),
        event(ago(minutes=2), now="ok", was="critical", duration_seconds=60.0),
        event(ago(minutes=3), cause={"agent": "db-1", "package": "db"}, duration_seconds=60.0),
        event(ago(hours=3), package=None, now=None, duration_seconds=10_000.0),
    ]
    lines = muster("health", "history").stdout.splitlines()
    assert lines[0].split() == ["AT", "AGENT", "PACKAGE", "HEALTH", "WAS", "LASTED", "WHY"]
    assert "until now" in lines[1]
    assert "check: refused" in lines[1]
    assert "1 min" in lines[2]
    assert "because of db@db-1" in lines[3]
    assert "(all)" in lines[4]
    assert "gone" in lines[4]
    assert len(muster.json("health", "history", "--since", "1h")) == 3
    assert len(muster.json("health", "history", "--until", "1h")) == 1
    assert muster.json("health", "history", "--agent", "db-1") == []
    assert muster("health", "history", "--package", "db").stderr == "nothing has changed that matches\n"
    told = muster("health", "history", "--limit", "3")
    assert told.stderr == "the newest 3; --limit shows more\n"
    assert len(told.stdout.splitlines()) == 4


def test_availability_is_told_for_each_agent_that_has_the_package(muster: Shell, ill: Town) -> None:
    lines = muster("health", "availability", "web").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["AGENT", "web-1", "web-2"]
    for text in ("99.95 %", "2", "43 s", "21 s"):
        assert text in lines[1]
    [told] = muster.json("health", "availability", "web", "--agent", "web-2", "--since", "7d")
    assert datetime.now(UTC) - datetime.fromisoformat(told["since"]) >= timedelta(days=7)
    assert (
        "cannot find the package db on web-2"
        in muster("health", "availability", "db", "--agent", "web-2", code=3).stderr
    )


def test_incidents_name_the_cause_what_it_made_ill_and_what_was_tried(muster: Shell, ill: Town) -> None:
    told = muster("health", "incidents").stdout
    for text in ("db@db-1", "open for 5 min", "check: refused", "tried: restart: succeeded (2 in all)"):
        assert text in told
    assert "web@web-1 and 8 more" in told
    [one] = muster.json("health", "incidents")
    assert one["cause"] == {"agent": "db-1", "package": "db"}


def test_incidents_that_are_over_are_told_where_asked_for(muster: Shell, ill: Town) -> None:
    ill.care.incidents.append(incident("web-2", "web", resolved_at=ago(minutes=1), gave_up=True))
    assert "over 1 min ago, lasted 4 min" in muster("health", "incidents", "--over").stdout
    assert len(muster.json("health", "incidents", "--all")) == 2
    assert len(muster.json("health", "incidents", "--all", "--package", "db")) == 1
    assert muster("health", "incidents", "--agent", "web-2").stderr == "no incident is open\n"
    assert muster("health", "incidents", "--over", "--agent", "db-1").stderr == "no incidents\n"


# What people decide ------------------------------------------------------------------------------


def test_an_acknowledgement_says_what_it_did(muster: Shell, ill: Town) -> None:
    told = muster("health", "ack", "db", "--text", "on it")
    assert told.stdout.startswith("db@db-1: nobody is notified any more until it is over (incident ")
    asked = ill.care.asked[-1]
    assert (asked.agent_id, asked.package, asked.text, asked.retry) == ("db-1", "db", "on it", False)
    assert "@" in asked.by
    assert len(muster.json("health", "ack", "db")["incidents"]) == 1
    told = muster("health", "ack", "worker")
    assert told.stderr == "worker@web-1 has no open incident, and recovery did not give up on it\n"


def test_recovery_that_gave_up_begins_anew_when_somebody_says_so(muster: Shell, ill: Town) -> None:
    ill.care.cases = [case("db-1", "db", gave_up_at=ago(minutes=1))]
    assert "db@db-1: recovery begins anew" in muster("recovery", "ack", "db").stdout
    assert muster.json("recovery", "ack", "db")["retried"] == [{"agent": "db-1", "package": "db"}]
    assert "recovery begins anew" in muster("health", "ack", "db", "--retry").stdout


def test_maintenance_is_set_listed_and_ended(muster: Shell, ill: Town) -> None:
    assert muster("health", "maintenance").stderr == "nothing is worked on\n"
    words = ("--on", "role=db", "--for", "2h", "--package", "db", "--text", "new kernel")
    told = muster("health", "maintenance", "set", *words).stdout
    for text in ("role=db", "db", "new kernel"):
        assert text in told
    [window] = muster.json("health", "maintenance", "list")
    lasts = datetime.fromisoformat(window["until"]) - datetime.fromisoformat(window["since"])
    assert abs(lasts - timedelta(hours=2)) < timedelta(seconds=60)
    muster("health", "maintenance", "end", window["id"][:8])
    assert ill.care.windows == []


def test_maintenance_to_come_is_shown_as_such(muster: Shell, ill: Town) -> None:
    [window] = muster.json(
        "health", "maintenance", "set", "--agent", "db-1", "--since", "2999-01-31T12:00", "--for", "1h"
    )
    assert window["selector"] == "id=db-1"
    begin, end = (datetime.fromisoformat(window[key]) for key in ("since", "until"))
    assert end - begin == timedelta(hours=1)
    assert "to come" in muster("health", "maintenance", "list").stdout


def test_a_window_that_is_not_there_cannot_be_ended(muster: Shell, ill: Town) -> None:
    told = muster("health", "maintenance", "end", "abcd1234", code=3).stderr
    assert told == "cannot find maintenance that begins with abcd1234; see: muster health maintenance\n"


def test_a_notification_is_tested_channel_by_channel(muster: Shell, town: Town) -> None:
    assert muster("health", "notify-test").stderr.startswith("no channels; add some")
    town.care.deliveries = [
        health.Delivery(channel="ops", ok=True),
        health.Delivery(channel="mail", ok=False, text="cannot reach smtp://127.0.0.1:25: refused"),
    ]
    told = muster("health", "notify-test", code=1).stdout
    for text in ("ops", "taken", "mail", "not taken", "cannot reach smtp://127.0.0.1:25: refused"):
        assert text in told
    assert [one["ok"] for one in muster.json("health", "notify-test", code=1)] == [True, False]
    assert "taken" in muster("health", "notify-test", "ops").stdout
    told = muster("health", "notify-test", "none", code=3).stderr
    assert told == "cannot find the channel none\n"


# Recovery ----------------------------------------------------------------------------------------


def test_recovery_shows_what_is_ill_what_holds_it_and_what_was_done(muster: Shell, ill: Town) -> None:
    ill.care.cases = [
        case("db-1", "db", attempts=3, gave_up_at=ago(minutes=1), until=ago(minutes=-9), hold="crash-loop"),
        case("web-2", "web", next_step="restart", next_at=ago(seconds=-90)),
    ]
    ill.care.acts = [act("db-1", "db", 3, step="give-up", state=None), act("db-1", "db", 2, dry_run=True)]
    ill.care.pauses = [
        health.Pause(id=uuid4(), selector="site=ams", since=ago(hours=1), by="ann", text="drill")
    ]
    told = muster("recovery").stdout
    for text in (
        "gave up 1 min ago; crash-loop (until ",
        "restart in 1 min",
        "site=ams",
        "somebody resumes it",
        "drill",
        "what was done last",
        "give-up",
        "only said (dry run)",
    ):
        assert text in told
    assert [one["package"] for one in muster.json("recovery", "status")["cases"]] == ["db", "web"]
    assert muster("recovery", "status").stdout == told


def test_recovery_of_a_well_fleet_says_so(muster: Shell, town: Town) -> None:
    assert muster("recovery").stdout == "nothing is ill that recovery looks after\n"
    assert muster("recovery", "list").stderr == "nothing was done that matches\n"


def test_acts_are_listed_with_why_and_what_came_of_them(muster: Shell, ill: Town) -> None:
    ill.care.acts = [
        act("db-1", "db", 3, state="failed", text="cannot start db"),
        act("db-1", "db", 2),
        act("web-1", "web"),
    ]
    lines = muster("recovery", "list").stdout.splitlines()
    assert lines[0].split() == ["COMMAND", "AGENT", "PACKAGE", "STEP", "#", "WHEN", "CAME", "OF", "IT", "WHY"]
    for text in (str(ill.care.acts[0].id)[:8], "restart", "✗ failed", "check http: no answer"):
        assert text in lines[1]
    assert lines[2].strip() == "cannot start db"
    assert len(muster.json("recovery", "list")) == 3
    assert len(muster.json("recovery", "list", "--package", "web")) == 1
    assert len(muster.json("recovery", "list", "--agent", "db-1")) == 2
    assert muster("recovery", "list", "--limit", "2").stderr == "the newest 2; --limit shows more\n"


def test_recovery_is_paused_for_some_or_for_all_and_resumed(muster: Shell, ill: Town) -> None:
    told = muster.json("recovery", "pause", "--on", "role=db", "--for", "2h", "--text", "drill")
    [pause] = told["pauses"]
    assert (pause["selector"], pause["text"]) == ("role=db", "drill")
    assert datetime.fromisoformat(pause["until"]) > datetime.now(UTC) + timedelta(hours=1)
    assert "(every agent)" in muster("recovery", "pause").stdout
    muster("recovery", "resume", pause["id"][:8])
    [left] = ill.care.pauses
    assert left.selector == ""
    assert muster.json("recovery", "resume")["pauses"] == []
    assert "cannot find pauses" in muster("recovery", "resume", "abcd", code=3).stderr


# Just now ----------------------------------------------------------------------------------------


def test_checks_are_told_by_the_agent_itself(muster: Shell, ill: Town) -> None:
    ill.checks["web-1"].states = [
        check_state("web"),
        check_state("web", "script", kind="script", health="critical", text="exit code 2", looks=3),
        check_state(
            "worker", "process", kind="process", waiting=True, duration_seconds=None, every_seconds=90
        ),
    ]
    lines = muster("health", "checks", "web-1").stdout.splitlines()
    assert lines[0].split()[:5] == ["PACKAGE", "CHECK", "KIND", "PURPOSE", "HEALTH"]
    for text in ("http", "● ok", "3.2 ms", "10 s", "liveness"):
        assert text in lines[1]
    assert "✗ critical" in lines[2]
    assert "exit code 2" in lines[2]
    assert "waiting" in lines[3]
    assert len(muster.json("health", "checks", "web-1")) == 3
    assert len(muster.json("health", "checks", "web-1", "--package", "worker")) == 1
    ill.checks["web-1"].states = []
    told = muster("health", "checks", "web-1").stderr
    assert told == "no checks on web-1; a package.json lists them under 'checks'\n"


@pytest.mark.usefixtures("hasty")
def test_checks_of_a_machine_that_does_not_answer_are_told_with_how_it_is(
    muster: Shell, ill: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("muster_client.health.ANSWER_SECONDS", 0.3)
    ill.registry.agents["db-1"] = row("db-1", state="lost", reason="silence")
    told = muster("health", "checks", "db-1", code=3).stderr
    assert told == "cannot read the checks of db-1: it does not answer, it is lost (silence)\n"
    assert "did you mean web-1" in muster("health", "checks", "web-11", code=3).stderr


def said(contract: type[DurableFact], /, **fields: Any) -> DurableFact:
    return contract.model_validate({"occurred_at": datetime.now(UTC), **fields})


def all_the_news() -> list[DurableFact]:
    """One of each kind, all of web-3's web."""
    where = {"agent_id": "web-3", "package": "web"}
    ill_now = package_health("web-3", "web", "critical", **ILL)
    open_one = incident("web-3", "web", affected_count=2)
    return [
        said(health.PackageHealthChanged, **where, was="ok", now=ill_now),
        said(health.HostHealthChanged, agent_id="web-3", kind="host", was="ok", now="critical",
             reason="package", culprit="web"),
        said(health.HealthFlapping, **where, changes=10, window_seconds=60),
        said(health.HealthStable, **where, health="ok"),
        said(health.IncidentOpened, incident=open_one),
        said(health.IncidentResolved, incident=open_one, why="well"),
        said(health.RecoveryDecided, agent_id="web-3", act=act("web-3", "web", state=None)),
        said(health.RecoveryEnded, agent_id="web-3", act=act("web-3", "web", text="done")),
        said(health.RecoveryDecided, agent_id="web-3",
             act=act("web-3", "web", 4, step="give-up", why="4 acts")),
        said(health.PackageHealthChanged, **where, was="critical", now=ill_now),
        said(health.PackageHealthChanged, **where, was="ok"),
    ]  # fmt: skip


def test_news_of_every_kind_is_watched_from_a_moment_on(muster: Shell, town: Town) -> None:
    facts = all_the_news()
    town.do(town.buses["health-recovery"].say(*facts))
    words = ("health", "watch", "--agent", "web-3", "--since", "10m", "--count", "11")
    lines = muster.lines("health-watch", *words)
    assert [line["event"] for line in lines] == [
        "package-health-changed",
        "host-health-changed",
        "health-flapping",
        "health-stable",
        "incident-opened",
        "incident-resolved",
        "recovery-decided",
        "recovery-ended",
        "recovery-decided",
        "package-health-changed",
        "package-health-changed",
    ]
    assert {line["agent_id"] for line in lines} == {"web-3"}
    assert lines[4]["incident"] == lines[5]["incident"]
    told = [line.partition("web-3")[2] for line in muster(*words).stdout.splitlines()]
    for line, text in zip(
        told,
        [
            "✗ critical  was ok, check http: no answer within 5 s",
            "✗ critical  was ok, web (package)",
            "flaps: 10 changes in 1 min",
            "● ok  is stable again",
            "✗ critical  incident: check; it makes 2 others ill",
            "incident over (well) after 5 min",
            "recovery does: restart, act 1: check http: no answer",
            "recovery: restart succeeded",
            "recovery gives up: 4 acts",
            "✗ critical  still, check http: no answer within 5 s",
            "was ok, is gone",
        ],
        strict=True,
    ):
        assert text in line


def test_looks_of_checks_are_watched_as_they_go_by(muster: Shell, town: Town) -> None:
    look = {"package": "web", "check": "http", "seen": "critical", "held": "ok", "at": ago(seconds=1)}
    result = health.CheckResult.model_validate({**look, "duration_seconds": 0.1, "reason": "refused"})
    sample = health.ChecksRan(
        occurred_at=datetime.now(UTC), agent_id="web-1", epoch=EPOCH, results=[result, result]
    )
    subject, payload = "muster.health.v1.web-1.checks-ran", sample.model_dump_json().encode()
    with Meanwhile(town, ("web-1", subject, payload)):
        first, second = muster.lines("health-watch", "health", "watch", "--checks", "--count", "2")
    assert (first["event"], first["now"], first["package"]) == ("check-ran", "ok", "web")
    assert second["text"] == "check http saw critical, holds ok (refused)"
