"""Reading what outgrows a message: a stream of chunks, each checked, and the whole as well."""

import base64
import binascii
import hashlib
import zlib
from collections.abc import AsyncIterator

from muster_bus.errors import NoAnswer
from muster_client.asking import Asking, now
from muster_client.errors import Damaged
from muster_contracts.chunk.v1 import LARGEST_CHUNK, Chunk, Chunks, Encoding, ReadChunks


class Reader:
    """How far one stream was read; ``take`` turns answers into bytes. Starts at ``offset``."""

    def __init__(self, agent_id: str, stream: str, offset: int = 0) -> None:
        self.agent_id, self.stream, self.offset = agent_id, stream, offset
        self.complete = False
        self._begin, self._whole = offset, hashlib.sha256()

    def take(self, answer: Chunks) -> bytes:
        """The bytes of an answer that were not read yet.

        Raises:
            Damaged: a chunk, or the whole, is not what its digest says, or something is left out.
        """
        taken = b"".join(self._unread(chunk) for chunk in answer.chunks)
        if answer.complete and self.offset >= answer.size:
            self.complete = True
            self._check_whole(answer.sha256)
        return taken

    def _unread(self, chunk: Chunk) -> bytes:
        data = self._unpacked(chunk)
        if hashlib.sha256(data).hexdigest() != chunk.sha256 or len(data) != chunk.length:
            raise self._damaged(f"the chunk at {chunk.offset} is not what its digest says")
        if chunk.offset > self.offset:
            raise self._damaged(f"bytes {self.offset} to {chunk.offset} are left out")
        fresh = data[self.offset - chunk.offset :]
        self.offset += len(fresh)
        self._whole.update(fresh)
        return fresh

    def _unpacked(self, chunk: Chunk) -> bytes:
        try:
            data = base64.b64decode(chunk.data, validate=True)
            return _unzipped(data) if chunk.encoding is Encoding.GZIP else data
        except (binascii.Error, zlib.error) as error:
            raise self._damaged(f"the chunk at {chunk.offset} cannot be unpacked") from error

    def _check_whole(self, wanted: str | None) -> None:
        """Only who read from the first byte on can tell."""
        if self._begin == 0 and wanted and self._whole.hexdigest() != wanted:
            raise self._damaged("it is not what the digest of the whole says")

    def _damaged(self, why: str) -> Damaged:
        return Damaged(f"cannot read {self.stream} of {self.agent_id}: {why}")


def _unzipped(data: bytes) -> bytes:
    """No more than a chunk may have, however much it would become."""
    return zlib.decompressobj(wbits=31).decompress(data, LARGEST_CHUNK + 1)


async def read_on(fleet: Asking, reader: Reader) -> AsyncIterator[bytes]:
    """What the stream has now and was not read yet.

    Raises:
        Damaged: it is not what its digests say.
        NoAnswer: nobody could be asked.
    """
    while not reader.complete:
        question = ReadChunks(
            occurred_at=now(), agent_id=reader.agent_id, stream=reader.stream, offset=reader.offset
        )
        if not (data := reader.take(await fleet.ask(question))):
            return
        yield data


async def read_patiently(fleet: Asking, reader: Reader) -> AsyncIterator[bytes]:
    """The same for who goes on anyway: while nobody answers there is nothing new."""
    try:
        async for data in read_on(fleet, reader):
            yield data
    except NoAnswer:
        return
