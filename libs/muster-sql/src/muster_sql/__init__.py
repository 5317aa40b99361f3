"""SQL for Muster services: engine, migrations, batches, outbox."""

from muster_sql.batches import insert_rows, upsert
from muster_sql.database import Database
from muster_sql.errors import DatabaseError
from muster_sql.migrations import drift, migrate, version
from muster_sql.outbox import Outbox, outbox_table
from muster_sql.types import UtcDateTime

__all__ = [
    "Database",
    "DatabaseError",
    "Outbox",
    "UtcDateTime",
    "drift",
    "insert_rows",
    "migrate",
    "outbox_table",
    "upsert",
    "version",
]
