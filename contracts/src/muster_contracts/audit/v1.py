"""The audit: who ordered what of whom and what was decided, each entry chained to the one before.

``digest`` is the whole rule: a hash covers all fields of its entry and the hash before it, so that a row
altered, taken out or put elsewhere breaks the chain. The last hash is also said on the bus, into a stream
that refuses deletion; rows cut off at the end show as well.
"""

import hashlib
import json
from collections.abc import Iterable
from typing import Any, ClassVar

from pydantic import AwareDatetime, Field

from muster_contracts.ids import ServiceName, Sha256
from muster_contracts.message import Answer, Ask, DurableFact, Part, Role, Subject

GENESIS = "0" * 64
"""What the first entry is chained to."""


class AuditEntry(Part):
    """One act, allowed or refused."""

    sequence: int = Field(ge=1, description="Counts up by one.")
    at: AwareDatetime = Field(description="When it was decided.")
    actor: str = Field(max_length=200, description="Who wanted it, as they say of themselves.")
    action: str = Field(max_length=100, description="Such as command.submit, command.cancel.")
    decision: str = Field(max_length=20, description="allowed or refused.")
    subject: str = Field(max_length=200, description="What it is about: the command's id.")
    detail: dict[str, Any] = Field(
        default_factory=dict,
        description="Verb, selector, targets, digests; never contents that may be secret.",
    )
    previous: Sha256 = Field(description="The hash of the entry before; zeros for the first.")
    hash: Sha256 = Field(description="See ``muster_contracts.audit.v1.digest``.")


def digest(entry: AuditEntry) -> str:
    """What ``entry.hash`` has to be: SHA-256 of its other fields as JSON with sorted keys and no blanks."""
    fields = entry.model_dump(mode="json", exclude={"hash"})
    return hashlib.sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class BrokenChain(ValueError):
    """The audit is not what was written; ``sequence`` is the first entry that is wrong or missing."""

    def __init__(self, sequence: int, problem: str) -> None:
        self.sequence, self.problem = sequence, problem
        super().__init__(f"cannot trust the audit from entry {sequence} on: {problem}")


class Chain:
    """Follows the audit from its first entry on, against the hashes that were anchored outside of it."""

    def __init__(self, anchors: "Iterable[Anchored]" = ()) -> None:
        self.length = 0
        """The sequence of the last entry that was seen to be whole."""
        self.hash = GENESIS
        """The hash of that entry."""
        self._anchored: dict[int, set[str]] = {}
        for anchor in anchors:
            self._anchored.setdefault(anchor.sequence, set()).add(anchor.hash)

    def add(self, entry: AuditEntry) -> None:
        """The entry that comes next.

        Raises:
            BrokenChain: it does not, it was altered, or another one was anchored in its place.
        """
        wanted = self.length + 1
        if entry.sequence != wanted:
            raise BrokenChain(wanted, f"it is missing; the next one there is has sequence {entry.sequence}")
        if entry.previous != self.hash:
            raise BrokenChain(wanted, "it is not chained to the entry before it")
        if entry.hash != digest(entry):
            raise BrokenChain(wanted, "it was altered: its hash is not that of its contents")
        if self._anchored.pop(wanted, {entry.hash}) != {entry.hash}:
            raise BrokenChain(wanted, "it was rewritten: another hash was anchored for it")
        self.length, self.hash = wanted, entry.hash

    def close(self) -> None:
        """There are no more entries.

        Raises:
            BrokenChain: more were anchored.
        """
        if self._anchored:
            last = max(self._anchored)
            raise BrokenChain(self.length + 1, f"it is missing, as are all to {last}, which was anchored")


def verify(entries: Iterable[AuditEntry], anchors: "Iterable[Anchored]" = ()) -> Chain:
    """Follow all entries to the last.

    Raises:
        BrokenChain: for the first one that is wrong.
    """
    chain = Chain(anchors)
    for entry in entries:
        chain.add(entry)
    chain.close()
    return chain


class Anchored(DurableFact):
    """The audit has come this far; kept where entries cannot be taken back."""

    SUBJECT: ClassVar[Subject] = Subject("muster.audit.v1.{service}.anchored")
    SAID_BY = (Role.STATE_STORE,)
    HEARD_BY = (Role.OPERATOR,)

    service: ServiceName
    sequence: int = Field(ge=1, description="Of the last entry.")
    hash: Sha256 = Field(description="Of the last entry.")


class AuditPage(Answer):
    """Entries in the order of their sequence."""

    entries: list[AuditEntry]
    last: int = Field(default=0, description="The sequence of the newest entry there is.")


class ReadAudit(Ask[AuditPage]):
    """What was ordered, by whom? From a sequence on, upwards."""

    SUBJECT: ClassVar[Subject] = Subject("muster.audit.v1.state-store.read-audit")
    SAID_BY = (Role.OPERATOR,)
    HEARD_BY = (Role.STATE_STORE,)
    ANSWER = AuditPage

    after: int = Field(default=0, ge=0, description="Only entries with a greater sequence.")
    limit: int = Field(default=200, ge=1, le=500, description="At most this many.")
