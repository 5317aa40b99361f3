"""A look by what systemd or Docker says of the package."""

from dataclasses import replace

from host_agent.adapters.looks.secrecy import without_secrets
from host_agent.domain.look import Seen, critical, unknown
from host_agent.ports import CannotRun, LookContext


class NativeLook:
    """Implements ``host_agent.ports.Look``."""

    stage = "asking its driver"

    def __init__(self, context: LookContext) -> None:
        self._context = context

    async def look(self) -> Seen:
        """Ask the driver."""
        package = self._context.package
        if (run := self._context.run()) is None:
            return critical("gone", "it does not run")
        try:
            seen = await self._context.driver.native_health(package, run)
        except CannotRun as error:
            return unknown(error.reason, str(error))
        # A container's own check may print anything.
        return replace(seen, text=await without_secrets(seen.text, package))
