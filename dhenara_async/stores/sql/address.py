"""A path or a URL becomes the address of a database."""

import os
from pathlib import Path
from typing import Final

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from dhenara_async.errors import ConfigurationError

_DRIVERS: Final = {
    "sqlite": "sqlite",
    "sqlite+aiosqlite": "sqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}


def database_url(address: str | os.PathLike[str]) -> URL:
    """Return the URL of a database, with the driver that is used.

    Args:
        address: A path of an SQLite file, or a URL: ``sqlite:///…``, ``postgresql://…`` (psycopg) or
            ``postgresql+asyncpg://…``.

    Raises:
        ConfigurationError: It is no such URL, has options that SQLite files do not take, or is a database in memory.
    """
    text = os.fspath(address)
    if "://" not in text:
        return _sqlite(text)
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ConfigurationError("the store's URL cannot be read: sqlite:///FILE or postgresql://HOST/NAME") from None
    driver = _DRIVERS.get(url.drivername)
    if driver is None:
        raise ConfigurationError(f"no store for {url.drivername}:// URLs; these work: {', '.join(sorted(_DRIVERS))}")
    if not driver.startswith("sqlite"):
        return url.set(drivername=driver)
    if url.query:  # mode=ro would be ignored, and the file written
        raise ConfigurationError(f"the URL of an SQLite store has no options ({', '.join(url.query)}): sqlite:///FILE")
    return _sqlite(url.database or "")


def _sqlite(path: str) -> URL:
    if path in ("", ":memory:") or path.startswith("file:"):
        raise ConfigurationError("SQLStore needs the path of a file; MemoryStore() keeps conversations in memory")
    if "\0" in path:
        raise ConfigurationError("the path of the store has a NUL character")
    return URL.create("sqlite", database=str(Path(path).absolute()))
