"""Composition root: the only module that knows every part of the host-agent, and its command line."""

import asyncio
import json
import os
import sqlite3
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from importlib.metadata import version
from pathlib import Path
from typing import TextIO, cast

from host_agent import arguments, handlers
from host_agent.adapters import this_kernel
from host_agent.adapters.lock import only_one_in
from host_agent.adapters.logfile import LogFile
from host_agent.domain.machine import describe
from host_agent.domain.speaker import Speaker
from host_agent.orders import obeying
from host_agent.rounds import Describing, Sampling
from host_agent.settings import CONFIG_VARIABLE, HostAgentSettings, Places, needs_restart
from host_agent.watching import Watch
from muster_agent import Agent, AgentIdentity, Grants, Identity, IdentityError
from muster_agent.epoch import new_epoch
from muster_bus.bus import Bus
from muster_bus.settings import BusSettings
from muster_bus.spool import FileSpool
from muster_contracts.agent.v1 import AgentKind, LeaveReason
from muster_runtime import ConfigurationError, Shutdown, SystemClock, Tasks, configure_logs, launch, logger
from muster_runtime.health import HealthServer
from muster_runtime.secrets import redact

VERSION = version("host-agent")
NAME = "host-agent"
STOPPING_SECONDS = 40.0
"""How long the agent may take to end where its packages end with it, each with a timeout of its own."""

Relog = Callable[[HostAgentSettings], None]
"""Applies the log level of other settings."""

log = logger(__name__)


def main() -> None:
    """Run one command; exits with 0 when all went well, 1 after a failure, 2 on unusable settings."""
    options = arguments.parse()
    try:
        config, settings = read_settings(options)
        if options.command == "run":
            relog = logs(settings)
            launch(
                lambda shutdown: serve(settings, config, relog, shutdown),
                drain_seconds=STOPPING_SECONDS if settings.stop_packages_on_exit else 10.0,
            )
        print(COMMANDS[options.command](settings))  # noqa: T201  (the command's output)
    except ConfigurationError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)


def read_settings(options: arguments.Options) -> tuple[Path, HostAgentSettings]:
    """The file the settings are in, whether it exists or not, and the settings.

    Raises:
        ConfigurationError: they cannot be used.
    """
    variable = os.environ.pop(CONFIG_VARIABLE, None)  # no setting, so it must not look like a misspelt one
    named = options.config or variable
    if options.state_dir:
        # Through the environment, so that it stands above the file at every reload as well.
        os.environ[f"{HostAgentSettings.ENV_PREFIX}STATE_DIR"] = str(options.state_dir)
    path = Path(named) if named else Places.here().config
    return path, HostAgentSettings.load(path if named or path.exists() else None)


def logs(settings: HostAgentSettings) -> Relog:
    """Send the logs where the settings say; the result follows later changes of the level.

    Raises:
        ConfigurationError: the log file cannot be written.
    """
    stream: TextIO | None = None
    if settings.log_to_file:
        try:
            stream = cast("TextIO", LogFile(settings.log_dir / "host-agent.log"))
        except OSError as error:
            problem = f"cannot use log_dir {settings.log_dir}: {error.strerror}; give a directory to write to"
            raise ConfigurationError([problem]) from None

    def relog(now: HostAgentSettings) -> None:
        configure_logs(NAME, level=now.log_level, json=settings.log_json, stream=stream)

    relog(settings)
    return relog


def identify(settings: HostAgentSettings) -> AgentIdentity:
    """Who this agent is.

    Raises:
        ConfigurationError: the state directory cannot be used.
    """
    try:
        return Identity.ensure(settings.state_dir)
    except IdentityError as error:
        raise ConfigurationError([str(error)]) from None


async def serve(settings: HostAgentSettings, config: Path, relog: Relog, shutdown: Shutdown) -> None:
    """Be this machine's agent until the shutdown, then say goodbye."""
    identity = identify(settings)
    async with AsyncExitStack() as stack:
        stack.enter_context(only_one_in(settings.state_dir))
        spool = open_spool(settings)
        stack.callback(spool.close)
        bus = await Bus.connect(reach(settings, identity), spool=spool)
        stack.push_async_callback(bus.close)
        agent = Agent(
            bus, identity, AgentKind.HOST, VERSION, settings.labels, settings.interval_seconds,
            grants=Grants(settings.state_dir), epoch=new_epoch(),
        )  # fmt: skip
        tasks = await stack.enter_async_context(Tasks())
        sampling = await live(settings, config, relog, agent, bus, tasks)
        speaker = Speaker(agent.agent_id, agent.epoch, agent.version)
        checking = await stack.enter_async_context(obeying(settings, speaker, bus, SystemClock(), tasks))
        if settings.health_port is not None or settings.health_port_file is not None:
            from host_agent import metrics  # noqa: PLC0415  (an agent nobody scrapes does without)

            metrics.show_agent(agent, bus, spool, asyncio.get_running_loop())
            metrics.show_machine(sampling)
            metrics.show_checks(checking)
            await serve_health(settings, bus, tasks, stack)
        log.info("agent runs", agent_id=agent.agent_id, epoch=agent.epoch, version=VERSION)
        await shutdown.wait()
        # First of all, so that a goodbye does not wait for anything else that ends.
        await agent.goodbye(LeaveReason.SHUTDOWN)


async def live(  # noqa: PLR0917  (everything is told about everything here, once)
    settings: HostAgentSettings, config: Path, relog: Relog, agent: Agent, bus: Bus, tasks: Tasks
) -> Sampling:
    """Start everything the agent does by itself, and tell each part about the others."""
    kernel, clock = this_kernel(network_disks=settings.network_disks), SystemClock()
    speaker = Speaker(agent.agent_id, agent.epoch, agent.version)
    sampling = Sampling(kernel, speaker, bus, clock)
    watch = Watch(settings, config, lambda error: agent.reconfigured([], error=error))
    describing = Describing(kernel, speaker, bus, clock, lambda: watch.current.labels)

    async def on_change(old: HostAgentSettings, new: HostAgentSettings, keys: frozenset[str]) -> None:
        """Applies what can be applied while the agent runs, and says what changed."""
        del old
        if "log_level" in keys:
            relog(new)
        if "labels" in keys:
            agent.relabel(new.labels)
        kernel.network_disks = new.network_disks
        for name in ("sample_seconds", "describe_seconds"):
            if name in keys:
                await tasks.cancel(name)
                beat(new, name)
        await agent.reconfigured(sorted(keys), needs_restart=needs_restart(keys))
        await describing.round()

    def beat(now: HostAgentSettings, name: str) -> None:
        work, first = (sampling.round, 0.2) if name == "sample_seconds" else (describing.round, 0.0)
        tasks.every(name, getattr(now, name), work, first_after=first)

    await handlers.listen(bus, agent.agent_id, sampling)
    watch.on_change(on_change)
    tasks.spawn("agent", agent.run)
    tasks.spawn("settings", watch.run)
    beat(settings, "sample_seconds")
    beat(settings, "describe_seconds")
    return sampling


async def serve_health(settings: HostAgentSettings, bus: Bus, tasks: Tasks, stack: AsyncExitStack) -> None:
    """Open the health port."""
    health = HealthServer(settings.health_port or 0, settings.health_host, settings.health_port_file)
    health.check("bus", lambda: None if bus.connected else "the broker cannot be reached")
    health.check("tasks", tasks.complaints)
    await stack.enter_async_context(health)


def reach(settings: HostAgentSettings, identity: AgentIdentity) -> BusSettings:
    """How this agent reaches the broker."""
    return BusSettings(servers=settings.servers, identity=identity.agent_id, seed_file=identity.seed_file)


def open_spool(settings: HostAgentSettings) -> FileSpool:
    """Where facts wait for the broker.

    Raises:
        ConfigurationError: the file cannot be used.
    """
    path = settings.state_dir / "spool.db"
    try:
        return FileSpool(path, settings.spool_capacity)
    except (sqlite3.Error, OSError) as error:
        raise ConfigurationError(
            [f"cannot use {path}: {error}; restore it, or remove it and lose the facts that wait in it"]
        ) from None


def show_identity(settings: HostAgentSettings) -> str:
    """The agent's id and public key as JSON."""
    identity = identify(settings)
    return json.dumps({"agent_id": identity.agent_id, "public_key": identity.keypair.public}, indent=2)


def show_description(settings: HostAgentSettings) -> str:
    """What the agent would say of this machine, as JSON."""
    kernel = this_kernel(network_disks=settings.network_disks)
    speaker = Speaker(identify(settings).agent_id, new_epoch(), VERSION)

    described = describe(kernel.describe(), speaker, settings.labels, SystemClock().now())
    return described.model_dump_json(indent=2)


def show_settings(settings: HostAgentSettings) -> str:
    """What the settings amount to, as JSON, without the passwords of URLs."""
    return json.dumps(redact(settings.model_dump(mode="json")), indent=2)


def list_settings(_: HostAgentSettings) -> str:
    """Everything that can be set."""
    return HostAgentSettings.describe()


COMMANDS = {
    "identity": show_identity,
    "describe": show_description,
    "check-config": show_settings,
    "settings": list_settings,
}


if __name__ == "__main__":
    main()
