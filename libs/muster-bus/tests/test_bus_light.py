"""The core of the bus is light: an agent pays for nothing it does not use."""

import subprocess
import sys

HEAVY = (
    "faststream",
    "sqlalchemy",
    "sqlmodel",
    "redis",
    "prometheus_client",
    "anyio",
    "muster_contracts.fleet",
)


def test_the_core_imports_nothing_heavy() -> None:
    code = f"import sys, muster_bus; print([name for name in {HEAVY} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
