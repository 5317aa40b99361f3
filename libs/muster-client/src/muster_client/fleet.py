"""The fleet as a program sees it: who is there, how they are, what happens.

    async with Fleet.connect() as fleet:
        async for agent in fleet.agents("site=ams", states=[Presence.LOST]):
            print(agent.id, agent.since)
        async for change in fleet.watch(PresenceChanged):
            print(change.agent_id, change.now)
        command = await fleet.order(RestartPackage(package="web"), "site=ams")
        for target in await command.wait():
            print(target.agent, target.state, target.text)

Questions are repeated until they are answered or the patience ends; each is idempotent, so that a
repeat has no second effect. A refusal raises ``AskFailed`` with a stable ``code``.
"""

from muster_client.machines import Machines
from muster_client.orders import Orders


class Fleet(Orders, Machines):
    """A connection to the fleet; made by ``connect``."""
