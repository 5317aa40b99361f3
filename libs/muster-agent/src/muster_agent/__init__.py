"""What every kind of agent shares: identity, heartbeat, goodbye."""

from muster_agent.agent import Agent
from muster_agent.grants import Grants
from muster_agent.identity import AgentIdentity, Identity, IdentityError

__all__ = ["Agent", "AgentIdentity", "Grants", "Identity", "IdentityError"]
