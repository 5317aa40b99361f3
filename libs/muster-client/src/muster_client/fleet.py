"""The fleet as a program sees it: who is there, how they are, what happens.

    async with Fleet.connect() as fleet:
        async for agent in fleet.agents("site=ams", states=[Presence.LOST]):
            print(agent.id, agent.since)
        async for change in fleet.watch(PresenceChanged):
            print(change.agent_id, change.now)
        command = await fleet.order(RestartPackage(package="web"), "site=ams")
        for target in await command.wait():
            print(target.agent, target.state, target.text)
        print(await fleet.health.why("web-1", "web"))

Questions are repeated until they are answered or the patience ends; each is idempotent, so that a
repeat has no second effect. A refusal raises ``AskFailed`` with a stable ``code``.
"""

from muster_client.health import Wellbeing
from muster_client.machines import Machines
from muster_client.orders import Orders
from muster_client.recovery import Recovery


class Fleet(Orders, Machines):
    """A connection to the fleet; made by ``connect``."""

    @property
    def health(self) -> Wellbeing:
        """How packages, agents and the fleet are, were, and why."""
        return Wellbeing(self)

    @property
    def recovery(self) -> Recovery:
        """What is done about what is ill."""
        return Recovery(self)
