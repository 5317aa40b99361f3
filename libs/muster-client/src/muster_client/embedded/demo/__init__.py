"""Sample packages for this machine, to see what Muster does when something is ill.

``database`` is needed by ``web``, which is needed by ``worker``; ``leaky`` leaks when it is told to;
``flaky`` fails by itself. ``muster up --demo`` lays them into the fleet's directory; from there on they
are packages like any other, and stay until a person removes their directories. Their checks look more
often than those of real services need to, so that a person sees what happens.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from muster_client.embedded.files import keep
from muster_client.embedded.layout import Layout
from muster_client.embedded.ports import choose

HERE = Path(__file__).parent
SERVERS = ("web", "database")
"""Who listens, on a port of loopback that all of them are told as ``WEB_PORT`` and ``DATABASE_PORT``."""
PYTHON = [sys.executable, "-u"]
SOON = {"every_seconds": 3, "timeout_seconds": 2, "failures": 2}
"""The schedule of a check that a person waits for."""
RECOVERY = {"delay_seconds": 3, "cooldown_seconds": 300}
LIMIT_BYTES = 96 << 20
"""With more than this the leaky one is ill."""


def specifications(ports: dict[str, int]) -> dict[str, dict[str, Any]]:
    """Each package.json, with the servers on these ports."""
    variables = {f"{name.upper()}_PORT": str(port) for name, port in ports.items()}
    return {
        "database": {
            "description": "Counts in memory; web needs it. Stop it with SIGSTOP and see who is blamed.",
            "command": [*PYTHON, "database.py"],
            "environment": variables,
            "ready": {"tcp_port": ports["database"]},
            "checks": [
                check("answers", {"kind": "tcp", "port": ports["database"]}),
                check("processes", {"kind": "process", "memory_critical_bytes": 200 << 20}),
            ],
        },
        "web": {
            "description": "Greets whoever asks by HTTP; reads settings.json again at SIGHUP.",
            "command": [*PYTHON, "web.py"],
            "environment": variables,
            "depends_on": ["database"],
            "ready": {"tcp_port": ports["web"]},
            "configuration": {
                "settings": {"path": "settings.json", "check": [sys.executable, "web.py", "--check"]}
            },
            "checks": [check("greets", greets(ports["web"])), check("processes", {"kind": "process"})],
        },
        "worker": {
            "description": "Asks the web service every two seconds and says what it heard.",
            "command": [*PYTHON, "worker.py"],
            "environment": variables,
            "depends_on": ["web"],
            "checks": [
                # That it hears nothing is no fault of its own: a restart would not help.
                check("hears", {"kind": "script", "command": [*PYTHON, "check.py"]}, purpose="readiness"),
                check("processes", {"kind": "process"}),
            ],
        },
        "leaky": {
            "description": "Takes more and more memory once it is sent USR1, and is restarted for it.",
            "command": [*PYTHON, "leaky.py"],
            "checks": [check("memory", {"kind": "process", "memory_critical_bytes": LIMIT_BYTES})],
        },
        "flaky": {
            "version": "0.1.0",
            "description": "Fails after three seconds, again and again: see what becomes of it.",
            "command": [*PYTHON, "flaky.py"],
        },
    }


def check(name: str, look: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A check that looks often."""
    return {"name": name, "check": look, **SOON, **changes}


def greets(port: int) -> dict[str, Any]:
    """What is expected of the web service: it says hello."""
    return {"kind": "http", "url": f"http://127.0.0.1:{port}/", "body_contains": "Hello"}


def lay(layout: Layout) -> list[str]:
    """Put the samples that are not there yet into the fleet's directory; their names.

    Raises:
        OSError: the directory cannot be written to.
    """
    laid = []
    ports = {**choose(SERVERS, {}), **known_ports(layout)}
    for name, specification in specifications(ports).items():
        place = layout.packages / name
        if place.exists():
            continue
        place.mkdir(mode=0o700)
        for file in (HERE / name).iterdir():
            if file.is_file():
                shutil.copyfile(file, place / file.name)
        # Last, so that nobody finds a package without its program.
        told = {"name": name, "version": "1.0.0", "recovery": RECOVERY, **specification}
        keep(place / "package.json", json.dumps(told, indent=2) + "\n")
        laid.append(name)
    return laid


def known_ports(layout: Layout) -> dict[str, int]:
    """The ports that samples laid earlier were told, for those that join them."""
    found: dict[str, int] = {}
    for path in layout.packages.glob("*/package.json"):
        try:
            told = json.loads(path.read_bytes())["environment"]
            found |= {name: int(told[f"{name.upper()}_PORT"]) for name in SERVERS}
        except (OSError, ValueError, KeyError, TypeError):
            continue  # somebody else's package, or one that somebody changed
    return found
