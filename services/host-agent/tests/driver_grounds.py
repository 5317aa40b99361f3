"""Where the behaviour of drivers is tried: one shell script at a time, as a process, a unit, a container."""

import contextlib
import subprocess
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any
from uuid import uuid4

from host_agent.adapters.docker_driver import DockerDriver
from host_agent.adapters.process_driver import ProcessDriver
from host_agent.adapters.systemd_driver import SystemdDriver
from host_agent.domain.package import Loaded
from host_agent.ports import Driver
from muster_contracts.package.specification import Specification
from muster_contracts.package.v1 import StopSignal
from muster_testing.systemd_machine import SystemdMachine


class DriverGround(ABC):
    """Packages of one driver; whatever a test leaves running is ended at its end."""

    missing: str
    """The reason a driver gives when there is no such program, unit or image."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.packages: list[Loaded] = []

    @abstractmethod
    def driver(self) -> Driver:
        """A driver as a new agent would make it."""

    @abstractmethod
    def specify(self, name: str, script: str) -> dict[str, Any]:
        """What package.json says to run a shell script."""

    @abstractmethod
    def specify_nothing(self, name: str) -> dict[str, Any]:
        """What package.json says of a program, unit or image that does not exist."""

    @abstractmethod
    def specify_broken(self, name: str) -> dict[str, Any]:
        """What package.json says of something that exists and cannot be executed."""

    @abstractmethod
    def traces(self, package: Loaded) -> str:
        """What is left of a package, to be compared with nothing."""

    @staticmethod
    def name() -> str:
        """A name nothing else has."""
        return f"p{uuid4().hex[:12]}"

    def package(self, script: str, **more: Any) -> Loaded:
        """A package of a name of its own."""
        name = self.name()
        return self.loaded(name, self.specify(name, script) | more)

    def absent(self) -> Loaded:
        """A package of what does not exist."""
        name = self.name()
        return self.loaded(name, self.specify_nothing(name))

    def broken(self) -> Loaded:
        """A package of what cannot be executed."""
        name = self.name()
        return self.loaded(name, self.specify_broken(name))

    def loaded(self, name: str, specification: dict[str, Any], digest: str = "a" * 64) -> Loaded:
        """As the agent would read it."""
        file = self.directory / name / "package.json"
        file.parent.mkdir(exist_ok=True)
        spec = Specification.model_validate({"name": name, **specification})
        package = Loaded(spec, file, digest)
        self.packages.append(package)
        return package

    async def clean_up(self) -> None:
        """End what still runs."""
        driver = self.driver()
        for package in self.packages:
            with contextlib.suppress(Exception):
                if run := await driver.find(package):
                    await driver.signal(package, run, StopSignal.KILL)


class ProcessGround(DriverGround):
    """Plain processes."""

    missing = "no-executable"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._drivers: list[ProcessDriver] = []

    def driver(self) -> ProcessDriver:
        self._drivers.append(ProcessDriver(self.directory / "state", self.directory / "log"))
        return self._drivers[-1]

    def specify(self, name: str, script: str) -> dict[str, Any]:
        return {"command": ["sh", "-c", script], "directory": str(self.directory)}

    def specify_nothing(self, name: str) -> dict[str, Any]:
        return {"command": ["/nowhere/at-all"]}

    def specify_broken(self, name: str) -> dict[str, Any]:
        file = self.directory / f"broken-{name}"
        file.write_text("#!/nowhere/at-all\n")
        file.chmod(0o755)
        return {"command": [str(file)]}

    def traces(self, package: Loaded) -> str:
        record = self.directory / "state" / "runs" / f"{package.name}.json"
        return record.read_text() if record.exists() else ""

    async def clean_up(self) -> None:
        driver = self.driver()
        for package in self.packages:
            if run := await driver.find(package):
                await driver.stop(self.loaded(package.name, HURRIED), run)
        for driver in self._drivers:
            driver.close()


HURRIED = {"command": ["true"], "stop": {"signal": "KILL", "timeout_seconds": 0.1}}
"""What a package's name means at the end of a test."""


class SystemdGround(DriverGround):
    """Units of a booted systemd, of the machine or of root as a user."""

    missing = "no-unit"

    def __init__(self, directory: Path, machine: SystemdMachine, *, user: bool) -> None:
        super().__init__(directory)
        self._machine = machine
        self._user = user

    def driver(self) -> SystemdDriver:
        return SystemdDriver(self._machine.systemctl, self._machine.journalctl)

    def specify(self, name: str, script: str) -> dict[str, Any]:
        self._machine.run("sh", "-c", f"cat > /opt/{name}", stdin=script)
        return self._unit(name, f"ExecStart=/bin/sh /opt/{name}")

    def specify_nothing(self, name: str) -> dict[str, Any]:
        return {"driver": "systemd", "unit": f"{name}.service", "user_unit": self._user}

    def specify_broken(self, name: str) -> dict[str, Any]:
        return self._unit(name, "Restart=always\nExecStart=/nowhere/at-all")

    def unit(self, text: str) -> Loaded:
        """A package of a unit with this text."""
        name = self.name()
        self._machine.install(f"{name}.service", text, user=self._user)
        return self.loaded(name, self.specify_nothing(name))

    def traces(self, package: Loaded) -> str:
        scope = ["--user"] if self._user else []
        shown = ["show", "--value", "--property=ActiveState", "--", package.spec.unit or ""]
        state = self._machine.run("systemctl", *scope, *shown).strip()
        return "" if state in {"inactive", "failed"} else state

    def _unit(self, name: str, service: str) -> dict[str, Any]:
        self._machine.install(f"{name}.service", f"[Service]\n{service}\n", user=self._user)
        return self.specify_nothing(name)


class DockerGround(DriverGround):
    """Containers of a busybox."""

    missing = "no-image"

    def __init__(self, directory: Path, host: str, image: str) -> None:
        super().__init__(directory)
        self.host = host
        self.image = image
        self._drivers: list[DockerDriver] = []

    def driver(self) -> DockerDriver:
        self._drivers.append(DockerDriver(self.host))
        return self._drivers[-1]

    def specify(self, name: str, script: str) -> dict[str, Any]:
        return {"driver": "docker", "image": self.image, "command": ["sh", "-c", script]}

    def specify_nothing(self, name: str) -> dict[str, Any]:
        return {"driver": "docker", "image": "muster-test-no-such-image"}

    def specify_broken(self, name: str) -> dict[str, Any]:
        return {"driver": "docker", "image": self.image, "command": ["/nowhere/at-all"]}

    def traces(self, package: Loaded) -> str:
        return self.docker("ps", "--all", "--quiet", f"--filter=name=muster-{package.name}")

    def docker(self, *arguments: str) -> str:
        """The engine's own client, as another witness."""
        argv = ["docker", "--host", self.host, *arguments]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()

    async def clean_up(self) -> None:
        for package in self.packages:
            if left := self.traces(package).split():
                self.docker("rm", "--force", *left)
        for driver in self._drivers:
            driver.close()
