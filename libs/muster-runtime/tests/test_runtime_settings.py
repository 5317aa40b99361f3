"""Settings: where values come from, and what people are told when they cannot be used."""

from pathlib import Path
from typing import ClassVar, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from muster_runtime import ConfigurationError, Settings
from muster_runtime.settings import changed_keys


class Broker(BaseModel):
    model_config = ConfigDict(frozen=True)

    servers: list[str] = Field(default=["nats://127.0.0.1:4222"], description="Where the brokers are.")
    ping_seconds: float = Field(default=10, gt=0, le=60, description="Between two pings.")


class Rack(Settings):
    """Settings as a service would have them."""

    ENV_PREFIX: ClassVar[str] = "RACK_"

    name: str = Field(description="What the rack is called.")
    broker: Broker = Broker()
    slots: int = Field(default=4, ge=1)
    level: Literal["info", "debug"] = "info"
    labels: dict[str, str] = Field(default={})
    state: Path | None = None
    port: int = 0
    password: SecretStr | None = Field(default=None, description="Of the\n  database.")

    @field_validator("password")
    @classmethod
    def _long(cls, value: SecretStr | None) -> SecretStr | None:
        if value and len(value.get_secret_value()) < 8:
            raise ValueError(f"{value.get_secret_value()} is too short")
        return value


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rack.yaml"


def problems(file: Path | None, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigurationError) as refused:
        Rack.load(file, environ or {})
    assert str(refused.value) == "\n".join(refused.value.problems)
    return refused.value.problems


def test_the_environment_wins_over_the_file_and_the_file_over_the_default(file: Path) -> None:
    file.write_text("name: left\nslots: 5\nbroker: {servers: [nats://file:1], ping_seconds: 7}\n")
    rack = Rack.load(file, {"RACK_NAME": "right", "RACK_BROKER__SERVERS": "nats://a:1, nats://b:2"})
    assert (rack.name, rack.slots, rack.level) == ("right", 5, "info")
    assert rack.broker == Broker(servers=["nats://a:1", "nats://b:2"], ping_seconds=7)


def test_lists_and_mappings_are_json_in_the_environment() -> None:
    rack = Rack.load(None, {"RACK_NAME": "r", "RACK_LABELS": '{"a": "b"}', "RACK_BROKER__SERVERS": '["x"]'})
    assert (rack.labels, rack.broker.servers) == ({"a": "b"}, ["x"])


def test_an_empty_variable_empties_an_optional_setting(file: Path) -> None:
    file.write_text("name: r\nstate: /var/lib/rack\n")
    assert Rack.load(file, {"RACK_STATE": ""}).state is None


def test_an_empty_file_is_as_good_as_none(file: Path) -> None:
    file.write_text("# nothing\n")
    assert Rack.load(file, {"RACK_NAME": "r"}) == Rack.load(None, {"RACK_NAME": "r"})


def test_everything_that_is_wrong_is_said_at_once(file: Path) -> None:
    file.write_text("slots: many\nlevel: loud\nbroker: {ping_seconds: -1}\nslotz: 4\n")
    said = problems(file, {"RACK_BROKER__SERVERS": "[", "RACK_PORT": "high"})
    assert said == [
        f"cannot use {file}: key 'slotz': is unknown, give 'slots' if that is what you mean",
        'cannot use the environment: RACK_BROKER__SERVERS: is not JSON, give a JSON list like ["a", "b"]',
        f"cannot use {file}: key 'name': is missing, give it there or as RACK_NAME",
        f"cannot use {file}: key 'broker.ping_seconds': -1 cannot be taken, give a value greater than 0",
        f"cannot use {file}: key 'slots': 'many' cannot be taken, give a valid integer",
        f"cannot use {file}: key 'level': 'loud' cannot be taken, give 'info' or 'debug'",
        "cannot use the environment: RACK_PORT: 'high' cannot be taken, give a valid integer",
    ]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("broker: {server: [x]}", "give 'broker.servers' if that is what you mean"),
        ("servers: [x]", "give 'broker.servers' if that is what you mean"),
        ("brokre: {servers: [x]}", "give 'broker' if that is what you mean"),
        ("zzz: 1", "give one of broker, broker.ping_seconds, broker.servers, labels,"),
    ],
)
def test_an_unknown_key_is_refused_with_what_was_probably_meant(file: Path, text: str, meant: str) -> None:
    file.write_text(f"name: r\n{text}\n")
    [problem] = problems(file)
    assert problem.startswith(f"cannot use {file}: key '")
    assert meant in problem


def test_an_unknown_variable_is_refused_but_the_links_of_kubernetes_are_not() -> None:
    links = {
        "RACK_SERVICE_HOST": "10.0.0.1",
        "RACK_SERVICE_PORT_HTTP": "80",
        "RACK_PORT": "tcp://10.0.0.1:80",
        "RACK_PORT_80_TCP_ADDR": "10.0.0.1",
    }
    assert Rack.load(None, {"RACK_NAME": "r", **links}).port == 0
    said = problems(None, {"RACK_NAME": "r", "RACK_SLOT": "1", **links})
    assert said == [
        "cannot use the environment: RACK_SLOT: is unknown, give RACK_SLOTS if that is what you mean"
    ]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"a: [", "line 2, column 1: "),
        (b"a: 1\na: 2\n", "line 2, column 1: key 'a' is given twice, give valid YAML"),
        (b"- a\n", "holds a list, give a mapping of keys to values"),
        (b"\xff\xfe\x00", "give YAML in UTF-8"),
        (b"a: !!python/object:os.system {}", "give valid YAML"),
    ],
)
def test_a_file_that_is_no_mapping_in_yaml_is_refused_by_place(file: Path, raw: bytes, said: str) -> None:
    file.write_bytes(raw)
    assert said in problems(file, {"RACK_NAME": "r"})[0]


def test_a_missing_file_is_named(file: Path) -> None:
    [problem] = problems(file, {"RACK_NAME": "r"})
    assert problem == f"cannot use {file}: no such file or directory, give a file that can be read"


def test_a_secret_is_in_no_error_no_text_and_no_help(file: Path) -> None:
    file.write_text("name: r\npassword: hunter2\n")
    text = "\n".join(problems(file) + problems(None, {"RACK_NAME": "r", "RACK_PASSWORD": "hunter2"}))
    rack = Rack.load(None, {"RACK_NAME": "r", "RACK_PASSWORD": "hunter2hunter2"})
    assert "hunter2" not in text + repr(rack) + str(rack) + rack.model_dump_json() + Rack.describe()


def test_a_password_inside_a_url_is_hidden_in_errors(file: Path) -> None:
    file.write_text("name: r\nslots: nats://me:hunter2@host\n")
    assert "hunter2" not in problems(file)[0]


def test_the_help_names_every_setting_with_variable_default_and_meaning() -> None:
    text = Rack.describe()
    for expected in [
        "name  (str, required)\n    RACK_NAME\n    What the rack is called.",
        'broker.servers  (list[str], default: ["nats://127.0.0.1:4222"])\n    RACK_BROKER__SERVERS\n',
        "state  (Path or none, default: none)",
        "password  (SecretStr or none, default: none)\n    RACK_PASSWORD\n    Of the database.",
    ]:
        assert expected in text
    assert len(Rack.all()) == 9


def test_what_differs_is_told_by_dotted_keys() -> None:
    before = Rack(name="r")
    after = Rack(name="r", slots=5, broker=Broker(ping_seconds=5), labels={"a": "b"})
    assert changed_keys(before, after) == {"slots", "broker.ping_seconds", "labels"}
    assert changed_keys(before, before.model_copy()) == frozenset()
