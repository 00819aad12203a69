"""What all tests have in common."""

from collections.abc import Sequence

import pytest

from dhenara_async.downloads import fetch
from dhenara_async.errors import DhenaraError


def _never(_policy: object, _failed: int, _error: DhenaraError, *, remaining: float | None, draw: float) -> None:
    """No other try, whatever the config says."""


@pytest.fixture(autouse=True)
def no_names_of_the_internet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts of files are looked up on this machine alone."""
    real = fetch.addresses_of

    async def addresses_of(host: str, port: int) -> Sequence[str]:
        if host != "localhost":
            raise OSError(f"nobody looks up {host} here")
        return await real(host, port)

    monkeypatch.setattr(fetch, "addresses_of", addresses_of)


@pytest.fixture(autouse=True)
def one_request_a_call(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Most tests are about one request: a call that fails is made again only in tests marked ``retries``."""
    if request.node.get_closest_marker("retries") is None:
        monkeypatch.setattr("dhenara_async.calls.attempts.delay", _never)
