"""``WholeFeed``: an answer of the front as one JSON object."""

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from dhenara_async.web.frames.failures import Failure
from dhenara_async.web.openai.errors import JSON, error_of


class WholeFeed:
    """An answer as one object. See ``Feed``. A subclass waits for the answer."""

    resumes: bool = False
    media_type: str = JSON
    comment: bytes = b""
    headers: Mapping[str, str] = {"cache-control": "no-store"}

    def __init__(self) -> None:
        self._body: bytes | None = None

    async def answered(self) -> bytes:
        """Wait for the answer, and return its object.

        Raises:
            DhenaraError: There is no answer.
        """
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        self._body = await self.answered()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def begin(self) -> bytes:
        """See ``Feed``."""
        return b""

    async def read(self) -> bytes | None:
        """See ``Feed``."""
        body, self._body = self._body, None
        return body

    def end(self) -> bytes:
        """See ``Feed``."""
        return b""

    def fail(self, error: BaseException) -> None:
        """See ``Feed``."""
        return

    def refusal(self, failure: Failure) -> tuple[int, str, bytes]:
        """See ``Feed``."""
        return refusal_of(failure)


def refusal_of(failure: Failure) -> tuple[int, str, bytes]:
    """Return status, content type and body of a response that says why there is no answer."""
    error = error_of(failure)
    return error.status, JSON, error.body
