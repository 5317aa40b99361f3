"""Rules about the source that no linter knows."""

import ast
import configparser
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MEMBERS = [ROOT / "contracts", *sorted(path.parent for path in ROOT.glob("*/*/pyproject.toml"))]
SERVICES = [member.name.replace("-", "_") for member in MEMBERS if member.parent.name == "services"]
DOMAINS = sorted(ROOT.glob("services/*/src/*/domain/**/*.py"))

IMPURE = {
    "datetime": {"now", "utcnow", "today"},
    "date": {"today"},
    "time": {"time", "monotonic", "sleep", "perf_counter", "time_ns", "monotonic_ns"},
    "uuid": {"uuid1", "uuid4"},
    "os": {"environ", "getenv", "urandom"},
}
"""What a pure function may not ask of the world: time, chance and settings come as arguments."""


def impurities(source: str) -> Iterator[str]:
    """What a module of the domain takes from outside its arguments."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            owner = (
                node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
            )
            if node.attr in IMPURE.get(owner, ()) or (
                owner in {"random", "secrets"} and node.attr != "Random"
            ):
                yield f"line {node.lineno}: {owner}.{node.attr}"
        if isinstance(node, ast.ImportFrom) and node.module in {"random", "secrets", "time", "uuid", "os"}:
            forbidden = {alias.name for alias in node.names} & IMPURE.get(
                node.module, {"random", "choice", "uniform"}
            )
            yield from (f"line {node.lineno}: from {node.module} import {name}" for name in sorted(forbidden))
        if isinstance(node, ast.Name) and node.id in {"open", "print", "input"}:
            yield f"line {node.lineno}: {node.id}"


@pytest.mark.parametrize("path", DOMAINS, ids=lambda path: str(path.relative_to(ROOT / "services")))
def test_a_domain_takes_time_chance_and_settings_as_arguments(path: Path) -> None:
    assert list(impurities(path.read_text())) == []


@pytest.mark.parametrize(
    "line",
    ["datetime.now(UTC)", "datetime.datetime.utcnow()", "time.time()", "random.random()", "uuid.uuid4()",
     "os.environ['HOME']", "open('x')", "from time import monotonic", "from uuid import uuid4"],
)  # fmt: skip
def test_the_rule_notices_what_it_forbids(line: str) -> None:
    assert list(impurities(line)) != []


@pytest.mark.parametrize("line", ["at + timedelta(seconds=3)", "random.Random(7)", "row.time", "now = at"])
def test_the_rule_lets_pure_code_be(line: str) -> None:
    assert list(impurities(line)) == []


def rules() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / ".importlinter")
    return parser


def test_every_member_of_the_workspace_is_under_the_import_rules() -> None:
    roots = rules()["importlinter"]["root_packages"].split()
    packages = [next(path.parent.name for path in member.glob("src/*/__init__.py")) for member in MEMBERS]
    assert sorted(roots) == sorted(packages)


def test_every_service_is_under_the_rules_for_services() -> None:
    parser = rules()
    for section, key in (("repository", "layers"), ("services", "modules"), ("rooms", "containers")):
        named = parser[f"importlinter:contract:{section}"][key].replace(":", " ").split()
        assert set(SERVICES) <= set(named), section


def test_every_import_rule_says_why() -> None:
    parser = rules()
    sections = [name for name in parser.sections() if ":contract:" in name]
    assert sections
    assert [name for name in sections if "broken_contract_guidance" not in parser[name]] == []


def test_names_of_test_files_are_unique() -> None:
    names = [path.name for path in ROOT.glob("**/tests/**/test_*.py") if ".venv" not in path.parts]
    assert sorted(names) == sorted(set(names))


def test_every_marker_in_use_is_declared_with_what_it_means() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    assert all(": " in marker for marker in settings["markers"])
    assert settings["filterwarnings"][0] == "error"
