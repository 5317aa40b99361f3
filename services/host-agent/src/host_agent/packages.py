"""The packages of this machine: wanted as commands and package.json say, seen as their keepers see them."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import count
from typing import Self

from host_agent.domain import dependencies
from host_agent.domain.attention import Sight
from host_agent.domain.package import Loaded
from host_agent.domain.reconciling import Needs
from host_agent.domain.speaker import Speaker
from host_agent.introducing import Introducing
from host_agent.keeping import Change, Keeper, World
from host_agent.news import News
from host_agent.ports import Driver, PackageFiles, Probe, Voice, Wish, Wishes
from host_agent.showing import Showing, command, version
from host_agent.troubles import Failed, Refused
from muster_bus.errors import MusterError
from muster_contracts.ids import boot_of
from muster_contracts.package import v1
from muster_contracts.package.v1 import PackageChanged, PackageState, StopSignal
from muster_runtime import Clock, Tasks, logger

LOOK_SECONDS = 0.5
"""Between looks for changed files."""

PAGE = 100
"""Packages in one answer."""

SHOWN_PIDS = 200

log = logger(__name__)


class Packages:
    """All packages of the machine; enter it to keep them, leave it and they run on."""

    def __init__(  # noqa: PLR0917  (told about everything here, once)
        self,
        drivers: Callable[[Loaded], Driver],
        files: PackageFiles,
        wishes: Wishes,
        probe: Probe,
        speaker: Speaker,
        voice: Voice,
        clock: Clock,
        *,
        pause: Callable[[int], float] | None = None,
    ) -> None:
        self._files = files
        self._wishes = wishes
        self._speaker = speaker
        self._keepers: dict[str, Keeper] = {}
        self._world = World(drivers, self, wishes, probe, clock, boot_of(speaker.epoch))
        self._tasks = Tasks(pause) if pause else Tasks()
        self.news = News(voice)
        self._introducing = Introducing(speaker, self.news, clock)
        self._watchers: list[Callable[[str], None]] = []
        self._seen = asyncio.Event()
        self._showing = Showing(clock)
        self._closing = False
        self._numbers = count(1)

    async def __aenter__(self) -> Self:
        self._tasks.spawn("package files", self._watch)
        self._tasks.spawn("package news", self.news.run)
        await self._seen.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._tasks.close()
        for keeper in self._keepers.values():
            keeper.close()
        try:
            await self.news.say_all()
        except MusterError as error:
            log.error("cannot say how packages are at the end", reason=str(error))  # noqa: TRY400

    # What is seen ---------------------------------------------------------------------------------------

    def graph(self) -> dict[str, Sequence[str]]:
        """Who depends on whom, as last described."""
        return {name: each.loaded.spec.depends_on if each.loaded else () for name, each in self._all()}

    def needs(self, name: str) -> tuple[Needs, str]:
        """How that is what a package depends on, and what is wrong with it, for people."""
        answer = Needs.READY
        keeper = self._keepers[name]
        for other in keeper.loaded.spec.depends_on if keeper.loaded else ():
            if (found := self._keepers.get(other)) is None:
                file = keeper.described.file if keeper.described else ""
                return Needs.BROKEN, f"there is no package {other} ({file}: key 'depends_on')"
            if (state := _as_a_need(found)) is Needs.BROKEN:
                return state, f"it depends on {other}, which is {_SAID.get(found.state, found.state.value)}"
            if state is Needs.COMING:
                answer = state
        return answer, ""

    def changed(self, change: Change) -> None:
        """A package is in another state: whoever depends on it looks again, and the fleet is told."""
        self.news.tell(self._fact(change))
        if change.now is None:
            self._drop(change.name)
        self._tell_watchers(change.name)
        for name in dependencies.direct_dependents(self.graph(), change.name):
            self._keepers[name].wake()

    def _drop(self, name: str) -> None:
        self._keepers.pop(name, None)
        self._showing.forget(name)
        self._introduce()

    def _introduce(self) -> None:
        self._introducing.round({name: each.loaded for name, each in self._all()})

    def watch(self, watcher: Callable[[str], None]) -> None:
        """Tell it the name of each package whose state or package.json has changed, at once."""
        self._watchers.append(watcher)

    def _tell_watchers(self, name: str) -> None:
        for watcher in self._watchers:
            try:
                watcher(name)
            except Exception:  # whoever watches is no trouble of the package's
                log.exception("cannot tell of a changed package", package=name)

    def driver(self, package: Loaded) -> Driver:
        """The driver of a package.

        Raises:
            CannotRun: this agent has none of its kind.
        """
        return self._world.driver(package)

    def sight(self, name: str) -> Sight | None:
        """A package as its checks have to know it; None: there is none, or it never could be used."""
        keeper = self._keepers.get(name)
        if keeper is None or keeper.loaded is None:
            return None
        return Sight(keeper.loaded, keeper.told, keeper.run, keeper.began)

    def _all(self) -> Iterable[tuple[str, Keeper]]:
        return sorted(self._keepers.items())

    def _keeper(self, name: str) -> Keeper:
        if keeper := self._keepers.get(name):
            return keeper
        raise Refused(
            f"cannot find package {name}: no package.json on this machine describes it", "not-found"
        )

    def _usable(self, name: str) -> Keeper:
        keeper = self._keeper(name)
        if keeper.described is None:
            raise Refused(f"cannot use package {name}: its package.json is gone", "not-found")
        if keeper.loaded is None or (keeper.file_problem and not keeper.alive):
            raise Refused(f"cannot use package {name}: {keeper.problem}", "invalid")
        return keeper

    # Files and news -------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            self.look()
            self._seen.set()
            await asyncio.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """Look at the files once, and tell each keeper whose package.json has changed."""
        if (found := self._files.look()) is None or self._closing:
            return
        for name in self._keepers.keys() - found.keys():
            self._keepers[name].describe(None)
        for name, described in found.items():
            if keeper := self._keepers.get(name):
                if keeper.described != described:
                    keeper.describe(described)
                    self._tell_watchers(name)
            else:
                keeper = self._keepers[name] = Keeper(described, self._world)
                # Numbered: the keeper of a package of this name that was just removed may not have ended yet.
                self._tasks.spawn(f"package {name} {next(self._numbers)}", keeper.keep)
        self._introduce()
        for _, keeper in self._all():
            keeper.wake()  # whom it depends on may have come or gone

    def _fact(self, change: Change) -> PackageChanged:
        return PackageChanged(
            occurred_at=change.at, agent_id=self._speaker.agent_id, epoch=self._speaker.epoch,
            package=change.name, was=change.was, now=change.now, reason=change.reason,
            text=change.text[:2000] if change.text else None, version=change.version, pid=change.pid,
            exit_code=change.exit_code, restarts=change.restarts,
        )  # fmt: skip

    # Orders ---------------------------------------------------------------------------------------------

    async def start(self, name: str) -> None:
        """Start a package and what it depends on; returns when it is ready.

        Raises:
            Refused: there is no such package, or its package.json cannot be used.
            Failed: it does not run.
        """
        await self._want_with_requirements(name)
        for each in self._requirements(name):
            self._keepers[each].want(wanted=True)
        await self._until_ready(name)

    async def restart(self, name: str, *, with_dependents: bool = False) -> None:
        """Stop a package if it runs, start it and what it depends on; returns when it is ready.

        With dependents those that run, and are not held by somebody, are stopped before and started again
        afterwards, also where the package itself cannot be started: they wait for it then.

        Raises:
            Refused: there is no such package, or its package.json cannot be used.
            Failed: it, or one of those, does not run.
        """
        await self._want_with_requirements(name)
        graph = self.graph()
        above = dependencies.dependents(graph, name) if with_dependents else set()
        # Of what is wanted nothing is forgotten: if the agent ends meanwhile, the next one starts them.
        waves = dependencies.start_waves(graph, filter(self._goes_on, above))
        try:
            for wave in reversed(waves):
                await self._stop_wave(wave)
            await self._restart_alone(name)
        finally:
            again = [each for wave in waves for each in wave if self._is_still_wanted(each)]
            for each in again:
                self._keepers[each].want(wanted=True)
        for each in again:
            await self._until_ready(each)

    def _goes_on(self, name: str) -> bool:
        return self._keepers[name].alive and self._keepers[name].state is not PackageState.PAUSED

    def _is_still_wanted(self, name: str) -> bool:
        """Whether a package is there and no command has stopped it meanwhile."""
        return name in self._keepers and self._wishes.of(name).wanted is not False

    async def _restart_alone(self, name: str) -> None:
        for each in self._requirements(name) - {name}:
            self._keepers[each].want(wanted=True)
        self._keeper(name).restart()
        await self._until_ready(name)

    async def stop(self, name: str, *, cascade: bool = False) -> None:
        """Stop a package for good; with ``cascade`` all that depends on it first.

        Raises:
            Refused: there is no such package, or others that depend on it run.
            Failed: it could not be stopped.
        """
        self._keeper(name)
        graph = self.graph()
        above = sorted(each for each in dependencies.dependents(graph, name) if self._keepers[each].alive)
        if above and not cascade:
            raise Refused(_needed(name, above), "dependents")
        stopped = {name, *(dependencies.dependents(graph, name) if cascade else ())}
        await self._remember(stopped, wanted=False)
        for wave in reversed(dependencies.start_waves(graph, stopped)):
            await self._stop_wave(wave)

    async def pause(self, name: str) -> None:
        """Hold a package.

        Raises:
            Refused, CannotRun: it does not run, or cannot be held.
        """
        await self._keeper(name).pause()

    async def resume(self, name: str) -> None:
        """Let a package that is held go on.

        Raises:
            Refused, CannotRun: it is not held, or cannot be let go.
        """
        await self._keeper(name).resume()

    async def signal(self, name: str, signal: StopSignal) -> None:
        """Send a signal to a package's main process.

        Raises:
            Refused, CannotRun: it does not run, or must not be sent one.
        """
        keeper = self._keeper(name)
        run, package = keeper.run, keeper.active
        if run is None or package is None:
            raise Refused(f"cannot signal package {name}: it is {keeper.state}", "state")
        await keeper.driver().signal(package, run, signal)

    async def stop_all(self) -> None:
        """Stop every package, dependents first, for as long as the agent is away; what is wanted stays so."""
        self._closing = True
        for wave in reversed(dependencies.start_waves(self.graph())):
            keepers = [self._keepers[name] for name in wave if name in self._keepers]
            for keeper in keepers:
                keeper.shut()
            await asyncio.gather(*(_until_down(keeper) for keeper in keepers))

    def state(self, name: str) -> tuple[PackageState, int | None, str]:
        """State, pid and version of a package.

        Raises:
            Refused: there is no such package.
        """
        keeper = self._keeper(name)
        return keeper.state, keeper.run.pid if keeper.run else None, version(keeper)

    def runs(self, name: str) -> bool:
        """Whether a package has a process."""
        return self._keeper(name).alive

    def loaded(self, name: str) -> Loaded:
        """What a package's package.json says, or said when it could last be used.

        Raises:
            Refused: there is no such package, or it never could be used.
        """
        keeper = self._keeper(name)
        if keeper.loaded is None:
            raise Refused(f"cannot use package {name}: {keeper.problem}", "invalid")
        return keeper.loaded

    def _requirements(self, name: str) -> set[str]:
        return {name} | dependencies.requirements(self.graph(), name)

    async def _want_with_requirements(self, name: str) -> None:
        self._usable(name)
        await self._remember(self._requirements(name), wanted=True)

    async def _remember(self, names: Iterable[str], *, wanted: bool) -> None:
        """On the disk before anything is done: a crash in between is made good by the next agent."""
        wishes: dict[str, Wish | None] = {
            name: replace(self._wishes.of(name), wanted=wanted) for name in names
        }
        try:
            await self._wishes.remember(wishes)
        except OSError as error:
            raise Failed(f"cannot remember what is wanted: {error}", "failed") from None

    async def _until_ready(self, name: str) -> None:
        keeper = self._keeper(name)
        await keeper.until(lambda: _has_settled(keeper))
        well = keeper.state in _RUNS or (keeper.state is PackageState.EXITED and keeper.exit_code == 0)
        if not well:
            text = keeper.problem or f"cannot start package {name}: it is {keeper.state}"
            code = keeper.exit_code if keeper.state in _ENDED else None
            raise Failed(text if text.startswith("cannot") else f"cannot start package {name}: {text}",
                         keeper.state.value, code)  # fmt: skip

    async def _stop_wave(self, wave: Sequence[str]) -> None:
        keepers = [self._keepers[name] for name in wave if name in self._keepers]
        for keeper in keepers:
            keeper.want(wanted=False)
        await asyncio.gather(*(_until_down(keeper) for keeper in keepers))
        for keeper in keepers:
            if keeper.alive or not keeper.looked:
                raise Failed(keeper.problem or f"cannot stop package {keeper.name}", keeper.state.value)

    # Questions ------------------------------------------------------------------------------------------

    async def page(self, after: str | None = None) -> tuple[list[v1.Package], str | None]:
        """Packages behind ``after`` by name, one page of them, and the last name if there are more."""
        names = [name for name, _ in self._all() if after is None or name > after]
        shown = [self._keepers[name] for name in names[:PAGE]]
        usages = await asyncio.gather(*(self._showing.usage(keeper) for keeper in shown))
        packages = [self._showing.package(keeper, usage) for keeper, usage in zip(shown, usages, strict=True)]
        return packages, names[PAGE - 1] if len(names) > PAGE else None

    async def detail(self, name: str) -> v1.PackageDetail:
        """All that is known of a package, but for its configuration files.

        Raises:
            Refused: there is no such package.
        """
        keeper = self._keeper(name)
        usage = await self._showing.usage(keeper)
        spec = keeper.active.spec if keeper.active else None
        return v1.PackageDetail(
            agent_id=self._speaker.agent_id,
            package=self._showing.package(keeper, usage),
            description=spec.description if spec else "",
            command=command(keeper.active),
            user=spec.user if spec else None,
            environment=sorted(spec.environment) if spec else [],
            secrets=sorted(spec.secrets) if spec else [],
            dependents=dependencies.direct_dependents(self.graph(), name),
            pids=sorted(usage.pids)[:SHOWN_PIDS],
        )

    async def read_log(self, name: str, lines: int, from_offset: int | None) -> tuple[list[str], int, bool]:
        """As the driver's.

        Raises:
            Refused: there is no such package, or it never could be used.
            CannotRun: its log cannot be read.
        """
        keeper = self._keeper(name)
        if keeper.active is None:
            raise Refused(f"cannot read the log of package {name}: {keeper.problem}", "invalid")
        return await keeper.driver().read_log(keeper.active, lines, from_offset)


_RUNS = (PackageState.RUNNING, PackageState.PAUSED)
_ENDED = (PackageState.EXITED, PackageState.BACKOFF, PackageState.CRASH_LOOP)
_ON_THE_WAY = (PackageState.STARTING, PackageState.STOPPING)
_SAID = {
    PackageState.BACKOFF: "starting again and again",
    PackageState.CRASH_LOOP: "in a crash loop",
    PackageState.FAILED: "failing to start",
}
"""What a state is called in a sentence, where its own name is no such thing."""


def _needed(name: str, above: list[str]) -> str:
    """Why a package is not stopped: others need it."""
    verbs, them = ("depends on it and runs", "it") if len(above) == 1 else ("depend on it and run", "them")
    return f"cannot stop package {name}: {', '.join(above)} {verbs}; stop {them} first, or cascade"


def _as_a_need(keeper: Keeper) -> Needs:
    """How a package is for those that depend on it."""
    if keeper.state is PackageState.RUNNING:
        return Needs.READY
    if keeper.state is PackageState.STARTING:
        return Needs.COMING
    begins = keeper.state in (PackageState.STOPPED, PackageState.STOPPING) and keeper.wanted
    unknown = not keeper.looked and keeper.state is not PackageState.FAILED
    return Needs.COMING if begins or unknown else Needs.BROKEN


def _has_settled(keeper: Keeper) -> bool:
    """Whether a package that is to run has got there, or got stuck."""
    if keeper.restarting or keeper.state in _ON_THE_WAY:
        return False
    if keeper.state is PackageState.STOPPED:
        return keeper.looked and not keeper.wanted
    return True


async def _until_down(keeper: Keeper) -> None:
    """Return when nothing of a package runs, or that cannot be brought about or even told."""

    def down() -> bool:
        if not keeper.looked:
            return keeper.state is PackageState.FAILED
        return keeper.refuses_to_stop or keeper.state in (PackageState.STOPPED, PackageState.INVALID)

    await keeper.until(down)
