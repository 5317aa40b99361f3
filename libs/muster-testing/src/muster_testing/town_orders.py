"""The town's ledger and its machines: they answer by the contracts, and commands end as a test decided."""

import asyncio
import base64
import hashlib
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from muster_bus import Bus
from muster_bus.errors import AskError
from muster_contracts.audit.v1 import GENESIS, Anchored, AuditEntry, AuditPage, ReadAudit, digest
from muster_contracts.chunk.v1 import Chunk, Chunks, ChunkStored, ReadChunks
from muster_contracts.command.v1 import (
    ENDS,
    STORE,
    CancelCommand,
    CommandDetail,
    CommandState,
    FindTargets,
    GetCommand,
    Settled,
    Submit,
    Submitted,
    Target,
    TargetPage,
)
from muster_contracts.package.v1 import (
    Configuration,
    ConfigurationFile,
    GetConfiguration,
    GetPackage,
    ListPackages,
    LogLines,
    Package,
    PackageDetail,
    PackageList,
    ReadLog,
)

CHUNK = 1000
"""Bytes of one chunk the ledger hands out."""


def package(name: str, **changes: Any) -> Package:
    """A package that runs, but for the changes."""
    told = {
        "name": name,
        "version": "1.0",
        "driver": "process",
        "state": "running",
        "since": datetime.now(UTC),
        "pid": 4711,
        "uptime_seconds": 93_784.0,
        "restarts": 0,
        "processes": 2,
        "memory_bytes": 50 << 20,
        "cpu_percent": 1.5,
        **changes,
    }
    return Package.model_validate(told)


class Ledger:
    """Answers what a state-store is asked, from lists; says ``Settled`` for each target that ends.

    A submitted command is ended at once on every agent, by ``fates``, unless the agent is in ``waiting``.
    """

    fates: dict[str, dict[str, Any]]
    """Agent → fields its targets end with; without any, they succeed."""
    waiting: set[str]
    """Agents whose targets stay as they are until ``end`` or a cancel."""
    gate: asyncio.Event
    """While it is cleared, questions wait; ``at_the_gate`` counts them."""

    def __init__(self, find: Callable[[str], Iterable[str]]) -> None:
        self._find = find
        self.reset()

    def reset(self) -> None:
        """As at the beginning."""
        self.submitted: list[Submit] = []
        self.targets: list[Target] = []
        self.entries: list[AuditEntry] = []
        self.streams: dict[tuple[str, str], bytes] = {}
        self.complete: set[tuple[str, str]] = set()
        self.fates = {}
        self.waiting = set()
        self.unavailable = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.at_the_gate = 0

    async def listen(self, bus: Bus) -> None:
        """Answer everything."""
        self.bus = bus
        answers: list[tuple[Any, Callable[[Any], Awaitable[Any]]]] = [
            (Submit, self._submit),
            (FindTargets, self._find_targets),
            (GetCommand, self._get),
            (CancelCommand, self._cancel),
            (ReadChunks, self._read),
            (ReadAudit, self._audit),
        ]
        for contract, answer in answers:
            await bus.answer(contract, self._answering(answer))

    def _answering(self, answer: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
        async def answering(question: Any) -> Any:
            if self.unavailable:
                raise AskError("unavailable", "cannot answer: the database is busy")
            self.at_the_gate += 1
            await self.gate.wait()
            return await answer(question)

        return answering

    # What a test has happen ----------------------------------------------------------------------

    async def end(self, command_id: UUID, agent: str, *, heard: bool = True, **changes: Any) -> None:
        """End one target; unless it is to be ``heard``, only the rows know."""
        told = {"state": "succeeded", "reason": "done", "ended_at": datetime.now(UTC), **changes}
        place, target = self._row(command_id, agent)
        self.targets[place] = ended = Target.model_validate({**target.model_dump(), **told})
        if heard:
            fact = Settled(occurred_at=datetime.now(UTC), agent_id=agent, target=ended)
            await self.bus.say(fact)

    async def put(self, command_id: UUID, agent: str, data: bytes, *, complete: bool = False) -> None:
        """The agent has printed something."""
        stream = f"output/{command_id}"
        self.streams[agent, stream] = self.streams.get((agent, stream), b"") + data
        if complete:
            self.complete.add((agent, stream))
        size = len(self.streams[agent, stream])
        fact = ChunkStored(
            occurred_at=datetime.now(UTC), agent_id=agent, stream=stream, size=size, complete=complete
        )
        await self.bus.say(fact)

    async def anchor(self) -> None:
        """Say how far the audit is."""
        last = self.entries[-1]
        fact = Anchored(occurred_at=datetime.now(UTC), service=STORE, sequence=last.sequence, hash=last.hash)
        await self.bus.say(fact)

    def note(self, action: str, subject: str, **detail: Any) -> None:
        """Add an entry to the audit."""
        last = self.entries[-1] if self.entries else None
        told = {
            "sequence": len(self.entries) + 1,
            "at": datetime.now(UTC),
            "actor": "ann@laptop",
            "action": action,
            "decision": "allowed",
            "subject": subject,
            "detail": detail,
            "previous": last.hash if last else GENESIS,
            "hash": GENESIS,
        }
        entry = AuditEntry.model_validate(told)
        self.entries.append(entry.model_copy(update={"hash": digest(entry)}))

    # What it answers -----------------------------------------------------------------------------

    async def _submit(self, q: Submit) -> Submitted:
        for other in self.submitted:
            if (q.issuer, q.idempotency_key or q.command_id) == (
                other.issuer,
                other.idempotency_key or other.command_id,
            ):
                return Submitted(
                    command_id=other.command_id, targets=len(self._of(other.command_id)), repeated=True
                )
        agents = list(self._find(q.selector))
        self.submitted.append(q)
        self.targets[:0] = [self._made(q, agent) for agent in agents]
        self.note("command.submit", str(q.command_id), verb=q.body.verb, selector=q.selector)
        for agent in agents:
            if agent not in self.waiting:
                await self.end(q.command_id, agent, **self.fates.get(agent, {}))
        return Submitted(command_id=q.command_id, targets=len(agents))

    @staticmethod
    def _made(q: Submit, agent: str) -> Target:
        return Target(
            id=q.command_id, agent=agent, verb=q.body.verb, subject=q.body.about, state=CommandState.PENDING,
            issuer=q.issuer, submitted_at=datetime.now(UTC), not_after=q.not_after,
        )  # fmt: skip

    def _of(self, command_id: UUID) -> list[Target]:
        return [target for target in self.targets if target.id == command_id]

    def _row(self, command_id: UUID, agent: str) -> tuple[int, Target]:
        return next(
            (place, target)
            for place, target in enumerate(self.targets)
            if (target.id, target.agent) == (command_id, agent)
        )

    async def _find_targets(self, q: FindTargets) -> TargetPage:
        matching = [
            target
            for target in self.targets
            if (q.command_id is None or target.id == q.command_id)
            and (q.agent_id is None or target.agent == q.agent_id)
            and (not q.states or target.state in q.states)
            and (q.issuer is None or target.issuer == q.issuer)
            and (q.verb is None or target.verb == q.verb)
            and (q.since is None or target.submitted_at >= q.since)
            and (q.until is None or target.submitted_at < q.until)
        ]
        start = int(q.before or 0)
        end = start + q.limit
        return TargetPage(targets=matching[start:end], next=str(end) if end < len(matching) else None)

    async def _get(self, q: GetCommand | CancelCommand) -> CommandDetail:
        submitted = next((one for one in self.submitted if one.command_id == q.command_id), None)
        if submitted is None:
            raise AskError("not-found", f"cannot find the command {q.command_id}")
        targets = self._of(q.command_id)
        by_state = {state: sum(target.state is state for target in targets) for state in CommandState}
        return CommandDetail(
            id=q.command_id, verb=submitted.body.verb, body=submitted.body.model_dump(mode="json"),
            selector=submitted.selector, issuer=submitted.issuer,
            submitted_at=submitted.occurred_at, not_after=submitted.not_after,
            start_seconds=submitted.start_seconds, run_seconds=submitted.run_seconds,
            targets=len(targets), by_state=by_state,
            ended=all(target.state in ENDS for target in targets),
        )  # fmt: skip

    async def _cancel(self, q: CancelCommand) -> CommandDetail:
        await self._get(q)
        for target in self._of(q.command_id):
            if target.state not in ENDS and q.agent_id in {None, target.agent}:
                await self.end(q.command_id, target.agent, state="cancelled", reason="cancelled")
        return await self._get(q)

    async def _read(self, q: ReadChunks) -> Chunks:
        data = self.streams.get((q.agent_id, q.stream), b"")
        complete = (q.agent_id, q.stream) in self.complete
        begin = q.offset // CHUNK * CHUNK
        pieces = (
            [(at, data[at : at + CHUNK]) for at in range(begin, len(data), CHUNK)]
            if q.offset < len(data)
            else []
        )
        chunks = [
            Chunk(
                offset=at, length=len(piece), sha256=hashlib.sha256(piece).hexdigest(),
                data=base64.b64encode(piece).decode(),
            )
            for at, piece in pieces[:3]
        ]  # fmt: skip
        whole = hashlib.sha256(data).hexdigest() if complete else None
        return Chunks(chunks=chunks, size=len(data), complete=complete, sha256=whole)

    async def _audit(self, q: ReadAudit) -> AuditPage:
        page = [entry for entry in self.entries if entry.sequence > q.after][: q.limit]
        return AuditPage(entries=page, last=self.entries[-1].sequence if self.entries else 0)


class Machine:
    """Answers what a host's agent is asked about its packages."""

    def __init__(self, agent_id: str) -> None:
        self.agent_id = agent_id
        self.reset()

    def reset(self) -> None:
        """One package that runs."""
        self.packages: dict[str, Package] = {"web": package("web")}
        self.files: dict[str, str] = {"main": "port = 80\n"}
        self.logs: dict[str, list[str]] = {}

    async def listen(self, bus: Bus) -> None:
        """Answer everything."""
        answers: list[tuple[Any, Callable[[Any], Awaitable[Any]]]] = [
            (ListPackages, self._list),
            (GetPackage, self._get),
            (GetConfiguration, self._configuration),
            (ReadLog, self._log),
        ]
        for contract, answer in answers:
            await bus.answer(contract, answer, bound_to=self.agent_id)

    async def _list(self, q: ListPackages) -> PackageList:
        names = [name for name in sorted(self.packages) if q.after is None or name > q.after]
        page = [self.packages[name] for name in names[:2]]
        return PackageList(
            agent_id=self.agent_id, packages=page, next=names[1] if len(names) > len(page) else None
        )

    def _known(self, name: str) -> Package:
        if name not in self.packages:
            raise AskError("not-found", f"cannot find the package {name} on {self.agent_id}")
        return self.packages[name]

    def _file(self, name: str) -> ConfigurationFile:
        if name not in self.files:
            raise AskError("not-found", f"cannot find the configuration file {name} on {self.agent_id}")
        return ConfigurationFile(name=name, path=f"/etc/{name}.conf", size_bytes=len(self.files[name]))

    async def _get(self, q: GetPackage) -> PackageDetail:
        return PackageDetail(
            agent_id=self.agent_id, package=self._known(q.package), description="Greets everybody.",
            command=["python", "-m", "http.server"], environment=["PORT"], secrets=["TOKEN"],
            configuration=[self._file(name) for name in self.files], log_file="/var/log/web.log",
            pids=[4711, 4712],
        )  # fmt: skip

    async def _configuration(self, q: GetConfiguration) -> Configuration:
        self._known(q.package)
        return Configuration(agent_id=self.agent_id, file=self._file(q.file), content=self.files[q.file])

    async def _log(self, q: ReadLog) -> LogLines:
        self._known(q.package)
        lines = self.logs.get(q.package, [])
        ends = [sum(len(line) + 1 for line in lines[: place + 1]) for place in range(len(lines))]
        told = (
            lines[-q.lines :]
            if q.from_offset is None
            else [line for line, end in zip(lines, ends, strict=True) if end > q.from_offset][: q.lines]
        )
        return LogLines(
            agent_id=self.agent_id, package=q.package, lines=told, end_offset=ends[-1] if ends else 0
        )
