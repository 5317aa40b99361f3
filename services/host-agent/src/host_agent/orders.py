"""What the agent is told to do: packages and obedience put together, begun, and ended in order, for main."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from host_agent import handlers
from host_agent.adapters.docker_driver import DockerDriver
from host_agent.adapters.process_driver import ProcessDriver
from host_agent.adapters.script_runner import SessionRunner
from host_agent.adapters.systemd_driver import SystemdDriver
from host_agent.checking import Checking
from host_agent.domain.speaker import Speaker
from host_agent.packaging import build
from host_agent.ports import Driver
from host_agent.settings import HostAgentSettings
from muster_agent.obedience import Obedience
from muster_bus.bus import Bus
from muster_bus.errors import MusterError
from muster_contracts.package.v1 import Driver as Kind
from muster_runtime import Clock, ConfigurationError, Tasks, failpoints

TEND_SECONDS = 5.0
PATIENCE_SECONDS = 3.0
"""What runs when the agent is stopped may end within this; then it is interrupted."""


@asynccontextmanager
async def obeying(
    settings: HostAgentSettings, speaker: Speaker, bus: Bus, clock: Clock, tasks: Tasks
) -> AsyncIterator[Checking]:
    """Look after packages and their checks and obey, until the block ends; packages run on or end as set.

    Raises:
        ConfigurationError: what has to be remembered of commands cannot be kept.
    """

    def processes() -> Driver:
        driver = ProcessDriver(settings.state_dir, settings.log_dir / "packages", clock)
        tasks.every("tend packages", TEND_SECONDS, driver.tend, first_after=TEND_SECONDS)
        return driver

    drivers: dict[str, Callable[[], Driver]] = {
        Kind.PROCESS: processes,
        Kind.SYSTEMD: SystemdDriver,
        Kind.DOCKER: DockerDriver,
    }
    packaging = build(settings, speaker, bus, clock, drivers, SessionRunner())
    try:
        obedience = Obedience(
            bus, speaker.agent_id, speaker.epoch, settings.state_dir, packaging.verbs, clock=clock
        )
    except MusterError as error:
        raise ConfigurationError([str(error)]) from None
    if bus.courier:
        bus.courier.reached = failpoints.reached
    # Checks end first, so that what they said last is on the disk when the packages' news is.
    async with packaging.packages, packaging.checking:
        await handlers.listen_packages(
            bus, speaker.agent_id, packaging.packages, packaging.configurations, packaging.rules
        )
        await handlers.listen_checks(bus, speaker, packaging.checking, packaging.rules)
        await obedience.listen()
        tasks.spawn("obedience", obedience.run)
        try:
            yield packaging.checking
        finally:
            await tasks.cancel("obedience")
            await obedience.stop(PATIENCE_SECONDS)
            if settings.stop_packages_on_exit:
                await asyncio.shield(packaging.packages.stop_all())
