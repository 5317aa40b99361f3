"""From facts on a real broker to a real webhook receiver and a real mail server, over a change of leaders."""

from health_facts import check, described, row, state
from health_world import now, world

from muster_contracts.health.v1 import FindIncidents, IncidentOpened, IncidentResolved, TestNotification
from muster_testing.receivers import MailSink, WebhookReceiver
from muster_testing.wait import until

DEPENDENTS = [f"app-{number}" for number in range(8)]


async def test_a_database_and_eight_dependents_elsewhere_are_one_message_and_one_end_per_channel() -> None:
    async with world("db-1", *DEPENDENTS) as here, WebhookReceiver() as hook, MailSink() as sink:
        notifications = {
            "settle_seconds": 2.0, "calm_seconds": 0.5, "group_wait_seconds": 0, "group_interval_seconds": 0,
            "egress": {"networks": ["127.0.0.0/8"]},
            "channels": {
                "hook": {"kind": "webhook", "url": hook.url()},
                "mail": {
                    "kind": "smtp", "host": "127.0.0.1", "port": sink.port, "security": "none",
                    "sender": "muster@example.com", "to": ["ops@example.com"],
                },
            },
        }  # fmt: skip
        for name in ["db-1", *DEPENDENTS]:
            here.registry.agents[name] = row(name, at=now())
        buses = {name: await here.ground.bus(name) for name in ["db-1", *DEPENDENTS]}
        await here.listen(IncidentOpened, IncidentResolved)
        async with here.replica(notifications=notifications):
            at = now()
            await buses["db-1"].say(described("db@db-1", at), state("db@db-1", at=at))
            for name in DEPENDENTS:
                app = described(f"app@{name}", at, relies=[("db", "id=db-1")])
                await buses[name].say(app, state(f"app@{name}", at=at))
            for name in DEPENDENTS:
                await here.explained(f"app@{name}", lambda one: one.package.health == "ok")
            for name in DEPENDENTS:
                await buses[name].say(check(f"app@{name}", at=now(), text="no connection"))
            await buses["db-1"].say(check("db@db-1", at=now(), text="connection refused"))
            for name in DEPENDENTS:
                await here.explained(f"app@{name}", lambda one: one.package.cause and one.incident)
            [firing] = await hook.wait_for(1)
            await sink.wait_for(1)
            answer = await here.ask(TestNotification(occurred_at=now(), by="ann@laptop"))
            assert all(one.ok for one in answer.deliveries)
        async with here.replica(notifications=notifications):
            await buses["db-1"].say(check("db@db-1", "ok", at=now()))
            for name in DEPENDENTS:
                await buses[name].say(check(f"app@{name}", "ok", at=now()))
            await hook.wait_for(3)
            await sink.wait_for(3)
            page = await here.ask(FindIncidents(occurred_at=now(), open=None))
            await until(lambda: here.told(IncidentResolved))
    [incident] = page.incidents
    assert str(incident.cause) == "db@db-1"
    assert firing.json["items"][0]["incident"]["affected_count"] == len(DEPENDENTS)
    assert firing.json["title"] == "db@db-1 is critical: http: connection refused"
    events = [[item["event"] for item in one.json["items"]] for one in hook.received]
    assert events == [["firing"], [], ["resolved"]]
    subjects = [str(mail["Subject"]) for mail in sink.mails]
    assert [subject.split()[1] for subject in subjects] == ["db@db-1", "Test", "Over:"]
    assert (len(here.told(IncidentOpened)), len(here.told(IncidentResolved))) == (1, 1)
