"""Settings: where they are, what they say when they are wrong, and that the README lists them all."""

import re
from pathlib import Path

import pytest

from host_agent.adapters.lock import only_one_in
from host_agent.adapters.logfile import LogFile
from host_agent.arguments import parse
from host_agent.settings import LIVE, HostAgentSettings, Places, needs_restart
from host_agent.watching import without_values
from muster_runtime import ConfigurationError

README = Path(__file__).parents[1] / "README.md"
HOME = Path("/home/ada")
BY_PRIVILEGE = {"state_dir", "log_dir", "package_dirs", "policy_file"}


def test_root_has_the_places_of_the_system() -> None:
    places = Places(root=True, environ={"XDG_CONFIG_HOME": "/elsewhere"}, home=HOME)
    assert places.config == Path("/etc/muster/host-agent.yaml")
    assert places.state == Path("/var/lib/muster/host-agent")
    assert places.log == Path("/var/log/muster")
    assert places.packages == Path("/etc/muster/packages")
    assert places.policy == Path("/etc/muster/policy.yaml")


def test_a_user_has_places_of_her_own() -> None:
    places = Places(root=False, environ={}, home=HOME)
    assert places.config == HOME / ".config/muster/host-agent.yaml"
    assert places.state == HOME / ".local/state/muster/host-agent"
    assert places.log == HOME / ".local/state/muster/log"


def test_a_user_may_put_her_places_elsewhere_but_not_by_relative_paths() -> None:
    environ = {"XDG_CONFIG_HOME": "/mnt/config", "XDG_STATE_HOME": "relative"}
    places = Places(root=False, environ=environ, home=HOME)
    assert places.config == Path("/mnt/config/muster/host-agent.yaml")
    assert places.state == HOME / ".local/state/muster/host-agent"


def test_the_environment_stands_above_the_file(tmp_path: Path) -> None:
    file = tmp_path / "agent.yaml"
    file.write_text("sample_seconds: 30\nlabels: {role: web, site: ber}\n")
    settings = HostAgentSettings.load(
        file, {"HOST_AGENT_SAMPLE_SECONDS": "2", "HOST_AGENT_SERVERS": "nats://a:1,nats://b:2"}
    )
    assert (settings.sample_seconds, settings.labels) == (2, {"role": "web", "site": "ber"})
    assert settings.servers == ["nats://a:1", "nats://b:2"]


def test_labels_come_from_the_environment_as_json() -> None:
    settings = HostAgentSettings.load(None, {"HOST_AGENT_LABELS": '{"role": "db"}'})
    assert settings.labels == {"role": "db"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sample_seconds: 0\n", "sample_seconds"),
        ("sampel_seconds: 5\n", "sample_seconds"),
        ("labels: {'a b': c}\n", "labels"),
        ("labels: {a: 'c d'}\n", "labels"),
        ("servers: []\n", "servers"),
        ("log_level: loud\n", "log_level"),
        ("health_port: 70000\n", "health_port"),
        ("a: b: c\n", "line 1"),
        ("- a\n- b\n", "mapping"),
    ],
)
def test_wrong_settings_are_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "agent.yaml"
    file.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        HostAgentSettings.load(file, {})
    assert str(caught.value).startswith(f"cannot use {file}")
    assert said in str(caught.value)


def test_no_value_of_a_refused_file_gets_into_a_fact(tmp_path: Path) -> None:
    file = tmp_path / "agent.yaml"
    file.write_text(
        "health_port: hunter2\nlog_level: hunter2\nservers: hunter2\nlabels: hunter2\nlog_json: hunter2\n"
    )
    with pytest.raises(ConfigurationError) as caught:
        HostAgentSettings.load(file, {})
    assert "hunter2" in str(caught.value)
    told = without_values(str(caught.value))
    assert "hunter2" not in told
    assert "health_port" in told


def test_what_can_be_applied_at_once_does_not_ask_for_a_restart() -> None:
    assert needs_restart(LIVE) == []
    assert needs_restart(frozenset({"labels", "servers", "state_dir"})) == ["servers", "state_dir"]
    assert set(HostAgentSettings.model_fields) >= LIVE


def test_options_may_stand_before_or_after_the_command() -> None:
    for words in (["--config", "a.yaml", "identity"], ["identity", "--config", "a.yaml"]):
        options = parse(words)
        assert (options.command, options.config) == ("identity", Path("a.yaml"))
    assert parse([]).command == "run"


def test_a_second_agent_in_a_state_directory_is_refused_by_the_pid_of_the_first(tmp_path: Path) -> None:
    with (
        only_one_in(tmp_path),
        pytest.raises(ConfigurationError, match=r"with pid \d+ does"),
        only_one_in(tmp_path),
    ):
        pass
    with only_one_in(tmp_path):
        pass


def test_a_log_file_is_turned_over_and_the_oldest_goes(tmp_path: Path) -> None:
    file = LogFile(tmp_path / "log" / "agent.log", turn_at_bytes=100)
    for number in range(50):
        file.write(f"line {number:02} {'x' * 20}\n")
    file.close()
    names = sorted(path.name for path in (tmp_path / "log").iterdir())
    assert names == ["agent.log", "agent.log.1", "agent.log.2", "agent.log.3"]
    assert all(path.stat().st_size <= 100 for path in (tmp_path / "log").iterdir())
    assert (tmp_path / "log/agent.log").read_text().endswith(f"line 49 {'x' * 20}\n")


def settings_table() -> str:
    """The table of the README."""
    rows = ["| key | variable | default | live | meaning |", "|---|---|---|---|---|"]
    for one in HostAgentSettings.all():
        default = "by privilege" if one.key in BY_PRIVILEGE else f"`{one.default}`"
        live = "yes" if one.key in LIVE else ""
        rows.append(f"| `{one.key}` | `{one.env}` | {default} | {live} | {one.description} |")
    return "\n".join(rows)


def test_the_readme_lists_every_setting_as_it_is() -> None:
    found = re.search(r"<!-- settings -->\n(.*?)\n<!-- /settings -->", README.read_text(), re.DOTALL)
    assert found
    assert found[1] == settings_table(), f"put this between the marks of {README}:\n{settings_table()}"
