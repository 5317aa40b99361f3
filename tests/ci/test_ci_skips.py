"""A test whose tools are missing skips and names them; where nothing may skip, it fails."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

TESTS = """
import pytest

@pytest.mark.needs("sh", "no-such-tool")
def test_with_a_tool_that_is_missing(): pass

@pytest.mark.needs("sh", "json")
def test_with_tools_that_are_there(): pass

@pytest.mark.needs("ordinary-user")
def test_as_an_ordinary_user(): pass

@pytest.mark.xfail(strict=True)
def test_that_is_expected_to_fail(): assert False
"""
WHOLE = """
import pytest
pytest.importorskip("no_such_module")
"""


@pytest.fixture
def corner(tmp_path: Path) -> Path:
    """A repository with the root's conftest and a few tests."""
    shutil.copy(ROOT / "conftest.py", tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = needs: tools\n")
    (tmp_path / "test_corner.py").write_text(TESTS)
    return tmp_path


def outcome(corner: Path, **environment: str) -> tuple[int, str]:
    """pytest's exit code and output in the corner."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-ra", "-p", "no:cacheprovider", "-p", "no:xdist"],
        cwd=corner,
        env={"PATH": os.environ["PATH"], "HOME": str(corner), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def test_a_test_that_lacks_a_tool_skips_and_names_it(corner: Path) -> None:
    code, output = outcome(corner)
    assert code == 0
    assert "needs no-such-tool, which this machine lacks" in output
    assert "1 failed" not in output


def test_where_nothing_may_skip_the_same_test_fails(corner: Path) -> None:
    code, output = outcome(corner, MUSTER_NO_SKIPS="1")
    assert code == 1
    assert "yet this skipped itself: Skipped: needs no-such-tool" in output
    assert "1 error in" in output


def test_where_nothing_may_skip_a_whole_file_may_not_either(corner: Path) -> None:
    (corner / "test_corner.py").write_text(WHOLE)
    code, output = outcome(corner, MUSTER_NO_SKIPS="1")
    assert code == 2
    assert "MUSTER_NO_SKIPS is set" in output


@pytest.mark.needs("root")
def test_what_only_an_ordinary_user_can_show_may_skip_for_root_even_there(corner: Path) -> None:
    _, output = outcome(corner, MUSTER_NO_SKIPS="1")
    assert "needs ordinary-user, whom .ci/stranger runs it as" in output
    assert "1 skipped" in output
