"""What the processes of a package use, against what they may."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from host_agent.domain.look import Seen, critical, ok, together, warning
from muster_contracts.package.specification import ProcessCheck

MIB = 1 << 20

Words = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Load:
    """What was measured; None where that could not be, or where nothing asks for it."""

    processes: int
    memory_bytes: int | None = None
    cpu_percent: float | None = None
    """Of one CPU, since the look before; None at the first."""
    files: int | None = None
    """Open in the main process."""


def judge(check: ProcessCheck, load: Load) -> Seen:
    """The worst of the limits that are passed, and all of them in words."""
    found = [
        *_over("memory", load.memory_bytes, check.memory_warning_bytes, check.memory_critical_bytes, _memory),
        *_over("cpu", load.cpu_percent, check.cpu_warning_percent, check.cpu_critical_percent, _cpu),
        *_over("files", load.files, check.files_warning, check.files_critical, _files),
    ]
    return together(found) if found else ok(_summary(load))


def _over(
    reason: str, value: float | None, warn: float | None, worry: float | None, words: Words
) -> Iterator[Seen]:
    if value is None:
        return
    for make, limit in ((critical, worry), (warning, warn)):
        if limit is not None and value > limit:
            yield make(reason, f"{words(value)}, more than {words(limit)}")
            return


def _summary(load: Load) -> str:
    measured = ((load.memory_bytes, _memory), (load.cpu_percent, _cpu), (load.files, _files))
    parts = [words(value) for value, words in measured if value is not None]
    return ", ".join([f"{load.processes} process{'es' if load.processes != 1 else ''}", *parts])


def _memory(value: float) -> str:
    return f"{value / MIB:.1f} MiB of memory"


def _cpu(value: float) -> str:
    return f"{value:.0f} % of a CPU"


def _files(value: float) -> str:
    return f"{value:.0f} open files"
