"""What the bus has to tell of itself."""

from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from muster_contracts.ids import ServiceName
from muster_contracts.message import DurableFact, Role, Subject


class DeadReason(StrEnum):
    """Why a message could not be taken."""

    MALFORMED = "malformed"
    """The payload is not the JSON its contract describes."""
    OVERSIZED = "oversized"
    """The payload is larger than its contract allows."""
    WRONG_VERSION = "wrong-version"
    """The subject or the contract header names a version this reader does not know."""
    FOREIGN_ID = "foreign-id"
    """The payload carries another identity than its subject."""
    REJECTED = "rejected"
    """The handler refused it for ever."""
    EXHAUSTED = "exhausted"
    """The handler asked for another try more often than allowed."""


class DeadLettered(DurableFact):
    """A service could not take a message; it is kept here with its reason, and the service went on."""

    SUBJECT: ClassVar[Subject] = Subject("muster.bus.v1.{service}.dead-lettered")
    SAID_BY = (Role.ANY_SERVICE,)
    HEARD_BY = (Role.OPERATOR,)

    service: ServiceName = Field(description="Who could not take it.")
    original_subject: str = Field(description="Where it was heard.")
    reason: DeadReason
    detail: str = Field(max_length=2000, description="The first error, without the payload's values.")
    contract_name: str | None = Field(default=None, description="The contract header, if there was one.")
    size_bytes: int = Field(description="Of the whole payload.")
    payload: str = Field(max_length=8192, description="The first bytes of the payload, base64.")
    deliveries: int = Field(default=1, description="How often it had been delivered.")
    stream: str | None = Field(default=None, description="The stream that keeps it whole, if one does.")
    sequence: int | None = Field(default=None, description="Its place in that stream.")
