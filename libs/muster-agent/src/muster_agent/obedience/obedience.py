"""Obedience: from an order that comes to the end that is said, in the order that makes both certain."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from muster_agent.obedience import order as orders
from muster_agent.obedience.backlog import CatchingUp
from muster_agent.obedience.journal import Entry, Intent, Journal, JournalFailed, Taken
from muster_agent.obedience.limits import Limits
from muster_agent.obedience.obedient import Obedient, Refused, Result
from muster_agent.obedience.order import Lanes, Order, Turn
from muster_agent.obedience.outcomes import Outcomes
from muster_agent.obedience.output import Output, Outputs
from muster_agent.obedience.uploading import Uploading
from muster_agent.obedience.work import Progress, Work
from muster_agent.ports import ObedientBus
from muster_bus.errors import AskError, MusterError
from muster_bus.metrics import Counters
from muster_contracts.command.v1 import (
    Accepted,
    Cancel,
    CommandState,
    Ended,
    Execute,
    Progressed,
    Terms,
)
from muster_contracts.ids import Epoch
from muster_runtime import failpoints
from muster_runtime.clock import Clock, SystemClock
from muster_runtime.logs import logger

FORGET_SECONDS = 60.0
JOURNAL_PAUSE_SECONDS = 1.0
STUCK_SECONDS = 10.0
"""A performer that does not end so long after it was cancelled is cancelled again, and named in the log."""
CLEAN_UP_SECONDS = 5.0
"""What is interrupted at the end of the agent may take so long to clean up."""
LONGEST_TEXT = 2000
LARGEST_RESULT = 48 << 10

log = logger(__name__)


class Obedience:
    """One run of one agent, as far as it obeys commands.

    Args:
        bus: what it speaks through, connected as ``agent_id``, with a spool.
        agent_id: who it is.
        epoch: the name of this run.
        state_dir: where the journal and the outputs are kept.
        obedient: what this kind of agent can do.
        clock: tells the wall time; this machine's if not given.
        limits: how much obeying may cost.

    Raises:
        JournalFailed: the journal cannot be used; says what to do.
    """

    def __init__(  # noqa: PLR0917  (in the order of the sentence: through what, who, which, where, how)
        self,
        bus: ObedientBus,
        agent_id: str,
        epoch: Epoch,
        state_dir: Path,
        obedient: Obedient,
        clock: Clock | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.counts = Counters()
        self._bus = bus
        self._agent_id = agent_id
        self._epoch = epoch
        self._obedient = obedient
        self._clock = clock or SystemClock()
        self._limits = limits or Limits()
        self._journal = Journal(state_dir / "journal.db")
        self._outputs = Outputs(state_dir / "output", self._limits, self.counts)
        self._outcomes = Outcomes(bus, self._journal, epoch, self._clock, self.counts)
        self._uploading = Uploading(bus, agent_id, self._outputs, self._clock, self.counts)
        self._catching_up = CatchingUp(bus, agent_id, epoch, self._clock, self._take_all, self._cancel)
        self._orders: dict[UUID, Order] = {}
        self._lanes = Lanes()
        self._recovering = asyncio.Lock()
        self._recovered = False
        self._stopping = False

    @property
    def open(self) -> int:
        """How many commands are accepted and have not ended."""
        return len(self._orders)

    async def listen(self) -> None:
        """Answer orders and hear cancels addressed to this agent, from the next connect on."""
        await self._bus.answer(Execute, self._on_execute, bound_to=self._agent_id)
        await self._bus.hear(Cancel, self._on_cancel, bound_to=self._agent_id)
        self._bus.on_reconnect(self._on_reconnect)

    async def run(self) -> None:
        """Go on where the last run ended, catch up, say ends, upload outputs; for ever, may be run again."""
        await self._recover()
        self._outcomes.wake()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._catching_up.run(), name="backlog")
            group.create_task(self._outcomes.run(), name="outcomes")
            group.create_task(self._uploading.run(), name="outputs")
            group.create_task(self._forget_for_ever(), name="forgetting")

    async def stop(self, seconds: float) -> None:
        """Take nothing more; what runs may end within ``seconds``, then it is interrupted, and says so.

        What waits for its turn waits on in the journal.
        """
        if self._stopping:
            return
        self._stopping = True
        for order in self._orders.values():
            if order.started_at is None and order.task:
                order.task.cancel()
        await self._ended(seconds)
        for order in self._orders.values():
            order.end_by(orders.STOPPED)
        await self._ended(CLEAN_UP_SECONDS)
        with contextlib.suppress(MusterError):
            while await self._outcomes.say_some():
                pass
        with contextlib.suppress(MusterError):
            await self._journal.written()
        self._journal.close()
        self._outputs.close()

    async def _ended(self, seconds: float) -> None:
        if tasks := [order.task for order in self._orders.values() if order.task]:
            await asyncio.wait(tasks, timeout=seconds)

    # What is heard --------------------------------------------------------------------------------------

    async def _on_execute(self, question: Execute) -> Accepted:
        """Writes the order down and answers; a known one is answered from the journal, never run again."""
        taken = await self._take(question.terms)
        return Accepted(command_id=question.terms.command_id, state=taken.state)

    async def _on_cancel(self, order: Cancel) -> None:
        """Stops the command, or remembers not to begin it."""
        try:
            await self._cancel(order.command_id)
        except JournalFailed as error:
            log.warning("cannot remember a cancel", command_id=str(order.command_id), error=str(error))

    def _on_reconnect(self) -> None:
        self._catching_up.wake()
        self._outcomes.connected()
        self._uploading.hurry()

    # Taking ---------------------------------------------------------------------------------------------

    async def _take(self, terms: Terms) -> Taken:
        """Write an order down and set it going; the journal decides whether it is new.

        Raises:
            AskError: it was not taken; it may be given again.
        """
        failpoints.reached("received")
        self._check_room(terms.command_id)
        intent = self._intent(terms, self._clock.now())
        try:
            taken = await self._journal.take(intent)
        except JournalFailed as error:
            self.counts.add("journal_failures")
            log.warning("cannot accept a command", command_id=str(terms.command_id), error=str(error))
            raise AskError("unavailable", f"cannot accept {terms.command_id}: {error}") from error
        failpoints.reached("intent-logged")
        self.counts.add("commands_taken" if taken.new else "commands_repeated")
        if taken.new and intent.ended is None:
            self._go(terms, intent.lane, intent.at, cancelled=taken.cancelled)
        else:
            self._outcomes.wake()
        return taken

    def _check_room(self, command_id: UUID) -> None:
        if not self._recovered or self._stopping:
            when = "is stopping" if self._stopping else "has just begun"
            raise AskError("unavailable", f"cannot accept {command_id}: the agent {when}")
        if command_id in self._orders:
            return
        if len(self._orders) >= self._limits.open_commands:
            raise AskError(
                "unavailable", f"cannot accept {command_id}: {len(self._orders)} commands are open"
            )
        if self._journal.known >= self._limits.known_commands:
            raise AskError(
                "unavailable",
                f"cannot accept {command_id}: the journal has {self._journal.known} commands that may come",
            )

    def _intent(self, terms: Terms, now: datetime) -> Intent:
        """What to write down: a lane to wait in, or an end at once."""
        if now > terms.not_after:
            return Intent(terms, "", now, self._end_of(terms, orders.expired(terms), now))
        try:
            return Intent(terms, self._obedient.admit(terms).lane, now)
        except Refused as error:
            result = Result(CommandState.REJECTED, error.reason, str(error))
        except Exception as error:  # noqa: BLE001  (whatever is wrong with it, it has to end)
            result = _failed_before(terms, error)
        return Intent(terms, "", now, self._end_of(terms, result, now))

    async def _take_all(self, backlog: list[Terms]) -> None:
        """Take orders from the backlog, written down together.

        Raises:
            AskError: some were not taken.
        """
        outcomes = await asyncio.gather(*(self._take(terms) for terms in backlog), return_exceptions=True)
        for terms, taken in zip(backlog, outcomes, strict=True):
            if isinstance(taken, Taken) and taken.new and taken.state is CommandState.ACCEPTED:
                # Nobody asked, so nobody is answered: this tells the ledger instead.
                await self._say_progress(terms.command_id, CommandState.ACCEPTED)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _cancel(self, command_id: UUID) -> None:
        # Before it is written down, for at once means at once; and after, for it may have come meanwhile.
        self._end_by_cancel(command_id)
        await self._journal.cancel(command_id, self._clock.now())
        self._end_by_cancel(command_id)

    def _end_by_cancel(self, command_id: UUID) -> None:
        if order := self._orders.get(command_id):
            order.end_by(orders.CANCELLED)

    # Going on after an end of the agent -----------------------------------------------------------------

    async def _recover(self) -> None:
        """Once: what ran is interrupted, what waited waits again."""
        async with self._recovering:
            if self._recovered:
                return
            await self._outputs.recover()
            for entry in await self._journal.open():
                await self._resume(entry)
            await self._journal.forget(self._clock.now(), self._limits.known_commands)
            self._recovered = True

    async def _resume(self, entry: Entry) -> None:
        if not entry.running:
            self._go(entry.terms, entry.lane, entry.accepted_at, cancelled=entry.cancelled)
            return
        output = self._outputs.of(entry.terms.command_id)
        await self._journal.end(
            self._end_of(entry.terms, orders.INTERRUPTED, entry.accepted_at, entry.started_at, output)
        )
        self.counts.add("commands_ended", CommandState.INTERRUPTED)

    # The life of one command ----------------------------------------------------------------------------

    def _go(self, terms: Terms, lane: str, accepted_at: datetime, *, cancelled: bool) -> None:
        """Set a command going that is in the journal as accepted."""
        if self._stopping or terms.command_id in self._orders:
            return
        loop = asyncio.get_running_loop()
        # The clock may have been set meanwhile; a command waits neither for ever nor less than nothing.
        waited = (self._clock.now() - accepted_at).total_seconds()
        left = min(max(0.0, terms.start_seconds - waited), terms.start_seconds)
        output = self._outputs.of(terms.command_id)
        order = Order(terms, lane, accepted_at, loop.time() + left, output, loop.create_future())
        if cancelled:
            order.end_by(orders.CANCELLED)
        self._orders[terms.command_id] = order
        order.task = asyncio.create_task(self._obey(order), name=f"command {terms.command_id}")
        order.task.add_done_callback(lambda _: self._orders.pop(terms.command_id, None))

    async def _obey(self, order: Order) -> None:
        async with self._lanes.place(order.lane) as turn:
            result = await self._begin(order, turn) or await self._perform(order)
            await self._end(order, result)

    async def _begin(self, order: Order, turn: Turn) -> Result | None:
        """Wait until it may begin and write that down; the end it comes to if it may not."""
        beginning = asyncio.create_task(self._wait_and_check(order, turn))
        try:
            if why := await self._why_not(order, beginning):
                order.started_at = None  # though it may have been written down, it was not performed
                return why
            return beginning.result()
        finally:
            await _put_an_end_to(beginning, order)

    async def _why_not(self, order: Order, beginning: asyncio.Task[Result | None]) -> Result | None:
        loop = asyncio.get_running_loop()
        either: list[asyncio.Future[Any]] = [beginning, order.stop]
        while not any(one.done() for one in either):
            await asyncio.wait(
                either,
                timeout=order.may_wait(self._clock.now(), loop.time()),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if not beginning.done() and (late := order.too_late(self._clock.now(), loop.time())):
                return late
        return order.stop.result() if order.stop.done() else None

    async def _wait_and_check(self, order: Order, turn: Turn) -> Result | None:
        await turn.come()
        try:
            await self._obedient.check(order.terms)
        except Refused as error:
            return Result(CommandState.REJECTED, error.reason, str(error))
        except Exception as error:  # noqa: BLE001  (it has to end, and nothing was done)
            return _failed_before(order.terms, error)
        now = self._clock.now()
        if late := order.too_late(now, asyncio.get_running_loop().time()):
            return late
        await self._surely(lambda: self._journal.begin(order.command_id, now))
        order.started_at = now
        return None

    async def _perform(self, order: Order) -> Result:
        """Perform it, for as long as it may; its end is known and nothing of it runs when this returns."""
        failpoints.reached("before-exec")
        progress = Progress(
            lambda text, percent: self._say_progress(
                order.command_id, CommandState.RUNNING, text, percent, order.output.size
            )
        )
        progress.begin()
        doing = asyncio.create_task(self._obedient.perform(Work(order.terms, order.output, progress)))
        try:
            await asyncio.wait(
                [doing, order.stop], timeout=order.terms.run_seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            stopped = await _put_an_end_to(doing, order)
            await progress.close()
        failpoints.reached("after-exec")
        why = order.stop.result() if order.stop.done() else orders.ran_too_long(order.terms)
        return _result_of(doing, order.terms, why if stopped else None)

    async def _end(self, order: Order, result: Result) -> None:
        await order.output.finish()
        ended = self._end_of(order.terms, result, order.accepted_at, order.started_at, order.output)
        await self._surely(lambda: self._journal.end(ended))
        self.counts.add("commands_ended", ended.state)
        self._outcomes.put(ended)

    def _end_of(
        self,
        terms: Terms,
        result: Result,
        accepted_at: datetime,
        started_at: datetime | None = None,
        output: Output | None = None,
    ) -> Ended:
        ended = Ended(
            message_id=uuid4(),  # drawn at random: one that can be guessed could be said first by another
            occurred_at=self._clock.now(),
            agent_id=self._agent_id,
            epoch=self._epoch,
            command_id=terms.command_id,
            verb=terms.verb,
            state=result.state,
            reason=result.reason[:100],
            text=result.text[:LONGEST_TEXT],
            exit_code=result.exit_code,
            result=result.result,
            accepted_at=accepted_at,
            started_at=started_at,
            output_bytes=output.size if output else 0,
            output_sha256=output.sha256 if output else None,
        )
        return ended if _is_sayable(ended) else ended.model_copy(update={"result": None})

    async def _surely(self, write: Callable[[], Awaitable[None]]) -> None:
        """Write something down, however long the disk is full."""
        while True:
            try:
                return await write()
            except JournalFailed as error:
                self.counts.add("journal_failures")
                log.warning("cannot write down what a command does; trying again", error=str(error))
                await asyncio.sleep(JOURNAL_PAUSE_SECONDS)

    async def _say_progress(
        self,
        command_id: UUID,
        state: CommandState,
        text: str | None = None,
        percent: float | None = None,
        output_bytes: int = 0,
    ) -> None:
        fact = Progressed(
            occurred_at=self._clock.now(), agent_id=self._agent_id, command_id=command_id, state=state,
            text=text, percent=None if percent is None else min(max(percent, 0), 100),
            output_bytes=output_bytes,
        )  # fmt: skip
        with contextlib.suppress(MusterError, OSError):  # it is live: the next one supersedes it
            await self._bus.say(fact)

    async def _forget_for_ever(self) -> None:
        while True:
            await asyncio.sleep(FORGET_SECONDS)
            try:
                await self._journal.forget(self._clock.now(), self._limits.known_commands)
            except JournalFailed as error:
                log.warning("cannot forget old commands", error=str(error))


async def _put_an_end_to(task: asyncio.Task[Result] | asyncio.Task[Result | None], order: Order) -> bool:
    """Cancel it if it runs, and wait for its end; whether it was still running."""
    if task.done():
        return False
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=STUCK_SECONDS)
        if not task.done():
            log.error("a command does not end", command_id=str(order.command_id), verb=order.terms.verb)
    return True


def _result_of(doing: asyncio.Task[Result], terms: Terms, stopped: Result | None) -> Result:
    """How the performer ended; ``stopped`` says why it was cancelled, if it was."""
    if doing.cancelled():
        text = f"cannot tell what {terms.verb} did: it was cancelled from within"
        return stopped or Result(CommandState.FAILED, "error", text)
    error = doing.exception()
    if error is None:
        return doing.result()
    if isinstance(error, Refused):
        return Result(CommandState.REJECTED, error.reason, str(error))
    log.error("a command failed", command_id=str(terms.command_id), verb=terms.verb, exc_info=error)
    # Not the error's own text, which nobody wrote to be read elsewhere: it might quote a secret.
    text = f"cannot finish {terms.verb}: {type(error).__name__}; the agent's log says more"
    return stopped or Result(CommandState.FAILED, "error", text)


def _failed_before(terms: Terms, error: Exception) -> Result:
    log.error("cannot judge a command", command_id=str(terms.command_id), verb=terms.verb, exc_info=error)
    text = f"cannot begin {terms.verb}: {type(error).__name__}; the agent's log says more"
    return Result(CommandState.REJECTED, "error", text)


def _is_sayable(ended: Ended) -> bool:
    """Whether what the command gave back can travel: it is JSON, and small."""
    try:
        return len(ended.model_dump_json()) <= LARGEST_RESULT
    except ValueError:  # pydantic's own error is one
        log.warning("cannot say what a command gave back: it is no JSON", command_id=str(ended.command_id))
        return False
