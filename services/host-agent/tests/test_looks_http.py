"""Looks by HTTP: what each kind of answer is taken for, and that nothing a server says hurts the agent."""

import asyncio
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from looks_ground import check, context, descriptors, loaded, look_at, repeats, says, seen, serving

from host_agent.adapters.looks import http_exchange, make_look, patterns
from host_agent.domain.look import Seen
from muster_contracts.health.v1 import Health
from muster_testing.wait import until

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Version: 7\r\n\r\nhello"
ENDLESS = b"HTTP/1.1 200 OK\r\n\r\n"
PATIENCE = 0.2
"""Seconds until a look is called off that never ends."""


async def answered(tmp_path: Path, *chunks: bytes, stays: bool = False, **more: Any) -> Seen:
    """What is seen of a server that says this."""
    async with serving(says(*chunks, stays=stays)) as port:
        return await seen(tmp_path, "http", url=f"http://127.0.0.1:{port}/health?token=abc", **more)


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ({}, OK),
        ({}, b"HTTP/1.0 200 OK\r\n\r\nuntil the end"),
        ({"status": [204]}, b"HTTP/1.1 204 No Content\r\n\r\n"),
        ({"status": [200, 404]}, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
        ({"status": [302]}, b"HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n"),
        ({"method": "HEAD"}, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"),
        ({"method": "POST"}, OK),
        ({"body_contains": "ell"}, OK),
        ({"body_matches": "^h.*o$"}, OK),
        ({"body_contains": "grün"}, b"HTTP/1.1 200 OK\r\n\r\n" + "alles grün".encode()),
        (
            {"body_contains": "ell"},
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
        ),
        ({"answer_headers": {"x-version": "7"}}, OK),
        ({"answer_headers": {"X-Version": "8"}}, b"HTTP/1.1 200 OK\r\nX-Version: 7\r\nX-Version: 8\r\n\r\n"),
        ({}, b"HTTP/1.1 100 Continue\r\n\r\n" + OK),
    ],
)
async def test_an_answer_that_is_as_it_should_be_is_well(
    tmp_path: Path, asked: dict[str, Any], answer: bytes
) -> None:
    found = await answered(tmp_path, answer, **asked)
    assert (found.health, found.reason) == (Health.OK, "ok"), found.text


@pytest.mark.parametrize(
    ("asked", "answer", "reason", "text"),
    [
        ({}, b"HTTP/1.1 500 Oops\r\n\r\n", "status", "status 500, not 200"),
        ({"status": [200, 204]}, b"HTTP/1.1 404 No\r\n\r\n", "status", "status 404, not 200 or 204"),
        (
            {},
            b"HTTP/1.1 302 Found\r\nLocation: https://sso.example/login?ticket=secret\r\n\r\n",
            "status",
            "status 302, not 200; redirects are not followed (to https://sso.example/login)",
        ),
        ({"answer_headers": {"X-Version": "8"}}, OK, "header", "header X-Version is not '8'"),
        ({"answer_headers": {"X-Other": "8"}}, OK, "header", "header X-Other is missing"),
        ({"body_contains": "bye"}, OK, "body", "the body does not contain 'bye' (5 bytes were read)"),
        ({"body_matches": "^b"}, OK, "body", "the body does not match '^b' (5 bytes were read)"),
        (
            {"body_contains": "x", "status": [201]},
            OK,
            "status",
            "status 200, not 201; the body does not contain 'x' (5 bytes were read)",
        ),
        ({}, b"", "closed", "closed the connection without an answer"),
        ({}, b"HTTP/1.1 200 OK\r\nX-A", "closed", "closed the connection before the answer was complete"),
        (
            {"body_contains": "x"},
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi",
            "closed",
            "closed the connection before the answer was complete",
        ),
        ({}, b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "protocol", "answers by something that is not HTTP/1.1"),
        ({}, b"\x00\xff\n\n" * 50, "protocol", "answers by something that is not HTTP/1.1"),
        ({}, b"HTTP/1.1 20x OK\r\n\r\n", "protocol", "answers by something that is not HTTP/1.1"),
        (
            {"body_contains": "x"},
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "protocol",
            "answers by something that is not HTTP/1.1",
        ),
    ],
)
async def test_an_answer_that_is_not_is_critical_and_named(
    tmp_path: Path, asked: dict[str, Any], answer: bytes, reason: str, text: str
) -> None:
    found = await answered(tmp_path, answer, **asked)
    assert (found.health, found.reason) == (Health.CRITICAL, reason)
    assert found.text.endswith(text)


async def test_the_request_says_what_the_check_gives_and_the_secrets_of_files(tmp_path: Path) -> None:
    heard: list[bytes] = []
    (tmp_path / "token").write_text("Bearer s3cret\n")
    async with serving(says(OK, heard=heard)) as port:
        found = await seen(
            tmp_path,
            "http",
            url=f"http://127.0.0.1:{port}/a/b?c=d#e",
            headers={"host": "web.example", "X-From": "muster"},
            secret_headers={"Authorization": {"file": "token"}},
        )
    assert found.health is Health.OK
    line, *headers = heard[0].decode().split("\r\n")
    assert line == "GET /a/b?c=d HTTP/1.1"
    assert {"host: web.example", "X-From: muster", "Authorization: Bearer s3cret"} <= set(headers)
    assert sum(header.lower().startswith("host:") for header in headers) == 1


async def test_a_secret_is_read_anew_at_each_look(tmp_path: Path) -> None:
    heard: list[bytes] = []
    async with serving(says(OK, heard=heard)) as port:
        url, secrets = f"http://127.0.0.1:{port}/", {"X-Key": {"file": "key"}}
        look = look_at(tmp_path, "http", url=url, secret_headers=secrets)
        for value in ("one", "two"):
            (tmp_path / "key").write_text(value)
            await look.look()
    assert [
        f"X-Key: {value}".encode() in said for value, said in zip(("one", "two"), heard, strict=True)
    ] == [
        True,
        True,
    ]


async def test_a_secret_that_cannot_be_read_or_sent_is_named_and_never_shown(tmp_path: Path) -> None:
    secrets = {"X-Key": {"file": "key"}}
    found = await seen(tmp_path, "http", url="http://127.0.0.1:1/", secret_headers=secrets)
    assert (found.health, found.reason) == (Health.UNKNOWN, "no-secret")
    assert found.text == f"cannot check package web: header X-Key: {tmp_path}/key: No such file or directory"
    (tmp_path / "key").write_text("hunter2\nX-Evil: 1")
    found = await seen(tmp_path, "http", url="http://127.0.0.1:1/", secret_headers=secrets)
    assert (found.health, found.reason) == (Health.UNKNOWN, "request")
    assert "hunter2" not in found.text


@pytest.mark.parametrize(
    "url", ["http://", "http://:80/", "http://a:99999/", "http://a:0/", "http://user:pw@a/", "http://[::1/"]
)
async def test_a_url_that_cannot_be_used_is_unknown_at_each_look(tmp_path: Path, url: str) -> None:
    look = look_at(tmp_path, "http", url=url)
    for _ in range(2):
        found = await look.look()
        assert (found.health, found.reason) == (Health.UNKNOWN, "url")
        assert found.text.startswith("cannot use the url: ")
        assert "pw" not in found.text


async def test_what_http_does_not_allow_in_a_request_is_unknown(tmp_path: Path) -> None:
    for more in ({"url": "http://127.0.0.1/grün"}, {"url": "http://a/", "headers": {"X-A": "a\r\nb"}}):
        assert (await seen(tmp_path, "http", **more)).reason == "request"


async def test_nobody_on_the_port_is_critical(tmp_path: Path) -> None:
    async with serving(says(OK)) as port:
        pass
    found = await seen(tmp_path, "http", url=f"http://127.0.0.1:{port}/")
    assert (found.health, found.reason) == (Health.CRITICAL, "refused")
    assert found.text == f"127.0.0.1 port {port} refused the connection"


async def test_an_answer_that_is_late_is_a_warning(tmp_path: Path) -> None:
    found = await answered(tmp_path, OK, slow_seconds=1e-9)
    assert (found.health, found.reason) == (Health.WARNING, "slow")
    assert (await answered(tmp_path, OK, slow_seconds=3600)).health is Health.OK


@pytest.mark.parametrize(
    ("begins", "asked", "stage"),
    [
        (b"", {}, "while waiting for an answer, of which 0 bytes came"),
        (b"HTTP/1.1 200 OK\r\nX-A: b", {}, "while waiting for an answer, of which 23 bytes came"),
        (ENDLESS + b"hi", {"body_contains": "x"}, "while reading the body, of which 2 bytes came"),
    ],
)
async def test_silence_is_a_timeout_that_says_how_far_it_got(
    tmp_path: Path, begins: bytes, asked: dict[str, Any], stage: str
) -> None:
    found = await answered(tmp_path, begins, stays=True, timeout_seconds=PATIENCE, **asked)
    assert (found.health, found.reason) == (Health.CRITICAL, "timeout")
    assert found.text == f"not done within {PATIENCE:g} s, {stage}"


async def test_a_drip_does_not_prolong_a_look(tmp_path: Path) -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"H")
            await asyncio.sleep(0.01)

    async with serving(drip) as port:
        url = f"http://127.0.0.1:{port}/"
        found = await seen(tmp_path, "http", url=url, timeout_seconds=PATIENCE)
    assert found.reason in {"timeout", "protocol"}


# Bounds, and what happens without them ---------------------------------------------------------------


async def endless(tmp_path: Path, beginning: bytes, chunk: bytes, **more: Any) -> tuple[Seen, int]:
    """What is seen of a server that never stops, and how many bytes of it were taken."""
    taken: list[int] = []
    async with serving(repeats(beginning, chunk, taken)) as port:
        found = await seen(tmp_path, "http", url=f"http://127.0.0.1:{port}/", **more)
    return found, sum(taken)


async def test_a_body_that_never_ends_is_judged_by_its_first_64_kib(tmp_path: Path) -> None:
    found, _ = await endless(tmp_path, ENDLESS + b"hello", b"x" * 10_000, body_contains="hello")
    assert found.health is Health.OK
    found, taken = await endless(tmp_path, ENDLESS, b"x" * 10_000, body_contains="hello")
    assert (found.reason, found.text) == ("body", "the body does not contain 'hello' (65536 bytes were read)")
    assert taken < 64 << 20, "what nobody reads waits in the sockets"


async def test_without_that_bound_it_is_read_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_exchange, "LONGEST_BODY", 1 << 40)
    found, _ = await endless(
        tmp_path, ENDLESS, b"x" * 10_000, body_contains="hello", timeout_seconds=PATIENCE
    )
    assert found.reason == "timeout"


async def test_a_body_nobody_asks_for_is_not_read(tmp_path: Path) -> None:
    found, _ = await endless(tmp_path, ENDLESS, b"x" * 10_000)
    assert found.health is Health.OK


@pytest.mark.parametrize("chunk", [b"X-A: " + b"b" * 100 + b"\r\n", b"b" * 1000])
async def test_headers_that_never_end_are_given_up_after_16_kib(tmp_path: Path, chunk: bytes) -> None:
    found, _ = await endless(tmp_path, b"HTTP/1.1 200 OK\r\nX-B: ", chunk)
    assert (found.health, found.reason) == (Health.CRITICAL, "protocol")
    assert found.text.endswith("does not come to the end of its headers within 16 KiB")


async def test_without_that_bound_they_are_kept_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_exchange, "LONGEST_HEAD", 1 << 40)
    found, taken = await endless(
        tmp_path, b"HTTP/1.1 200 OK\r\nX-B: ", b"b" * 10_000, timeout_seconds=PATIENCE
    )
    assert found.reason == "timeout"
    assert taken > 1 << 18


async def test_interim_answers_that_never_end_are_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"
    found, _ = await endless(tmp_path, b"", interim)
    assert found.text.endswith("answers by nothing but interim answers")
    monkeypatch.setattr(http_exchange, "MOST_INTERIM", 1 << 40)
    found, _ = await endless(tmp_path, b"", interim, timeout_seconds=PATIENCE)
    assert found.reason == "timeout"


CATASTROPHE = ("(a+)+$", "a" * 40 + "b")


async def test_a_pattern_that_backtracks_elsewhere_is_searched_for_at_once(tmp_path: Path) -> None:
    pattern, text = CATASTROPHE
    found = await answered(tmp_path, ENDLESS + text.encode(), body_matches=pattern)
    assert (found.health, found.reason) == (Health.CRITICAL, "body")


def test_by_pythons_own_expressions_it_would_not_come_to_an_end() -> None:
    search = f"import re; re.search(*{CATASTROPHE!r})"
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run([sys.executable, "-c", search], timeout=0.5, check=False)


async def test_the_loop_goes_on_while_a_pattern_takes_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, finish = threading.Event(), threading.Event()

    class Slow:
        def search(self, body: bytes) -> None:
            begun.set()
            finish.wait(60)

    monkeypatch.setattr(patterns, "_compile", lambda text: Slow())
    searching = asyncio.create_task(answered(tmp_path, OK, body_matches="a"))
    await until(begun.is_set)
    finish.set()  # by the loop, which would never come to this
    assert (await searching).reason == "body"


@pytest.mark.parametrize(
    "pattern", ["(", "(?=lookahead)", r"(a)\1", "a{1001}", "((a?){90}){90}", r"\p{L}{900}"]
)
async def test_a_pattern_that_cannot_be_used_is_unknown_and_named(tmp_path: Path, pattern: str) -> None:
    found = await answered(tmp_path, OK, body_matches=pattern)
    assert (found.health, found.reason) == (Health.UNKNOWN, "pattern")
    assert found.text.startswith("cannot use body_matches ")


async def test_without_the_extra_a_pattern_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "re2", None)
    found = await answered(tmp_path, OK, body_matches="a")
    assert (found.health, found.reason) == (Health.UNKNOWN, "no-patterns")
    assert "install host-agent[patterns]" in found.text


async def test_patterns_hold_for_text_that_is_no_utf_8(tmp_path: Path) -> None:
    assert (await answered(tmp_path, ENDLESS + b"\xff\xfe ok", body_matches="ok$")).health is Health.OK
    assert patterns.MEMORY_BYTES <= 1 << 20


@pytest.mark.parametrize("begins", [b"", b"HTTP/1.1 200 OK\r\n", ENDLESS])
async def test_a_look_that_is_called_off_leaves_no_socket(tmp_path: Path, begins: bytes) -> None:
    before = descriptors()
    arrived = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(begins)
        arrived.set()
        await reader.read()
        writer.write(b"x")
        await reader.read()

    async with serving(talk) as port:
        url = f"http://127.0.0.1:{port}/"
        look = asyncio.create_task(seen(tmp_path, "http", url=url, body_contains="x"))
        await arrived.wait()
        look.cancel()
        with pytest.raises(asyncio.CancelledError):
            await look
    await until(lambda: descriptors() <= before)


async def test_a_look_can_be_made_again_and_again(tmp_path: Path) -> None:
    before = descriptors()
    async with serving(says(OK)) as port:
        look = make_look(check("http", url=f"http://localhost:{port}/"), context(loaded(tmp_path)))
        for _ in range(20):
            assert (await look.look()).health is Health.OK
    await until(lambda: descriptors() <= before)
