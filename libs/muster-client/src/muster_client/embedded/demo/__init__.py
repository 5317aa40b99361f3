"""Three sample packages for this machine: a web service, a worker that depends on it, and one that fails.

``muster up --demo`` lays them into the fleet's directory; from there on they are packages like any other, and
stay until a person removes their directories.
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


def specifications(port: int) -> dict[str, dict[str, Any]]:
    """Each package.json, with the web service on ``port`` of loopback."""
    python = [sys.executable, "-u"]
    return {
        "web": {
            "name": "web",
            "version": "1.0.0",
            "description": "Greets whoever asks by HTTP; reads settings.json again at SIGHUP.",
            "command": [*python, "web.py"],
            "environment": {"PORT": str(port)},
            "ready": {"tcp_port": port},
            "configuration": {
                "settings": {"path": "settings.json", "check": [sys.executable, "web.py", "--check"]}
            },
        },
        "worker": {
            "name": "worker",
            "version": "1.0.0",
            "description": "Asks the web service every two seconds and says what it heard.",
            "command": [*python, "worker.py"],
            "environment": {"WEB": f"http://127.0.0.1:{port}/"},
            "depends_on": ["web"],
        },
        "flaky": {
            "name": "flaky",
            "version": "0.1.0",
            "description": "Fails after three seconds, again and again: see what becomes of it.",
            "command": [*python, "flaky.py"],
        },
    }


def lay(layout: Layout) -> list[str]:
    """Put the samples that are not there yet into the fleet's directory; their names.

    Raises:
        OSError: the directory cannot be written to.
    """
    laid = []
    for name, specification in specifications(choose(["web"], {})["web"]).items():
        place = layout.packages / name
        if place.exists():
            continue
        place.mkdir(mode=0o700)
        for file in (HERE / name).iterdir():
            if file.is_file():
                shutil.copyfile(file, place / file.name)
        # Last, so that nobody finds a package without its program.
        keep(place / "package.json", json.dumps(specification, indent=2) + "\n")
        laid.append(name)
    return laid
