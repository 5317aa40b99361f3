"""Lamps as they were."""

from typing import ClassVar

from pydantic import Field

from muster_contracts.ids import AgentId
from muster_contracts.message import DurableFact, Role, Subject
from toy_contracts.lamp import v2


class Lit(DurableFact):
    """The lamp shines."""

    SUBJECT: ClassVar[Subject] = Subject("muster.lamp.v1.{lamp_id}.lit")
    SAID_BY = (Role.AGENT,)
    HEARD_BY = (Role.OPERATOR,)

    lamp_id: AgentId
    brightness: int = Field(ge=0, le=100, description="In percent.")

    def upgrade(self) -> v2.Lit:
        """Lamps of old were white."""
        return v2.Lit(**self.model_dump(), colour="white")
