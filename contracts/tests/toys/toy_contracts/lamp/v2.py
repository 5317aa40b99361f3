"""Lamps as they are."""

from typing import ClassVar

from pydantic import Field

from muster_contracts.ids import AgentId
from muster_contracts.message import DurableFact, Role, Subject


class Lit(DurableFact):
    """The lamp shines in a colour."""

    SUBJECT: ClassVar[Subject] = Subject("muster.lamp.v2.{lamp_id}.lit")
    SAID_BY = (Role.AGENT,)
    HEARD_BY = (Role.OPERATOR,)

    lamp_id: AgentId
    brightness: int = Field(ge=0, le=100, description="In percent.")
    colour: str = Field(description="By name.")
