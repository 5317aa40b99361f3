"""Tables and cards for people: pure functions from outputs to Rich renderables, and where they are printed.

Nothing here is promised to programs; they read ``--json``. A pipe gets the whole width, so that
``muster agents | grep web`` sees whole lines.
"""

import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import IO

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from muster_client import humanise
from muster_client.outputs import (
    AgentLine,
    AgentShown,
    DeadLetterLine,
    MapLine,
    PresenceLine,
    Verdict,
    WatchedMessage,
)
from muster_contracts.fleet.v1 import AgentDetail, AgentEvent, Connection, Presence, Summary
from muster_contracts.fleet.v1 import Group as FleetGroup
from muster_contracts.host.v1 import Described, Vitals

PIPE_WIDTH = 2000
"""Columns when nobody looks: wide enough that no line is broken for a program that reads it."""

STATES = {
    Presence.EXPECTED: ("…", "?", "cyan"),
    Presence.ONLINE: ("●", "+", "green"),
    Presence.LATE: ("◐", "~", "yellow"),
    Presence.LOST: ("✗", "!", "bold red"),
    Presence.LEFT: ("○", "-", "blue"),
    Presence.RETIRED: ("·", "x", "dim"),
}
"""State → symbol, symbol without UTF-8, colour; symbol and word stay readable without colour."""


def console(file: IO[str] | None = None) -> Console:
    """Where tables go: as wide as the terminal, or as wide as it takes when there is none."""
    out = Console(file=file or sys.stdout, highlight=False, markup=False, emoji=False)
    if not out.is_terminal:
        out.width = PIPE_WIDTH
    return out


def show(*things: RenderableType, file: IO[str] | None = None, clear: bool = False) -> None:
    """Print on standard output (or ``file``), without the blanks that tables end their lines with.

    ``clear`` empties a terminal before, for what is shown anew again and again.
    """
    out = console(file)
    if clear:
        out.clear()
    with out.capture() as captured:
        for thing in things:
            out.print(thing)
    text = captured.get()
    # A terminal's escape codes may stand behind the blanks, so only plain lines can be cut.
    lines = text if out.is_terminal else "\n".join(line.rstrip() for line in text.split("\n"))
    out.file.write(lines)
    out.file.flush()


def is_plain(file: IO[str] | None = None) -> bool:
    """Whether the output cannot show more than ASCII."""
    encoding = getattr(file or sys.stdout, "encoding", None) or "utf-8"
    return not encoding.lower().startswith("utf")


def table(*headers: str) -> Table:
    """A table without lines; a header that ends in ``>`` is aligned right, in ``*`` may wrap."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold dim")
    for header in headers:
        right, wraps = header.endswith(">"), header.endswith("*")
        made.add_column(
            header.rstrip(">*"),
            justify="right" if right else "left",
            no_wrap=not wraps,
            overflow="fold" if wraps else "ellipsis",
            min_width=12 if wraps else 5 if right else None,
        )
    return made


def row(made: Table, *cells: RenderableType) -> None:
    """Add a row; foreign text is cleaned, line by line."""
    made.add_row(*(_cleaned(cell) for cell in cells))


def _cleaned(cell: RenderableType) -> RenderableType:
    if not isinstance(cell, str):
        return cell
    return "\n".join(humanise.clean(line) for line in cell.split("\n"))


def state(presence: Presence, *, flapping: bool = False) -> Text:
    """``● online`` in its colour, with ``(flaps)`` where it is."""
    symbol, ascii_symbol, style = STATES[presence]
    text = Text(f"{ascii_symbol if is_plain() else symbol} {presence}", style=style)
    return text.append(" (flaps)", style="magenta") if flapping else text


def load_style(percent: float) -> str:
    """Green while there is room, yellow above 75 %, red above 90 %."""
    if percent >= 90:
        return "red"
    return "yellow" if percent >= 75 else "green"


def share(percent: float | None) -> Text:
    """A percentage in the colour of its urgency."""
    if percent is None:
        return Text(humanise.NOTHING, style="dim")
    return Text(humanise.percent(percent), style=load_style(percent))


# Agents ------------------------------------------------------------------------------------------


ROOMY = 110
"""From this many columns on, an agent's line has room for its kind and its load."""


def agents(lines: Sequence[AgentLine], now: datetime, width: int = PIPE_WIDTH) -> Table:
    """One line for each agent; columns that do not fit ``width``, or that nobody filled, are left out."""
    headers = ["ID", "STATE", "REASON", "FOR>", "SEEN>"]
    if any(line.vitals for line in lines):
        headers += ["CPU>", "MEMORY>"]
    if width >= ROOMY:
        headers[1:1] = ["KIND"]
        headers += ["LOAD>"] if "CPU>" in headers else []
    made = table(*headers, "LABELS*")
    for line in lines:
        cells = agent_cells(line, now)
        row(made, *(cells[header.rstrip(">")] for header in headers), cells["LABELS"])
    return made


def agent_cells(line: AgentLine, now: datetime) -> dict[str, RenderableType]:
    """What each column shows of one agent."""
    vitals = line.vitals
    return {
        "ID": line.id,
        "KIND": line.kind,
        "STATE": state(line.state, flapping=line.flapping),
        "REASON": line.reason,
        "FOR": humanise.age(line.since, now),
        "SEEN": humanise.ago(line.last_seen, now),
        "CPU": share(vitals.cpu_percent if vitals else None),
        "MEMORY": share(vitals.memory_used_percent if vitals else None),
        "LOAD": f"{vitals.load_1m:.2f}" if vitals else humanise.NOTHING,
        "LABELS": humanise.labels(line.labels),
    }


def agents_footer(lines: Sequence[AgentLine], total: int) -> list[Text]:
    """What the table cannot say: that there are more, and which ones share an id."""
    notes = [
        f"{line.id} speaks under the id of {line.conflict_with}: two machines share it"
        for line in lines
        if line.conflict_with
    ]
    if total > len(lines):
        notes.append(f"{len(lines)} of {total} agents; --all shows every one")
    return [Text(note, style="dim") for note in notes]


def pairs(*rows: tuple[str, RenderableType | None]) -> Table:
    """Names and values; a row without a value is left out."""
    made = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in rows:
        if value is not None and value not in ("", humanise.NOTHING):
            row(made, f"  {name}", value)
    return made


def agent(shown: AgentShown, now: datetime) -> Group:
    """Everything about one agent: the record, the machine, and how it is just now."""
    known = shown.agent
    head = Text(known.id, style="bold").append("  ").append_text(state(known.state, flapping=known.flapping))
    head.append(f"  for {humanise.age(known.since, now)} ({known.reason})")
    head.append(f", seen {humanise.ago(known.last_seen, now)}")
    parts: list[RenderableType] = [head, record(shown, now)]
    if shown.description:
        parts += [Text("machine", style="bold"), machine(shown.description, now)]
    if shown.vitals:
        parts += [Text("vitals", style="bold"), vitals_card(shown.vitals)]
    return Group(*parts)


def record(detail: AgentDetail, now: datetime) -> Table:
    """What the registry keeps of an agent."""
    known = detail.agent
    return pairs(
        ("kind", known.kind),
        ("version", known.agent_version),
        ("address", known.address),
        ("shares its id", known.conflict_with),
        ("labels", labels_by_owner(detail)),
        ("groups", " ".join(known.groups)),
        ("heartbeat", promise(detail)),
        ("session", session(detail, now)),
        ("epoch", known.epoch),
    )


def labels_by_owner(detail: AgentDetail) -> str:
    """The agent's labels, those an operator assigned marked so."""
    parts = [
        f"{key}={value}{' (assigned)' if key in detail.assigned_labels else ''}"
        for key, value in sorted(detail.agent.labels.items())
    ]
    return ", ".join(parts)


def promise(detail: AgentDetail) -> str | None:
    """How often the agent speaks, and how long it may be silent."""
    if detail.interval_seconds is None:
        return None
    every = f"every {humanise.duration(detail.interval_seconds)}"
    if detail.deadline_seconds is None:
        return every
    return f"{every}, lost after {humanise.duration(detail.deadline_seconds)} of silence"


def session(detail: AgentDetail, now: datetime) -> str | None:
    """Since when it is connected."""
    if detail.active is None:
        return None
    began = detail.active.connected_at
    return f"since {humanise.clock(began)} ({humanise.age(began, now)})"


def machine(description: dict[str, object], now: datetime) -> Table:
    """What the machine is; falls back to the bare fields for a description of another kind."""
    try:
        told = Described.model_validate(description)
    except ValueError:
        return pairs(*((key, str(value)) for key, value in description.items()))
    return pairs(
        ("hostname", told.hostname),
        ("system", f"{told.os}, {told.kernel}, {told.architecture}"),
        ("runs in", told.virtualization),
        ("cpu", f"{told.cpu_count} x {told.cpu_model or 'unknown'}"),
        ("memory", humanise.size(told.memory_bytes)),
        ("swap", humanise.size(told.swap_bytes) if told.swap_bytes else None),
        ("booted", f"{humanise.clock(told.booted_at)} ({humanise.ago(told.booted_at, now)})"),
        *(("disk", f"{d.mount_point}  {humanise.size(d.total_bytes)} {d.file_system}") for d in told.disks),
        *(("network", f"{n.name}  {' '.join(n.addresses)}") for n in told.network if n.is_up),
    )


def gauge(percent: float, note: str) -> Text:
    """A bar, its percentage, and what it is a part of."""
    text = Text(humanise.bar(percent, plain=is_plain()), style=load_style(percent))
    return text.append(f" {humanise.percent(percent):>6}  {note}", style="default")


def vitals_card(now: Vitals) -> Table:
    """How a machine is, with bars."""
    used = now.memory_total_bytes - now.memory_available_bytes
    return pairs(
        ("cpu", gauge(now.cpu_percent, f"of {now.cpu_count} CPUs")),
        ("load", f"{now.load_1m:.2f} {now.load_5m:.2f} {now.load_15m:.2f} over 1, 5 and 15 min"),
        ("memory", gauge(now.memory_used_percent, part(used, now.memory_total_bytes))),
        ("swap", swap(now)),
        *(
            (f"disk {d.mount_point}", gauge(d.used_percent, part(d.used_bytes, d.total_bytes)))
            for d in now.disks
        ),
        *(
            (f"net {n.interface}", f"{humanise.size(n.received_bytes)} in, {humanise.size(n.sent_bytes)} out")
            for n in now.network
            if n.received_bytes or n.sent_bytes
        ),
        *((f"sensor {t.sensor}", f"{t.celsius:.0f} °C") for t in now.temperatures),
        ("processes", str(now.processes)),
        ("up", humanise.duration(now.uptime_seconds)),
    )


def vitals_of(sample: Vitals) -> Group:
    """How one machine is, under its name and the time of the sample."""
    head = Text(sample.agent_id, style="bold").append(f"  {humanise.clock(sample.occurred_at)}", style="dim")
    return Group(head, vitals_card(sample))


def part(used: float, total: float) -> str:
    """``1.2 GiB of 3.9 GiB``."""
    return f"{humanise.size(used)} of {humanise.size(total)}"


def swap(now: Vitals) -> Text | None:
    """How full the swap is; nothing where there is none."""
    if not now.swap_total_bytes:
        return None
    used, total = now.swap_used_bytes, now.swap_total_bytes
    return gauge(100 * used / total, part(used, total))


def history(events: Iterable[AgentEvent]) -> Table:
    """How an agent came and went, newest first."""
    made = table("AT", "EVENT", "WAS", "REASON", "LASTED>", "ADDRESS", "EPOCH")
    for event in events:
        row(
            made,
            humanise.clock(event.at),
            state(event.event),
            event.was,
            event.reason,
            humanise.duration(event.duration_seconds) if event.duration_seconds is not None else "until now",
            event.address or humanise.NOTHING,
            event.epoch or humanise.NOTHING,
        )
    return made


def connections(sessions: Iterable[Connection]) -> Table:
    """The sessions of an agent, newest first."""
    made = table("CONNECTED", "DISCONNECTED", "LASTED>", "ENDED BY", "ADDRESS", "VERSION", "EPOCH")
    for one in sessions:
        ended = one.disconnected_at
        row(
            made,
            humanise.clock(one.connected_at),
            humanise.clock(ended) if ended else Text("active", style="green"),
            humanise.duration(one.duration_seconds),
            one.reason or humanise.NOTHING,
            one.address or humanise.NOTHING,
            one.agent_version or humanise.NOTHING,
            one.epoch,
        )
    return made


def presence_line(line: PresenceLine) -> Text:
    """One line of news."""
    text = Text(f"{humanise.clock(line.at)}  ", style="dim")
    text.append(f"{line.agent_id or 'site':<20} ", style="bold")
    if line.now is None:
        return text.append(humanise.clean(line.text), style="magenta")
    text.append_text(state(line.now)).append(f"  was {line.was}, {line.reason}")
    return text.append(f"  {humanise.labels(line.labels)}" if line.labels else "", style="dim")


# Fleet -------------------------------------------------------------------------------------------


def groups(all_groups: Iterable[FleetGroup]) -> Table:
    """Named selectors and how many they match."""
    made = table("GROUP", "MEMBERS>", "SELECTOR*")
    for group in all_groups:
        row(made, group.name, str(group.members), group.selector or "(every agent)")
    return made


def summary(told: Summary) -> Group:
    """The fleet in numbers, as bars by state."""
    rows = [
        (presence, told.by_state.get(presence, 0)) for presence in Presence if told.by_state.get(presence, 0)
    ]
    made = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for presence, count in rows:
        style = STATES[presence][2]
        bar = humanise.bar(100 * count / max(told.total, 1), 30, plain=is_plain())
        row(made, state(presence), Text(str(count), justify="right"), Text(bar, style=style))
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(told.by_kind.items()) if count)
    head = Text(f"{told.total} {'agent' if told.total == 1 else 'agents'}", style="bold").append(
        f" ({kinds})" if kinds else "", style="default"
    )
    return Group(head, made, *summary_notes(told))


def summary_notes(told: Summary) -> list[Text]:
    """What needs an eye, and the interval."""
    notes = [Text(f"heartbeat every {humanise.duration(told.interval_seconds)}", style="dim")]
    if told.flapping:
        notes.append(Text(f"{told.flapping} flapping", style="magenta"))
    notes += [Text(f"site {site or '(none)'} seems cut off", style="bold red") for site in told.partitions]
    if told.dead_letters:
        notes.append(Text(f"{told.dead_letters} dead letters; see muster dead-letters", style="yellow"))
    return notes


# The bus -----------------------------------------------------------------------------------------


WITH_SUBJECTS = 130
"""From this many columns on, the map has room for subjects; a contract's card shows them anyway."""


def map_table(lines: Iterable[MapLine], width: int = PIPE_WIDTH) -> Table:
    """Who says what to whom."""
    subjects = width >= WITH_SUBJECTS
    made = table("CONTRACT", "DELIVERY", "SAID BY", "HEARD BY*", *(["SUBJECT"] if subjects else []))
    for line in lines:
        row(
            made,
            line.contract,
            line.delivery,
            ", ".join(line.said_by),
            ", ".join(line.heard_by),
            *([Text(line.subject, style="cyan")] if subjects else []),
        )
    return made


def services_table(lines: Iterable[MapLine]) -> Table:
    """One row for each role: what it says and what it hears."""
    said: dict[str, list[str]] = {}
    heard: dict[str, list[str]] = {}
    for line in lines:
        for role in line.said_by:
            said.setdefault(role, []).append(line.contract)
        for role in line.heard_by:
            heard.setdefault(role, []).append(line.contract)
    made = table("ROLE", "HEARS*", "SAYS*")
    for role in sorted(said.keys() | heard.keys()):
        row(made, role, "\n".join(heard.get(role, [])) or "-", "\n".join(said.get(role, [])) or "-")
        row(made, "", "", "")
    return made


def contract_card(line: MapLine, fields: Sequence[tuple[str, str, str]]) -> Group:
    """One contract with its fields (name, type, description)."""
    made = table("FIELD", "TYPE", "MEANING*")
    for name, kind, meaning in fields:
        row(made, name, Text(kind, style="cyan"), meaning)
    card = pairs(
        ("subject", line.subject),
        ("delivery", line.delivery),
        ("said by", ", ".join(line.said_by)),
        ("heard by", ", ".join(line.heard_by)),
        ("answer", line.answer),
    )
    head = Text(line.contract, style="bold").append(f"  {line.meaning}", style="default")
    return Group(head, card, Text(""), made)


def dead_letters(letters: Iterable[DeadLetterLine], *, payload: bool = False) -> Table:
    """Messages nobody could take, newest last."""
    made = table("AT", "SERVICE", "REASON", "SUBJECT", "SIZE>", "DETAIL*", *(["PAYLOAD*"] if payload else []))
    for letter in letters:
        row(
            made,
            humanise.clock(letter.at),
            letter.service,
            Text(letter.reason, style="yellow"),
            letter.subject,
            humanise.size(letter.size_bytes),
            letter.detail,
            *([humanise.payload(letter.payload)] if payload else []),
        )
    return made


VERDICTS = {
    Verdict.OK: "green",
    Verdict.UNKNOWN: "magenta",
    Verdict.MALFORMED: "bold red",
    Verdict.FOREIGN_ID: "bold red",
}


def watched(line: WatchedMessage, width: int = PIPE_WIDTH) -> Text:
    """One message as it went by, cut to ``width``: time, contract, who, and its fields."""
    text = Text(f"{line.received_at.astimezone():%H:%M:%S.%f}"[:-3] + "  ", style="dim")
    style = VERDICTS[line.verdict]
    if line.verdict is Verdict.OK:
        text.append(f"{line.contract:<28} ", style=style).append(
            f"{humanise.who(line.subject)}  ", style="bold"
        )
        text.append(humanise.fields(line.message or {}))
    else:
        why = humanise.clean(line.error or "its subject is not in the catalogue")
        text.append(f"{line.contract or line.verdict:<28} ", style=style).append(humanise.clean(line.subject))
        text.append(f"  {line.verdict}: {why} ({humanise.size(line.size_bytes)})", style=style)
    text.truncate(width, overflow="ellipsis")
    return text
