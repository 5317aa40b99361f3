"""A fleet that does not exist: thousands of agents that speak to a real broker as real ones do.

Two shapes. ``connections="each"``: one TCP connection, key and inbox per agent, so that the broker sees
ten thousand clients and each may be killed, muted or sent home by itself. ``connections=K``: the heartbeats
of all agents over K connections, for ingest without the cost of sockets.

    roster = Roster.fresh(10_000)                      # names and keys
    config = render([*others, *roster.identities], …)    # muster_bus.broker: let them in
    async with Fleet(roster, url, interval=15) as fleet:
        await fleet.connect()
        fleet["sim-00042"].kill()
"""

from muster_testing.simulator.agent import Condition, SimulatedAgent
from muster_testing.simulator.fleet import Fleet, Settings
from muster_testing.simulator.limits import CannotSimulate
from muster_testing.simulator.roster import Member, Roster
from muster_testing.simulator.stats import Stats

__all__ = ["CannotSimulate", "Condition", "Fleet", "Member", "Roster", "Settings", "SimulatedAgent", "Stats"]
