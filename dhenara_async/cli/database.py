"""``db``: brings the schema of a database of conversations to this version."""

from sqlalchemy import create_engine

from dhenara_async.stores.sql import sqlite
from dhenara_async.stores.sql.address import database_url
from dhenara_async.stores.sql.database import translated
from dhenara_async.stores.sql.schema import SCHEMA, upgrade_postgres


def upgrade_database(address: str) -> str:
    """Migrate a database and return its new version; nothing changes in one that has it.

    Args:
        address: The path of an SQLite file, or a database's URL.

    Raises:
        ConfigurationError: The address cannot be used, or a driver is not installed.
        SchemaError: The database is newer than this version of the package.
        StoreError: The database cannot be reached or changed.
    """
    url = database_url(address)
    with translated(url):
        if url.get_backend_name() == "sqlite":
            sqlite.prepare(url, "wal")
            return SCHEMA
        engine = create_engine(url.set(drivername="postgresql+psycopg"), hide_parameters=True)
        try:
            with engine.begin() as connection:
                upgrade_postgres(connection)
        finally:
            engine.dispose()
    return SCHEMA
