"""What each role may do on the broker, for review: ``python -m muster_bus.generate [--check]``.

The broker's configuration is rendered from the same function when a fleet starts; these files are not
read by anyone but people: a new right shows as a line in a diff.
"""

import sys
from dataclasses import asdict
from pathlib import Path

from muster_bus.permissions import Special, permissions
from muster_contracts.generate.command import home, run
from muster_contracts.generate.files import Plan, as_json, without
from muster_contracts.message import Role

KINDS = (Role.AGENT, Role.ANY_SERVICE)
"""What others are a kind of; nobody connects as these."""
EXAMPLES = {Role.HOST_AGENT: "web-1"}
"""Who stands in the subjects; a service is called after its role."""


def plan(root: Path) -> Plan:
    """One file per role in ``contracts/permissions/``, and no other."""
    folder = root / "contracts" / "permissions"
    roles = [role for role in (*Role, *Special) if role not in KINDS]
    texts = {
        folder / f"{role.value}.json": as_json(asdict(permissions(role, EXAMPLES.get(role, role.value))))
        for role in roles
    }
    return Plan(texts, without(folder, texts))


if __name__ == "__main__":
    sys.exit(run(plan, home(), check="--check" in sys.argv[1:]))
