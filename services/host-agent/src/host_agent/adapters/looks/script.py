"""A look by a command of the package's own, run in the way packages are run and ended with its whole tree."""

from pathlib import Path

from host_agent.adapters.looks.secrecy import without_secrets
from host_agent.domain.look import Seen, critical, ok, unknown, warning
from host_agent.domain.package import Loaded
from host_agent.ports import CannotRun, LookContext, Task
from muster_contracts.package.specification import ScriptCheck
from muster_contracts.package.v1 import Driver

KEPT_BYTES = 1 << 14
"""Of what it prints, for people."""

MOST_BYTES = 1 << 20
"""Who prints more is ended: a check that floods its reader is no check."""


class TooMuch(Exception):
    """It prints more than anybody reads."""


class Output:
    """The beginning of what a script prints."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._size = 0

    async def write(self, chunk: bytes) -> None:
        """Keep what there is room for.

        Raises:
            TooMuch: that was more than a check may print.
        """
        self._kept += chunk[: KEPT_BYTES - len(self._kept)]
        self._size += len(chunk)
        if self._size > MOST_BYTES:
            raise TooMuch

    @property
    def text(self) -> str:
        """What was kept."""
        return self._kept.decode(errors="replace")


class ScriptLook:
    """Implements ``host_agent.ports.Look``."""

    stage = "waiting for its end; it was killed"

    def __init__(self, check: ScriptCheck, context: LookContext) -> None:
        self._environment = check.environment
        self._package = context.package
        self._runner = context.runner
        self._task = _task(check, context.package)

    async def look(self) -> Seen:
        """Run it; the exit code tells how things are, what it prints why."""
        output = Output()
        try:
            code = await self._runner.run(self._task, output.write)
        except CannotRun as error:
            return unknown(error.reason, str(error))
        except TooMuch:
            text = f"cannot judge: it was killed after {MOST_BYTES >> 20} MiB of output; have it print less"
            return unknown("output", text)
        return _judged(code, await without_secrets(output.text, self._package, self._environment))


def _judged(code: int, text: str) -> Seen:
    match code:
        case 0:
            return ok(text or "exit code 0")
        case 1:
            return warning("exit", text or "exit code 1")
        case 2:
            return critical("exit", text or "exit code 2")
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return unknown("exit", f"cannot judge: it ended with {how}, which says nothing; {text or 'no output'}")


def _task(check: ScriptCheck, package: Loaded) -> Task:
    """As the package runs, where that is on this machine: user and directory of a container are its own."""
    spec = package.spec
    program, *arguments = check.command
    inside = spec.driver is Driver.DOCKER
    user, group = (None, None) if inside or check.user else (spec.user, spec.group)
    return Task(
        argv=(str(package.path(program)) if "/" in program else program, *arguments),
        directory=_directory(check, package) if check.directory or not inside else package.directory,
        user=check.user or user,
        environment=check.environment,
        group=check.group or group,
        at_home=True,
        thorough=False,
    )


def _directory(check: ScriptCheck, package: Loaded) -> Path:
    return package.path(check.directory or package.spec.directory or ".")
