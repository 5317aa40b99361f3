"""Health and recovery for people: pure functions from outputs to Rich renderables."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from muster_client import humanise
from muster_client.health_news import because
from muster_client.outputs import HealthLine, HealthListed
from muster_client.render import PIPE_WIDTH, is_plain, row, table
from muster_client.render_orders import state
from muster_contracts.command.v1 import CommandState
from muster_contracts.fleet.v1 import Presence
from muster_contracts.health.v1 import (
    HEALTH,
    Acknowledged,
    Availability,
    CheckHealth,
    CheckState,
    Counts,
    Delivery,
    Explanation,
    Health,
    HealthEvent,
    HostHealth,
    HostHealthDetail,
    Incident,
    Maintenance,
    PackageHealth,
    PackageRef,
    Pause,
    RecoveryAct,
    RecoveryCase,
    RecoveryStatus,
    Rollup,
)

WIDE = 110
"""From this many columns on, there is room for what is nice to know."""
SHORT_ID = 8
"""So many of an id's first characters are shown; commands take them in its place."""
NAMED_PACKAGES = 8

HEALTHS = {
    Health.OK: ("●", "+", "green"),
    Health.WARNING: ("◐", "~", "yellow"),
    Health.CRITICAL: ("✗", "!", "bold red"),
    Health.UNKNOWN: ("?", "?", "cyan"),
}
"""Health → symbol, symbol without UTF-8, colour; symbol and word stay readable without colour."""
EVENTS = {"health-flapping": "magenta", "incident-opened": "bold red", "incident-resolved": "green"}
"""Event → the colour of its text."""
WORST_FIRST = (Health.CRITICAL, Health.WARNING, Health.UNKNOWN, Health.OK)


def health(of: Health | None) -> Text:
    """``✗ critical`` in its colour; ``gone`` where there is none any more."""
    if of is None:
        return Text("gone", style="dim")
    symbol, ascii_symbol, style = HEALTHS[of]
    return Text(f"{ascii_symbol if is_plain() else symbol} {of}", style=style)


def counts(told: Counts) -> Text:
    """``✗ 1 critical, ● 12 ok``; what there is none of is left out."""
    parts = []
    for of in WORST_FIRST:
        if count := getattr(told, of.value):
            symbol, ascii_symbol, style = HEALTHS[of]
            parts.append(Text(f"{ascii_symbol if is_plain() else symbol} {count} {of}", style=style))
    return Text(", ").join(parts) if parts else Text(humanise.NOTHING, style="dim")


def marks(one: PackageHealth | HostHealth) -> Text:
    """What else is to be known of it: that it flaps, is worked on, is being recovered."""
    text = Text()
    flaps = f"{one.flapping} flap" if isinstance(one, HostHealth) and one.flapping else "flaps"
    told = [
        (flaps, "magenta", bool(one.flapping)),
        ("maintenance", "blue", one.maintenance),
        ("recovering", "cyan", isinstance(one, PackageHealth) and one.recovering),
    ]
    for words, style, is_so in told:
        if is_so:
            text.append(f" {words}" if text else words, style=style)
    return text


# The fleet -------------------------------------------------------------------------------------------


def fleet(told: HealthListed, now: datetime, width: int = PIPE_WIDTH) -> Group:
    """The fleet in a sentence, a line for each agent, a line for each group, and what to look at."""
    parts: list[RenderableType] = [headline(told.fleet.fleet)]
    if told.hosts:
        parts += [Text(""), hosts(told.hosts, now, width)]
    if told.fleet.groups:
        parts += [Text(""), rollups(told.fleet.groups)]
    notes = fleet_notes(told)
    return Group(*parts, *([Text("")] if notes else []), *notes)


def headline(told: Rollup) -> Text:
    """``✗ critical  agents: ✗ 1 critical, ● 2 ok  packages: …``."""
    text = health(told.health).append("  agents: ", style="default").append_text(counts(told.agents))
    text.append("  packages: ", style="default").append_text(counts(told.packages))
    return text.append(f" ({told.suppressed} explained by others)" if told.suppressed else "", style="dim")


def hosts(lines: Iterable[HostHealth], now: datetime, width: int = PIPE_WIDTH) -> RenderableType:
    """One line for each agent, in the order in which they come."""
    wide = width >= WIDE
    made = table("AGENT", *(["KIND"] if wide else []), "HEALTH", "FOR>", "WORST", "REASON", "PACKAGES*", "")
    for line in lines:
        away = "" if line.presence is Presence.ONLINE else f"{line.presence} "
        row(
            made,
            line.agent,
            *([line.kind] if wide else []),
            health(line.health),
            humanise.age(line.since, now),
            line.culprit or humanise.NOTHING,
            line.reason or humanise.NOTHING,
            counts(line.packages),
            Text(away, style="yellow").append_text(marks(line)),
        )
    return made


def rollups(groups: Mapping[str, Rollup]) -> RenderableType:
    """One line for each group."""
    made = table("GROUP", "HEALTH", "AGENTS", "PACKAGES*")
    for name, told in sorted(groups.items()):
        row(made, name, health(told.health), counts(told.agents), counts(told.packages))
    return made


def fleet_notes(told: HealthListed) -> list[Text]:
    """What needs an eye, and where to look at it."""
    known = told.fleet
    incidents = "1 open incident" if known.open_incidents == 1 else f"{known.open_incidents} open incidents"
    notes = [
        (known.open_incidents, f"{incidents}; see muster health incidents", "red"),
        (known.recovering, f"{known.recovering} being recovered; see muster recovery", "cyan"),
        (known.gave_up, f"{known.gave_up} given up by recovery; see muster recovery", "bold red"),
        (known.flapping, f"{known.flapping} flapping; see muster health flapping", "magenta"),
    ]
    texts = [Text(words, style=style) for count, words, style in notes if count]
    if known.dry_run:
        texts.append(Text("recovery only says what it would do (dry run)", style="yellow"))
    if known.leader is None:
        texts.append(Text("no replica of health-recovery acts just now", style="yellow"))
    if told.more:
        texts.append(Text(f"the first {len(told.hosts)} agents; --all shows every one", style="dim"))
    return texts


# One agent, packages ---------------------------------------------------------------------------------


def host(told: HostHealthDetail, now: datetime) -> Group:
    """One agent as a tree of its packages, and of the checks of those that are not well."""
    known = told.host
    head = Text(known.agent, style="bold").append("  ").append_text(health(known.health))
    head.append(f"  for {humanise.age(known.since, now)}", style="default")
    head.append(f"  {known.kind}, {known.presence}  ", style="dim").append_text(marks(known))
    tree = Tree(head, guide_style="dim")
    for one in told.packages:
        branch = tree.add(package_line(one, now))
        for check in told.checks.get(one.package, []):
            branch.add(check_line(check, now))
    return Group(tree, *([] if told.packages else [Text("  no packages are known of it", style="dim")]))


def package_line(one: PackageHealth, now: datetime, *, where: bool = False) -> Text:
    """``web  ✗ critical  for 5 min  check http: timeout``; ``where`` says on which agent, too."""
    name = f"{one.package}@{one.agent}" if where else one.package
    text = Text(name, style="bold").append("  ").append_text(health(one.health))
    text.append(f"  for {humanise.age(one.since, now)}", style="default")
    told = "" if one.health is Health.OK and not one.flapping else humanise.clean(because(one))
    text.append(f"  {told}" if told else "").append("  " if marks(one) else "")
    return text.append_text(marks(one))


def check_line(check: CheckHealth, now: datetime) -> Text:
    """``✗ critical  http (liveness)  for 5 min: no answer``."""
    text = health(check.health).append(f"  {check.check}", style="default")
    text.append(f" ({check.kind}, {check.purpose})", style="dim")
    told = humanise.clean(check.text or check.reason)
    return text.append(f"  for {humanise.age(check.since, now)}" + (f": {told}" if told else ""))


def packages(lines: Iterable[PackageHealth], now: datetime) -> RenderableType:
    """One line for each package."""
    made = table("AGENT", "PACKAGE", "HEALTH", "FOR>", "STATE", "WHY*", "")
    for line in lines:
        row(
            made,
            line.agent,
            line.package,
            health(line.health),
            humanise.age(line.since, now),
            line.state or humanise.NOTHING,
            because(line),
            marks(line),
        )
    return made


def checks(lines: Iterable[CheckState], now: datetime) -> RenderableType:
    """One line for each check, as its agent has it."""
    made = table(
        "PACKAGE", "CHECK", "KIND", "PURPOSE", "HEALTH", "FOR>", "LOOKED>", "TOOK>", "EVERY>", "TEXT*"
    )
    for line in lines:
        row(
            made,
            line.package,
            line.check,
            line.kind,
            line.purpose,
            health(line.health),
            humanise.age(line.since, now),
            "waiting" if line.waiting else humanise.ago(line.looked_at, now),
            took(line.duration_seconds),
            humanise.duration(line.every_seconds),
            line.text or line.reason,
        )
    return made


def took(seconds: float | None) -> str:
    """How long a look took: ``3.2 ms``, ``1.5 s``."""
    if seconds is None or seconds >= 1:
        return humanise.duration(seconds)
    return f"{seconds * 1000:.3g} ms"


# Why -------------------------------------------------------------------------------------------------


def explanation(told: Explanation, now: datetime) -> Group:
    """From what is seen to the cause, and to what is done about it; one sentence each."""
    known = told.package
    parts: list[RenderableType] = [package_line(known, now, where=True)]
    parts += section("what its checks see", [check_line(check, now) for check in told.checks])
    parts += section("because of", chain(told.chain, now))
    parts += section("what it makes ill", dependents(told.dependents))
    parts += section("incident", [incident_line(told.incident, now)] if told.incident else [])
    parts += section("recovery", case_lines(told.recovery, now) if told.recovery else [])
    if told.acts:
        parts += [Text("what was done", style="bold"), acts(told.acts, now, about=False)]
    return Group(*parts)


def section(title: str, lines: Sequence[Text]) -> list[RenderableType]:
    """A title and its lines, indented; nothing where there are none."""
    return [Text(title, style="bold"), *(Text("  ").append_text(line) for line in lines)] if lines else []


def chain(links: Sequence[PackageHealth], now: datetime) -> list[Text]:
    """From the nearest to the cause, each a little further in."""
    lines = []
    for depth, link in enumerate(links):
        last = depth == len(links) - 1
        line = Text("  " * depth).append_text(package_line(link, now, where=True))
        lines.append(line.append("  the cause" if last else "", style="bold red"))
    return lines


def dependents(all_of_them: Sequence[PackageRef]) -> list[Text]:
    """The first of them, and how many more there are."""
    if not all_of_them:
        return []
    return [Text(some([str(one) for one in all_of_them]))]


def some(names: Sequence[str], total: int | None = None) -> str:
    """``a, b, c and 9 more``, where there are ``total``."""
    shown = names[:NAMED_PACKAGES]
    rest = max(total or 0, len(names)) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest > 0 else "")


def incident_line(one: Incident, now: datetime) -> Text:
    """``1f0c2d3e  open for 5 min, acknowledged by ann: on it``."""
    text = Text(f"{str(one.id)[:SHORT_ID]}  ").append_text(lasting(one, now))
    if one.acknowledged_by:
        said = f": {one.acknowledged_text}" if one.acknowledged_text else ""
        text.append(humanise.clean(f", {one.acknowledged_by} looks after it{said}"), style="green")
    return text.append(", recovery gave up" if one.gave_up else "", style="bold red")


def lasting(one: Incident, now: datetime) -> Text:
    """``open for 5 min``, or how long it was and when it ended."""
    if one.resolved_at is None:
        return Text(f"open for {humanise.age(one.opened_at, now)}", style="red")
    lasted = humanise.duration(round((one.resolved_at - one.opened_at).total_seconds()))
    return Text(f"over {humanise.ago(one.resolved_at, now)}, lasted {lasted}", style="dim")


def incidents(lines: Iterable[Incident], now: datetime) -> RenderableType:
    """One line for each incident, and beneath it what it made ill and what was tried."""
    made = table("ID", "CAUSE", "HEALTH", "SINCE", "LASTS", "WHY*", "AFFECTED*")
    for one in lines:
        row(
            made,
            str(one.id)[:SHORT_ID],
            str(one.cause),
            health(one.health),
            humanise.clock(one.opened_at),
            lasting(one, now),
            incident_why(one),
            some([str(ref) for ref in one.affected], one.affected_count) or humanise.NOTHING,
        )
    return made


def incident_why(one: Incident) -> str:
    """Its reason, what was tried last, and who looks after it: one below the other."""
    told = [": ".join(filter(None, [one.reason, one.text]))]
    told += ["it flaps"] if one.flapping else []
    told += (
        [f"tried: {one.tried[-1]}" + (f" ({len(one.tried)} in all)" if len(one.tried) > 1 else "")]
        if one.tried
        else []
    )
    told += ["recovery gave up"] if one.gave_up else []
    told += [f"{one.acknowledged_by} looks after it"] if one.acknowledged_by else []
    return "\n".join(told)


# How it was ------------------------------------------------------------------------------------------


def history(events: Iterable[HealthEvent]) -> RenderableType:
    """Changes, newest first."""
    made = table("AT", "AGENT", "PACKAGE", "HEALTH", "WAS", "LASTED>", "WHY*")
    for event in events:
        lasted = event.duration_seconds
        row(
            made,
            humanise.clock(event.at),
            event.agent,
            event.package or "(all)",
            health(event.now),
            event.was or humanise.NOTHING,
            "until now" if lasted is None else humanise.duration(int(lasted) if lasted >= 60 else lasted),
            f"because of {event.cause}"
            if event.cause
            else ": ".join(filter(None, [event.reason, event.text])),
        )
    return made


def availability(lines: Iterable[Availability]) -> RenderableType:
    """One line for each package: how much of the time it worked."""
    made = table(
        "AGENT",
        "PACKAGE",
        "WORKED>",
        "FAILURES>",
        "ILL>",
        "UNKNOWN>",
        "MAINTENANCE>",
        "REPAIRED IN>",
        "BETWEEN>",
        "SINCE",
    )
    for line in lines:
        row(
            made,
            line.agent,
            line.package,
            exact(line.percent),
            str(line.failures),
            whole(line.ill_seconds),
            whole(line.unknown_seconds),
            whole(line.maintenance_seconds),
            whole(line.mean_seconds_to_recovery),
            whole(line.mean_seconds_between_failures),
            humanise.clock(line.since),
        )
    return made


def exact(percent: float | None) -> Text:
    """``99.95 %``, never rounded up to what it is not."""
    if percent is None:
        return Text(humanise.NOTHING, style="dim")
    shown = int(percent * 1000) / 1000
    style = "green" if shown >= 99.9 else "yellow" if shown >= 99 else "red"
    return Text(f"{shown:g} %", style=style)


def whole(seconds: float | None) -> str:
    """A length of time, without tenths beyond a few seconds; nothing for none."""
    if not seconds:
        return humanise.NOTHING
    return humanise.duration(int(seconds) if seconds >= 10 else seconds)


# What people decide ----------------------------------------------------------------------------------


def acknowledged(told: Acknowledged, about: str) -> list[Text]:
    """What an acknowledgement did."""
    ids = ", ".join(str(one)[:SHORT_ID] for one in told.incidents)
    lines = [Text(f"{about}: nobody is notified any more until it is over (incident {ids})")] if ids else []
    return lines + [Text(f"{one}: recovery begins anew") for one in told.retried]


def maintenance(windows: Iterable[Maintenance], now: datetime) -> RenderableType:
    """One line for each window."""
    made = table("ID", "FOR", "PACKAGE", "FROM", "UNTIL", "LEFT>", "BY", "TEXT*")
    for one in windows:
        begun = one.since <= now
        left = humanise.duration(max(0, int((one.until - now).total_seconds())))
        row(
            made,
            str(one.id)[:SHORT_ID],
            one.selector or "(every agent)",
            one.package or "(all)",
            humanise.clock(one.since),
            humanise.clock(one.until),
            left if begun else "to come",
            one.by,
            one.text,
        )
    return made


def deliveries(lines: Iterable[Delivery]) -> RenderableType:
    """One line for each channel."""
    made = table("CHANNEL", "TEST", "TEXT*")
    for line in lines:
        verdict = Text("taken", style="green") if line.ok else Text("not taken", style="bold red")
        row(made, line.channel, verdict, line.text)
    return made


# Recovery --------------------------------------------------------------------------------------------


def recovery(told: RecoveryStatus, latest: Sequence[RecoveryAct], now: datetime) -> Group:
    """How recovery is with what is ill, what holds it, and what it did last."""
    parts: list[RenderableType] = []
    if told.dry_run:
        parts += [Text("dry run: it only says what it would do", style="yellow"), Text("")]
    if told.pauses:
        parts += [pauses(told.pauses, now), Text("")]
    parts += [cases(told.cases, now)] if told.cases else [Text("nothing is ill that recovery looks after")]
    if told.total > len(told.cases):
        parts.append(Text(f"the first {len(told.cases)} of {told.total}", style="dim"))
    if latest:
        parts += [Text(""), Text("what was done last", style="bold"), acts(latest, now)]
    return Group(*parts)


def pauses(lines: Iterable[Pause], now: datetime) -> RenderableType:
    """One line for each pause."""
    made = table("PAUSED", "FOR", "SINCE>", "UNTIL", "BY", "TEXT*")
    for one in lines:
        row(
            made,
            str(one.id)[:SHORT_ID],
            one.selector or "(every agent)",
            humanise.ago(one.since, now),
            humanise.clock(one.until) if one.until else "somebody resumes it",
            one.by,
            one.text,
        )
    return made


def cases(lines: Iterable[RecoveryCase], now: datetime) -> RenderableType:
    """One line for each package that is ill."""
    made = table("AGENT", "PACKAGE", "ILL FOR>", "ACTS>", "NEXT", "WHAT HOLDS IT*")
    for line in lines:
        row(
            made,
            line.agent,
            line.package,
            humanise.age(line.opened_at, now),
            str(line.attempts),
            next_of(line, now),
            held(line, now),
        )
    return made


def next_of(one: RecoveryCase, now: datetime) -> str:
    """``restart in 12 s``."""
    if one.next_step is None:
        return humanise.NOTHING
    seconds = int((one.next_at - now).total_seconds()) if one.next_at else 0
    return f"{one.next_step} in {humanise.duration(seconds)}" if seconds > 0 else str(one.next_step)


def held(one: RecoveryCase, now: datetime) -> Text:
    """What stands in the way, and until when."""
    told = humanise.clean(": ".join(filter(None, [one.hold or "", one.hold_text])))
    if one.gave_up_at:
        told = f"gave up {humanise.ago(one.gave_up_at, now)}" + (f"; {told}" if told else "")
    if one.until:
        told += f" (until {humanise.clock(one.until)})"
    return Text(told or humanise.NOTHING, style="bold red" if one.gave_up_at else "default")


def case_lines(one: RecoveryCase, now: datetime) -> list[Text]:
    """One case in sentences."""
    acts_so_far = f"{one.attempts} {'act' if one.attempts == 1 else 'acts'} so far"
    lines = [Text(acts_so_far)]
    if one.next_step:
        lines.append(Text(f"next: {next_of(one, now)}"))
    if one.hold or one.hold_text or one.gave_up_at:
        lines.append(Text("held: ").append_text(held(one, now)))
    return lines


def acts(lines: Iterable[RecoveryAct], now: datetime, *, about: bool = True) -> RenderableType:
    """One line for each act; the package is left out where all are of one."""
    made = table(
        "  COMMAND", *(["AGENT", "PACKAGE"] if about else []), "STEP", "#>", "WHEN>", "CAME OF IT", "WHY*"
    )
    for line in lines:
        row(
            made,
            f"  {str(line.id)[:SHORT_ID]}",
            *([line.agent, line.package] if about else []),
            line.step,
            str(line.attempt),
            humanise.ago(line.decided_at, now),
            outcome(line),
            "\n".join(filter(None, [line.why, ended(line)])),
        )
    return made


def ended(one: RecoveryAct) -> str:
    """How its command ended; that what succeeded is done needs no saying."""
    return "" if one.state is CommandState.SUCCEEDED else one.text


def outcome(one: RecoveryAct) -> Text:
    """How its command is; what was only said is marked so."""
    if one.dry_run:
        return Text("only said (dry run)", style="yellow")
    return state(one.state) if one.state else Text(humanise.NOTHING, style="dim")


# News ------------------------------------------------------------------------------------------------


def news(line: HealthLine) -> Text:
    """One line of news."""
    text = Text(f"{humanise.clock(line.at)}  ", style="dim")
    who = f"{line.package}@{line.agent_id}" if line.package else line.agent_id or HEALTH
    text.append(f"{humanise.clean(who):<24} ", style="bold")
    if line.now:
        text.append_text(health(line.now)).append("  ")
    return text.append(humanise.clean(line.text), style=EVENTS.get(line.event, "default"))
