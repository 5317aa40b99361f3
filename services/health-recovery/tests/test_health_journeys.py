"""health-recovery on a real broker: from facts to judgements, and from one leader to the next."""

from health_facts import check, described, presence, row, state
from health_world import now, world

from muster_contracts.health.v1 import (
    GetFleetHealth,
    GetHealthHistory,
    Health,
    HostHealthChanged,
    PackageHealthChanged,
)
from muster_testing.wait import until


async def test_a_check_that_turns_critical_makes_its_package_and_its_host_critical() -> None:
    async with world("web-1") as here:
        here.registry.agents["web-1"] = row("web-1", at=now())
        await here.listen(PackageHealthChanged, HostHealthChanged)
        agent = await here.ground.bus("web-1")
        async with here.replica():
            at = now()
            await agent.say(described("web@web-1", at, checks=["http"]), state("web@web-1", at=at))
            await here.explained("web@web-1", lambda told: told.package.health is Health.OK)
            await agent.say(check("web@web-1", at=now(), text="no answer in 2 s"))
            told = await here.explained("web@web-1", lambda told: told.package.health is Health.CRITICAL)
            assert told.package.text == "http: no answer in 2 s"
            fleet = await here.ask(GetFleetHealth(occurred_at=now()))
            assert fleet.fleet.health is Health.CRITICAL
            assert fleet.fleet.packages.critical == 1
            await until(lambda: [one for one in here.told(HostHealthChanged) if one.now is Health.CRITICAL])
            assert [one.now.health for one in here.told(PackageHealthChanged) if one.now] == [
                "ok",
                "critical",
            ]


async def test_the_next_leader_goes_on_where_the_one_before_stopped_and_says_nothing_twice() -> None:
    """Facts said while nobody leads wait; labels that changed are seen; each change is said once."""
    async with world("web-1", "db-1") as here:
        for name in ("web-1", "db-1"):
            here.registry.agents[name] = row(name, at=now())
        await here.listen(PackageHealthChanged)
        web, db = await here.ground.bus("web-1"), await here.ground.bus("db-1")
        async with here.replica(lease_seconds=1.0) as first:
            await web.say(described("web@web-1", now(), relies=[("db", "role=db")], checks=["http"]))
            await web.say(state("web@web-1", at=now()))
            await db.say(state("db@db-1", at=now()))
            await here.explained("web@web-1", lambda told: told.package.health is Health.OK)
            await here.explained("db@db-1", lambda told: told.package.health is Health.OK)
            leader = first.lease.me
            async with here.replica(lease_seconds=1.0) as second:
                await first.tasks.close()  # as if it had been killed, but for its lease, which it gives back
                await web.say(check("web@web-1", at=now()))
                await db.say(state("db@db-1", "failed", at=now()))
                here.registry.agents["db-1"] = row("db-1", at=now(), labels={"role": "db"})
                told = await here.explained("web@web-1", lambda told: told.package.cause is not None)
                assert [str(one.package) for one in told.chain] == ["db"]
                fleet = await here.ask(GetFleetHealth(occurred_at=now()))
                assert fleet.leader == second.lease.me != leader
                page = await here.ask(GetHealthHistory(occurred_at=now(), agent_id="db-1", package="db"))
                assert [event.now for event in page.events] == ["critical", "ok"]
                await until(lambda: len(here.told(PackageHealthChanged)) >= 4)
                of_db = [one for one in here.told(PackageHealthChanged) if one.agent_id == "db-1"]
                assert [one.now.health for one in of_db if one.now] == ["ok", "critical"]


async def test_an_agent_that_is_lost_reads_unknown_and_comes_back_as_it_was() -> None:
    async with world("web-1") as here:
        here.registry.agents["web-1"] = row("web-1", at=now())
        agent, registry = await here.ground.bus("web-1"), await here.ground.bus("fleet-registry")
        async with here.replica(judging={"refresh_seconds": 60}):
            await agent.say(state("web@web-1", "failed", at=now()))
            await here.explained("web@web-1", lambda told: told.package.health is Health.CRITICAL)
            await registry.say(presence("web-1", "lost", now()))
            told = await here.explained("web@web-1", lambda told: told.package.health is Health.UNKNOWN)
            assert told.package.reason == "agent-lost"
            await registry.say(presence("web-1", "online", now()))
            await here.explained("web@web-1", lambda told: told.package.health is Health.CRITICAL)
