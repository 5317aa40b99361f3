"""The errors of the SQL library."""

from muster_bus.errors import MusterError


class DatabaseError(MusterError):
    """The database cannot be used as asked; the text says what to do, and holds no password."""
