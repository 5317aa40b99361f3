"""The two messages of grpc.health.v1 (Health/Check), by hand: each has one field."""

from enum import IntEnum

PATH = "/grpc.health.v1.Health/Check"

NOT_FOUND, UNIMPLEMENTED = 5, 12
"""Codes of gRPC."""

CODES = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE",
    "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip


class Serving(IntEnum):
    """How a service is, by its server."""

    UNKNOWN = 0
    SERVING = 1
    NOT_SERVING = 2
    SERVICE_UNKNOWN = 3


def request(service: str) -> bytes:
    """A HealthCheckRequest, framed: not compressed, its length, field 1 as text."""
    name = service.encode()
    message = b"\x0a" + _varint(len(name)) + name if name else b""
    return b"\x00" + len(message).to_bytes(4, "big") + message


def response(framed: bytes) -> Serving:
    """What a framed HealthCheckResponse says; the last field 1 counts, fields of other numbers do not.

    Raises:
        ValueError: it is none.
    """
    if len(framed) < 5 or framed[0] or int.from_bytes(framed[1:5], "big") != len(framed) - 5:
        raise ValueError("it is no message of its own, or compressed")
    status, rest = Serving.UNKNOWN, framed[5:]
    while rest:
        key, rest = _read_varint(rest)
        value, rest = _read_field(key & 7, rest)
        if key == 0x08:
            status = Serving(value)
    return status


def _read_field(wire_type: int, data: bytes) -> tuple[int, bytes]:
    """The number in a field, or 0 for one that is skipped, and what follows it."""
    match wire_type:
        case 0:
            return _read_varint(data)
        case 2:
            length, data = _read_varint(data)
        case 1 | 5:
            length = 8 if wire_type == 1 else 4
        case _:
            raise ValueError("it has a field of no known type")
    if length > len(data):
        raise ValueError("it ends too early")
    return 0, data[length:]


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first; the highest bit says that there are more."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _read_varint(data: bytes) -> tuple[int, bytes]:
    number = 0
    for place, byte in enumerate(data[:10]):
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return number, data[place + 1 :]
    raise ValueError("it ends too early")
