"""Logs: what a line holds, and what it never does."""

import io
import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from pydantic import SecretStr

from muster_runtime import configure_logs, logger
from muster_runtime.logs import Muffler
from muster_runtime.secrets import hide, is_secret_key, redact

SEED = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, configuration = root.handlers[:], root.level, structlog.get_config()
    yield
    structlog.configure(**configuration)
    structlog.contextvars.clear_contextvars()
    root.handlers, root.level = handlers, level


def fail(error: Exception) -> None:
    raise error


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_json_object_with_service_level_time_and_context() -> None:
    out = io.StringIO()
    configure_logs("fleet-registry", stream=out)
    structlog.contextvars.bind_contextvars(agent_id="web-1")
    logger("presence").info("agent online", epoch=3)
    logger("presence").debug("not at this level")
    [line] = lines(out)
    assert line.pop("at").endswith("Z")
    assert line == {
        "service": "fleet-registry",
        "logger": "presence",
        "event": "agent online",
        "level": "info",
        "agent_id": "web-1",
        "epoch": 3,
    }


def test_libraries_speak_in_the_same_form() -> None:
    out = io.StringIO()
    configure_logs("s", stream=out)
    logging.getLogger("nats").warning("slow consumer on %s", "muster.x")
    logging.getLogger("nats").info("not from a library at this level")
    [line] = lines(out)
    assert (line["service"], line["logger"], line["event"]) == ("s", "nats", "slow consumer on muster.x")


def test_a_terminal_gets_lines_for_people_without_warnings() -> None:
    out = Terminal()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        configure_logs("s", stream=out)
        try:
            fail(ValueError("bent"))
        except ValueError:
            logger("x").exception("cannot roll", wheel=1)
    text = out.getvalue()
    assert "cannot roll" in text
    assert "ValueError: bent" in text
    assert not text.startswith("{")


def test_json_can_be_asked_for_on_a_terminal_and_lines_for_people_in_a_pipe() -> None:
    out, piped = Terminal(), io.StringIO()
    configure_logs("s", json=True, stream=out)
    logger("x").info("hello")
    configure_logs("s", json=False, stream=piped)
    logger("x").info("hello")
    assert lines(out)[0]["event"] == "hello"
    assert not piped.getvalue().startswith("{")
    assert "\x1b" not in piped.getvalue()


def test_no_secret_is_written_whatever_way_it_comes() -> None:
    out = io.StringIO()
    configure_logs("s", stream=out)
    log = logger("x")
    log.info("a", password="hunter2", nested={"api_key": "hunter2", "list": [{"token": "hunter2"}]})
    log.info("b", value=SecretStr("hunter2"), url="postgresql://me:hunter2@host/db")
    text = f"c nats://me:hunter2@host {SEED}"
    log.info(text, seed=SEED, line=f"key {SEED}!")
    logging.getLogger("lib").warning("d postgresql://me:hunter2@host/db")
    try:
        fail(RuntimeError("cannot connect to nats://me:hunter2@host"))
    except RuntimeError:
        log.exception("e")
    assert len(lines(out)) == 5
    assert "hunter2" not in out.getvalue()
    assert SEED not in out.getvalue()


def test_the_way_to_a_secret_is_no_secret() -> None:
    assert redact({"seed_file": "/keys/a.seed", "token": None}) == {
        "seed_file": "/keys/a.seed",
        "token": None,
    }
    assert is_secret_key("SEED")
    assert not is_secret_key("token_count")
    assert hide("nats://127.0.0.1:4222 and me@example.org") == "nats://127.0.0.1:4222 and me@example.org"


def test_a_repeated_error_is_written_a_few_times_then_counted() -> None:
    now = 0.0
    muffler = Muffler(repeats=3, window_seconds=10, monotonic=lambda: now)

    def say(level: str = "error", event: str = "no broker") -> dict[str, Any] | None:
        try:
            return dict(muffler(None, level, {"event": event}))
        except structlog.DropEvent:
            return None

    assert [say() for _ in range(2)] == [{"event": "no broker"}] * 2
    assert say() == {"event": "no broker", "muted_seconds": 10}
    assert [say() for _ in range(4)] == [None] * 4
    assert say(event="another") == {"event": "another"}
    assert all(say("info", "progress") for _ in range(50))
    now = 10.0
    assert say() == {"event": "no broker", "muted": 4}


def test_the_memory_of_repeats_is_bounded() -> None:
    muffler = Muffler()
    for number in range(2000):
        muffler(None, "error", {"event": f"event {number}"})
    assert len(muffler._seen) == 512


def test_a_library_that_repeats_itself_is_muted_too() -> None:
    out = io.StringIO()
    configure_logs("s", stream=out)
    for number in range(100):
        logging.getLogger("nats").error("cannot reach %d", number)
    assert len(lines(out)) == 5


def test_configuring_twice_does_not_double_the_lines() -> None:
    out = io.StringIO()
    configure_logs("s", stream=out)
    configure_logs("s", stream=out)
    logging.getLogger("lib").warning("once")
    assert len(lines(out)) == 1


def test_before_logs_are_configured_standard_output_stays_clean(capsys: pytest.CaptureFixture[str]) -> None:
    logger("early").warning("no configuration yet", token="hunter2")
    out, err = capsys.readouterr()
    assert out == ""
    assert "no configuration yet" in err
    assert "hunter2" not in err


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot log at level 'loud': give one of debug, info"):
        configure_logs("s", level="loud")
