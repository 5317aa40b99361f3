"""From bytes on a subject to a message, or to the reason why not: the one place that decides."""

from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from pydantic import BaseModel, ValidationError

from muster_bus.errors import MusterError
from muster_contracts.bus.v1 import DeadReason
from muster_contracts.message import Message

CONTRACT_HEADER = "Muster-Contract"
MESSAGE_ID_HEADER = "Nats-Msg-Id"
PROBLEM_HEADER = "Muster-Problem"

M = TypeVar("M", bound=Message)
B = TypeVar("B", bound=BaseModel)


class Unreadable(MusterError):
    """Cannot read a message; ``reason`` says what is wrong with it, the text never quotes its values."""

    def __init__(self, reason: DeadReason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class NotOurs(Exception):
    """The message is of another version that this code knows; whoever hears that version takes it."""


@dataclass(frozen=True)
class Reader(Generic[M]):
    """Reads messages of one contract, with everything that can be looked up once looked up once."""

    contract: type[M]
    identity_field: str | None
    prefix: bytes
    suffix: bytes

    @classmethod
    def of(cls, contract: type[M]) -> "Reader[M]":
        """The reader of one contract."""
        head, _, tail = contract.SUBJECT.partition(contract.SUBJECT.who)
        who = contract.SUBJECT.who
        identity_field = who[1:-1] if who.startswith("{") else None
        return cls(contract, identity_field, head.encode(), tail.encode())

    def read(self, subject: str, payload: bytes, contract_name: str | None = None) -> M:
        """The message in ``payload``, heard on ``subject``.

        Raises:
            Unreadable: it is oversized, of an unknown version, malformed, or carries another's identity.
            NotOurs: it is of a version another reader is for.
        """
        self._check_size(payload)
        self._check_version(subject, contract_name)
        message = parse(self.contract, payload)
        if self.identity_field and subject.split(".")[3] != getattr(message, self.identity_field):
            raise Unreadable(
                DeadReason.FOREIGN_ID, f"the payload's {self.identity_field} is not its subject's"
            )
        return message

    def read_fast(self, subject: bytes, payload: bytes) -> M:
        """As ``read``, for firehoses: no headers, and the subject is compared rather than taken apart.

        Raises:
            Unreadable: as ``read``.
            NotOurs: as ``read``.
        """
        if len(payload) <= self.contract.MAX_BYTES and subject.startswith(self.prefix):
            try:
                message = cast("M", self.contract.__pydantic_validator__.validate_json(payload))
            except ValidationError as error:
                raise Unreadable(DeadReason.MALFORMED, describe(error)) from None
            who = subject[len(self.prefix) : -len(self.suffix)]
            if self.identity_field is None or message.__dict__[self.identity_field].encode() == who:
                return message
        try:
            text = subject.decode()
        except UnicodeDecodeError:
            raise Unreadable(DeadReason.MALFORMED, "its subject is not text") from None
        return self.read(text, payload)

    def _check_size(self, payload: bytes) -> None:
        if len(payload) > self.contract.MAX_BYTES:
            text = f"larger than the {self.contract.MAX_BYTES} bytes {self.contract.contract()} allows"
            raise Unreadable(DeadReason.OVERSIZED, text)

    def _check_version(self, subject: str, contract_name: str | None) -> None:
        area, version, what = self.contract.contract().split(".")
        heard = f"{area}.{subject.split('.')[2]}.{what}"
        for name in (heard, contract_name or heard):
            if name == self.contract.contract():
                continue
            if name in _known():
                raise NotOurs
            raise Unreadable(
                DeadReason.WRONG_VERSION, f"it is {name[:100]}, this reader knows {area}.{version}.{what}"
            )


def parse(model: type[B], payload: bytes) -> B:
    """``payload`` as the model describes it.

    Raises:
        Unreadable: it is not.
    """
    try:
        return cast("B", model.__pydantic_validator__.validate_json(payload))
    except ValidationError as error:
        raise Unreadable(DeadReason.MALFORMED, describe(error)) from None


def describe(error: ValidationError) -> str:
    """The first thing wrong, without the payload's values: a value may be a secret."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])[:200]
    return f"{where or 'payload'}: {first['type']} ({error.error_count()} in all)"


def _known() -> frozenset[str]:
    # Looked up only where a version is not the reader's: most processes never load every contract.
    from muster_contracts import catalogue  # noqa: PLC0415

    return frozenset(kind.contract() for kind in catalogue.contracts())
