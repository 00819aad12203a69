"""``Replayer``: a transport that answers from a file that ``Recorder`` wrote."""

import os
import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import anyio
import anyio.lowlevel

from dhenara_async.config import Timeouts
from dhenara_async.errors import (
    BoundsError,
    ConfigurationError,
    ConnectError,
    DeadlineError,
    DhenaraError,
    ReadError,
    StreamStateError,
)
from dhenara_async.request import HttpRequest
from dhenara_async.testing.exchanges import (
    RecordedExchange,
    first_difference,
    hide_address,
    hide_body,
    read_exchanges,
    secrets_in,
    secrets_in_address,
)
from dhenara_async.testing.recorder import Recorder
from dhenara_async.transport import Exchange, FileRequest, Transport
from dhenara_async.transport.aiohttp_transport import AiohttpTransport

RECORD_VARIABLE = "DHENARA_RECORD"
_PLAIN_ERRORS = {error.__name__: error for error in (ConfigurationError, ConnectError, StreamStateError)}
_TIME_LIMIT = re.compile(r"the time limit (\w+)=([\d.]+|None) s")
_BOUND = re.compile(r" \(the limit is Bounds\((\w+)=(\d+)\)")


class Replayer:
    """Answers each request with the recorded exchange whose address and body are the same; each is used once.

    Credentials are not compared. No socket is opened: files that a call downloads come from the recording too, and so
    do the network addresses of their hosts, to which a ``FetchPolicy`` applies as it did.

    Args:
        file: The file that ``Recorder`` wrote.
        timing: Whether the pieces of a response come as far apart as they did; otherwise they come at once.

    Raises:
        ConfigurationError: The file cannot be read, or is not a recording.
    """

    def __init__(self, file: str | os.PathLike[str], *, timing: bool = False) -> None:
        try:
            lines = Path(file).read_bytes().splitlines()
        except OSError as exc:
            raise ConfigurationError(
                f"the recording {os.fspath(file)!r} cannot be read ({exc.strerror}): record it with Recorder, or run "
                f"once with {RECORD_VARIABLE}=1 if it is opened by record_or_replay"
            ) from exc
        self._left = read_exchanges(lines, os.fspath(file))
        self._hosts = {_host_of(each.url): tuple(each.addresses) for each in self._left if each.is_download}
        self._timing = timing
        self._asked = 0

    def __repr__(self) -> str:
        return f"Replayer({len(self._left)} exchanges left)"

    @property
    def left(self) -> tuple[RecordedExchange, ...]:
        """The exchanges that nobody has asked for yet."""
        return tuple(self._left)

    async def send(self, request: HttpRequest, timeouts: Timeouts) -> Exchange:
        """See ``Transport``; time limits are ignored.

        Raises:
            ConfigurationError: The request was not recorded; the message says how it differs.
        """
        await anyio.lowlevel.checkpoint()
        self._asked += 1
        found = self._find(request)
        if found.status is None:
            raise _error_of(found)
        return ReplayedExchange(found, timing=self._timing)

    async def get(self, request: FileRequest) -> Exchange:
        """See ``Downloads``.

        Raises:
            ConfigurationError: The file was not recorded.
        """
        await anyio.lowlevel.checkpoint()
        url = hide_address(request.url, secrets_in_address(request.url))
        for place, exchange in enumerate(self._left):
            if exchange.is_download and exchange.url == url:
                found = self._left.pop(place)
                if found.status is None:
                    raise _error_of(found)
                return ReplayedExchange(found, timing=self._timing)
        raise ConfigurationError(f"the download of {url} was not recorded, or is used; record it again")

    async def addresses_of(self, host: str, port: int) -> Sequence[str]:
        """See ``ResolvesHosts``.

        Raises:
            OSError: No file of the host was recorded.
        """
        await anyio.lowlevel.checkpoint()
        if (host, port) in self._hosts:
            return self._hosts[host, port]
        raise OSError(f"no file of {host} was recorded")

    async def aclose(self) -> None:
        """See ``Transport``; there is nothing to close."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Raise nothing: look at ``left`` to see whether everything was asked for."""

    def _find(self, request: HttpRequest) -> RecordedExchange:
        secrets = secrets_in(request)
        url, body = hide_address(request.url, secrets), hide_body(request.body, secrets)
        for place, exchange in enumerate(self._left):
            if exchange.url == url and exchange.body == body and not exchange.is_download:
                return self._left.pop(place)
        number, left = self._asked, [exchange for exchange in self._left if not exchange.is_download]
        if not left:
            raise ConfigurationError(f"request {number} was not recorded: every recorded exchange is used")
        there = next((exchange for exchange in left if exchange.url == url), None)
        if there is None:
            raise ConfigurationError(f"request {number} to {url} was not recorded; the next: {left[0].url}")
        difference = first_difference(there.body, body)
        raise ConfigurationError(f"request {number} to {url} was not recorded: {difference}; record it again")


def _host_of(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


class ReplayedExchange:
    """A recorded response; see ``Exchange``.

    Args:
        recorded: The recorded exchange.
        timing: Whether its pieces come as far apart as they did.
    """

    repeatable: Final = True

    def __init__(self, recorded: RecordedExchange, *, timing: bool) -> None:
        self.status: int = recorded.status or 0
        self.headers: Mapping[str, str] = recorded.headers
        self._recorded = recorded
        self._timing = timing
        self._next = 0
        self._over = False
        self._due = 0.0  # when the next piece comes, in seconds of the event loop; 0 = nobody has asked for it
        self._error: Exception | None = None
        self._interrupted = anyio.Event()

    async def read(self) -> bytes:
        """See ``Exchange``."""
        await anyio.lowlevel.checkpoint()
        pieces = self._recorded.pieces
        if self._timing and self._next < len(pieces):
            # a cancelled read is repeated, and waits for the rest of the time
            self._due = self._due or anyio.current_time() + pieces[self._next].after
            with anyio.move_on_at(self._due):
                await self._interrupted.wait()
        if self._error is not None:
            raise self._error
        if self._next < len(pieces):
            self._next, self._due = self._next + 1, 0.0
            return pieces[self._next - 1].data()
        if self._recorded.ended == "error":
            raise _error_of(self._recorded)
        if self._recorded.ended == "left":
            raise ReadError("the recording ends here: its reader left before the end")
        self._over = True
        return b""

    def interrupt(self, error: Exception) -> None:
        """See ``Exchange``."""
        self._error = error
        self._interrupted.set()

    def ended(self) -> bool:
        """See ``Exchange``."""
        return self._over or (self._recorded.ended == "end" and self._next == len(self._recorded.pieces))

    async def close(self) -> None:
        """See ``Exchange``."""
        self._next, self._over = len(self._recorded.pieces), True


def _error_of(recorded: RecordedExchange) -> DhenaraError:
    kind, message = recorded.error or ("ReadError", "the recorded exchange had no response: its caller did not wait")
    if kind == "DeadlineError" and (told := _TIME_LIMIT.search(message)):
        return DeadlineError(limit=told[1], seconds=None if told[2] == "None" else float(told[2]))
    if kind == "BoundsError" and (told := _BOUND.search(message)):
        return BoundsError(message[: told.start()], setting=told[1], limit=int(told[2]))
    return _PLAIN_ERRORS.get(kind, ReadError)(message)


@asynccontextmanager
async def record_or_replay(
    file: str | os.PathLike[str],
    *,
    record: bool | None = None,
    timing: bool = False,
    transport: Callable[[], Transport] = AiohttpTransport,
) -> AsyncGenerator[Transport]:
    """Open a transport that replays a recording, or records it: for a fixture of pytest.

    ::

        @pytest.fixture
        async def transport(request):
            async with record_or_replay(Path(__file__).parent / f"{request.node.name}.jsonl") as transport:
                yield transport

    Args:
        file: The recording.
        record: Whether it is recorded; None = if the variable ``DHENARA_RECORD`` is ``1``.
        timing: See ``Replayer``.
        transport: Makes the transport that is recorded.

    Raises:
        ConfigurationError: There is no recording to replay.
    """
    if os.environ.get(RECORD_VARIABLE) == "1" if record is None else record:
        async with Recorder(transport(), file) as recorder:
            yield recorder
        return
    yield Replayer(file, timing=timing)
