"""A look that connects, and hangs up at once."""

from host_agent.adapters.looks.connecting import Connecting
from host_agent.domain.look import Seen, Settled, ok
from muster_contracts.package.specification import TcpCheck


class TcpLook:
    """Implements ``host_agent.ports.Look``."""

    def __init__(self, check: TcpCheck) -> None:
        self._connecting = Connecting(check.host, check.port)

    @property
    def stage(self) -> str:
        """What it waits for."""
        return self._connecting.stage

    async def look(self) -> Seen:
        """Well, if somebody accepts the connection."""
        try:
            async with self._connecting.opened():
                return ok(f"{self._connecting.host} port {self._connecting.port} accepts connections")
        except Settled as settled:
            return settled.seen
