"""Packages, commands and the audit for people: pure functions from outputs to Rich renderables."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.text import Text

from muster_client import humanise
from muster_client.outputs import CommandLine, CommandShown, PackageLine
from muster_client.render import PIPE_WIDTH, is_plain, pairs, row, table
from muster_client.tally import Open, Tally
from muster_contracts.audit.v1 import AuditEntry
from muster_contracts.command.v1 import CommandDetail, CommandState, Target
from muster_contracts.package.v1 import Configuration, ConfigurationFile, PackageDetail, PackageState

WITH_PROBLEMS = 125
"""From this many columns on, a package's problem has room in its line; else problems follow the table."""
WITH_TEXTS = 100
"""From this many columns on, why a command ended so has room for a sentence, and the audit for details."""
WITH_IDS = 150
"""From this many columns on, a command's id is shown whole."""
SHORT_ID = 8
"""So many of an id's first characters are shown elsewhere; commands take them in its place."""
SHOWN_OPEN = 5
SHOWN_FAILURES = 5

PACKAGE_STATES = {
    PackageState.INVALID: ("✗", "!", "bold red"),
    PackageState.STOPPED: ("○", "-", "blue"),
    PackageState.STARTING: ("…", "~", "cyan"),
    PackageState.RUNNING: ("●", "+", "green"),
    PackageState.PAUSED: ("‖", "=", "yellow"),
    PackageState.STOPPING: ("…", "~", "cyan"),
    PackageState.EXITED: ("○", "-", "blue"),
    PackageState.BACKOFF: ("◐", "~", "yellow"),
    PackageState.CRASH_LOOP: ("✗", "!", "bold red"),
    PackageState.BLOCKED: ("◐", "~", "yellow"),
    PackageState.FAILED: ("✗", "!", "bold red"),
}
COMMAND_STATES = {
    CommandState.PENDING: ("…", "?", "cyan"),
    CommandState.ACCEPTED: ("◌", "~", "cyan"),
    CommandState.RUNNING: ("◐", "~", "yellow"),
    CommandState.SUCCEEDED: ("●", "+", "green"),
    CommandState.FAILED: ("✗", "!", "bold red"),
    CommandState.TIMED_OUT: ("✗", "!", "red"),
    CommandState.EXPIRED: ("○", "-", "magenta"),
    CommandState.CANCELLED: ("○", "-", "blue"),
    CommandState.REJECTED: ("✗", "!", "magenta"),
    CommandState.INTERRUPTED: ("✗", "!", "red"),
    CommandState.LOST: ("?", "?", "bold red"),
}
"""State → symbol, symbol without UTF-8, colour; symbol and word stay readable without colour."""


def state(of: PackageState | CommandState) -> Text:
    """``● running`` in its colour."""
    symbol, ascii_symbol, style = PACKAGE_STATES[of] if isinstance(of, PackageState) else COMMAND_STATES[of]
    return Text(f"{ascii_symbol if is_plain() else symbol} {of}", style=style)


# Packages ----------------------------------------------------------------------------------------


def packages(lines: Sequence[PackageLine], width: int = PIPE_WIDTH) -> list[RenderableType]:
    """One line for each package; where it is narrow, what is wrong with them follows beneath."""
    wide = width >= WITH_PROBLEMS
    headers = ["AGENT", "NAME", "STATE", "UPTIME>", "PID>", "RESTARTS>", "MEMORY>", "CPU>"]
    made = table(*headers, *(["VERSION", "PROBLEM*"] if wide else []))
    for line in lines:
        cells: list[RenderableType] = [
            line.agent,
            line.name,
            state(line.state),
            humanise.duration(line.uptime_seconds and int(line.uptime_seconds)),
            str(line.pid or humanise.NOTHING),
            Text(str(line.restarts), style="yellow" if line.restarts else "default"),
            humanise.size(line.memory_bytes),
            humanise.percent(line.cpu_percent),
        ]
        row(made, *cells, *([line.version or humanise.NOTHING, line.problem or ""] if wide else []))
    notes = [] if wide else problems(lines)
    return [made, *([Text("")] if notes else []), *notes]


def problems(lines: Iterable[PackageLine]) -> list[Text]:
    """What is wrong with the packages that have a problem, one sentence each."""
    return [
        Text(f"{line.agent} {line.name}: ", style="bold").append(
            humanise.clean(line.problem), style=PACKAGE_STATES[line.state][2]
        )
        for line in lines
        if line.problem
    ]


def package(detail: PackageDetail, now: datetime) -> Group:
    """Everything about one package."""
    known = detail.package
    head = Text(known.name, style="bold").append(f" on {detail.agent_id}  ").append_text(state(known.state))
    head.append(f"  for {humanise.age(known.since, now)}")
    parts: list[RenderableType] = [head]
    if known.problem:
        parts.append(Text(f"  {humanise.clean(known.problem)}", style=PACKAGE_STATES[known.state][2]))
    parts += [package_card(detail)]
    if detail.configuration:
        parts += [Text("configuration", style="bold"), configuration_files(detail.configuration, now)]
    return Group(*parts)


def package_card(detail: PackageDetail) -> RenderableType:
    """Names and values of one package."""
    known = detail.package
    restarts = f"{known.restarts} after it had ended by itself" if known.restarts else None
    return pairs(
        ("about", detail.description),
        ("version", known.version),
        ("driver", known.driver),
        ("runs", humanise.command(detail.command)),
        ("as", detail.user),
        ("meant to run", "yes" if known.wanted else "no"),
        ("up", humanise.duration(known.uptime_seconds and int(known.uptime_seconds))),
        ("restarts", restarts),
        ("last exit", humanise.exit_code(known.exit_code)),
        ("processes", " ".join(str(pid) for pid in detail.pids[:20])),
        ("memory", humanise.size(known.memory_bytes)),
        ("cpu", humanise.percent(known.cpu_percent)),
        ("needs", " ".join(known.depends_on)),
        ("needed by", " ".join(detail.dependents)),
        ("variables", " ".join(detail.environment)),
        ("secrets", " ".join(detail.secrets)),
        ("file", known.file),
        ("log", detail.log_file),
    )


def configuration_files(files: Iterable[ConfigurationFile], now: datetime) -> RenderableType:
    """The configuration files of a package."""
    made = table("  FILE", "PATH*", "SIZE>", "CHANGED>", "SHA-256", "PREVIOUS")
    for file in files:
        row(
            made,
            f"  {file.name}",
            file.path,
            humanise.size(file.size_bytes) if file.size_bytes is not None else "none yet",
            humanise.ago(file.modified_at, now) if file.modified_at else humanise.NOTHING,
            (file.sha256 or humanise.NOTHING)[:12],
            "kept" if file.previous else humanise.NOTHING,
        )
    return made


def configuration_note(told: Configuration) -> str:
    """What a file's content does not say of itself."""
    size = humanise.size(told.file.size_bytes)
    left_out = "; there is more of it than is shown" if told.truncated else ""
    return f"{told.file.path} on {told.agent_id}, {size}{left_out}"


# Commands ----------------------------------------------------------------------------------------


def targets(all_targets: Iterable[Target], now: datetime, width: int = PIPE_WIDTH) -> RenderableType:
    """What was ordered of whom and what became of it, one line each; where it is narrow, why in a word."""
    wide, narrow = width >= WITH_IDS, width < WITH_TEXTS
    headers = ["ID", "WHAT", "AGENT", "STATE", "ORDERED>", "TOOK>", *(["BY"] if wide else [])]
    made = table(*headers, "WHY" if narrow else "WHY*")
    for target in all_targets:
        row(
            made,
            str(target.id) if wide else str(target.id)[:SHORT_ID],
            what(target),
            target.agent,
            state(target.state),
            humanise.ago(target.submitted_at, now),
            took(target),
            *([target.issuer] if wide else []),
            (target.reason or "") if narrow else why(target),
        )
    return made


def what(target: Target) -> str:
    """``restart web``: the verb without its area, and what it is about."""
    return " ".join(filter(None, [target.verb.rpartition(".")[2], target.subject]))


def took(target: Target) -> str:
    """From its start, or the order, to its end."""
    if target.ended_at is None:
        return humanise.NOTHING
    return humanise.duration((target.ended_at - (target.started_at or target.submitted_at)).total_seconds())


def why(target: Target) -> str:
    """The text of its end, else its reason; and what came in after the ledger had given it up.

    That what succeeded is done needs no saying.
    """
    told = target.text or ("" if target.state is CommandState.SUCCEEDED else target.reason) or ""
    late = f"; it said {target.reported_late} later" if target.reported_late else ""
    return told + late


def outcome(target: Target) -> Text:
    """One line for a target that has ended."""
    text = Text(f"{target.agent}  ", style="bold").append_text(state(target.state))
    text.append(f"  {took(target)}", style="dim")
    reason = why(target)
    return text.append(f"  {humanise.clean(reason)}" if reason else "")


def command(shown: CommandShown, now: datetime) -> Group:
    """One command: what was ordered, and its targets."""
    about = {key: value for key, value in shown.body.items() if key != "verb"}
    head = Text(shown.verb, style="bold").append(f"  {humanise.fields(about)}", style="default")
    card = pairs(
        ("id", str(shown.id)),
        ("for", shown.selector or "(every agent)"),
        ("by", shown.issuer),
        ("under the key", shown.idempotency_key),
        ("ordered", f"{humanise.clock(shown.submitted_at)} ({humanise.ago(shown.submitted_at, now)})"),
        ("not to begin after", humanise.clock(shown.not_after)),
        ("may wait", humanise.duration(shown.start_seconds)),
        ("may run", humanise.duration(shown.run_seconds)),
        ("targets", counts(shown.by_state)),
    )
    return Group(head, card, Text(""), targets_of_one(shown.each))


def targets_of_one(each: Iterable[Target]) -> RenderableType:
    """The targets of one command, whose id and verb need no column."""
    made = table("AGENT", "STATE", "TOOK>", "EXIT>", "OUTPUT>", "WHY*")
    for target in each:
        row(
            made,
            target.agent,
            state(target.state),
            took(target),
            humanise.NOTHING if target.exit_code is None else str(target.exit_code),
            humanise.size(target.output_bytes) if target.output_bytes else humanise.NOTHING,
            why(target),
        )
    return made


def counts(by_state: dict[CommandState, int]) -> Text:
    """``● 10 succeeded, ✗ 2 failed``."""
    parts = []
    for of in CommandState:
        symbol, ascii_symbol, style = COMMAND_STATES[of]
        if count := by_state.get(of, 0):
            parts.append(Text(f"{ascii_symbol if is_plain() else symbol} {count} {of}", style=style))
    return Text(", ").join(parts)


def cancelled(detail: CommandDetail) -> Text:
    """How a command is after somebody asked to stop it."""
    text = Text(f"{detail.id}  ", style="bold").append_text(counts(detail.by_state))
    return text if detail.ended else text.append("  (agents were told; it ends when they have)", style="dim")


def totals(title: str, tally: Tally) -> Text:
    """``restart web: ● 10 succeeded, ✗ 2 failed``."""
    return Text(f"{title}: ", style="bold").append_text(counts(tally.by_state))


def event_line(line: CommandLine) -> Text:
    """One line of news of a command."""
    text = Text(f"{line.at.astimezone():%H:%M:%S}  ", style="dim").append(f"{line.agent:<20} ", style="bold")
    if line.target:
        return text.append_text(state(line.target.state)).append(f"  {humanise.clean(why(line.target))}")
    if line.state is None:
        return text.append(f"has printed {humanise.size(line.output_bytes)}", style="dim")
    text.append_text(state(line.state))
    if line.percent is not None:
        text.append(f"  {humanise.percent(line.percent)}")
    return text.append(f"  {humanise.clean(line.text)}" if line.text else "")


def progress(tally: Tally, title: str, clock: float, width: int) -> Group:
    """How far a command is over its targets: a bar, counts, who takes longest, and what failed."""
    share = 100 * len(tally.ended) / max(tally.total, 1)
    style = "red" if tally.failures else "green"
    bar = Text(humanise.bar(share, min(40, max(width - 40, 10)), plain=is_plain()), style=style)
    head = Text(f"{title}  ", style="bold").append_text(bar).append(f" {len(tally.ended)} of {tally.total}")
    lines = [head, counts(tally.by_state)] if tally.by_state else [head]
    lines += [_open(agent, one, clock) for agent, one in tally.slowest(SHOWN_OPEN)]
    lines += [outcome(target) for target in tally.failures[-SHOWN_FAILURES:]]
    for line in lines:
        line.truncate(max(width - 1, 20), overflow="ellipsis")
    return Group(*lines)


def _open(agent: str, one: Open, clock: float) -> Text:
    text = Text(f"  {agent}  ").append_text(state(one.state))
    text.append(f"  for {humanise.duration(int(clock - one.since))}", style="dim")
    if one.percent is not None:
        text.append(f"  {humanise.percent(one.percent)}")
    return text.append(f"  {humanise.clean(one.text)}" if one.text else "")


# Audit -------------------------------------------------------------------------------------------


def audit(entries: Iterable[AuditEntry], width: int = PIPE_WIDTH) -> RenderableType:
    """Who wanted what, and what was decided; details where there is room."""
    details = ["DETAIL*"] if width >= WITH_TEXTS else []
    made = table("#>", "AT", "WHO", "ACTION", "DECISION", "ABOUT", *details)
    for entry in entries:
        row(
            made,
            str(entry.sequence),
            humanise.clock(entry.at),
            entry.actor,
            entry.action,
            Text(entry.decision, style="green" if entry.decision == "allowed" else "bold red"),
            entry.subject[:SHORT_ID] if len(entry.subject) == 36 else entry.subject,
            *([humanise.fields(entry.detail)] if details else []),
        )
    return made
