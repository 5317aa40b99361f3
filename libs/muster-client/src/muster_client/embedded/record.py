"""``fleet.json``: what the supervisor last knew, for every other command to read."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from muster_client.embedded.errors import FleetError
from muster_client.embedded.layout import Layout
from muster_client.embedded.processes import Process


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
        text = layout.state.read_text(errors="replace")
    except PermissionError as error:
        raise FleetError(f"cannot read {layout.state}: it belongs to another user") from error
    except OSError:
        return Record()
    # A record cut short by a power failure says nothing of processes: those are gone as well.
    with suppress(ValueError, KeyError, TypeError, AttributeError):
        return _parse(json.loads(text))
    return Record()


def write(layout: Layout, record: Record) -> None:
    """Replace ``fleet.json`` in one step, so that readers see the old record or the new one."""
    fresh = layout.state.with_suffix(".json.new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(asdict(record), file, indent=2)
    fresh.replace(layout.state)


def _parse(raw: dict[str, Any]) -> Record:
    return Record(
        phase=Phase(raw["phase"]),
        supervisor=_process(raw["supervisor"]),
        problem=str(raw["problem"]),
        ports={str(name): int(port) for name, port in raw["ports"].items()},
        entries=tuple(_entry(entry) for entry in raw["entries"]),
    )


def _entry(raw: dict[str, Any]) -> Entry:
    return replace(Entry(**raw), state=State(raw["state"]), process=_process(raw["process"]))


def _process(raw: dict[str, Any] | None) -> Process | None:
    return None if raw is None else Process(int(raw["pid"]), str(raw["born"]))
