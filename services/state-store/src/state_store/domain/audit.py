"""The next entry of the audit, chained to the one before."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from muster_contracts.audit.v1 import GENESIS, AuditEntry, digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What somebody wanted, and what was decided."""

    actor: str
    action: str
    decision: str
    subject: str
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Head:
    """How far the audit is."""

    sequence: int = 0
    hash: str = GENESIS


def chained(head: Head, act: Act, at: datetime) -> AuditEntry:
    """The entry that follows ``head``; its ``at`` has to be in UTC, for so it is read back."""
    entry = AuditEntry(
        sequence=head.sequence + 1, at=at, actor=act.actor, action=act.action, decision=act.decision,
        subject=act.subject, detail=act.detail, previous=head.hash, hash=GENESIS,
    )  # fmt: skip
    return entry.model_copy(update={"hash": digest(entry)})
