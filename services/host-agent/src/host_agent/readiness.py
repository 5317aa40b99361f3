"""When a package that was started is ready, as its package.json says."""

import asyncio

from host_agent.domain.package import Loaded, Run
from host_agent.ports import Probe

LOOK_SECONDS = 0.05
"""Between looks."""


async def until_ready(package: Loaded, run: Run, probe: Probe) -> str | None:
    """Return when it is ready; what is missing if it was not in time, for people."""
    ready = package.spec.ready
    if not ready.tcp_port and not ready.file:
        await asyncio.sleep(ready.after_seconds)
        return None
    missing: str | None = "it is not ready"
    try:
        async with asyncio.timeout(ready.timeout_seconds):
            while missing := await _missing(package, run, probe):  # noqa: ASYNC110  (nobody tells)
                await asyncio.sleep(LOOK_SECONDS)
    except TimeoutError:
        return missing
    return None


async def _missing(package: Loaded, run: Run, probe: Probe) -> str | None:
    ready = package.spec.ready
    if ready.tcp_port and not await probe.accepts(ready.tcp_port):
        return f"nothing accepts connections on port {ready.tcp_port}"
    if ready.file and not probe.made_since(package.path(ready.file), run.started_at):
        return f"there is no new file {package.path(ready.file)}"
    return None
