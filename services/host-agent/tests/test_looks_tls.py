"""Looks by HTTPS: whom they trust, and when certificates end."""

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from looks_ground import descriptors, look_at, says, seen, serving

from host_agent.adapters.looks import trust
from host_agent.domain.certificate import ends_at
from host_agent.domain.look import Seen
from muster_contracts.health.v1 import Health
from muster_testing.wait import until

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
ANNOUNCED = {"expiry_warning_days": 30, "expiry_critical_days": 7}


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Who signs the certificates of these tests."""
    return trustme.CA()


def certificate(authority: trustme.CA, days: float, name: str = "127.0.0.1") -> trustme.LeafCert:
    """One that ends in so many days."""
    now = datetime.now(UTC)
    return authority.issue_cert(
        name, not_before=now - timedelta(days=90), not_after=now + timedelta(days=days)
    )


def server_side(certificate: trustme.LeafCert) -> ssl.SSLContext:
    """What a server needs of it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


async def asked(tmp_path: Path, authority: trustme.CA, days: float, **more: Any) -> Seen:
    """What is seen of a server with such a certificate by somebody who trusts its authority."""
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    async with serving(says(OK), server_side(certificate(authority, days))) as port:
        given = {"url": f"https://127.0.0.1:{port}/", "authority_file": "authority.pem"} | more
        return await seen(tmp_path, "http", **given)


@pytest.mark.parametrize(
    ("days", "more", "found"),
    [
        (60, {}, (Health.OK, "ok")),
        (60, ANNOUNCED, (Health.OK, "ok")),
        (20, ANNOUNCED, (Health.WARNING, "tls-expiry")),
        (5, ANNOUNCED, (Health.CRITICAL, "tls-expiry")),
        (5, ANNOUNCED | {"verify": False}, (Health.CRITICAL, "tls-expiry")),
        (20, ANNOUNCED | {"verify": False}, (Health.WARNING, "tls-expiry")),
        (-1, {}, (Health.CRITICAL, "tls-expiry")),
        (-1, ANNOUNCED | {"verify": False}, (Health.CRITICAL, "tls-expiry")),
        (-1, {"verify": False}, (Health.OK, "ok")),
    ],
)
async def test_a_certificate_is_told_of_before_and_after_its_end(
    tmp_path: Path, authority: trustme.CA, days: float, more: dict[str, Any], found: tuple[Health, str]
) -> None:
    told = await asked(tmp_path, authority, days, **more)
    assert (told.health, told.reason) == found, told.text


async def test_the_days_that_are_left_are_said(tmp_path: Path, authority: trustme.CA) -> None:
    assert "the certificate ends in 5.0 days" in (await asked(tmp_path, authority, 5, **ANNOUNCED)).text
    past = await asked(tmp_path, authority, -2, verify=False, **ANNOUNCED)
    assert "the certificate ended 2.0 days ago" in past.text
    assert (await asked(tmp_path, authority, 60, **ANNOUNCED)).text.endswith("ends in 60.0 days")


async def test_a_certificate_of_nobody_trusted_is_critical(tmp_path: Path, authority: trustme.CA) -> None:
    for more in ({"authority_file": None}, {"authority_file": "other.pem"}):
        trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
        found = await asked(tmp_path, authority, 60, **more)
        assert (found.health, found.reason) == (Health.CRITICAL, "tls"), found.text
        assert "cannot be trusted" in found.text


async def test_a_certificate_of_somebody_else_is_critical_if_it_has_to_be_trusted(
    tmp_path: Path, authority: trustme.CA
) -> None:
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    async with serving(says(OK), server_side(certificate(authority, 60, "other.example"))) as port:
        url = f"https://127.0.0.1:{port}/"
        found = await seen(tmp_path, "http", url=url, authority_file="authority.pem")
        assert (found.health, found.reason) == (Health.CRITICAL, "tls")
        assert "mismatch" in found.text
        assert (await seen(tmp_path, "http", url=url, verify=False)).health is Health.OK


async def test_an_authority_that_cannot_be_read_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("nothing in here")
    for file in ("missing.pem", "empty.pem"):
        found = await seen(tmp_path, "http", url="https://127.0.0.1:1/", authority_file=file)
        assert (found.health, found.reason) == (Health.UNKNOWN, "authority")
        assert found.text.startswith(f"cannot use authority_file {tmp_path}/{file}: ")


async def test_an_authority_that_was_changed_is_read_again(tmp_path: Path, authority: trustme.CA) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "authority.pem")
    async with serving(says(OK), server_side(certificate(authority, 60))) as port:
        look = look_at(tmp_path, "http", url=f"https://127.0.0.1:{port}/", authority_file="authority.pem")
        assert (await look.look()).reason == "tls"
        authority.cert_pem.write_to_path(tmp_path / "new.pem")
        (tmp_path / "new.pem").replace(tmp_path / "authority.pem")
        assert (await look.look()).health is Health.OK


async def test_what_is_trusted_is_read_once(tmp_path: Path, authority: trustme.CA) -> None:
    file = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(file)
    assert await trust.context(file, verify=True) is await trust.context(file, verify=True)
    assert await trust.context(file, verify=False) is not await trust.context(file, verify=True)


async def test_a_server_without_tls_is_named(tmp_path: Path) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(OK)

    async with serving(plain) as port:
        found = await seen(tmp_path, "http", url=f"https://127.0.0.1:{port}/")
    assert (found.health, found.reason) == (Health.CRITICAL, "tls")
    assert found.text.startswith(f"127.0.0.1 port {port} does not speak TLS as it should")


async def test_a_server_that_hangs_up_in_the_handshake_is_named(tmp_path: Path) -> None:
    async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)

    async with serving(nothing) as port:
        found = await seen(tmp_path, "http", url=f"https://127.0.0.1:{port}/")
    assert (found.health, found.reason) in {(Health.CRITICAL, "closed"), (Health.CRITICAL, "tls")}


async def test_a_handshake_that_never_ends_is_a_timeout_that_leaves_no_socket(tmp_path: Path) -> None:
    before = descriptors()

    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1000):
            pass

    async with serving(silence) as port:
        found = await seen(tmp_path, "http", url=f"https://127.0.0.1:{port}/", timeout_seconds=0.2)
        assert found.reason == "timeout"
        assert found.text.endswith(f"while connecting to 127.0.0.1 port {port} by TLS")
    await until(lambda: descriptors() <= before)


def der(certificate: trustme.LeafCert) -> bytes:
    return ssl.PEM_cert_to_DER_cert(certificate.cert_chain_pems[0].bytes().decode())


@pytest.mark.parametrize("year", [2049, 2050, 2300])
def test_the_end_of_a_certificate_is_read_from_its_encoding(authority: trustme.CA, year: int) -> None:
    end = datetime(year, 2, 28, 12, 34, 56, tzinfo=UTC)
    assert ends_at(der(authority.issue_cert("a.example", not_after=end))) == end


@given(st.data())
def test_what_is_no_certificate_is_refused_and_does_no_harm(data: st.DataObject) -> None:
    good = KNOWN
    at = data.draw(st.integers(0, 200))
    broken = good[:at] + data.draw(st.binary(max_size=8)) + good[data.draw(st.integers(0, len(good))) :]
    try:
        ends_at(broken)
    except ValueError:
        return


KNOWN = der(trustme.CA().issue_cert("a.example"))
