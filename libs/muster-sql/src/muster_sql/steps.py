"""The part that needs Alembic: applying version files, comparing tables with what is declared."""

from pathlib import Path
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, MetaData

from muster_sql.errors import DatabaseError


def upgrade(connection: Connection, directory: Path, database: str) -> list[str]:
    """Apply every version in ``directory`` the database has not had, and name them.

    Raises:
        DatabaseError: the versions cannot be told to follow the database's.
    """
    applied: list[str] = []
    script = _script(directory)

    def steps(revision: Any, _: MigrationContext) -> Any:
        planned = script._upgrade_revs("head", revision)  # noqa: SLF001  (as alembic's own command does)
        applied.extend(step.revision.revision for step in planned)
        return planned

    try:
        with EnvironmentContext(Config(), script, fn=steps) as environment:
            environment.configure(connection=connection, render_as_batch=True)
            environment.run_migrations()
    except CommandError as error:
        newer = "Can't locate revision" in str(error)
        advice = "; it was written by a newer version, install that one" if newer else ""
        raise DatabaseError(f"cannot migrate {database}: {error}{advice}") from error
    return applied


def differences(connection: Connection, metadata: MetaData) -> list[str]:
    """What the tables lack of ``metadata``, or have beside it."""
    context = MigrationContext.configure(connection, opts={"render_as_batch": True})
    return [str(difference) for difference in compare_metadata(context, metadata)]


def _script(directory: Path) -> ScriptDirectory:
    config = Config()
    place = str(directory).replace("%", "%%")
    config.set_main_option("script_location", place)
    config.set_main_option("version_locations", place)
    config.set_main_option("path_separator", "newline")
    return ScriptDirectory.from_config(config)
