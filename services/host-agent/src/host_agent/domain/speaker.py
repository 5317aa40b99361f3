"""Who the facts of this run are said by."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Speaker:
    """The agent and its run, as they stand on every fact."""

    agent_id: str
    epoch: str
    version: str
