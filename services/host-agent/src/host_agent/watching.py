"""Following the settings' file while the agent runs, and telling the fleet what came of it."""

import re
from collections.abc import Awaitable, Callable
from pathlib import Path

from host_agent.settings import HostAgentSettings
from muster_runtime import Reloader

_VALUE = re.compile(r"(key '[^']*'|the environment: \w+(?:\[[^]]*\])*): .* cannot be taken, ")


def without_values(problems: str) -> str:
    """The problems of a settings' file without the values in them: one of them may be a secret."""
    return _VALUE.sub(r"\1: its value cannot be taken, ", problems)


class Watch(Reloader[HostAgentSettings]):
    """A reloader that also tells of files it refused, once for each new reason."""

    def __init__(
        self,
        current: HostAgentSettings,
        path: Path,
        on_refused: Callable[[str], Awaitable[None]],
        *,
        every_seconds: float = 2.0,
    ) -> None:
        super().__init__(current, path, every_seconds=every_seconds)
        self._on_refused = on_refused

    async def look(self) -> bool:
        """Look once; whether the settings have changed."""
        before = self.error
        changed = await super().look()
        if self.error and self.error != before:
            await self._on_refused(without_values(self.error))
        return changed
