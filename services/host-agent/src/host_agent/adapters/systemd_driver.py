"""Packages that are systemd units: told by systemctl, watched by pidfd, read by journalctl.

systemd runs the unit as its unit file says (user, environment, limits); the agent starts and stops it,
and starts it again as package.json says. A unit with ``Restart=`` is started again by systemd first, and
the agent finds it running. So leave ``Restart=`` out, or set the package's policy to ``never`` (decision
2).

Offsets of the log are the journal's own sequence numbers: they only grow, and rotating the journal does not
change them. A journal that was begun anew counts from the start, and an offset beyond its end reads from
there. Of a user's units the journal does not know what a process printed that had ended before it looked.
"""

import asyncio
import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from uuid import uuid4

from host_agent.adapters import cgroup_processes, commands, pidfd
from host_agent.domain.look import Seen
from host_agent.domain.package import Exit, Loaded, Run, Usage
from host_agent.domain.unit import SHOWN, Unit
from host_agent.ports import CannotRun
from muster_contracts.package.v1 import StopSignal

START_SECONDS = 300.0
"""Above systemd's own TimeoutStartSec= of 90 s, which units may raise."""

POLL_SECONDS = 0.25
"""Between looks at a unit whose main process cannot be watched."""

SETTLE_SECONDS = 0.02
"""Between looks until systemd has noticed what the kernel told us."""

KILL_SECONDS = 30.0
"""What hangs in the kernel does not end by SIGKILL either."""

KILLS = 30

AWAY_SECONDS = 1.0
"""Between tries while systemd does not answer."""

BEGIN_SECONDS = 1.0
"""How long a process may take from its fork to its program."""

COMPLAINTS = (
    ("permission", "not-permitted", "run the agent as root, or allow it by a polkit rule"),
    ("access denied", "not-permitted", "run the agent as root, or allow it by a polkit rule"),
    ("authentication", "not-permitted", "run the agent as root, or allow it by a polkit rule"),
    ("not been booted with systemd", "no-driver", "systemd does not run this machine; use another driver"),
    ("failed to connect to", "no-driver", "its systemd does not answer (for user_unit: enable lingering)"),
    ("not found", "no-unit", "install the unit file and run 'systemctl daemon-reload'"),
)
"""What systemctl says in lower case, the reason that is, and what to do."""


class SystemdDriver:
    """Units of the machine, and with ``user_unit`` of the agent's own user.

    ``systemctl`` and ``journalctl`` are the commands to call, with whatever it takes to reach them.
    """

    def __init__(
        self, systemctl: Sequence[str] = ("systemctl",), journalctl: Sequence[str] = ("journalctl",)
    ) -> None:
        self._systemctl = tuple(systemctl)
        self._journalctl = tuple(journalctl)

    async def start(self, package: Loaded) -> Run:
        """Start the unit; its program has been executed when this returns."""
        unit = await self._look(package)
        if unit.goes_on:
            return _run(package, unit, adopted=True)
        if unit.active == "failed":
            # systemd counts failed starts and then refuses; how often to try is the agent's to say.
            await self._order(package, "reset-failed")
        try:
            await self._order(package, "start", seconds=START_SECONDS)
            unit = await self._begun(package)
        except BaseException:
            await asyncio.shield(self._give_up(package))
            raise
        return _run(package, unit, adopted=False)

    async def find(self, package: Loaded) -> Run | None:
        """The unit's present life, if it has one."""
        unit = await self._look(package)
        return _run(package, unit, adopted=True) if unit.goes_on else None

    async def wait(self, package: Loaded, run: Run) -> Exit:
        """Return when the unit's main process has ended and systemd knows how."""
        unit = await self._look_at_last(package)
        while unit.goes_on and unit.invocation == run.id:
            await _change(unit)
            unit = await self._look_at_last(package)
        return _exit(unit, run)

    async def stop(self, package: Loaded, run: Run) -> Exit:
        """Stop the unit; SIGKILL to all of its control group when the package's timeout is over.

        With the stop signal TERM the unit is stopped as its own file says (ExecStop=, KillSignal=); another
        signal is sent to the main process first.
        """
        unit = await self._look(package)
        if not unit.at_rest:
            await self._send(package, "CONT", whom="all")
            try:
                async with asyncio.timeout(package.spec.stop.timeout_seconds):
                    await self._ask_to_end(package, run)
                    unit = await self._rest(package)
            except TimeoutError:
                unit = await self._end(package)
        return _exit(unit, run)

    async def signal(self, package: Loaded, run: Run, signal: StopSignal) -> None:
        """Send a signal to the unit's main process."""
        await self._still(package, run)
        await self._send(package, signal.value, whom="main")

    async def pause(self, package: Loaded, run: Run) -> None:
        """SIGSTOP to every process of the unit."""
        await self._still(package, run)
        await self._send(package, "STOP", whom="all")

    async def resume(self, package: Loaded, run: Run) -> None:
        """SIGCONT to every process of the unit."""
        await self._still(package, run)
        await self._send(package, "CONT", whom="all")

    async def is_paused(self, package: Loaded, run: Run) -> bool:
        """Whether all its processes are stopped; systemd itself does not know."""
        unit = await self._look(package)
        held = cgroup_processes.are_held(cgroup_processes.processes(unit.control_group))
        return held and unit.invocation == run.id

    async def usage(self, package: Loaded, run: Run) -> Usage:
        """From its processes; from the unit's accounting where they cannot be seen."""
        unit = await self._look(package)
        if unit.invocation != run.id:
            return Usage()
        pids = cgroup_processes.processes(unit.control_group)
        resident, cpu = cgroup_processes.resident_bytes(pids), cgroup_processes.cpu_seconds(pids)
        return Usage(
            tuple(pids),
            unit.memory_bytes if resident is None else resident,
            cpu if unit.cpu_seconds is None else unit.cpu_seconds,
        )

    async def native_health(self, package: Loaded, run: Run) -> Seen:
        """What systemd says of the unit, whichever life of it goes on."""
        del run
        return (await self._look(package)).health

    async def read_log(
        self, package: Loaded, lines: int, from_offset: int | None
    ) -> tuple[list[str], int, bool]:
        """What the unit's processes printed, from the journal; offsets are its sequence numbers."""
        newest = await self._journal(package, 1, "--lines=1")
        if not newest:
            return [], from_offset or 0, False
        if from_offset is None:
            found = await self._journal(package, lines + 1, f"--lines={lines + 1}")
            kept = found[-lines:]
        else:
            found = await self._journal(package, lines + 1, *_after(from_offset, newest[0]))
            kept = found[:lines]
        end = _number(kept[-1]) if kept else from_offset or 0
        return [_text(entry) for entry in kept], end, len(found) > lines

    # The unit ----------------------------------------------------------------------------------------

    async def _look(self, package: Loaded) -> Unit:
        """The unit as it is now; one that does not exist is at rest."""
        return Unit.parse(await self._call(package, "show", f"--property={','.join(SHOWN)}"))

    async def _look_at_last(self, package: Loaded) -> Unit:
        """The same, once systemd answers: while it executes itself anew it does not, and units run on."""
        while True:
            with suppress(CannotRun):
                return await self._look(package)
            await asyncio.sleep(AWAY_SECONDS)

    async def _begun(self, package: Loaded) -> Unit:
        """The unit once its program runs, or has ended.

        Raises:
            CannotRun: there was never a process of it.
        """
        unit = await self._look(package)
        deadline = time.monotonic() + BEGIN_SECONDS
        while (pid := _here(unit)) and not cgroup_processes.is_begun(pid) and time.monotonic() < deadline:
            await asyncio.sleep(SETTLE_SECONDS)
            unit = await self._look(package)
        if missing := unit.could_not_begin:
            reason, text = missing
            raise CannotRun(
                f"cannot start unit {package.spec.unit} of package {package.name}: {text}", reason
            )
        return unit

    async def _give_up(self, package: Loaded) -> None:
        """Leave nothing of a start that failed, also where systemd would try again."""
        with suppress(CannotRun):
            await self._end(package)

    async def _still(self, package: Loaded, run: Run) -> None:
        unit = await self._look(package)
        if not unit.goes_on or unit.invocation != run.id:
            raise CannotRun(f"cannot reach package {package.name}: run {run.id} has ended")

    async def _rest(self, package: Loaded) -> Unit:
        """The unit once nothing of it runs."""
        unit = await self._look(package)
        while not unit.at_rest:
            await asyncio.sleep(SETTLE_SECONDS * 2)
            unit = await self._look(package)
        return unit

    async def _ask_to_end(self, package: Loaded, run: Run) -> None:
        if package.spec.stop.signal is not StopSignal.TERM:
            await self._send(package, package.spec.stop.signal.value, whom="main")
            await self.wait(package, run)
        await self._order(package, "stop", "--no-block")

    async def _end(self, package: Loaded) -> Unit:
        """SIGKILL to all of it, again until nothing is left: it may fork while it is killed."""
        await self._order(package, "stop", "--no-block")
        for _ in range(KILLS):
            await self._send(package, "KILL", whom="all")
            with suppress(TimeoutError):
                return await asyncio.wait_for(self._rest(package), KILL_SECONDS / KILLS)
        text = f"unit {package.spec.unit} has not ended {KILL_SECONDS:g} s after SIGKILL"
        raise CannotRun(f"cannot stop package {package.name}: {text}")

    # The commands ------------------------------------------------------------------------------------

    async def _send(self, package: Loaded, signal: str, whom: str) -> None:
        """A signal; nothing, if nobody is left to get it."""
        # --kill-who is what systemd before 252 knows; later ones take it as the beginning of --kill-whom.
        try:
            await self._call(package, "kill", f"--signal={signal}", f"--kill-who={whom}")
        except CannotRun as error:
            if error.reason not in {"failed", "no-unit"}:
                raise
            if (await self._look(package)).goes_on:
                raise

    async def _order(self, package: Loaded, *words: str, seconds: float = 20.0) -> None:
        await self._call(package, *words, seconds=seconds)

    async def _call(self, package: Loaded, *words: str, seconds: float = 20.0) -> str:
        """What systemctl prints.

        Raises:
            CannotRun: it cannot, and why.
        """
        unit = package.spec.unit
        assert unit, "the specification has checked it"
        scope = ("--user",) if package.spec.user_unit else ()
        argv = (*self._systemctl, *scope, "--no-ask-password", *words, "--", unit)
        try:
            done = await commands.run(*argv, seconds=seconds)
        except FileNotFoundError:
            raise CannotRun(
                f"cannot use unit {unit} of package {package.name}: "
                f"this machine has no {self._systemctl[0]}; use another driver",
                "no-driver",
            ) from None
        except TimeoutError:
            raise CannotRun(
                f"cannot {words[0]} unit {unit} of package {package.name}: no answer within {seconds:g} s"
            ) from None
        if done.code:
            raise _refusal(package, words[0], done.err)
        return done.out

    async def _journal(self, package: Loaded, count: int, *words: str) -> list[dict[str, object]]:
        """The first entries journalctl prints of what the unit's processes said."""
        unit = package.spec.unit
        argv = (
            *(*self._journalctl, "--quiet", "--no-pager", "--all", "--output=json"),
            *("--output-fields=MESSAGE", *words, "--"),
            *_matches(package),
        )
        try:
            lines, complaint = await commands.first_lines(*argv, count=count)
        except (OSError, TimeoutError) as error:
            raise CannotRun(f"cannot read the journal of unit {unit}: {error}") from None
        if complaint:
            raise _refusal(package, "read the journal of", complaint)
        return [json.loads(line) for line in lines]


def _run(package: Loaded, unit: Unit, *, adopted: bool) -> Run:
    """The unit's life; a digest is known only of what this agent starts."""
    return Run(
        # A unit that ended well within milliseconds is forgotten already.
        id=unit.invocation or uuid4().hex,
        started_at=time.time() - time.monotonic() + unit.started_us / 1e6 if unit.started_us else time.time(),
        pid=_here(unit) or unit.main_pid or None,
        digest="" if adopted else package.digest,
        adopted=adopted,
    )


def _exit(unit: Unit, run: Run) -> Exit:
    """How a run ended: not known, if systemd has started the unit again since."""
    return unit.exit if unit.invocation in {run.id, ""} else Exit(None)


def _here(unit: Unit) -> int | None:
    """The unit's main process in our eyes, if we see it."""
    return cgroup_processes.here(unit.main_pid, unit.control_group) if unit.main_pid else None


async def _change(unit: Unit) -> None:
    """Return when the unit has probably changed."""
    pid = _here(unit)
    if pid and await pidfd.ended(pid, lambda: cgroup_processes.is_in(pid, unit.control_group)):
        await asyncio.sleep(SETTLE_SECONDS)
    else:
        await asyncio.sleep(POLL_SECONDS)


def _refusal(package: Loaded, what: str, complaint: str) -> CannotRun:
    """What systemd said, with a reason and what to do."""
    why = complaint[-1000:] or "no reason given"
    text = f"cannot {what} unit {package.spec.unit} of package {package.name}: {why}"
    for words, reason, remedy in COMPLAINTS:
        if words in complaint.lower():
            return CannotRun(f"{text}; {remedy}", reason)
    return CannotRun(text)


def _matches(package: Loaded) -> list[str]:
    """Which entries of the journal are its: what its processes printed, not what systemd says of them."""
    unit, user = package.spec.unit, os.getuid()
    if not package.spec.user_unit:
        return [f"_SYSTEMD_UNIT={unit}"]
    # Of a process that ended before the journal looked, the kind of unit is not known.
    return [f"_SYSTEMD_USER_UNIT={unit}", f"_UID={user}", "+", f"_SYSTEMD_UNIT={unit}", f"_UID={user}"]


def _after(offset: int, newest: dict[str, object]) -> list[str]:
    """The option that begins behind an offset; none where that is of a journal that is gone."""
    if not 0 < offset <= _number(newest):
        return []
    # All of the unit's entries have numbers of the same series as the newest.
    series = _cursor(newest)["s"]
    return [f"--after-cursor=s={series};i={offset:x}"]


def _number(entry: dict[str, object]) -> int:
    return int(_cursor(entry)["i"], 16)


def _cursor(entry: dict[str, object]) -> dict[str, str]:
    """A cursor is ``s=…;i=…;b=…``: series, number in hexadecimal, boot, and more."""
    return dict(part.split("=", 1) for part in str(entry["__CURSOR"]).split(";"))


def _text(entry: dict[str, object]) -> str:
    """The message; bytes that are no text come as a list of numbers."""
    message = entry.get("MESSAGE")
    return bytes(message).decode(errors="replace") if isinstance(message, list) else str(message or "")
