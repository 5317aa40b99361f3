"""When a certificate ends, from its DER encoding: Python tells that only of certificates it has verified."""

from datetime import UTC, datetime

SEQUENCE, VERSION, UTC_TIME = 0x30, 0xA0, 0x17


def ends_at(der: bytes) -> datetime:
    """The end of its validity (RFC 5280, 4.1).

    Raises:
        ValueError: it is no certificate.
    """
    _, certificate, _ = _element(der)
    _, to_be_signed, _ = _element(certificate)
    tag, _, rest = _element(to_be_signed)
    if tag == VERSION:
        _, _, rest = _element(rest)  # the serial number
    _, _, rest = _element(rest)  # the algorithm of the signature
    _, _, rest = _element(rest)  # the issuer
    tag, validity, _ = _element(rest)
    if tag != SEQUENCE:
        raise ValueError("cannot read the certificate: it has no validity where that should be")
    _, _, rest = _element(validity)
    tag, end, _ = _element(rest)
    return _time(end.decode("ascii"), short=tag == UTC_TIME)


def _element(data: bytes) -> tuple[int, bytes, bytes]:
    """Its tag, what is in it, and what follows it."""
    if len(data) < 2:
        raise ValueError("cannot read the certificate: it ends too early")
    tag, length, start = data[0], data[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[2:start], "big")
    if len(data) < start + length:
        raise ValueError("cannot read the certificate: it ends too early")
    return tag, data[start : start + length], data[start + length :]


def _time(text: str, *, short: bool) -> datetime:
    """Years of two digits are 1950 to 2049."""
    if short:
        text = f"{'19' if text[:2] >= '50' else '20'}{text}"
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
