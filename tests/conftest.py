"""What all tests have in common."""

import gc
import os
from collections.abc import Generator, Sequence

import pytest
from sqlalchemy import URL

from dhenara_async.downloads import fetch
from dhenara_async.transport.aiohttp_internals import VARIABLE
from tests.browser import browsing, chromium
from tests.stores.postgres import postgres_url

__all__ = ("browsing", "chromium")  # fixtures


def pytest_xdist_auto_num_workers() -> int:
    """Start two workers a core: many tests wait for other processes and for sockets."""
    return min(2 * (os.cpu_count() or 1), 16)


def pytest_collection_finish() -> None:
    """Exclude the collected tests from garbage collection.

    Many tests collect garbage to see what they leave behind. Each collection would examine the items of all tests and
    every imported module, half a second instead of a few milliseconds.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def no_names_of_the_internet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts of files are looked up on this machine alone."""
    real = fetch.addresses_of

    async def addresses_of(host: str, port: int) -> Sequence[str]:
        if host != "localhost":
            raise OSError(f"nobody looks up {host} here")
        return await real(host, port)

    monkeypatch.setattr(fetch, "addresses_of", addresses_of)


@pytest.fixture(scope="session")
def postgres() -> Generator[URL]:
    """The URL of a migrated PostgreSQL database that the tests of one process share."""
    with postgres_url() as url:
        yield url


@pytest.fixture
def private_aiohttp(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use aiohttp's private parts, whatever the environment says."""
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.fixture
def public_aiohttp(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use aiohttp's public interface alone."""
    monkeypatch.setenv(VARIABLE, "0")


@pytest.fixture(params=["private", "public"])
def both_aiohttp_ways(request: pytest.FixtureRequest) -> None:
    """Run a test twice: with aiohttp's private parts, and with its public interface alone."""
    request.getfixturevalue(f"{request.param}_aiohttp")
