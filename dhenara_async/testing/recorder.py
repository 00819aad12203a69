"""``Recorder``: a transport that writes what it sends and receives to a file, for ``Replayer``."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Literal, Self

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
)
from dhenara_async.transport import Exchange, Transport

HowEnded = Literal["end", "left", "error"]


class Recorder:
    """Passes requests on to a transport and writes each exchange to a file when it ends, one line of JSON each.

    Credentials are left out: values of headers that are not known to be harmless are never written, and are replaced by
    ``***`` wherever they occur in the address, the request or the response; so are members of the request and
    parameters of addresses that are named like credentials. Values shorter than eight characters are replaced only
    in the place that names them. Look through a recording before you commit it all the same: prompts and answers are
    in it. Files that a call downloads by their address are neither sent through a recorder nor recorded.

    Args:
        transport: Sends the requests; closed with the recorder.
        file: The file, which is written anew; None = ``exchanges`` alone has what was recorded, until ``save``.

    Attributes:
        exchanges: What was recorded, in the order in which the responses ended.
    """

    def __init__(self, transport: Transport, file: str | os.PathLike[str] | None = None) -> None:
        self.exchanges: list[RecordedExchange] = []
        self._transport = transport
        self._file = None if file is None else Path(file)
        if self._file is not None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.write_bytes(b"")

    def __repr__(self) -> str:
        return f"Recorder({len(self.exchanges)} exchanges)"

    async def send(self, request: HttpRequest, timeouts: Timeouts) -> Exchange:
        """See ``Transport``."""
        began = monotonic()
        try:
            exchange = await self._transport.send(request, timeouts)
        except BaseException as exc:
            failure = exc if isinstance(exc, Exception) else None  # else the caller was cancelled
            self._keep(request, None, {}, [], "left" if failure is None else "error", failure)
            raise

        def keep(pieces: list[tuple[bytes, float]], ended: HowEnded, error: Exception | None) -> None:
            self._keep(request, exchange.status, exchange.headers, pieces, ended, error)

        return RecordingExchange(exchange, began, keep)

    async def aclose(self) -> None:
        """Close the transport."""
        await self._transport.aclose()

    def save(self, file: str | os.PathLike[str] | None = None) -> None:
        """Write everything that was recorded so far.

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

    def _keep(
        self,
        request: HttpRequest,
        status: int | None,
        headers: Mapping[str, str],
        pieces: list[tuple[bytes, float]],
        ended: HowEnded,
        error: Exception | None,
    ) -> None:
        secrets = secrets_in(request)
        exchange = RecordedExchange(
            url=hide_address(request.url, secrets),
            body=hide_body(request.body, secrets),
            status=status,
            headers=hide_headers(headers, secrets),
            pieces=hide_pieces(pieces, secrets),
            ended=ended,
            error=None if error is None else (type(error).__name__, hide(str(error), secrets)),
        )
        self.exchanges.append(exchange)
        if self._file is not None:
            with self._file.open("ab") as file:
                file.write(exchange.line())


class RecordingExchange:
    """A response that is recorded while it is read; see ``Exchange``.

    Args:
        exchange: The response.
        began: When its request was sent, in seconds of ``monotonic``.
        keep: Takes the bytes of each read with the seconds before it, how the response ended, and its error.
    """

    def __init__(
        self,
        exchange: Exchange,
        began: float,
        keep: Callable[[list[tuple[bytes, float]], HowEnded, Exception | None], None],
    ) -> None:
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
            self._end("left", None)
            raise
        except Exception as exc:
            self._end("error", exc)
            raise
        now = monotonic()
        if data:
            self._pieces.append((data, now - self._last))
            self._last = now
        else:
            self._end("end", None)
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
            self._end("end" if self._exchange.ended() else "left", None)
        finally:  # also if the file cannot be written
            await self._exchange.close()

    def _end(self, ended: HowEnded, error: Exception | None) -> None:
        if not self._kept:
            self._kept = True
            self._keep(self._pieces, ended, error)
