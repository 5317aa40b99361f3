"""The spool: where durable messages wait, fsynced, until the broker has acknowledged them.

``put`` returns when the letters would survive a power cut. ``take`` shows the oldest without removing
them, ``done`` removes what the broker has. A full spool drops its oldest letters and counts them: news
beats history, and a bounded disk beats both. Where history has been promised to somebody it refuses new
letters instead.
"""

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from muster_bus.errors import SpoolFailed, SpoolFull

CAPACITY_BYTES = 64 << 20

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Letter:
    """One durable message on its way: its id is the ``Nats-Msg-Id`` of every try."""

    id: str
    subject: str
    payload: bytes
    headers: dict[str, str] = field(default_factory=dict)


class Spool(Protocol):
    """Anything that keeps letters in order until they are done: a file, or a service's outbox table."""

    @property
    def capacity(self) -> int:
        """How many letters it holds at most."""

    @property
    def dropped(self) -> int:
        """How many letters it dropped because it was full."""

    async def put(self, *letters: Letter) -> None:
        """Keep the letters; they survive a power cut once this returns. A known id is kept once."""

    async def take(self, limit: int, *, without: Collection[str] = ()) -> list[Letter]:
        """The oldest letters of other subjects than ``without``, oldest first; they stay until done."""

    async def done(self, ids: Iterable[str]) -> None:
        """Forget the letters the broker has acknowledged."""

    async def size(self) -> int:
        """How many letters wait."""


# The bytes are counted by the file itself, so that a crash between two writes cannot make the count wrong.
_TABLES = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS letters (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
    subject TEXT NOT NULL, headers TEXT NOT NULL, payload BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS counts (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
INSERT OR IGNORE INTO counts VALUES ('dropped', 0);
INSERT OR IGNORE INTO counts SELECT 'bytes',
    coalesce(sum(length(id) + length(subject) + length(headers) + length(payload)), 0) FROM letters;
CREATE TRIGGER IF NOT EXISTS bytes_put AFTER INSERT ON letters BEGIN
    UPDATE counts SET value = value + length(NEW.id) + length(NEW.subject) + length(NEW.headers)
        + length(NEW.payload) WHERE name = 'bytes'; END;
CREATE TRIGGER IF NOT EXISTS bytes_gone AFTER DELETE ON letters BEGIN
    UPDATE counts SET value = value - length(OLD.id) - length(OLD.subject) - length(OLD.headers)
        - length(OLD.payload) WHERE name = 'bytes'; END;
COMMIT;
"""


class FileSpool:
    """A spool in one SQLite file (WAL, ``synchronous=FULL``), for who has no database of its own.

    It holds at most ``capacity`` letters and ``capacity_bytes`` of them. ``when_full`` it drops the oldest,
    or refuses the new ones, for callers who have already told somebody that the old ones are safe.
    """

    def __init__(
        self,
        path: Path,
        capacity: int = 10_000,
        *,
        capacity_bytes: int = CAPACITY_BYTES,
        when_full: Literal["drop-oldest", "refuse"] = "drop-oldest",
    ) -> None:
        self._path = path
        self._capacity = capacity
        self._capacity_bytes = capacity_bytes
        self._when_full = when_full
        # One thread owns the connection: the loop never waits for the disk, and letters keep their order.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spool")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = self._thread.submit(self._open).result()
        (self._dropped,) = self._thread.submit(
            self._one, "SELECT value FROM counts WHERE name='dropped'"
        ).result()

    @property
    def capacity(self) -> int:
        """How many letters it holds at most."""
        return self._capacity

    @property
    def capacity_bytes(self) -> int:
        """How many bytes of letters it holds at most: ids, subjects, headers and payloads."""
        return self._capacity_bytes

    @property
    def dropped(self) -> int:
        """How many letters were dropped for want of room, since the file was made."""
        return self._dropped

    async def put(self, *letters: Letter) -> None:
        """Keep the letters, dropping the oldest ones where there is no room.

        Raises:
            SpoolFailed: the disk did not take them; nothing was kept.
            SpoolFull: a spool that refuses has no room for all of them, or any spool for the last of them
                alone; nothing was kept.
        """
        await self._run(self._put, letters)

    async def take(self, limit: int, *, without: Collection[str] = ()) -> list[Letter]:
        """The oldest letters of other subjects than ``without``, oldest first; they stay until done."""
        return await self._run(self._take, limit, list(without))

    async def done(self, ids: Iterable[str]) -> None:
        """Forget the letters the broker has acknowledged."""
        await self._run(self._done, list(ids))

    async def size(self) -> int:
        """How many letters wait."""
        return await self._run(self._size)

    def close(self) -> None:
        """Close the file; what waits in it waits on."""
        self._thread.submit(self._db.close).result()
        self._thread.shutdown()

    async def _run(self, work: Callable[..., T], *args: object) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work, *args)
        except sqlite3.Error as error:
            raise SpoolFailed(f"cannot use the spool {self._path}: {error}; check its disk") from error

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, isolation_level=None)
        self._path.chmod(0o600)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.executescript(_TABLES)
        return db

    def _put(self, letters: tuple[Letter, ...]) -> None:
        rows = [(one.id, one.subject, json.dumps(one.headers), one.payload) for one in letters]
        with self._transaction():
            self._db.executemany(
                "INSERT OR IGNORE INTO letters (id, subject, headers, payload) VALUES (?, ?, ?, ?)", rows
            )
            dropped = self._make_room()
        self._dropped += dropped

    def _make_room(self) -> int:
        """Within the transaction of the letters that may not fit; how many were dropped for them."""
        letters = self._size() - self._capacity
        held = self._one("SELECT value FROM counts WHERE name='bytes'")[0] - self._capacity_bytes
        if letters <= 0 and held <= 0:
            return 0
        dropped = self._drop_oldest(letters, held) if self._when_full == "drop-oldest" else 0
        # Dropping everything would be to drop the newest too, and to say that it is kept.
        if not dropped or not self._size():
            raise SpoolFull(
                f"cannot keep more letters in the spool {self._path}: it may hold {self._capacity} of them "
                f"and {self._capacity_bytes} bytes; let it reach a broker, or give it more room"
            )
        self._db.execute("UPDATE counts SET value = value + ? WHERE name='dropped'", (dropped,))
        return dropped

    def _drop_oldest(self, letters: int, held: int) -> int:
        """Drop at least so many letters and at least so many bytes of them; how many letters it were."""
        dropped = last = 0
        rows = self._db.execute(
            "SELECT seq, length(id) + length(subject) + length(headers) + length(payload)"
            " FROM letters ORDER BY seq"
        )
        for seq, size in rows:
            if dropped >= letters and held <= 0:
                break
            dropped, held, last = dropped + 1, held - size, seq
        rows.close()
        self._db.execute("DELETE FROM letters WHERE seq <= ?", (last,))
        return dropped

    def _take(self, limit: int, without: list[str]) -> list[Letter]:
        # As JSON, since a statement may have only so many parameters.
        rows = self._db.execute(
            "SELECT id, subject, headers, payload FROM letters"
            " WHERE subject NOT IN (SELECT value FROM json_each(?)) ORDER BY seq LIMIT ?",
            (json.dumps(without), limit),
        )
        return [Letter(one, subject, payload, json.loads(headers)) for one, subject, headers, payload in rows]

    def _done(self, ids: list[str]) -> None:
        with self._transaction():
            self._db.executemany("DELETE FROM letters WHERE id = ?", [(one,) for one in ids])

    def _size(self) -> int:
        return self._one("SELECT count(*) FROM letters")[0]

    def _one(self, query: str) -> tuple[int]:
        row: tuple[int] = self._db.execute(query).fetchone()
        return row

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")
