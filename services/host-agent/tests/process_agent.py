"""A program that uses the driver as an agent does, to be killed: argv is state, log, and package.json files.

It prints NAME PID for each package that runs, then ``ready``, and looks after them until it is killed. With
``forget`` as its first argument it has neither record nor mark, as supervisors that came before.
"""

import asyncio
import json
import sys
from pathlib import Path

from host_agent.adapters.process_driver import ProcessDriver
from host_agent.adapters.run_records import RunRecords
from host_agent.domain.package import Loaded
from muster_contracts.package.specification import Specification


def load(file: Path) -> Loaded:
    return Loaded(Specification.model_validate(json.loads(file.read_text())), file, "d" * 64)


async def keep(driver: ProcessDriver, package: Loaded, running: "asyncio.Queue[str]") -> None:
    while True:
        run = await driver.find(package) or await driver.start(package)
        running.put_nowait(f"{package.name} {run.pid}")
        await driver.wait(package, run)


async def tend(driver: ProcessDriver) -> None:
    while True:
        await driver.tend()
        await asyncio.sleep(0.02)


async def main(state: Path, log: Path, files: list[Path]) -> None:
    driver = ProcessDriver(state, log)
    running: asyncio.Queue[str] = asyncio.Queue()
    tasks = [asyncio.create_task(keep(driver, load(file), running)) for file in files]
    tasks.append(asyncio.create_task(tend(driver)))
    for _ in files:
        print(await running.get(), flush=True)  # noqa: T201  (its answer)
    print("ready", flush=True)  # noqa: T201
    await asyncio.gather(*tasks)


def forget() -> None:
    """Take away what finds a run again."""
    RunRecords.read = lambda *_: None  # type: ignore[method-assign]


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if arguments[0] == "forget":
        forget()
        del arguments[0]
    state, log, *files = map(Path, arguments)
    asyncio.run(main(state, log, files))
