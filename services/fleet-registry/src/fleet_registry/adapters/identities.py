"""Who owns which key: the file ``muster up`` writes, read again whenever it has changed."""

import json
import time
from pathlib import Path

from muster_contracts.ids import is_agent_id
from muster_contracts.message import Role
from muster_runtime import logger

TRY_AGAIN_SECONDS = 1.0
AGENT_ROLES = frozenset({Role.AGENT, Role.HOST_AGENT})

log = logger(__name__)


class Identities:
    """Public nkey to agent id. The name a client gives itself is never asked: anyone could say it."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._agents: dict[str, str] = {}
        self._given: frozenset[str] = frozenset()
        self._stamp: tuple[int, int] | None = None
        self._failed_at = float("-inf")

    def agent_of(self, public_key: str) -> str | None:
        """The agent that owns the key; nothing for services, people and strangers."""
        if public_key not in self._agents:
            self._look()
        return self._agents.get(public_key)

    def is_given(self, agent_id: str) -> bool:
        """Whether some key belongs to an agent of this id."""
        self._look()
        return agent_id in self._given

    def _look(self) -> None:
        """Read the file again if it has changed; one that cannot be read is tried once a second at most.

        Whether it has changed is looked up for every stranger, as the newest agent is one until then.
        """
        now = time.monotonic()
        if self._path is None or now - self._failed_at < TRY_AGAIN_SECONDS:
            return
        try:
            found = self._path.stat()
            stamp = (found.st_mtime_ns, found.st_ino)
            if stamp != self._stamp:
                self._agents = _agents(json.loads(self._path.read_text()))
                self._given = frozenset(self._agents.values())
                self._stamp = stamp
        except (OSError, ValueError, AttributeError, TypeError) as error:
            self._failed_at = now
            log.warning("cannot read the identities file", path=str(self._path), why=str(error))


def _agents(content: dict[str, dict[str, str]]) -> dict[str, str]:
    return {
        key: one["name"]
        for key, one in content.items()
        if one.get("role") in AGENT_ROLES and is_agent_id(one.get("name", ""))
    }
