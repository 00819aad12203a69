"""``Recorder``: a transport that writes what it sends and receives to a file, for ``Replayer``."""

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from threading import Lock
from time import monotonic
from types import TracebackType
from typing import Literal, Self

import anyio.to_thread

from dhenara_async.config import Timeouts
from dhenara_async.errors import ConfigurationError, StreamStateError
from dhenara_async.request import HttpRequest
from dhenara_async.testing.exchanges import (
    RecordedExchange,
    hide,
    hide_address,
    hide_body,
    hide_headers,
    hide_pieces,
    secrets_in,
    secrets_in_address,
)
from dhenara_async.transport import Downloads, Exchange, FileRequest, Transport

HowEnded = Literal["end", "left", "error"]
KeepRecording = Callable[[list[tuple[bytes, float]], HowEnded, Exception | None], Awaitable[None]]
"""Takes the bytes of each read with the seconds before it, how the response ended, and its error."""


class Recorder:
    """Passes requests on to a transport and writes each exchange to a file when it ends, one line of JSON each.

    Credentials are left out: values of headers that are not known to be harmless are never written, and are replaced by
    ``***`` wherever they occur in the address, the request or the response; so are members of the request and
    parameters of addresses that are named like credentials. Values shorter than eight characters are replaced only
    in the place that names them. Look through a recording before you commit it all the same: prompts and answers are
    in it, and the files that a call downloaded by their address, without the signatures of their links.

    A thread writes the file, so other streams of the event loop do not wait for the disk.

    Args:
        transport: Sends the requests; closed with the recorder.
        file: The file, which is written anew; None = ``exchanges`` alone has what was recorded, until ``save``.

    Attributes:
        exchanges: The recorded exchanges, in the order in which the responses ended.
    """

    def __init__(self, transport: Transport, file: str | os.PathLike[str] | None = None) -> None:
        self.exchanges: list[RecordedExchange] = []
        self._transport = transport
        self._of_files: set[str] = set()  # credentials of links, which a text file may repeat
        self._unwritten: list[bytes] = []
        self._writing = Lock()
        self._file = None if file is None else Path(file)
        if self._file is not None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.write_bytes(b"")

    def __repr__(self) -> str:
        return f"Recorder({len(self.exchanges)} exchanges)"

    async def send(self, request: HttpRequest, timeouts: Timeouts) -> Exchange:
        """See ``Transport``."""
        own, of_files = secrets_in(request), sorted(self._of_files, key=len, reverse=True)
        secrets = (*own, *of_files)
        begun = RecordedExchange(url=hide_address(request.url, secrets), body=hide_body(request.body, own, of_files))
        return await self._recorded(self._transport.send(request, timeouts), begun, secrets)

    async def get(self, request: FileRequest) -> Exchange:
        """See ``Downloads``; a transport that downloads no files leaves that to aiohttp, as without a recorder."""
        transport = self._transport
        if not isinstance(transport, Downloads):
            from dhenara_async.transport.aiohttp_downloads import AiohttpDownloads

            transport = AiohttpDownloads()
        secrets = secrets_in_address(request.url)
        self._of_files.update(secrets)
        begun = RecordedExchange(url=hide_address(request.url, secrets), addresses=request.addresses)
        return await self._recorded(transport.get(request), begun, secrets)

    async def aclose(self) -> None:
        """Close the transport."""
        try:
            await self._write()
        finally:
            await self._transport.aclose()

    def save(self, file: str | os.PathLike[str] | None = None) -> None:
        """Write everything that was recorded so far, blocking.

        Args:
            file: The file; None = the one of the constructor.

        Raises:
            ConfigurationError: There is no file.
        """
        path = self._file if file is None else Path(file)
        if path is None:
            raise ConfigurationError("the recording has no file: write recorder.save('FILE')")
        path.write_bytes(b"".join(exchange.line() for exchange in self.exchanges))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _recorded(
        self, sending: Awaitable[Exchange], begun: RecordedExchange, secrets: Sequence[str]
    ) -> "RecordingExchange":
        """Wait for a response, and return it as one that is recorded while it is read."""
        began = monotonic()
        try:
            exchange = await sending
        except BaseException as exc:
            failure = exc if isinstance(exc, Exception) else None  # else the caller was cancelled
            await self._keep(_ended(begun, "left" if failure is None else "error", failure, secrets))
            raise

        async def keep(pieces: list[tuple[bytes, float]], ended: HowEnded, error: Exception | None) -> None:
            received = begun.changed(
                status=exchange.status,
                headers=hide_headers(exchange.headers, secrets),
                pieces=hide_pieces(pieces, secrets),
            )
            await self._keep(_ended(received, ended, error, secrets))

        return RecordingExchange(exchange, began, keep)

    async def _keep(self, exchange: RecordedExchange) -> None:
        self.exchanges.append(exchange)
        if self._file is not None:
            self._unwritten.append(exchange.line())
            await self._write()

    async def _write(self) -> None:
        """Write what is not written yet; a caller that is cancelled leaves the thread to it."""
        if self._unwritten:
            await anyio.to_thread.run_sync(self._write_now)

    def _write_now(self) -> None:
        with self._writing:
            lines, self._unwritten = self._unwritten, []
            if self._file is not None and lines:
                with self._file.open("ab") as file:
                    file.write(b"".join(lines))


def _ended(
    exchange: RecordedExchange, ended: HowEnded, error: Exception | None, secrets: Sequence[str]
) -> RecordedExchange:
    told = None if error is None else (type(error).__name__, hide(str(error), secrets))
    return exchange.changed(ended=ended, error=told)


class RecordingExchange:
    """A response that is recorded while it is read; see ``Exchange``.

    Args:
        exchange: The response.
        began: When its request was sent, in seconds of ``monotonic``.
        keep: Takes the recording.
    """

    def __init__(self, exchange: Exchange, began: float, keep: KeepRecording) -> None:
        self._exchange = exchange
        self._keep = keep
        self._last = began
        self._pieces: list[tuple[bytes, float]] = []
        self._kept = False

    @property
    def repeatable(self) -> bool:
        """Whether a cancelled read can be repeated: as with the response that is recorded."""
        return getattr(self._exchange, "repeatable", False)

    @property
    def status(self) -> int:
        """See ``Exchange``."""
        return self._exchange.status

    @property
    def headers(self) -> Mapping[str, str]:
        """See ``Exchange``."""
        return self._exchange.headers

    async def read(self) -> bytes:
        """See ``Exchange``."""
        try:
            data = await self._exchange.read()
        except StreamStateError:  # the reader's side closed the stream or the transport
            await self._end("left", None)
            raise
        except Exception as exc:
            await self._end("error", exc)
            raise
        now = monotonic()
        if data:
            self._pieces.append((data, now - self._last))
            self._last = now
        else:
            await self._end("end", None)
        return data

    def interrupt(self, error: Exception) -> None:
        """See ``Exchange``."""
        self._exchange.interrupt(error)

    def ended(self) -> bool:
        """See ``Exchange``."""
        return self._exchange.ended()

    async def close(self) -> None:
        """See ``Exchange``."""
        try:
            await self._end("end" if self._exchange.ended() else "left", None)
        finally:  # also if the file cannot be written
            await self._exchange.close()

    async def _end(self, ended: HowEnded, error: Exception | None) -> None:
        if not self._kept:
            self._kept = True
            await self._keep(self._pieces, ended, error)
