"""Channels against real receivers: what they send, and what becomes of receivers that misbehave."""

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import trustme
import yaml
from notice_world import HandClock

from health_recovery.adapters.channels import close_channels, open_channels
from health_recovery.adapters.http_post import MOST_READ, retry_after
from health_recovery.adapters.templates import Template
from health_recovery.adapters.webhook import MOST_BODY, key_of
from health_recovery.domain.egress import Egress, Forbidden
from health_recovery.domain.notice import SAMPLE, Notice
from health_recovery.notice_ports import CannotSend, Channel
from health_recovery.notice_settings import NotificationSettings
from muster_runtime import ConfigurationError, Count
from muster_testing.receivers import Answer, MailSink, WebhookReceiver
from muster_testing.servers import free_port

LOOPBACK = {"networks": ["127.0.0.0/8"]}
KEY = base64.b64encode(b"k" * 32).decode()


def settings(channel: dict[str, Any], **more: Any) -> NotificationSettings:
    return NotificationSettings.model_validate({"channels": {"ops": channel}, "egress": LOOPBACK, **more})


@asynccontextmanager
async def opened(channel: dict[str, Any], **more: Any) -> AsyncIterator[Channel]:
    resolver = more.pop("resolver", None)
    given = {"resolver": resolver} if resolver else {}
    channels = await open_channels(settings(channel, **more), HandClock(), **given)
    try:
        yield channels["ops"]
    finally:
        await close_channels(channels)


def hook(receiver: WebhookReceiver, **more: Any) -> dict[str, Any]:
    return {"kind": "webhook", "url": receiver.url(), **more}


async def refused(channel: Channel, notice: Notice = SAMPLE) -> CannotSend:
    with pytest.raises(CannotSend) as caught:
        await channel.send(notice)
    assert str(caught.value).startswith("cannot send through channel ops: ")
    return caught.value


def file(directory: Path, text: str) -> str:
    path = directory / f"{uuid4()}"
    path.write_text(f"{text}\n")
    return str(path)


class Authority:
    """Makes certificates that nobody else trusts."""

    def __init__(self, directory: Path) -> None:
        self._ca = trustme.CA()
        self.file = directory / "ca.pem"
        self._ca.cert_pem.write_to_path(str(self.file))

    def server(self, *names: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(*names).configure_cert(context)
        return context


# Webhooks --------------------------------------------------------------------------------------------


async def test_a_webhook_says_who_what_since_when_the_cause_and_what_was_tried() -> None:
    async with WebhookReceiver() as receiver, opened(hook(receiver)) as channel:
        await channel.send(SAMPLE)
        [got] = receiver.received
    assert (got.method, got.path, got.notice_id) == ("POST", "/hook", str(SAMPLE.id))
    assert got.headers["content-type"] == "application/json"
    assert got.json["items"][0]["incident"]["cause"] == {"agent": "db-1", "package": "database"}
    for words in ["database@db-1", "2026-01-01 12:00:00", "check tcp", "web@web-1", "restart: done", "north"]:
        assert words in got.json["text"]
    assert "recovery has not given up" in got.json["text"]


async def test_a_signed_webhook_is_verified_by_who_has_the_key_and_by_nobody_else(tmp_path: Path) -> None:
    key = file(tmp_path, f"whsec_{KEY}")
    async with WebhookReceiver() as receiver, opened(hook(receiver, key_file=key)) as channel:
        await channel.send(SAMPLE)
        [got] = receiver.received
    signed = f"{got.headers['webhook-id']}.{got.headers['webhook-timestamp']}.".encode() + got.body
    proof = base64.b64encode(hmac.new(b"k" * 32, signed, hashlib.sha256).digest()).decode()
    assert got.headers["webhook-signature"] == f"v1,{proof}"
    assert int(got.headers["webhook-timestamp"]) == int(HandClock().now().timestamp())
    other = base64.b64encode(hmac.new(b"K" * 32, signed, hashlib.sha256).digest()).decode()
    assert got.headers["webhook-signature"] != f"v1,{other}"
    assert KEY not in str(got.headers)


@pytest.mark.parametrize(
    ("status", "again"), [(429, True), (500, True), (503, True), (400, False), (401, False), (404, False)]
)
async def test_a_refusal_is_tried_again_only_where_that_can_help(status: int, again: bool) -> None:
    async with (
        WebhookReceiver(Answer(status, headers=(("retry-after", "17"),))) as receiver,
        opened(hook(receiver)) as channel,
    ):
        error = await refused(channel)
    assert (error.again, error.after) == (again, 17.0 if again else None)
    assert str(status) in str(error)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("3", 3.0), ("", None), ("soon", None), ("-1", None), ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0)],
)
def test_retry_after_is_a_number_of_seconds_or_a_date(text: str, seconds: float | None) -> None:
    assert retry_after(text) == seconds


async def test_an_unreachable_webhook_is_tried_again() -> None:
    dead = {"kind": "webhook", "url": f"http://127.0.0.1:{free_port()}/hook"}
    async with opened(dead) as channel:
        error = await refused(channel)
    assert error.again
    assert "cannot be connected to" in str(error)


@pytest.mark.parametrize("answer", [Answer(hang=True), Answer(drip=True)])
async def test_a_receiver_that_hangs_or_drips_takes_no_longer_than_it_may(answer: Answer) -> None:
    async with (
        WebhookReceiver(then=answer) as receiver,
        opened(hook(receiver, timeout_seconds=0.3)) as channel,
    ):
        error = await refused(channel)
    assert error.again
    assert "took longer than 0.3 s" in str(error)


async def test_a_receiver_that_closes_the_connection_is_tried_again() -> None:
    async with WebhookReceiver(Answer(cut=True)) as receiver, opened(hook(receiver)) as channel:
        error = await refused(channel)
        assert error.again
        await channel.send(SAMPLE)


async def test_an_answer_of_a_megabyte_is_not_read_to_its_end() -> None:
    async with (
        WebhookReceiver(Answer(500, body=b"x" * 1_000_000)) as receiver,
        opened(hook(receiver)) as channel,
    ):
        error = await refused(channel)
    assert len(str(error)) < 400 < MOST_READ


async def test_a_redirect_is_not_followed() -> None:
    async with WebhookReceiver() as secret:
        moved = Answer(307, headers=(("location", secret.url("/latest/meta-data")),))
        async with WebhookReceiver(moved) as receiver, opened(hook(receiver)) as channel:
            error = await refused(channel)
    assert secret.received == []
    assert not error.again
    assert "redirects are not followed" in str(error)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/",
        "http://localhost:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://2130706433:{port}/",
    ],
)
async def test_no_private_address_is_connected_to_unless_the_settings_name_it(url: str) -> None:
    async with WebhookReceiver() as receiver:
        channel = {"kind": "webhook", "url": url.format(port=receiver.port)}
        async with opened(channel, egress={}) as ops:
            error = await refused(ops)
        assert receiver.connections == 0
        assert not error.again
        async with opened(channel) as ops:
            await ops.send(SAMPLE)
        assert receiver.connections == 1


async def test_a_host_that_is_not_listed_is_not_even_looked_up() -> None:
    asked: list[str] = []

    async def resolver(host: str, _: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    egress = {**LOOPBACK, "hosts": ["*.example.com"]}
    async with WebhookReceiver() as receiver:
        other = {"kind": "webhook", "url": receiver.url(host="example.org")}
        async with opened(other, egress=egress, resolver=resolver) as channel:
            error = await refused(channel)
        assert (asked, error.again) == ([], False)
        mine = {"kind": "webhook", "url": receiver.url(host="hooks.example.com")}
        async with opened(mine, egress=egress, resolver=resolver) as channel:
            await channel.send(SAMPLE)
        assert receiver.received[0].headers["host"] == f"hooks.example.com:{receiver.port}"


async def test_a_name_that_resolves_elsewhere_a_moment_later_gains_nothing() -> None:
    asked = 0

    async def rebinding(_: str, __: int) -> list[str]:
        """First an address that may be, then for ever one that may not."""
        nonlocal asked
        asked += 1
        return ["127.0.0.2"] if asked == 1 else ["127.0.0.1"]

    async with WebhookReceiver() as secret:  # on 127.0.0.1, where 127.0.0.2 does not lead
        channel = {"kind": "webhook", "url": secret.url(host="evil.example.com")}
        egress = {"networks": ["127.0.0.2/32"]}
        async with opened(channel, egress=egress, resolver=rebinding) as ops:
            first, second = await refused(ops), await refused(ops)
        # What was allowed is what is connected to: one look-up for each connection, and none to the secret.
        assert (asked, secret.connections) == (2, 0)
        assert first.again
        assert "outside of egress.networks" in str(second)
        # The harm, were the answer that was checked another than the one that is connected to:
        async with opened(channel, resolver=rebinding) as ops:
            await ops.send(SAMPLE)
        assert secret.connections == 1


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("93.184.215.14", True),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
        ("10.0.0.1", False),
        ("127.0.0.1", False),
        ("169.254.169.254", False),
        ("::ffff:169.254.169.254", False),
        ("64:ff9b::a9fe:a9fe", False),
        ("2002:7f00:1::", False),
        ("fd00::1", False),
        ("fe80::1%eth0", False),
        ("fec0::1", False),
        ("::1", False),
        ("0.0.0.0", False),
        ("100.64.0.1", False),
        ("224.0.0.1", False),
        ("240.0.0.1", False),
        ("no address", False),
    ],
)
def test_by_default_public_addresses_are_allowed_and_no_others(address: str, allowed: bool) -> None:
    if allowed:
        assert Egress().allowed("host", [address]) == [address]
    else:
        with pytest.raises(Forbidden, match="host"):
            Egress().allowed("host", [address])


def test_with_networks_only_what_is_in_them_is_allowed() -> None:
    egress = Egress(networks=(ipaddress.ip_network("10.1.0.0/16"),))
    assert egress.allowed("host", ["10.1.2.3", "93.184.215.14"]) == ["10.1.2.3"]


async def test_tokens_keys_and_paths_are_in_no_error(tmp_path: Path) -> None:
    echo = Answer(400, body=b"bad token hunter2-token at services/T0/hunter2-path?key=hunter2-query")
    async with WebhookReceiver(echo) as receiver:
        url = receiver.url("/services/T0/hunter2-path?key=hunter2-query")
        channel = {"kind": "webhook", "url": url, "token_file": file(tmp_path, "hunter2-token")}
        async with opened(channel) as ops:
            error = await refused(ops)
        assert receiver.received[0].headers["authorization"] == "Bearer hunter2-token"
        assert "hunter2" not in str(error)
        assert "hunter2" not in repr(settings(channel))


async def test_a_notice_that_is_too_large_lists_less_and_counts_the_rest() -> None:
    many = [SAMPLE.items[0]] * 400
    async with WebhookReceiver() as receiver, opened(hook(receiver)) as channel:
        await channel.send(SAMPLE.model_copy(update={"items": many}))
        [got] = receiver.received
    assert len(got.body) < MOST_BODY
    assert len(got.json["items"]) + got.json["more"] == 401


async def test_tls_is_verified_for_the_name_and_not_for_the_address(tmp_path: Path) -> None:
    authority = Authority(tmp_path)

    async def resolver(_: str, __: int) -> list[str]:
        return ["127.0.0.1"]

    async with WebhookReceiver(tls=authority.server("hooks.example.com")) as receiver:
        trusted = {"kind": "webhook", "ca_file": str(authority.file)}
        good = {**trusted, "url": receiver.url(host="hooks.example.com")}
        async with opened(good, resolver=resolver) as channel:
            await channel.send(SAMPLE)
        for wrong in [
            {**trusted, "url": receiver.url(host="other.example.com")},
            {"kind": "webhook", "url": good["url"]},
        ]:
            async with opened(wrong, resolver=resolver) as channel:
                error = await refused(channel)
            assert "certificate cannot be verified" in str(error)
        assert len(receiver.received) == 1


# Templates -------------------------------------------------------------------------------------------


async def test_a_template_makes_the_body() -> None:
    ids = '{% for item in items %}"{{ item.incident.id }}"{{ "," if not loop.last }}{% endfor %}'
    slack = f'{{"text": {{{{ title | tojson }}}}, "ids": [{ids}]}}'
    async with WebhookReceiver() as receiver, opened(hook(receiver, template=slack)) as channel:
        await channel.send(SAMPLE)
        [got] = receiver.received
    assert got.json["text"] == SAMPLE.title()
    assert len(got.json["ids"]) == 2


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("one\n{{ title", "line 2: unexpected end"),
        ("one\ntwo\n{{ nothing }}", "line 3: 'nothing' is undefined"),
        ("{{ items[0].incident.nope }}", "line 1"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{% set x = items.append(1) %}", "unsafe|not safely callable"),
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "took longer"),
        ("{% for a in range(99999) %}0123456789{% endfor %}", "more than"),
        ("{{ 'x' * 10 ** 10 }}", "memory"),
        ("{{ '%1000000000d' | format(1) }}", "memory|more than"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "Recursion"),
    ],
)
async def test_a_template_that_cannot_be_used_is_named_at_the_start_and_harms_nothing(
    template: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("health_recovery.adapters.templates.RENDER_SECONDS", 2.0)
    with pytest.raises(ConfigurationError, match=f"(?s)cannot render template of channel ops.*({why})"):
        await open_channels(
            settings({"kind": "webhook", "url": "http://127.0.0.1:1/", "template": template}), HandClock()
        )


async def test_a_template_that_fails_at_last_is_replaced_by_the_built_in_words_and_counted() -> None:
    failed = next(one for one in Count.all if one.name == "muster_health_templates_failed_total")
    before = failed.get("sample")
    only_two = "{{ items[1].why }}"  # the sample has two, a real notice may have one
    async with WebhookReceiver() as receiver, opened(hook(receiver, template=only_two)) as channel:
        await channel.send(SAMPLE.model_copy(update={"items": SAMPLE.items[:1]}))
        [got] = receiver.received
    assert got.json["title"]
    assert failed.get("sample") == before + 1


# Alertmanager ----------------------------------------------------------------------------------------


async def test_a_webhook_in_the_format_of_alertmanager_is_what_its_receivers_know() -> None:
    async with WebhookReceiver() as receiver, opened(hook(receiver, format="alertmanager")) as channel:
        await channel.send(SAMPLE)
        [got] = receiver.received
    told = got.json
    assert {
        "version",
        "groupKey",
        "truncatedAlerts",
        "status",
        "receiver",
        "groupLabels",
        "commonLabels",
    } <= set(told)
    assert {"commonAnnotations", "externalURL", "alerts"} <= set(told)
    assert (told["version"], told["status"], told["truncatedAlerts"]) == ("4", "firing", 1)
    firing, resolved = told["alerts"]
    assert (firing["status"], firing["endsAt"]) == ("firing", "0001-01-01T00:00:00Z")
    assert (resolved["status"], resolved["endsAt"]) == ("resolved", "2026-01-01T12:00:00.000Z")
    assert firing["fingerprint"] == resolved["fingerprint"]
    assert firing["labels"] == resolved["labels"]
    assert (
        firing["labels"] | {"alertname": "MusterIncident", "package": "database", "agent": "db-1"}
        == firing["labels"]
    )
    assert "web@web-1" in firing["annotations"]["affected"]


async def test_alerts_are_posted_to_an_alertmanager_so_that_they_end_by_themselves(tmp_path: Path) -> None:
    async with WebhookReceiver() as receiver:
        channel = {"kind": "alertmanager", "url": receiver.url("/am/"), "resend_seconds": 30}
        async with opened({**channel, "token_file": file(tmp_path, "token")}) as ops:
            await ops.send(SAMPLE)
        [got] = receiver.received
    assert got.path == "/am/api/v2/alerts"
    firing, resolved = got.json
    assert set(firing) == {"labels", "annotations", "startsAt", "endsAt"}
    assert firing["startsAt"] == "2026-01-01T12:00:00.000Z"
    assert firing["endsAt"] == "2026-01-01T12:02:00.000Z"
    assert resolved["endsAt"] == "2026-01-01T12:00:00.000Z"
    assert all(name.replace("_", "a").isalnum() for name in firing["labels"])


async def test_a_test_reads_as_one_in_every_format() -> None:
    test = Notice(id=uuid4(), kind="test", channel="ops", at=SAMPLE.at, by="ann@laptop")
    for form in ["muster", "alertmanager"]:
        async with WebhookReceiver() as receiver, opened(hook(receiver, format=form)) as channel:
            await channel.send(test)
            assert "ann@laptop" in json.dumps(receiver.received[0].json)


# Mail ------------------------------------------------------------------------------------------------


def mail(sink: MailSink, **more: Any) -> dict[str, Any]:
    return {
        "kind": "smtp", "host": "127.0.0.1", "port": sink.port, "security": "none",
        "sender": "muster@example.com", "to": ["ops@example.com", "night@example.com"], **more,
    }  # fmt: skip


async def test_a_mail_arrives_with_an_id_that_stays_and_everything_in_words() -> None:
    async with MailSink() as sink, opened(mail(sink)) as channel:
        await channel.send(SAMPLE)
        await channel.send(SAMPLE)
        first, again = await sink.wait_for(2)
    assert first["Message-ID"] == again["Message-ID"] == f"<{SAMPLE.id}@example.com>"
    assert first["X-Muster-Notice-Id"] == str(SAMPLE.id)
    assert first["Auto-Submitted"] == "auto-generated"
    assert sink.recipients[0] == ["ops@example.com", "night@example.com"]
    assert "database@db-1" in first["Subject"]
    assert "restart: done" in first.get_content()


async def test_no_text_can_add_a_header_or_a_recipient() -> None:
    evil = "broken\r\nBcc: thief@example.com\r\n\r\nbody\u2028x"
    bad = SAMPLE.items[0].incident.model_copy(update={"text": evil})
    items = [SAMPLE.items[0].model_copy(update={"incident": bad})]
    template = "{{ items[0].incident.text }}"
    async with MailSink() as sink, opened(mail(sink, subject_template=template)) as channel:
        await channel.send(SAMPLE.model_copy(update={"items": items}))
        [got] = await sink.wait_for(1)
    assert "Bcc" not in got
    assert got["Subject"] == "broken Bcc: thief@example.com body x"
    assert sink.recipients == [["ops@example.com", "night@example.com"]]


@pytest.mark.parametrize("bad", ["a@b\r\nBcc: c@d", "a b@c", "nobody", "Ann <ann@example.com>", "a@b,c@d"])
def test_an_address_that_is_none_is_refused_by_the_settings(bad: str) -> None:
    with pytest.raises(ValueError, match="plain address"):
        settings({"kind": "smtp", "host": "mail", "sender": bad, "to": ["a@b"]})


async def test_a_password_goes_over_tls_and_a_wrong_one_is_refused_for_good(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    sink = MailSink(login=("muster", "hunter2"), tls=authority.server("127.0.0.1", "localhost"))
    safe = {"security": "starttls", "ca_file": str(authority.file), "username": "muster", "host": "localhost"}
    async with sink:
        async with opened(mail(sink, **safe, password_file=file(tmp_path, "hunter2"))) as channel:
            await channel.send(SAMPLE)
        assert (sink.logins, len(sink.mails)) == (["muster"], 1)
        async with opened(mail(sink, **safe, password_file=file(tmp_path, "hunter3"))) as channel:
            error = await refused(channel)
        assert (error.again, "535" in str(error), "hunter" in str(error)) == (False, True, False)


async def test_tls_from_the_beginning_works_and_an_unknown_authority_does_not(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with MailSink(tls=authority.server("localhost"), starttls=False) as sink:
        tls = {"security": "tls", "host": "localhost"}
        async with opened(mail(sink, **tls, ca_file=str(authority.file))) as channel:
            await channel.send(SAMPLE)
        assert len(sink.mails) == 1
        async with opened(mail(sink, **tls)) as channel:
            assert (await refused(channel)).again


async def test_a_server_without_starttls_gets_no_mail_in_the_open() -> None:
    async with MailSink() as sink, opened(mail(sink, security="starttls")) as channel:
        await refused(channel)
        assert sink.mails == []


@pytest.mark.parametrize(("answer", "again"), [("451 later", True), ("554 never", False)])
async def test_a_mail_server_that_refuses_for_now_is_tried_again(answer: str, again: bool) -> None:
    async with MailSink() as sink, opened(mail(sink)) as channel:
        sink.refuse = answer
        error = await refused(channel)
    assert (error.again, answer[:3] in str(error)) == (again, True)


async def test_an_unreachable_mail_server_is_tried_again() -> None:
    sink = MailSink()
    sink.port = free_port()
    async with opened(mail(sink)) as channel:
        assert (await refused(channel)).again


# Settings --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"channels": {"ops": {"kind": "pigeon"}}}, "pigeon|kind"),
        ({"channels": {"ops": {"kind": "webhook"}}}, "either url or url_file"),
        ({"channels": {"ops": {"kind": "smtp", "host": "m", "sender": "a@b", "to": []}}}, "to"),
        ({"routes": [{"channels": ["nobody"]}]}, "nobody is none"),
        ({"routes": [{"channels": ["log"], "selector": "kind=host"}]}, "neither kind nor state"),
        ({"routes": [{"channels": ["log"], "selector": "((("}]}, "selector"),
        ({"egress": {"networks": ["10.0.0.1/8"]}}, "networks"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        NotificationSettings.model_validate(given)


async def test_the_settings_that_the_documentation_shows_are_good() -> None:
    text = (Path(__file__).parents[1] / "NOTIFICATIONS.md").read_text()
    shown = yaml.safe_load(text.partition("```yaml\n")[2].partition("```")[0])["notifications"]
    good = NotificationSettings.model_validate(shown)
    assert {one.kind for one in good.channels.values()} == {"log", "webhook", "smtp", "alertmanager"}
    assert len(good.to()) == 2
    made = await Template("the one shown", shown["channels"]["ops"]["template"]).render(SAMPLE.told())
    assert json.loads(made) == {"text": SAMPLE.text()}


def test_a_password_is_not_sent_in_the_open() -> None:
    channel = {
        "kind": "smtp", "host": "m", "sender": "a@b", "to": ["a@b"], "security": "none",
        "username": "u", "password_file": "/x",
    }  # fmt: skip
    with pytest.raises(ValueError, match="open connection"):
        settings(channel)


@pytest.mark.parametrize(
    "channel",
    [
        {"kind": "webhook", "url": "ftp://hunter2/"},
        {"kind": "webhook", "url": "http://me:hunter2@host/"},
        {"kind": "webhook", "url_file": "/nowhere/at/all"},
        {"kind": "webhook", "url": "http://host/", "key_file": "/nowhere"},
        {"kind": "alertmanager", "url": "http://host/", "ca_file": "/nowhere"},
    ],
)
async def test_channels_that_cannot_be_opened_are_named_without_their_secrets(
    channel: dict[str, Any],
) -> None:
    with pytest.raises(ConfigurationError, match="channel ops: cannot ") as caught:
        await open_channels(settings(channel), HandClock())
    assert "hunter2" not in str(caught.value)


def test_a_key_is_text_or_base64_and_long_enough() -> None:
    assert key_of(f"whsec_{KEY}") == b"k" * 32
    assert key_of("x" * 24) == b"x" * 24
    for bad in ["short", "whsec_c2hvcnQ=", "whsec_???"]:
        with pytest.raises(ValueError, match="it is"):
            key_of(bad)


async def test_many_notices_go_side_by_side_over_few_connections() -> None:
    async with WebhookReceiver() as receiver, opened(hook(receiver)) as channel:
        await asyncio.gather(*(channel.send(SAMPLE) for _ in range(20)))
        assert (len(receiver.received), receiver.connections <= 2) == (20, True)
