"""Before anything can connect: keys, identities, the broker's configuration, and how commands connect.

Runs as a process of its own at each start, so that what it imports does not stay in the supervisor.
"""

import argparse
import json
import sys
from pathlib import Path

from muster_agent.identity import ID_FILE
from muster_agent.identity import Identity as AgentIdentity
from muster_bus.broker import Identity, render
from muster_bus.errors import MusterError
from muster_bus.identity import Keypair
from muster_bus.permissions import Special
from muster_client.embedded.errors import CannotStart
from muster_client.embedded.files import keep
from muster_client.embedded.layout import Layout
from muster_client.embedded.ports import LOOPBACK
from muster_contracts.message import Role

ROLES: tuple[Role | Special, ...] = (
    Special.PROVISIONER,
    Special.SYSTEM,
    Role.FLEET_REGISTRY,
    Role.STATE_STORE,
    Role.HEALTH_RECOVERY,
    Role.OPERATOR,
)
"""Everybody but the agent, whose key is its own affair; each role speaks under its own name."""


def lay(layout: Layout, *, port: int) -> None:
    """Make what is missing and write the configuration anew; keys once made are never changed.

    Raises:
        MusterError: a key cannot be used.
        CannotStart: a file cannot be written, or the agent has a name that is taken.
        OSError: a file cannot be written.
    """
    identities = [Identity(role, role.value, _key(layout, role.value).public) for role in ROLES]
    identities.append(_agent(layout))
    keep(layout.broker_config, _config(layout, identities, port))
    known = {one.public_key: {"role": one.role.value, "name": one.name} for one in identities}
    keep(layout.identities, json.dumps(known, indent=2))
    client = {
        "servers": [f"nats://{LOOPBACK}:{port}"],
        "identity": Role.OPERATOR.value,
        "seed_file": str(layout.seed(Role.OPERATOR.value).relative_to(layout.root)),
    }
    keep(layout.client, json.dumps(client, indent=2))


def _config(layout: Layout, identities: list[Identity], port: int) -> str:
    try:
        # No monitoring port: it would tell every user of this machine who is connected and what is kept.
        return render(identities, port=port, host=LOOPBACK, store_dir=layout.broker)
    except ValueError as error:
        advice = f"remove {layout.agent / ID_FILE} to have this machine enter the fleet under a new id"
        raise CannotStart(f"cannot start host-agent: {error}; {advice}") from error


def _key(layout: Layout, identity: str) -> Keypair:
    path = layout.seed(identity)
    if path.exists():
        return Keypair.load(path)
    key = Keypair.generate()
    key.save(path)
    return key


def _agent(layout: Layout) -> Identity:
    """This machine's agent, born here if it was never started."""
    born = AgentIdentity.ensure(layout.agent)
    return Identity(Role.HOST_AGENT, born.agent_id, born.keypair.public)


def main() -> int:
    """Entry point: one sentence on standard error and exit code 1 if it cannot be done."""
    options = argparse.ArgumentParser(prog="groundwork")
    options.add_argument("--dir", type=Path, required=True)
    options.add_argument("--port", type=int, required=True)
    chosen = options.parse_args()
    try:
        lay(Layout.at(chosen.dir), port=chosen.port)
    except (MusterError, CannotStart, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
