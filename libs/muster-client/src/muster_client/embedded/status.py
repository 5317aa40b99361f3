"""How an embedded fleet is, from its record and from the processes themselves."""

from muster_client.embedded.layout import Layout
from muster_client.embedded.processes import Process, memory_of, uptime_of
from muster_client.embedded.record import Entry, Phase, Record, State, read
from muster_client.outputs import FleetPhase, MemoryMeasure, ProcessState, ProcessStatus, StatusOutput


def status(layout: Layout) -> StatusOutput:
    """What runs in the directory just now; a process is believed only if it is really there."""
    record = read(layout)
    processes = [_process(entry, supervised=record.supervised) for entry in record.entries]
    supervisor = _supervisor(layout, record)
    return StatusOutput(
        directory=str(layout.root),
        phase=_phase(record),
        problem=_problem(record, processes),
        processes=processes,
        supervisor=supervisor,
        memory_bytes=sum(one.memory_bytes or 0 for one in [*processes, supervisor]),
    )


def _phase(record: Record) -> FleetPhase:
    if record.supervised:
        return FleetPhase(record.phase)
    if record.survivors or record.phase in (Phase.STARTING, Phase.READY, Phase.STOPPING):
        return FleetPhase.ABANDONED
    return FleetPhase(record.phase)


def _problem(record: Record, processes: list[ProcessStatus]) -> str | None:
    if _phase(record) is FleetPhase.ABANDONED:
        left = ", ".join(entry.name for entry in record.survivors)
        if not left:
            return "the supervisor was killed and nothing runs any more; start it with muster up"
        return (
            f"the supervisor was killed; {left} still runs, looked after by nobody; "
            "start anew with muster up, or stop the rest with muster down"
        )
    if record.problem:
        return record.problem
    missing = [one for one in processes if one.state is not ProcessState.RUNNING]
    if record.supervised and record.phase is Phase.READY and missing:
        said = ", ".join(f"{one.name} is {one.state}" for one in missing)
        return f"{said}; start what has stopped with muster up"
    return None


def _process(entry: Entry, *, supervised: bool) -> ProcessStatus:
    return _shown(
        entry.name,
        _state(entry, supervised=supervised),
        entry.process,
        restarts=entry.restarts,
        endpoint=entry.endpoint or None,
        log=entry.log or None,
        detail=entry.detail or None,
    )


def _state(entry: Entry, *, supervised: bool) -> ProcessState:
    alive = entry.process is not None and entry.process.alive
    if not supervised:
        kept = ProcessState.FAILED if entry.state is State.FAILED else ProcessState.STOPPED
        return ProcessState.RUNNING if alive else kept
    # It died a moment ago and its supervisor has not noticed yet.
    if entry.state in (State.RUNNING, State.STARTING) and not alive:
        return ProcessState.RESTARTING
    return ProcessState(entry.state)


def _supervisor(layout: Layout, record: Record) -> ProcessStatus:
    state = ProcessState.RUNNING if record.supervised else ProcessState.STOPPED
    return _shown("supervisor", state, record.supervisor, log=str(layout.log("supervisor")))


def _shown(
    name: str,
    state: ProcessState,
    process: Process | None,
    *,
    restarts: int = 0,
    endpoint: str | None = None,
    log: str | None = None,
    detail: str | None = None,
) -> ProcessStatus:
    memory = memory_of(process) if process else None
    return ProcessStatus(
        name=name,
        state=state,
        pid=process.pid if process and memory else None,
        memory_bytes=memory[0] if memory else None,
        memory_measure=MemoryMeasure(memory[1]) if memory else None,
        uptime_seconds=uptime_of(process) if process else None,
        restarts=restarts,
        endpoint=endpoint,
        log=log,
        detail=detail,
    )
