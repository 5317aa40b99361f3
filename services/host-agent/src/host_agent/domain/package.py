"""A package as its machine knows it: what its package.json says, and where that lies."""

from dataclasses import dataclass
from pathlib import Path

from muster_contracts.package.specification import Specification


@dataclass(frozen=True, slots=True)
class Loaded:
    """A package.json that could be read."""

    spec: Specification
    file: Path
    """The package.json; relative paths in it are below its directory."""
    digest: str
    """SHA-256 of what it says that matters to a running process: another one means other processes."""

    @property
    def name(self) -> str:
        """The package's name."""
        return self.spec.name

    @property
    def directory(self) -> Path:
        """Where relative paths begin."""
        return self.file.parent

    def path(self, text: str) -> Path:
        """A path of the specification, made absolute."""
        return self.directory / text


@dataclass(frozen=True, slots=True)
class Run:
    """One life of a package, from start to end, as its driver found or made it."""

    id: str
    """Drawn at the start; processes of the driver ``process`` carry it in their environment."""
    started_at: float
    """Seconds since 1970."""
    pid: int | None
    """Of its main process."""
    digest: str
    """Of the ``Loaded`` it was started from; empty if that is not known."""
    adopted: bool = False
    """Whether it was found running rather than started by this agent."""


@dataclass(frozen=True, slots=True)
class Exit:
    """How a run ended: a code, minus a signal's number, or nothing where nobody could tell."""

    code: int | None

    @property
    def well(self) -> bool:
        """Whether it ended with success."""
        return self.code == 0


@dataclass(frozen=True, slots=True)
class Usage:
    """What all processes of a package use together."""

    pids: tuple[int, ...] = ()
    memory_bytes: int | None = None
    cpu_seconds: float | None = None
    """Since their start; the difference of two looks is a load."""
