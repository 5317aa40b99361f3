"""Everything that outgrows a message travels in chunks: output, logs, plans, state, snapshots, artifacts.

A stream is a row of bytes with one writer. A chunk says where it belongs and what its digest is; putting one
again changes nothing, one behind a gap is answered with the offset expected, and the end names size and
digest of the whole. So a writer that was cut off anywhere asks where to go on, and nothing is there twice.
"""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from muster_contracts.ids import AgentId, Sha256
from muster_contracts.message import Answer, Ask, LiveFact, Part, Role, Subject

LARGEST_CHUNK = 32 * 1024
"""Bytes of one chunk before compression; in base64 it fits into a message with room to spare."""

StreamName = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z]{1,20}/[0-9a-z-]{1,64}$"),
    Field(description="What it is and whose: output/<command id>.", examples=["output/8c3f0a1b"]),
]


class Encoding(StrEnum):
    """How a chunk's data is packed, beneath the base64."""

    IDENTITY = "identity"
    GZIP = "gzip"


class Chunk(Part):
    """Some bytes of a stream."""

    offset: int = Field(ge=0, description="Where in the stream its first byte belongs.")
    length: int = Field(ge=1, le=LARGEST_CHUNK, description="How many bytes it has, unpacked.")
    sha256: Sha256 = Field(description="Of the bytes, unpacked.")
    encoding: Encoding = Field(default=Encoding.IDENTITY)
    data: str = Field(max_length=48 * 1024, description="The bytes, packed, in base64.")


class StreamEnd(Part):
    """The stream is complete."""

    size: int = Field(ge=0, description="Bytes in all.")
    sha256: Sha256 = Field(description="Of all bytes.")


class ChunkTaken(Answer):
    """How far the stream is now, fsynced."""

    expected_offset: int = Field(
        description="Where the next chunk has to begin; smaller than asked where there is a gap."
    )
    complete: bool = Field(default=False, description="Whether the end was taken.")


class PutChunk(Ask[ChunkTaken]):
    """Keep some bytes of an agent's stream; without a chunk and an end it asks where to go on."""

    SUBJECT: ClassVar[Subject] = Subject("muster.chunk.v1.{agent_id}.put-chunk")
    SAID_BY = (Role.AGENT,)
    HEARD_BY = (Role.STATE_STORE,)
    ANSWER = ChunkTaken

    agent_id: AgentId
    stream: StreamName
    chunk: Chunk | None = None
    end: StreamEnd | None = None


class ChunkStored(LiveFact):
    """A stream has grown, or is complete: whoever follows it reads on."""

    SUBJECT: ClassVar[Subject] = Subject("muster.chunk.v1.{agent_id}.chunk-stored")
    SAID_BY = (Role.STATE_STORE,)
    HEARD_BY = (Role.OPERATOR,)
    MAX_BYTES = 4096

    agent_id: AgentId
    stream: StreamName
    size: int = Field(ge=0, description="Bytes it has now.")
    complete: bool = Field(default=False, description="Whether that is all.")


class Chunks(Answer):
    """Some of a stream, in order and without gaps."""

    chunks: list[Chunk]
    size: int = Field(description="Bytes the stream has now.")
    complete: bool = Field(default=False, description="Whether that is all there will be.")
    sha256: Sha256 | None = Field(default=None, description="Of all bytes, once it is complete.")


class ReadChunks(Ask[Chunks]):
    """What is in this stream from an offset on? A stream that nothing was put into is empty."""

    SUBJECT: ClassVar[Subject] = Subject("muster.chunk.v1.state-store.read-chunks")
    SAID_BY = (Role.OPERATOR,)
    HEARD_BY = (Role.STATE_STORE,)
    ANSWER = Chunks

    agent_id: AgentId
    stream: StreamName
    offset: int = Field(default=0, ge=0, description="Where to begin; the first chunk may begin before it.")
    limit: int = Field(
        default=256 * 1024, ge=1, le=512 * 1024, description="At least one chunk, else at most so many bytes."
    )
