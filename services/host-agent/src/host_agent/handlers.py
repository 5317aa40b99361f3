"""What host-agent does when it is asked."""

from host_agent.ports import Pulse
from muster_bus.bus import Bus
from muster_contracts.host.v1 import ReadVitals, Vitals

FRESH_SECONDS = 1.0


async def listen(bus: Bus, agent_id: str, pulse: Pulse) -> None:
    """Answer what is asked of this machine."""

    async def on_read_vitals(_: ReadVitals) -> Vitals:
        """The vitals of this machine, not older than a second."""
        return await pulse.vitals(FRESH_SECONDS)

    await bus.answer(ReadVitals, on_read_vitals, bound_to=agent_id)
