"""The schema's version: which one a database has, and how it is brought to this one.

SQLite files are migrated when they are opened, in one transaction that holds the write lock, so that of several
processes one migrates and the others wait. PostgreSQL is migrated only by ``upgrade_postgres``.
"""

from pathlib import Path
from typing import Final

from sqlalchemy import Connection, inspect, text

from dhenara_async.errors import SchemaError

SCHEMA: Final = "0006"
"""The newest version in ``migrations``: what this version of the package reads and writes."""

_LOCK: Final = 7_226_201_116  # an advisory lock's number; any that nobody else uses


def version_of(connection: Connection) -> str | None:
    """The version of a database; None for one without our tables."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def demand_current(connection: Connection) -> None:
    """Refuse a database whose schema is not this version's.

    Raises:
        SchemaError: It is newer, or not migrated.
    """
    version = version_of(connection)
    if version == SCHEMA:
        return
    if version is not None and version not in versions():
        raise _newer(version)
    state = "has no tables of dhenara_async yet" if version is None else f"has the older schema {version}"
    raise SchemaError(f"the database {state}: run `dhenara-async db upgrade URL` once, then start again")


def upgrade(connection: Connection, to: str = SCHEMA) -> None:
    """Bring a database to this version, in the transaction of ``connection``, whose caller holds the lock.

    Args:
        connection: The database.
        to: An earlier version instead, to try its migration.

    Raises:
        SchemaError: It is newer than this version of the package.
    """
    version = version_of(connection)
    if version == to:
        return
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(_migrations()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)
    if version is not None and version not in versions():
        raise _newer(version)

    def steps(revision: object, _: object) -> object:
        return scripts._upgrade_revs(to, revision)  # type: ignore[arg-type]  # as alembic.command.upgrade does

    with EnvironmentContext(config, scripts, fn=steps) as environment:  # type: ignore[arg-type]
        environment.configure(connection=connection)
        environment.run_migrations()


def upgrade_postgres(connection: Connection) -> None:
    """Bring a PostgreSQL database to this version; several callers at once wait for each other."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
    upgrade(connection)


def _migrations() -> Path:
    return Path(__file__).parent / "migrations"


def versions() -> set[str]:
    """The versions that this package knows: the beginnings of the names of the migration files."""
    return {path.name.partition("_")[0] for path in (_migrations() / "versions").glob("[0-9]*_*.py")}


def _newer(version: str) -> SchemaError:
    return SchemaError(
        f"the database has the schema {version}, and this version of dhenara_async knows up to {SCHEMA}: "
        "a newer version has written it, so upgrade the package"
    )
