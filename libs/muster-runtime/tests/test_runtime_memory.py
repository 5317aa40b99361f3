"""What the runtime costs a process that must stay small."""

import subprocess
import sys

PROGRAM = """
import sys
import muster_runtime
muster_runtime.configure_logs("x", json=True)
muster_runtime.logger("x").info("hello")
print(*sorted({name.partition(".")[0] for name in sys.modules} | {"http.server"} & sys.modules.keys()))
"""


def test_the_runtime_brings_nothing_heavy_along() -> None:
    loaded = set(subprocess.check_output([sys.executable, "-c", PROGRAM], text=True).split())
    assert {"structlog", "pydantic"} <= loaded
    heavy = {"rich", "prometheus_client", "pydantic_settings", "http.server", "yaml", "difflib", "greenlet"}
    assert loaded & heavy == set()


def test_who_needs_rich_still_gets_it() -> None:
    program = "import muster_runtime, rich.console, greenlet; print(rich.console.Console().width > 0)"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "True"
