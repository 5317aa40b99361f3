"""Real host-agents on a control plane, under the identities its ground gave them."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from muster_testing.ground import Ground
from muster_testing.program import Program


def host_agent(
    ground: Ground,
    agent_id: str,
    *,
    packages: Iterable[Path] = (),
    policy: Mapping[str, Any] | None = None,
    settings: Mapping[str, str] | None = None,
) -> Program:
    """The host-agent ``agent_id``, not started yet; its state is ``ground.directory / agent_id``.

    Args:
        ground: the broker, made with ``agent_id`` among its agents.
        agent_id: who it is.
        packages: the directories it looks for packages in.
        policy: what its machine lets it be told; None: there is no policy file.
        settings: more of its environment.
    """
    state = ground.directory / agent_id
    state.mkdir(mode=0o700)
    (state / "agent-id").write_text(f"{agent_id}\n")
    seed = state / "agent.seed"
    seed.touch(mode=0o600)
    seed.write_bytes(ground.seed_file(agent_id).read_bytes())
    if policy is not None:
        (state / "policy.yaml").write_text(json.dumps(policy))
    environment = {
        "HOST_AGENT_SERVERS": json.dumps([ground.server.url]),
        "HOST_AGENT_STATE_DIR": str(state),
        "HOST_AGENT_POLICY_FILE": str(state / "policy.yaml"),
        "HOST_AGENT_PACKAGE_DIRS": json.dumps([str(one) for one in packages]),
    }
    return Program("host-agent", environment | dict(settings or {}), ground.directory / f"{agent_id}.log")
