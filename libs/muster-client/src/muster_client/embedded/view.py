"""What a person sees of a fleet that starts, runs and stops: coloured on a terminal, plain lines elsewhere.

Without rich on purpose: ``muster up`` in the foreground is the supervisor, and stays resident.
"""

import os
import shlex
import sys
import time
from collections.abc import Iterable, Sequence
from typing import IO

from muster_client.embedded.files import lead_nowhere
from muster_client.embedded.layout import Layout, default_directory
from muster_client.embedded.logfiles import Follower, Line
from muster_client.embedded.processes import Process, memory_of
from muster_client.embedded.record import Entry, Record, State
from muster_client.humanise import NOTHING, clean, size

NEXT = (
    ("muster agents", "who is in the fleet, this machine first"),
    ("muster packages", "what this machine runs, and how it is"),
    ("muster watch", "every message on the bus, decoded, live"),
    ("muster status", "each process with its memory"),
    ("muster doctor", "whether all is well, and what to do if not"),
    ("muster down", "stop everything; the next muster up finds it as it was"),
)
COLOURS = {
    State.RUNNING: "32",
    State.STARTING: "33",
    State.RESTARTING: "33",
    State.FAILED: "31",
    State.STOPPED: "34",
}
"""ANSI colour of each state; the word itself is always there."""
NOTICE_COLOUR = "1;33"


class View:
    """Prints each change once; is told of the whole fleet every time."""

    def __init__(self, out: IO[str] | None = None) -> None:
        self._out = out or sys.stdout
        self._seen: dict[str, State] = {}
        self._told: set[str] = set()
        self._began = time.monotonic()
        self._colour = has_colour(self._out)

    def show(self, record: Record) -> None:
        """One line for each notice, and for each process whose state is another one now."""
        for notice in record.notices:
            if notice not in self._told:
                self._told.add(notice)
                self.say(paint(f"warning: {notice}", NOTICE_COLOUR, colour=self._colour))
        for entry in record.entries:
            before = self._seen.get(entry.name, State.STOPPED)
            self._seen[entry.name] = entry.state
            if before is not entry.state:
                self.say(self._change(entry))

    def ready(self, layout: Layout, record: Record) -> None:
        """What runs where, and what to try next."""
        self.say("")
        for line in fleet_table(record, colour=self._colour):
            self.say(line)
        self.say(
            f"\nReady after {time.monotonic() - self._began:.1f} s; everything is in {layout.root}. Next:"
        )
        if layout.root != default_directory():
            self.say(f"  export MUSTER_DIR={shlex.quote(str(layout.root))}")
        for command, meaning in NEXT:
            self.say(f"  {command:<15} {meaning}")

    def say(self, text: str) -> None:
        """Print; a reader that went away is no reason to stop."""
        try:
            self._out.write(f"{text}\n")
            self._out.flush()
        except BrokenPipeError:
            # What is still in the buffer would make the interpreter complain at its end.
            lead_nowhere(self._out.fileno())
        except (OSError, ValueError):
            return

    def _change(self, entry: Entry) -> str:
        word = paint(f"{entry.state:<10}", COLOURS[entry.state], colour=self._colour)
        where = entry.endpoint if entry.state is State.RUNNING else entry.detail
        return f"{time.monotonic() - self._began:6.2f} s  {entry.name:<15} {word} {where}".rstrip()


class Warnings:
    """Shows what services complain about from now on, one line each."""

    def __init__(self, layout: Layout, names: Iterable[str], view: View) -> None:
        self._followers = {name: Follower(layout.log(name)) for name in names}
        self._view = view

    def look(self) -> None:
        """Print the warnings written since the last look."""
        for name, follower in self._followers.items():
            for text in follower.lines():
                line = Line.parse(text)
                if line.is_grave:
                    self._view.say(f"{name}: {clean(line.readable().splitlines()[0])}")


def fleet_table(record: Record, *, colour: bool) -> list[str]:
    """Every process and the supervisor: name, state, pid, memory, endpoint, log."""
    rows = [
        _row(entry.name, entry.state, entry.process, entry.endpoint, entry.log) for entry in record.entries
    ]
    rows.append(_row("supervisor", State.RUNNING, record.supervisor, "", ""))
    lines = columns(("PROCESS", "STATE", "PID", "MEMORY", "ENDPOINT", "LOG"), rows, right=(2, 3))
    return [paint_state(line, colour=colour) for line in lines]


def columns(headers: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Lines of aligned columns, two blanks apart; those in ``right`` are aligned right."""
    widths = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (headers, *rows)
    ]


def has_colour(out: IO[str]) -> bool:
    """Whether ``out`` is a terminal that wants colours."""
    return out.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, code: str, *, colour: bool) -> str:
    """``text`` in an ANSI colour, where there is colour."""
    return f"\033[{code}m{text}\033[0m" if colour else text


def paint_state(line: str, *, colour: bool) -> str:
    """A line of a table with the state in its second column in its colour."""
    word = line.split(maxsplit=2)[1] if line.strip() else ""
    code = COLOURS.get(State(word)) if word in set(State) else None
    return line.replace(word, paint(word, code, colour=colour), 1) if code else line


def _row(name: str, state: State, process: Process | None, endpoint: str, log: str) -> tuple[str, ...]:
    memory = memory_of(process) if process else None
    pid = str(process.pid) if process else NOTHING
    return (
        name,
        state.value,
        pid,
        size(memory[0]) if memory else NOTHING,
        endpoint or NOTHING,
        log or NOTHING,
    )
