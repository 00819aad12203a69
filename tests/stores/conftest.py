"""The stores that the same tests run on: in memory, in an SQLite file, in PostgreSQL."""

from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import pytest
from sqlalchemy import URL

from dhenara_async.stores import MemoryStore, SQLStore
from tests.stores.postgres import postgres_url


@pytest.fixture(scope="session")
def postgres() -> Generator[URL]:
    """The URL of a migrated PostgreSQL database that the tests of one worker share."""
    with postgres_url() as url:
        yield url


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
