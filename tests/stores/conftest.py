"""The stores that the same tests run on: in memory, in an SQLite file, in PostgreSQL."""

from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import URL, create_engine, text

from dhenara_async.stores import MemoryStore, SQLStore
from tests.stores.postgres import migrate


@pytest.fixture
def empty(postgres: URL) -> Iterator[URL]:
    """A database without tables."""
    name, admin = f"dhenara_empty_{uuid4().hex[:12]}", create_engine(postgres, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield postgres.set(database=name)
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture
def migrated(empty: URL) -> URL:
    """A database with tables, and nothing in them."""
    migrate(empty)
    return empty


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[MemoryStore | SQLStore]:
    """An open store of each kind."""
    match request.param:
        case "memory":
            opened = MemoryStore()
        case "sqlite":
            opened = SQLStore(tmp_path / "chat.db")
        case _:
            url: URL = request.getfixturevalue("postgres")
            opened = SQLStore(url.render_as_string(hide_password=False))
    async with opened:
        yield opened
