"""The errors of the SQL library."""


class DatabaseError(Exception):
    """The database cannot be used as asked; the text says what to do, and holds no password."""
