"""Everything the generators of the justfile write is committed as they write it now."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def generators() -> list[str]:
    found = re.search(r'^generators := "(.*)"$', (ROOT / "justfile").read_text(), re.MULTILINE)
    return found[1].split() if found else []


@pytest.mark.parametrize("module", generators())
def test_what_a_generator_writes_is_committed(module: str) -> None:
    command = [sys.executable, "-m", module, "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_are_generators() -> None:
    assert "muster_contracts.generate" in generators()
