"""health-recovery on a real broker: from facts to judgements, and from one leader to the next."""

from health_facts import check, described, presence, row, state
from health_world import World, now, world

from muster_contracts.health.v1 import (
    FindPackages,
    GetFleetHealth,
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
            await agent.say(described("web@web-1", at), state("web@web-1", at=at))
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
