"""The supervisor: starts the fleet of one directory, keeps it running, and stops it in order.

Order of a start: what an earlier supervisor left behind ends; Redis, and beside it keys and
configuration, the broker, its streams; then registry, state-store and health-recovery, then the agent. A stop
goes the other way round: the agent says goodbye while there is still somebody to hear it.
"""

import asyncio
import signal
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace

from muster_client.embedded import plan, ports
from muster_client.embedded.child import Child, Part
from muster_client.embedded.errors import AlreadyRunning, CannotStart, PortTaken
from muster_client.embedded.files import cannot_write
from muster_client.embedded.journal import Journal
from muster_client.embedded.layout import Layout
from muster_client.embedded.locks import Lock
from muster_client.embedded.logfiles import rotate, rotate_live
from muster_client.embedded.orphans import stop_orphans
from muster_client.embedded.processes import Process
from muster_client.embedded.record import Phase, Record, read, write

ATTEMPTS = 3
"""How often a fleet is started over because somebody took one of its ports meanwhile."""
_LOOK_AT_LOGS_SECONDS = 60.0
NOTICE = "warning: "
"""What a step that succeeded begins a line with that whoever starts the fleet has to know."""

Watch = Callable[[Record], None]
"""Told of each change of the fleet, with the whole of it."""


class Supervisor:
    """One run of one fleet."""

    def __init__(self, layout: Layout, journal: Journal, watch: Watch) -> None:
        self._layout = layout
        self._journal = journal
        self._watch = watch
        self._record = Record()
        self._children: list[Child] = []
        self._asked_to_stop = asyncio.Event()

    async def run(self) -> None:
        """Start everything, look after it until a signal says stop, then stop everything.

        Raises:
            AlreadyRunning: another supervisor looks after this directory.
            CannotStart: a part could not be started; everything else was stopped again.
        """
        lock = Lock(self._layout.lock("supervisor"))
        if not lock.take():
            raise AlreadyRunning(f"cannot start: another supervisor looks after {self._layout.root}")
        try:
            self._begin()
            self._hear_signals()
            await self._live()
        finally:
            lock.drop()

    def _begin(self) -> None:
        """Take over from the supervisor before us, whatever became of it."""
        before = read(self._layout)
        self._record = Record(
            Phase.STARTING, supervisor=Process.me(), ports=before.ports, entries=before.entries
        )
        try:
            write(self._layout, self._record)
        except OSError as error:
            raise CannotStart(cannot_write(self._layout.state, error)) from error
        for name in stop_orphans(self._layout, before):
            self._journal.warning("stopped what the supervisor before us had left running", process=name)
        for name in plan.NAMES:
            rotate(self._layout.log(name))

    def _hear_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for which in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(which, self._asked_to_stop.set)
        loop.add_signal_handler(signal.SIGUSR1, self._wake)

    def _wake(self) -> None:
        self._journal.info("asked to start what has stopped")
        for child in self._children:
            child.wake()

    async def _live(self) -> None:
        try:
            if await self._start_unless_stopped():
                self._enter(Phase.READY)
                await self._until_stopped()
        except Exception as error:
            # Also for what nobody foresaw: processes must not outlive a supervisor that gives up.
            await self._stop()
            self._enter(Phase.FAILED, problem=str(error) or type(error).__name__)
            raise
        await self._stop()
        self._enter(Phase.STOPPED)

    async def _start_unless_stopped(self) -> bool:
        """Start everything; False if a signal came first."""
        starting = asyncio.create_task(self._start())
        stopping = asyncio.create_task(self._asked_to_stop.wait())
        await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if starting.done():
            starting.result()
            return True
        starting.cancel()
        await asyncio.wait([starting])
        return False

    async def _start(self) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                await self._start_on(ports.choose(plan.PORTS, self._record.ports))
            except PortTaken as error:
                if attempt == ATTEMPTS:
                    raise
                self._journal.warning(str(error), attempt=attempt)
                await self._stop()
                self._children = []
            else:
                return

    async def _start_on(self, chosen: Mapping[str, int]) -> None:
        self._record = replace(self._record, phase=Phase.STARTING, ports=chosen, entries=())

        async def provision() -> None:
            await self._once("provision", "--port", str(chosen[plan.NATS]))

        # Every child exists from the beginning, so that progress shows what is still to come.
        broker = self._child(plan.nats(self._layout, chosen, provision))
        cache = self._child(plan.redis_part(self._layout, chosen, self._warn))
        registry = self._child(plan.registry(self._layout, chosen))
        store = self._child(plan.store(self._layout, chosen))
        health = self._child(plan.health(self._layout, chosen))
        agent = self._child(plan.agent(self._layout, chosen))
        self._tell()

        async def ground() -> None:
            await self._once("groundwork", "--port", str(chosen[plan.NATS]))
            await broker.start()

        await _together(cache.start(), ground())
        # The agent only then: its first hello is answered at once, instead of after a pause.
        await _together(registry.start(), store.start(), health.start())
        await _together(agent.start(), self._greet(chosen))

    async def _greet(self, chosen: Mapping[str, int]) -> None:
        """Ready should mean that this machine can be seen; if it takes too long, the rest is ready."""
        try:
            await self._once("greeting", "--port", str(chosen[plan.NATS]))
        except CannotStart as error:
            self._journal.warning(str(error))

    def _child(self, part: Part) -> Child:
        child = Child(part, self._layout, self._journal, self._tell)
        self._children.append(child)
        return child

    async def _once(self, module: str, *options: str) -> None:
        """Do a step in a process of its own and wait for its end."""
        command = plan.step(module, "--dir", str(self._layout.root), *options)
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=PIPE,
                cwd=self._layout.root,
                start_new_session=True,
            )
        except OSError as error:
            raise CannotStart(f"cannot do the {module}: {error.strerror}") from error
        try:
            said, complained = await process.communicate()
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        for line in said.decode(errors="replace").splitlines():
            self._journal.info(line, step=module)
        if process.returncode:
            raise self._failed(module, complained.decode(errors="replace").strip(), process.returncode)
        for line in complained.decode(errors="replace").splitlines():
            if line.startswith(NOTICE):
                self._warn(line.removeprefix(NOTICE))

    def _warn(self, text: str) -> None:
        """Tell the log, and whoever starts or started the fleet."""
        self._journal.warning(text)
        if text not in self._record.notices:
            self._record = replace(self._record, notices=(*self._record.notices, text))
            self._tell()

    def _failed(self, module: str, complained: str, code: int) -> CannotStart:
        """A step tells of what it foresaw in one sentence; a traceback is for the log."""
        why = complained.splitlines() or [f"exited with {code}"]
        self._journal.error("step failed", step=module, said="\n".join(why[-30:]))
        if why[-1].startswith("cannot"):
            return CannotStart(why[-1])
        return CannotStart(f"cannot do the {module}: {why[-1]}; see {self._layout.log('supervisor')}")

    async def _until_stopped(self) -> None:
        while not self._asked_to_stop.is_set():
            try:
                await asyncio.wait_for(self._asked_to_stop.wait(), _LOOK_AT_LOGS_SECONDS)
            except TimeoutError:
                self._rotate_logs()

    def _rotate_logs(self) -> None:
        for name in plan.NAMES:
            try:
                rotate_live(self._layout.log(name))
            except (OSError, CannotStart) as error:
                # A log that cannot be rotated is no reason to stop a fleet.
                self._journal.warning("cannot rotate a log", log=name, why=str(error))

    async def _stop(self) -> None:
        self._enter(Phase.STOPPING)
        for child in reversed(self._children):
            await child.stop()

    def _enter(self, phase: Phase, problem: str = "") -> None:
        self._journal.info(f"fleet {phase}")
        self._record = replace(self._record, phase=phase, problem=problem)
        self._tell()

    def _tell(self) -> None:
        """Write down how things are, and tell whoever watches."""
        known = tuple(child.entry for child in self._children)
        self._record = replace(self._record, entries=known)
        try:
            write(self._layout, self._record)
        except OSError as error:
            # What runs is worth more than its record; locks still tell what runs.
            self._journal.error(f"cannot write {self._layout.state}", why=error.strerror)
        self._watch(self._record)


async def _together(*starts: Coroutine[None, None, None]) -> None:
    """Await all at once; the first that fails ends the wait for the others."""
    tasks = [asyncio.ensure_future(start) for start in starts]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
