"""A forbidden import, a stale schema, a broken contract: planted in a copy, each turns the check red."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINTER = Path(sys.executable).parent / "lint-imports"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The packages, the import rules and the generated files, to be spoiled."""
    for source in [ROOT / "contracts", *ROOT.glob("libs/*"), *ROOT.glob("services/*")]:
        skipped = shutil.ignore_patterns("tests", "__pycache__")
        shutil.copytree(source, tmp_path / source.relative_to(ROOT), ignore=skipped)
    for name in (".importlinter", "README.md"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def run(copy: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command that sees the packages of the copy in the place of the installed ones."""
    sources = ":".join(str(path) for path in (copy / "contracts/src", *copy.glob("*/*/src")))
    return subprocess.run(
        [str(word) for word in command],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": sources, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def append(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(text)


FORBIDDEN = [
    ("contracts/src/muster_contracts/ids.py", "import muster_bus", "Imports point left"),
    ("libs/muster-runtime/src/muster_runtime/__init__.py", "import muster_sql", "Imports point left"),
    ("services/host-agent/src/host_agent/planted.py", "import fleet_registry", "know nothing of each other"),
    ("services/fleet-registry/src/fleet_registry/domain/planted.py", "import asyncio", "domain is pure"),
    ("services/host-agent/src/host_agent/domain/planted.py", "import nats", "domain is pure"),
    ("services/host-agent/src/host_agent/planted.py", "import sqlalchemy", "stay small"),
    ("libs/muster-bus/src/muster_bus/spool.py", "import faststream", "stay small"),
    ("services/host-agent/src/host_agent/domain/planted.py", "import host_agent.ports", "Inside a service"),
    (
        "libs/muster-bus/src/muster_bus/spool.py",
        "import muster_bus.service",
        "does not know its FastStream side",
    ),
    ("services/fleet-registry/src/fleet_registry/handlers.py", "import redis", "act through ports"),
    (
        "services/fleet-registry/src/fleet_registry/planted.py",
        "import faststream",
        "FastStream is touched",
    ),
]


@pytest.mark.parametrize(
    ("where", "what", "rule"), FORBIDDEN, ids=lambda value: str(value).rpartition("/")[2]
)
def test_a_forbidden_import_is_caught_and_the_reason_told(
    copy: Path, where: str, what: str, rule: str
) -> None:
    append(copy / where, f"\n{what}\n")
    done = run(copy, LINTER, "--no-logo", "--no-cache")
    assert done.returncode == 1
    assert rule in " ".join(done.stdout.split())


def test_a_stale_schema_is_caught_and_named(copy: Path) -> None:
    schema = copy / "contracts" / "schemas" / "agent.v1.Heartbeat.json"
    schema.write_text(schema.read_text().replace("sequence", "number"))
    done = run(copy, sys.executable, "-m", "muster_contracts.generate", "--check", "--root", copy)
    assert done.returncode == 1
    assert "stale: contracts/schemas/agent.v1.Heartbeat.json: run `just generate`" in done.stderr


def test_a_changed_contract_makes_all_that_follows_from_it_stale(copy: Path) -> None:
    module = copy / "contracts" / "src" / "muster_contracts" / "agent" / "v1.py"
    module.write_text(module.read_text().replace("The agent said goodbye", "The agent waved"))
    done = run(copy, sys.executable, "-m", "muster_contracts.generate", "--check", "--root", copy)
    assert done.returncode == 1
    assert "contracts/schemas/agent.v1.Left.json" in done.stderr
    assert "contracts/asyncapi.json" in done.stderr


BROKEN = [
    ("    sequence: int", "    number: int", "agent.v1.Heartbeat: field-removed: sequence"),
    ("    sequence: int", "    number: int", "agent.v1.Heartbeat: field-required: number"),
    ('    RESTART = "restart"\n', "", "agent.v1.Left: value-removed: reason: restart is gone"),
    ("{agent_id}.left", "{agent_id}.gone", "agent.v1.Left: subject-changed: subject"),
    ("class Left(", "class Departed(", "agent.v1.Left: contract-removed"),
]


@pytest.mark.parametrize(("before", "after", "complaint"), BROKEN, ids=lambda value: str(value)[:30].strip())
def test_a_broken_contract_is_caught_and_named_even_when_its_schema_is_fresh(
    copy: Path, before: str, after: str, complaint: str
) -> None:
    module = copy / "contracts" / "src" / "muster_contracts" / "agent" / "v1.py"
    module.write_text(module.read_text().replace(before, after))
    run(copy, sys.executable, "-m", "muster_contracts.generate", "--root", copy)
    done = run(copy, sys.executable, "-m", "muster_contracts.generate", "--check", "--root", copy)
    assert done.returncode == 1
    assert f"broken: {complaint}" in done.stderr
    assert "with an upgrade()" in done.stderr
