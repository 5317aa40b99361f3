"""What becomes of a chunk: stored, known already, behind a gap, damaged, or too much."""

import base64
import binascii
import hashlib
import zlib
from dataclasses import dataclass
from uuid import UUID

from muster_contracts.chunk.v1 import Chunk, Encoding

LEAST_CHARGE = 256
"""Bytes that a chunk counts towards the limit of its stream at least: its row and its index take so much."""


class Damaged(ValueError):
    """The chunk, or the end of its stream, is not what its digest says."""


@dataclass(frozen=True, slots=True)
class Stream:
    """How far one stream is."""

    size: int = 0
    complete: bool = False
    sha256: str | None = None
    id: int | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk that was looked into: its bytes as they were packed, and what they are unpacked."""

    chunk: Chunk
    packed: bytes
    data: bytes


def charge(length: int) -> int:
    """What a chunk of so many bytes counts towards the limit of its stream."""
    return max(length, LEAST_CHARGE)


def unpacked(chunk: Chunk) -> Piece:
    """The chunk's bytes; never more than it says they are.

    Raises:
        Damaged: they are not what the chunk says.
    """
    where = f"the chunk at offset {chunk.offset}"
    try:
        packed = base64.b64decode(chunk.data, validate=True)
        data = _gunzip(packed, chunk.length) if chunk.encoding is Encoding.GZIP else packed
    except (binascii.Error, zlib.error) as error:
        raise Damaged(f"cannot unpack {where}: {error}") from None
    if len(data) != chunk.length or hashlib.sha256(data).hexdigest() != chunk.sha256:
        raise Damaged(f"cannot keep {where}: it is not what its length and digest say; put it again")
    return Piece(chunk, packed, data)


def command_of(stream: str) -> UUID | None:
    """Whose output it is; None if it is no output of a command."""
    kind, _, name = stream.partition("/")
    try:
        command = UUID(name) if kind == "output" else None
    except ValueError:
        return None
    # An id can be spelled in many ways; each would be a stream with a limit of its own.
    return command if str(command) == name else None


def _gunzip(packed: bytes, length: int) -> bytes:
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
    data = unpacker.decompress(packed, length + 1)
    if not unpacker.eof or unpacker.unused_data:
        raise zlib.error("its gzip data is longer than it says, or cut off")
    return data
