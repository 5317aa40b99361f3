"""Failpoints: nothing without the variable; with it, death at exactly the passing that was asked for."""

import os
import signal
import subprocess
import sys

import pytest

from muster_runtime import failpoints

PASS_THREE_TIMES = """
from muster_runtime import failpoints
for _ in range(3):
    failpoints.reached("received")
    failpoints.reached("acked")
    print("passed", flush=True)
"""


def passings(failpoint: str | None) -> tuple[int, int]:
    """How a process that passes three times ended, and how often it came through."""
    told = {failpoints.VARIABLE: failpoint} if failpoint else {}
    done = subprocess.run(
        [sys.executable, "-c", PASS_THREE_TIMES], env={**os.environ, **told}, capture_output=True, check=False
    )
    return done.returncode, done.stdout.count(b"passed")


@pytest.mark.parametrize(
    ("failpoint", "code", "came_through"),
    [
        (None, 0, 3),
        ("floor:kill9", 0, 3),
        ("received:kill9", -signal.SIGKILL, 0),
        ("acked:kill9:3", -signal.SIGKILL, 2),
    ],
)
def test_a_process_dies_at_the_passing_that_was_asked_for_and_nowhere_else(
    failpoint: str | None, code: int, came_through: int
) -> None:
    assert passings(failpoint) == (code, came_through)


@pytest.mark.parametrize("text", ["nowhere:kill9", "received", "received:sleep", "received:kill9:soon"])
def test_a_failpoint_that_is_misspelt_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match=f"cannot use MUSTER_FAILPOINT='{text}'"):
        failpoints.Failpoint.parse(text)
