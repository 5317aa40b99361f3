"""Whatever is done to packages, in the end exactly that runs which should; held against a model by chance."""

import asyncio
from typing import Any

import looptime
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_driver import MemoryDriver
from packages_ground import Machine, settle

from host_agent.domain.package import Loaded, Run
from host_agent.packages import Packages
from host_agent.ports import CannotRun
from host_agent.troubles import Failed, Refused
from muster_contracts.package.v1 import PackageState

NAMES = ("a", "b", "c", "d")
STEPS = st.lists(
    st.tuples(
        st.sampled_from([
            "describe", "spoil", "remove", "start", "stop", "cascade", "restart", "pause", "resume", "end",
            "break", "mend", "next agent", "wait",
        ]),
        st.sampled_from(NAMES),
        st.sets(st.sampled_from(NAMES), max_size=2),
        st.sampled_from([0.0, 0.1, 0.6, 40.0]),
    ),
    max_size=25,
)  # fmt: skip


class Model:
    """What should run, by the simplest reasoning there is."""

    def __init__(self) -> None:
        self.needs: dict[str, list[str]] = {}
        self.wishes: dict[str, bool] = {}

    def closure(self, name: str) -> set[str]:
        direct = [each for each in self.needs.get(name, ()) if each in self.needs]
        return {name}.union(*(self.closure(each) for each in direct))

    def dependents(self, name: str) -> set[str]:
        return {each for each in self.needs if each != name and name in self.closure(each)}

    def should_run(self, name: str) -> bool:
        """Wanted, and so is all it needs, which is all described."""
        if not self.wishes.get(name, True):
            return False
        return all(each in self.needs and self.should_run(each) for each in self.needs[name])


class WaryDriver(MemoryDriver):
    """Notes whatever is started before what it needs is ready, or a second time."""

    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self.machine = machine
        self.wrongs: list[str] = []

    async def start(self, package: Loaded) -> Run:
        if package.name in self.lives:
            self.wrongs.append(f"{package.name} runs already")
        for need in package.spec.depends_on:
            if self.machine.state(need) is not PackageState.RUNNING:
                self.wrongs.append(f"{package.name} needs {need}, which is {self.machine.state(need)}")
        return await super().start(package)


class Tale:
    """One sequence of steps, told to a machine and to the model."""

    def __init__(self) -> None:
        self.machine = Machine()
        self.driver = self.machine.driver = WaryDriver(self.machine)
        self.model = Model()
        for name in NAMES[:2]:
            self.describe(name, set())

    def describe(self, name: str, others: set[str]) -> None:
        # Only on those before it in the alphabet: circles are the business of other tests.
        needs = sorted(each for each in others if each < name)
        self.model.needs[name] = needs
        self.machine.files.put(name, depends_on=needs)

    async def order(self, packages: Packages, verb: str, name: str) -> None:
        """Tell the machine; the model learns what was not refused."""
        cascade = verb == "cascade"
        packages.look()  # as if the files had been there for a while
        doing: dict[str, Any] = {
            "start": lambda: packages.start(name),
            "restart": lambda: packages.restart(name),
            "stop": lambda: packages.stop(name),
            "cascade": lambda: packages.stop(name, cascade=True),
            "pause": lambda: packages.pause(name),
            "resume": lambda: packages.resume(name),
        }
        try:
            await asyncio.wait_for(doing[verb](), 300)  # of the loop's time
        except (Refused, CannotRun):
            return
        except Failed:
            pass
        if verb in {"start", "restart"}:
            self.model.wishes |= dict.fromkeys(self.model.closure(name), True)
        if verb in {"stop", "cascade"}:
            others = self.model.dependents(name) if cascade else set()
            self.model.wishes |= dict.fromkeys({name} | others, False)
            assert name not in self.machine.driver.lives

    async def step(self, packages: Packages, what: str, name: str, others: set[str], seconds: float) -> None:
        driver, files = self.machine.driver, self.machine.files
        match what:
            case "describe":
                self.describe(name, others)
            case "spoil" if name in files.described:
                files.spoil(name)
            case "remove" if name in files.described:
                files.remove(name)
                del self.model.needs[name]
            case "end" if name in driver.lives:
                driver.end(name)
            case "break":
                driver.broken[name] = CannotRun("cannot start", "no-executable")
            case "mend":
                driver.broken.pop(name, None)
            case "wait":
                await settle(seconds)
            case "start" | "restart" | "stop" | "cascade" | "pause" | "resume":
                await self.order(packages, what, name)

    async def tell(self, steps: list[tuple[str, str, set[str], float]]) -> None:
        chapters: list[list[tuple[str, str, set[str], float]]] = [[]]
        for step in steps:
            if step[0] == "next agent":
                chapters.append([])
            else:
                chapters[-1].append(step)
        for chapter in chapters:
            async with self.machine.agent() as packages:
                for step in chapter:
                    await self.step(packages, *step)
        async with self.machine.agent() as packages:
            await self.come_to_rest(packages)

    async def come_to_rest(self, packages: Packages) -> None:
        """Mend all that is broken, give it time, and compare."""
        self.machine.driver.broken.clear()
        for name, needs in self.model.needs.items():
            self.machine.files.put(name, depends_on=needs)
        await settle(65)
        for name in self.model.needs:
            if packages.state(name)[0] is PackageState.PAUSED:
                await packages.resume(name)
        await settle(65)
        runs = {name for name in self.model.needs if packages.state(name)[0] is PackageState.RUNNING}
        should = {name for name in self.model.needs if self.model.should_run(name)}
        # One that runs is left alone when what it needs stops for a reason of its own.
        assert should <= runs
        assert not {name for name in runs if self.model.wishes.get(name) is False}
        # What was removed while no agent looked is nobody's any more.
        assert runs == self.driver.lives.keys() & self.model.needs.keys()
        assert self.driver.wrongs == [], self.driver.wrongs


@settings(max_examples=60)
@given(STEPS)
def test_in_the_end_that_runs_which_should(steps: list[tuple[str, str, set[str], float]]) -> None:
    with asyncio.Runner(loop_factory=looptime.new_event_loop) as runner:
        runner.run(Tale().tell(steps))
