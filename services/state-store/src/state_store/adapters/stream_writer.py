"""Writing chunks: each exactly where its stream ends, and the end only if it is what the agent says."""

import gzip
import hashlib
from collections import OrderedDict
from uuid import UUID

from sqlalchemy import insert, select

from muster_bus import AskError
from muster_contracts.chunk.v1 import ChunkTaken, Encoding, PutChunk, StreamEnd
from state_store.adapters.page import Page
from state_store.adapters.pairs import by_pairs, given
from state_store.adapters.tables import CHUNKS, STREAMS
from state_store.domain.streams import Piece, Stream, charge, command_of
from state_store.ports import Limits, Stored

REMEMBERED = 2000
READ_AT_ONCE = 64

Name = tuple[str, str]
"""Agent and stream."""
Put = tuple[PutChunk, Piece | None]


class Hasher:
    """The digest of a stream so far, and what its chunks count towards its limit."""

    def __init__(self) -> None:
        self.charged = 0
        self._sha256 = hashlib.sha256()

    def grown(self, data: bytes) -> "Hasher":
        """Another one, with one more chunk."""
        other = Hasher()
        other._sha256 = self._sha256.copy()
        other._sha256.update(data)
        other.charged = self.charged + charge(len(data))
        return other

    def hexdigest(self) -> str:
        """The SHA-256 of all of it."""
        return self._sha256.hexdigest()


class StreamWriter:
    """Remembers the digests of the streams that grow just now, so that an end need not read them again."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._hashers: OrderedDict[int, tuple[int, Hasher]] = OrderedDict()

    def committed(self, page: Page) -> None:
        """What the page has hashed is on disk."""
        for id_, hasher in page.hashers.items():
            self._hashers[id_] = hasher
            self._hashers.move_to_end(id_)
        while len(self._hashers) > REMEMBERED:
            self._hashers.popitem(last=False)

    async def write(self, page: Page, puts: list[Put]) -> list[Stored | AskError]:
        """Take each in order."""
        streams = await self._load(page, {(put.agent_id, put.stream) for put, _ in puts})
        results: list[Stored | AskError] = []
        for put, piece in puts:
            try:
                results.append(await self._take(page, streams, put, piece))
            except AskError as problem:
                results.append(problem)
        return results

    async def _load(self, page: Page, names: set[Name]) -> dict[Name, Stream]:
        both = (STREAMS.c.agent, STREAMS.c.name)
        query = by_pairs(page.connection, STREAMS, both)
        if page.connection.dialect.name != "sqlite":
            query = query.order_by(STREAMS.c.id).with_for_update()
        rows = await page.connection.execute(query, given(page.connection, sorted(names)))
        return {
            (row.agent, row.name): Stream(row.size, complete=row.complete, sha256=row.sha256, id=row.id)
            for row in rows
        }

    async def _take(
        self, page: Page, streams: dict[Name, Stream], put: PutChunk, piece: Piece | None
    ) -> Stored:
        name = (put.agent_id, put.stream)
        command = await self._owner(page, put) if name not in streams else None
        stream = streams.get(name, Stream())
        if stream.complete or (piece is None and put.end is None):
            return Stored(ChunkTaken(expected_offset=stream.size, complete=stream.complete), grew=False)
        if command:
            stream = streams[name] = await _begun(page, put, command)
        grows = piece if piece and piece.chunk.offset == stream.size else None
        if grows and not await self._has_room(page, stream, grows):
            stream = streams[name] = await self._cut(page, stream)
            return Stored(_taken(stream), grew=True, too_large=True)
        if grows:
            stream = streams[name] = await self._grown(page, stream, grows)
        if put.end:
            stream = streams[name] = await self._finished(page, stream, put, put.end)
        return Stored(_taken(stream), grew=grows is not None or stream.complete)

    async def _has_room(self, page: Page, stream: Stream, piece: Piece) -> bool:
        charged = (await self._hasher(page, stream)).charged
        return charged + charge(piece.chunk.length) <= self._limits.bytes_of_stream

    async def _owner(self, page: Page, put: PutChunk) -> UUID:
        """The command a new stream belongs to."""
        command = command_of(put.stream)
        if command:
            await page.load([(command, put.agent_id)])
        if command is None or page.get((command, put.agent_id)) is None:
            text = f"cannot keep {put.stream} of {put.agent_id}: it is no output of a command it was given"
            raise AskError("not-found", text)
        return command

    async def _grown(self, page: Page, stream: Stream, piece: Piece) -> Stream:
        assert stream.id is not None
        hasher = (await self._hasher(page, stream)).grown(piece.data)
        chunk = piece.chunk
        page.chunks.append(
            {
                "stream_id": stream.id,
                "offset": chunk.offset,
                "length": chunk.length,
                "sha256": chunk.sha256,
                "encoding": chunk.encoding.value,
                "data": piece.packed,
            }
        )
        grown = Stream(stream.size + chunk.length, id=stream.id)
        page.hashers[stream.id] = (grown.size, hasher)
        return _noted(page, grown)

    async def _finished(self, page: Page, stream: Stream, put: PutChunk, end: StreamEnd) -> Stream:
        if stream.size < end.size:
            return stream
        sha256 = (await self._hasher(page, stream)).hexdigest()
        if stream.size > end.size or sha256 != end.sha256:
            text = (
                f"cannot end {put.stream} of {put.agent_id} with {end.size} bytes of {end.sha256[:12]}…: "
                f"{stream.size} bytes of {sha256[:12]}… are kept"
            )
            raise AskError("conflict", text)
        return _noted(page, Stream(stream.size, complete=True, sha256=sha256, id=stream.id))

    async def _cut(self, page: Page, stream: Stream) -> Stream:
        """It ends where it is, for there will be no more of it."""
        sha256 = (await self._hasher(page, stream)).hexdigest()
        return _noted(page, Stream(stream.size, complete=True, sha256=sha256, id=stream.id))

    async def _hasher(self, page: Page, stream: Stream) -> Hasher:
        """The digest of the stream so far; read anew where it is not remembered."""
        assert stream.id is not None
        size, hasher = page.hashers.get(stream.id) or self._hashers.get(stream.id) or (-1, Hasher())
        if size != stream.size:
            hasher = await _hashed_anew(page, stream.id)
            page.hashers[stream.id] = (stream.size, hasher)
        return hasher


async def _begun(page: Page, put: PutChunk, command: UUID) -> Stream:
    values = {
        "agent": put.agent_id,
        "name": put.stream,
        "command_id": command,
        "size": 0,
        "complete": False,
        "sha256": None,
    }
    made = await page.connection.execute(insert(STREAMS).values(values).returning(STREAMS.c.id))
    return Stream(id=made.scalar_one())


async def _hashed_anew(page: Page, stream_id: int) -> Hasher:
    await page.write_chunks()
    hasher, offset = Hasher(), -1
    columns = CHUNKS.c
    query = select(columns.offset, columns.encoding, columns.data).order_by(columns.offset)
    while True:
        here = query.where(columns.stream_id == stream_id, columns.offset > offset).limit(READ_AT_ONCE)
        rows = (await page.connection.execute(here)).all()
        if not rows:
            return hasher
        for row in rows:
            hasher = hasher.grown(bytes_of(row.encoding, row.data))
        offset = rows[-1].offset


def bytes_of(encoding: str, packed: bytes) -> bytes:
    """A chunk's bytes, unpacked; it was looked into before it was kept."""
    return gzip.decompress(packed) if encoding == Encoding.GZIP else packed


def _noted(page: Page, stream: Stream) -> Stream:
    assert stream.id is not None
    page.streams[stream.id] = {"size": stream.size, "complete": stream.complete, "sha256": stream.sha256}
    return stream


def _taken(stream: Stream) -> ChunkTaken:
    return ChunkTaken(expected_offset=stream.size, complete=stream.complete)
