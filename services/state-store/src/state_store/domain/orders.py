"""What is kept of a command: who may be told what of it, and when two of them are the same."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, get_args
from uuid import UUID

from pydantic import BaseModel

from muster_contracts.command.v1 import Body, CommandDetail, CommandState, Precondition, Submit, Terms
from state_store.domain.audit import Act

SUBMIT, CANCEL = "command.submit", "command.cancel"
ALLOWED, REFUSED = "allowed", "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One command as the ledger keeps it."""

    id: UUID
    issuer: str
    idempotency_key: str | None
    verb: str
    body: dict[str, Any]
    fingerprint: str
    selector: str
    precondition: dict[str, Any]
    submitted_at: datetime
    not_after: datetime
    start_seconds: float
    run_seconds: float
    targets: int
    living: int
    """How many targets have not ended."""
    sensitive: bool
    """Whether the body still holds what may be secret."""


def ordered(submit: Submit, targets: int, at: datetime) -> Order:
    """The command as it is kept."""
    body = submit.body.model_dump(mode="json")
    return Order(
        id=submit.command_id, issuer=submit.issuer, idempotency_key=submit.idempotency_key,
        verb=submit.body.verb, body=body, fingerprint=fingerprint(submit), selector=submit.selector,
        precondition=submit.precondition.model_dump(mode="json"), submitted_at=at,
        not_after=submit.not_after, start_seconds=submit.start_seconds, run_seconds=submit.run_seconds,
        targets=targets, living=targets, sensitive=bool(SENSITIVE[submit.body.verb]),
    )  # fmt: skip


def fingerprint(submit: Submit) -> str:
    """Equal for two commands that order the same; times are not part of it, for a repeat sets them anew."""
    fields = submit.model_dump(mode="json", include={"body", "selector", "precondition"})
    return digest_of(fields)


def digest_of(value: Any) -> str:
    """SHA-256 of a JSON value with sorted keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def without_secrets(verb: str, body: dict[str, Any]) -> dict[str, Any]:
    """The body without fields that may be secret: of each, its size and its digest are left."""
    kept = dict(body)
    for name in SENSITIVE.get(verb, ()):
        if isinstance(content := kept.pop(name, None), str):
            kept[f"{name}_sha256"] = hashlib.sha256(content.encode()).hexdigest()
            kept[f"{name}_characters"] = len(content)
    return kept


def terms(order: Order) -> Terms:
    """The command as agents get it."""
    return Terms(
        command_id=order.id, issuer=order.issuer, submitted_at=order.submitted_at, verb=order.verb,
        body=order.body, not_after=order.not_after, start_seconds=order.start_seconds,
        run_seconds=order.run_seconds, precondition=Precondition.model_validate(order.precondition),
    )  # fmt: skip


def detail(order: Order, counts: dict[CommandState, int]) -> CommandDetail:
    """The command as operators see it; ``counts`` of the states its targets are in."""
    return CommandDetail(
        id=order.id, verb=order.verb, body=without_secrets(order.verb, order.body), selector=order.selector,
        issuer=order.issuer, idempotency_key=order.idempotency_key, submitted_at=order.submitted_at,
        not_after=order.not_after, start_seconds=order.start_seconds, run_seconds=order.run_seconds,
        targets=order.targets, by_state={state: counts.get(state, 0) for state in CommandState},
        ended=order.living == 0,
    )  # fmt: skip


def submitting(submit: Submit, decision: str, **more: Any) -> Act:
    """The submission as the audit tells it: never with contents that may be secret."""
    return Act(
        actor=submit.issuer, action=SUBMIT, decision=decision, subject=str(submit.command_id),
        detail={
            "verb": submit.body.verb, "about": submit.body.about, "selector": submit.selector,
            "body_sha256": digest_of(submit.body.model_dump(mode="json")),
            "not_after": submit.not_after.isoformat(), **more,
        },
    )  # fmt: skip


def _marked(kind: type[BaseModel]) -> Iterator[str]:
    for name, one in kind.model_fields.items():
        extra = one.json_schema_extra
        if isinstance(extra, dict) and extra.get("sensitive"):
            yield name


_BODIES: tuple[type[BaseModel], ...] = get_args(get_args(Body)[0])
SENSITIVE = {kind.model_fields["verb"].default: tuple(_marked(kind)) for kind in _BODIES}
"""By verb, the fields of its body that are marked as possibly secret."""
