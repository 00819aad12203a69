"""Starts an MCP server as a child process, and notices its end."""

import os
import sys
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from mcp import StdioServerParameters, stdio_client
from mcp.shared.message import SessionMessage

from dhenara_async.tools.mcp.server import McpServer

if TYPE_CHECKING:  # protocols of the SDK that its public functions return, in a private module
    from mcp.client._transport import ReadStream, TransportStreams

Received = SessionMessage | Exception


@asynccontextmanager
async def child(server: McpServer, on_end: Callable[[], None]) -> AsyncGenerator["TransportStreams", None]:
    """Start the child of a server; ``on_end`` is called when its output ends, so that the next use starts another."""
    parameters = StdioServerParameters(
        command=server.command or "",
        args=list(server.args),
        env={name: value.get_secret_value() for name, value in server.env.items()},
        cwd=server.cwd,
        encoding_error_handler="replace",  # else one stray byte of a log line ends the reading, and nobody is told
    )
    with _errors_of_child() as errors:
        async with stdio_client(parameters, errors) as (read, write):
            yield _WatchedStream(read, on_end), write


@contextmanager
def _errors_of_child() -> Generator[TextIO, None, None]:
    """Give the standard error output of this process to a child; where it is no file, what it writes is dropped."""
    try:
        sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):
        with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
            yield nowhere
    else:
        yield sys.stderr


class _WatchedStream:
    """A stream of received messages that reports its end."""

    def __init__(self, stream: "ReadStream[Received]", on_end: Callable[[], None]) -> None:
        self._stream = stream
        self._on_end = on_end

    async def receive(self) -> Received:
        return await self._stream.receive()

    async def aclose(self) -> None:
        await self._stream.aclose()

    def __aiter__(self) -> "ReadStream[Received]":
        return self

    async def __anext__(self) -> Received:
        try:
            return await self._stream.__anext__()
        except StopAsyncIteration:
            self._on_end()
            raise

    async def __aenter__(self) -> Self:
        await self._stream.__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> bool | None:
        return await self._stream.__aexit__(exc_type, exc_val, exc_tb)
