"""What a message on the bus is, judged by the catalogue: pure, from subject and payload to a verdict."""

import json
from dataclasses import dataclass
from datetime import datetime
from functools import cache

from pydantic import ValidationError

from muster_client.outputs import Verdict, WatchedMessage
from muster_contracts.catalogue import contracts
from muster_contracts.message import Message


@dataclass(frozen=True, slots=True)
class Heard:
    """One message as it came: ``sequence`` counts within its stream, 0 for one heard live."""

    subject: str
    data: bytes
    at: datetime
    sequence: int = 0


@cache
def _by_address() -> dict[tuple[str, str, str], list[type[Message]]]:
    found: dict[tuple[str, str, str], list[type[Message]]] = {}
    for contract in contracts():
        _, area, version, _, what = contract.SUBJECT.split(".")
        found.setdefault((area, version, what), []).append(contract)
    return found


def contract_of(subject: str) -> type[Message] | None:
    """The contract that travels on ``subject``; None if the catalogue has none."""
    tokens = subject.split(".")
    if len(tokens) != 5 or tokens[0] != "muster":
        return None
    _, area, version, who, what = tokens
    for contract in _by_address().get((area, version, what), []):
        whose = contract.SUBJECT.who
        if whose == who or whose.startswith("{"):
            return contract
    return None


def judge(heard: Heard) -> tuple[Verdict, Message | None, str | None]:
    """The verdict on a message, the message where it is good, and the error where it is not."""
    contract = contract_of(heard.subject)
    if contract is None:
        return Verdict.UNKNOWN, None, None
    if len(heard.data) > contract.MAX_BYTES:
        return Verdict.MALFORMED, None, f"larger than {contract.MAX_BYTES} bytes"
    try:
        message = contract.model_validate_json(heard.data)
    except ValidationError as error:
        return Verdict.MALFORMED, None, first_error(error)
    if message.subject != heard.subject:
        return Verdict.FOREIGN_ID, message, f"the payload belongs on {message.subject}"
    return Verdict.OK, message, None


def first_error(error: ValidationError) -> str:
    """The first thing that is wrong, without the payload's values."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]


def watched(heard: Heard) -> WatchedMessage:
    """The message as ``muster watch`` shows it."""
    verdict, message, error = judge(heard)
    contract = contract_of(heard.subject)
    return WatchedMessage(
        received_at=heard.at,
        subject=heard.subject,
        contract=contract.contract() if contract else None,
        verdict=verdict,
        message=message.model_dump(mode="json") if message else _object(heard.data),
        error=error,
        size_bytes=len(heard.data),
    )


def _object(data: bytes) -> dict[str, object] | None:
    """The payload of a message we cannot judge, where it is a JSON object."""
    try:
        value = json.loads(data)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
