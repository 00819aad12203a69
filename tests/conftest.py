"""What all tests have in common."""

import pytest

from dhenara_async.errors import DhenaraError


def _never(_policy: object, _failed: int, _error: DhenaraError, *, remaining: float | None, draw: float) -> None:
    """No other try, whatever the config says."""


@pytest.fixture(autouse=True)
def one_request_a_call(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Most tests are about one request: a call that fails is made again only in tests marked ``retries``."""
    if request.node.get_closest_marker("retries") is None:
        monkeypatch.setattr("dhenara_async.feed.delay", _never)
