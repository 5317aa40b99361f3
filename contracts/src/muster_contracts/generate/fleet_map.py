"""The map of the fleet: who hears and who says what, as the table in the README."""

from pathlib import Path

from muster_contracts.generate.files import Plan, read
from muster_contracts.message import Ask, Message, Role

BEGIN = "<!-- The map. Written by `just generate` from the catalogue; changes by hand are lost. -->"
END = "<!-- End of the map. -->"

TITLES = {
    Role.AGENT: "every agent",
    Role.OPERATOR: "operators, controllers, consumers",
    Role.ANY_SERVICE: "every service",
}


def table(contracts: list[type[Message]]) -> str:
    """The map in Markdown: one row per role, the contracts by area; questions end in a question mark."""
    rows = ["| who | hears | says |", "|---|---|---|"]
    for role in Role:
        hears = _cell([kind for kind in contracts if role in kind.HEARD_BY])
        says = _cell([kind for kind in contracts if role in kind.SAID_BY])
        if hears or says:
            rows.append(f"| **{TITLES.get(role, role.value)}** | {hears or '-'} | {says or '-'} |")
    return "\n".join(rows)


def _cell(kinds: list[type[Message]]) -> str:
    areas: dict[str, list[str]] = {}
    for kind in kinds:
        area = kind.contract().rpartition(".")[0]
        areas.setdefault(area, []).append(kind.__name__ + ("?" if issubclass(kind, Ask) else ""))
    return "<br>".join(f"`{area}` {', '.join(names)}" for area, names in areas.items())


def plan(contracts: list[type[Message]], root: Path) -> Plan:
    """The README with the current map between its markers.

    Raises:
        ValueError: the README has no place for the map.
    """
    path = root / "README.md"
    before, begin, rest = (read(path) or "").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"cannot write the map: {path} lacks the line {END if begin else BEGIN}")
    return Plan({path: f"{before}{BEGIN}\n{table(contracts)}\n{END}{after}"})
