"""The loopback server, always in a process of its own so that its work is not charged to a peer.

The path says what to answer: ``/<dialect>/<mode>/<events>/…``, whatever the peer appends. Modes:

- ``blast``: the whole stream in one write, the way events pile up behind a slow reader;
- ``each``: one event a write, a millisecond apart, so that a reader is woken for each, as in production. Without the
  gap the kernel joins the writes as soon as the reader is slower than the server, and the mode measures ``blast``;
- ``plain``: one JSON body, not streamed.

In both streaming modes each event is an HTTP chunk of its own, as providers flush them.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import cast

from benchmarks import wire

MODES = ("blast", "each")

_HOST = "127.0.0.1"
_GAP = 0.001
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\n"
    b"content-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\n"
    b"x-request-id: req_7d1c2f0b9a8e4c5d\r\n"
    b"request-id: req_7d1c2f0b9a8e4c5d\r\n"
    b"connection: keep-alive\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
_NOT_FOUND = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"


@contextmanager
def running_server() -> Generator[str]:
    """Start the server in a new process; gives its root URL and stops it at the end of the block."""
    root = Path(__file__).resolve().parent.parent
    command = [sys.executable, "-m", "benchmarks.server"]
    with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            if process.stdout is None:
                raise RuntimeError("The server's output is not a pipe.")
            port = process.stdout.readline().strip()
            if not port:
                raise RuntimeError("The loopback server did not start; its error stands above.")
            yield f"http://{_HOST}:{port}"
        finally:
            process.terminate()


def ignore_proxies() -> None:
    """Keep a proxy of the environment away from the loopback server: the SDKs would go through it."""
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = _HOST


class _Connection(asyncio.Protocol):
    """One keep-alive connection; requests come one after another. What a slow reader leaves is held in memory."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._pending: Iterator[bytes] = iter(())
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._received[:end])
        whole = end + 4 + _content_length(head)
        if len(self._received) < whole:
            return
        del self._received[:whole]
        self._answer(head.split(b" ", 2)[1].decode())

    def _answer(self, target: str) -> None:
        if self._transport is None:
            return
        writes = _writes(target)
        if len(writes) == 1:
            self._transport.write(writes[0])
        else:
            self._pending = iter(writes)
            self._send_next()

    def _send_next(self) -> None:
        if self._transport is None:
            return
        write = next(self._pending, None)
        if write is not None:
            self._transport.write(write)
            asyncio.get_running_loop().call_later(_GAP, self._send_next)


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return 0


@cache
def _writes(target: str) -> tuple[bytes, ...]:
    """The answer to a request target, cut as it is to be written; remembered, so only warm-ups pay for encoding."""
    match target.split("/"):
        case ["", dialect, "plain", count, *_] if dialect in wire.DIALECTS:
            body = wire.plain_body(dialect, int(count))
            head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
            return (head.encode() + body,)
        case ["", dialect, mode, count, *_] if dialect in wire.DIALECTS and mode in MODES:
            chunks = [b"%x\r\n%b\r\n" % (len(event), event) for event in wire.answer(dialect, int(count)).events]
            chunks[-1] += b"0\r\n\r\n"
            return (_STREAM_HEAD, *chunks) if mode == "each" else (_STREAM_HEAD + b"".join(chunks),)
        case _:
            return (_NOT_FOUND,)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Connection, _HOST, 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    parent_is_gone = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), parent_is_gone.set)
    async with server:
        await parent_is_gone.wait()


if __name__ == "__main__":
    asyncio.run(_serve())
