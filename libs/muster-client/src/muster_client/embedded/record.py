"""``fleet.json``: what the supervisor last knew, for every other command to read."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from muster_client.embedded.errors import CannotStart, FleetError
from muster_client.embedded.files import open_private, replace_whole
from muster_client.embedded.layout import Layout
from muster_client.embedded.processes import Process

PORTS = range(1, 1 << 16)


class Phase(StrEnum):
    """Where in its life a fleet is."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"
    """It could not be started; ``problem`` says why."""


class State(StrEnum):
    """How one process is."""

    STARTING = "starting"
    """It runs, and is not ready yet."""
    RUNNING = "running"
    RESTARTING = "restarting"
    """It died and will be started again after its backoff."""
    STOPPED = "stopped"
    """It ended by itself with exit code 0, or the fleet was stopped."""
    FAILED = "failed"
    """It could not be started."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One process as the supervisor last knew it."""

    name: str
    state: State
    endpoint: str = ""
    log: str = ""
    process: Process | None = None
    restarts: int = 0
    detail: str = ""
    """How it last ended, if it did; for people."""


@dataclass(frozen=True, slots=True)
class Record:
    """The whole of ``fleet.json``."""

    phase: Phase = Phase.STOPPED
    supervisor: Process | None = None
    problem: str = ""
    ports: Mapping[str, int] = field(default_factory=dict)
    entries: tuple[Entry, ...] = ()
    notices: tuple[str, ...] = ()
    """What whoever starts or started the fleet has to know."""

    @property
    def supervised(self) -> bool:
        """Whether the supervisor that wrote this still lives."""
        return self.supervisor is not None and self.supervisor.alive

    @property
    def survivors(self) -> list[Entry]:
        """Entries whose process lives, in the order of their start."""
        return [entry for entry in self.entries if entry.process and entry.process.alive]


def read(layout: Layout) -> Record:
    """What the last supervisor wrote; an empty record if there is none or it cannot be understood.

    Raises:
        FleetError: it is somebody else's.
    """
    try:
        text = _text(layout)
    except PermissionError as error:
        raise FleetError(f"cannot read {layout.state}: it belongs to another user") from error
    except (OSError, CannotStart):
        return Record()
    # A record cut short by a power failure says nothing of processes: those are gone as well.
    with suppress(ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return _parse(json.loads(text))
    return Record()


def write(layout: Layout, record: Record) -> None:
    """Replace ``fleet.json`` in one step, so that readers see the old record or the new one."""
    replace_whole(layout.state, json.dumps(asdict(record), indent=2))


def _text(layout: Layout) -> str:
    """What stands in the record; nothing if whoever wrote it is not the owner of the directory."""
    with os.fdopen(open_private(layout.state, os.O_RDONLY), errors="replace") as file:
        written_by = os.fstat(file.fileno()).st_uid
        return file.read() if written_by == layout.root.stat().st_uid else ""


def _parse(raw: dict[str, Any]) -> Record:
    return Record(
        phase=Phase(raw["phase"]),
        supervisor=_process(raw["supervisor"]),
        problem=str(raw["problem"]),
        # What is no port would make every start fail that asks for the ports of the last one.
        ports={str(name): int(port) for name, port in raw["ports"].items() if int(port) in PORTS},
        entries=tuple(_entry(entry) for entry in raw["entries"]),
        notices=tuple(map(str, raw.get("notices", ()))),
    )


def _entry(raw: dict[str, Any]) -> Entry:
    return Entry(
        name=str(raw["name"]),
        state=State(raw["state"]),
        endpoint=str(raw["endpoint"]),
        log=str(raw["log"]),
        process=_process(raw["process"]),
        restarts=int(raw["restarts"]),
        detail=str(raw["detail"]),
    )


def _process(raw: dict[str, Any] | None) -> Process | None:
    return None if raw is None else Process(int(raw["pid"]), str(raw["born"]))
