"""What every test shares: outside tools named by marker, and a run in which nothing may skip."""

import importlib
import importlib.util
import logging
import os
import shutil
import subprocess
from collections.abc import Callable, Generator
from pathlib import Path

import hypothesis
import pytest
from pytest_asyncio import is_async_test

# No deadlines: machines are shared, and speed is the business of the benchmarks.
hypothesis.settings.register_profile(
    "muster", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("muster")

WHOLE = Path(__file__).with_name("tests")
"""Tests of the whole system."""
NO_SKIPS = os.environ.get("MUSTER_NO_SKIPS") == "1"


def _succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=20).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _can(question: str) -> Callable[[], bool]:
    """A question to the test kit; not loaded for tests that do not ask it."""
    module, _, function = question.partition(".")
    return lambda: bool(getattr(importlib.import_module(f"muster_testing.{module}"), function)())


PROBES: dict[str, Callable[[], bool]] = {
    "root": lambda: os.geteuid() == 0,
    "ordinary-user": lambda: os.geteuid() != 0,
    "netns": lambda: _succeeds("unshare", "--net", "true"),
    "docker": _can("engine.is_to_be_had"),
    "systemd-machine": _can("systemd_machine.is_to_be_had"),
}
"""Needs that are more than a program: named as in ``@pytest.mark.needs("netns")``."""

WHERE = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
"""Debian keeps nft and ip where an ordinary user does not look."""


LACKS = ", which this machine lacks"
ELSEWHERE = ", whom .ci/stranger runs it as"
"""One run cannot be both users: this reason is good even where nothing may skip."""


def missing(tool: str) -> bool:
    """Whether this machine lacks a program, a Python module or a power."""
    if probe := PROBES.get(tool):
        return not probe()
    return shutil.which(tool, path=WHERE) is None and importlib.util.find_spec(tool) is None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose tools are missing, and say which."""
    wanted = [tool for mark in item.iter_markers("needs") for tool in mark.args]
    if lacking := [tool for tool in wanted if missing(tool)]:
        pytest.skip(f"needs {', '.join(lacking)}{ELSEWHERE if 'ordinary-user' in lacking else LACKS}")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Half as many again as there are cores, four at most: many tests wait for what others do."""
    return min((os.cpu_count() or 1) * 3 // 2, 4)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that no worker goes on alone for minutes.

    Those with a soak test come first, then those of the whole system; else the order stays at random.
    """
    soaked = {item.path for item in items if item.get_closest_marker("soak")}
    items.sort(key=lambda item: (item.path not in soaked, WHOLE not in item.path.parents))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With MUSTER_NO_SKIPS=1 a skipped test is a failed one: CI has every tool."""
    report = yield
    if not hasattr(report, "wasxfail"):
        _refuse_to_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a file that skips as a whole."""
    report = yield
    _refuse_to_skip(report)
    return report


def _refuse_to_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if NO_SKIPS and report.skipped:
        where = report.longrepr
        reason = str(where[2] if isinstance(where, tuple) else where)
        if reason.endswith(ELSEWHERE):
            return
        report.outcome = "failed"
        report.longrepr = f"MUSTER_NO_SKIPS is set, yet this skipped itself: {reason}"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Keep looptime from making an event loop for a test without one; nobody would close it."""
    if not is_async_test(pyfuncitem):
        pyfuncitem.funcargs.pop("event_loop_policy", None)
    return (yield)


@pytest.fixture(autouse=True)
def heard() -> Generator[None]:
    """Commands run inside a test hush the libraries; the next test wants to hear them."""
    loggers = [logging.getLogger(name) for name in ("muster", "nats")]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
