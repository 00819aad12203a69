"""The loopback server, in a separate process so that its work is not charged to a peer.

The path selects the answer: ``/<dialect>/<mode>/<events>/…``; peers may append to it. A mode may be followed by
numbers, separated by hyphens. Modes:

- ``blast``: the whole stream in one write, as events accumulate for a slow reader;
- ``each-<microseconds>``: one write for each event with at least that gap, so that the reader wakes for each, as in
  production. Without the gap the kernel joins the writes as soon as the reader is slower than the server, and the mode
  measures ``blast``;
- ``paced-<microseconds>-<streams>``: one write for each event by a schedule, which starts when that many streams are
  open. The first text begins with the time of its own write, see ``wire.split_stamp``;
- ``stalled``: that many events in one write, then nothing more;
- ``plain``: one JSON body, not streamed;
- ``loop-<steps>``: as ``blast``, with a tool call, until the request has so many results (OpenAI Chat only).

In all streaming modes each event is a separate HTTP chunk, as providers flush them. ``GET /lateness`` returns the lags
of the server since the last such request: quantiles in milliseconds.
"""

import asyncio
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache, partial
from http.client import HTTPConnection
from pathlib import Path
from typing import cast

import orjson

from benchmarks import machine, wire
from benchmarks.loop_wire import step_events, step_of
from benchmarks.pacer import Pacer
from benchmarks.quantiles import quantiles

HOST = "127.0.0.1"
_BACKLOG = 4096
_ANSWER_TIME = 5.0
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\n"
    b"content-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\n"
    b"x-request-id: req_7d1c2f0b9a8e4c5d\r\n"
    b"request-id: req_7d1c2f0b9a8e4c5d\r\n"
    b"connection: keep-alive\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
_END = b"0\r\n\r\n"
_NOT_FOUND = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"


@contextmanager
def running_server(core: int | None = None) -> Generator[str]:
    """Run the server in a new process on ``core`` until the block ends; yields its root URL."""
    root = Path(__file__).resolve().parent.parent
    command = [sys.executable, "-m", "benchmarks.server", "" if core is None else str(core)]
    with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            if process.stdout is None:
                raise RuntimeError("The server's output is not a pipe.")
            port = process.stdout.readline().strip()
            if not port:
                raise RuntimeError("The loopback server did not start; its error stands above.")
            yield f"http://{HOST}:{port}"
        finally:
            process.terminate()


def lateness(server: str) -> list[float]:
    """Return the lags of the server since the last call: quantiles in milliseconds."""
    host, _, port = server.removeprefix("http://").partition(":")
    connection = HTTPConnection(host, int(port), timeout=_ANSWER_TIME)
    try:
        connection.request("GET", "/lateness")
        return orjson.loads(connection.getresponse().read())
    finally:
        connection.close()


class _Connection(asyncio.Protocol):
    """One keep-alive connection with sequential requests. Bytes that a slow reader has not read stay in memory."""

    def __init__(self, pacer: Pacer) -> None:
        self._pacer = pacer
        self._received = bytearray()
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
        body = bytes(self._received[end + 4 : whole])
        del self._received[:whole]
        self._answer(head.split(b" ", 2)[1].decode(), body)

    def _answer(self, target: str, body: bytes) -> None:
        match target.partition("?")[0].split("/"):
            case ["", "lateness"]:
                self._write(_plain(orjson.dumps(quantiles(self._pacer.take_lateness()))))
            case ["", "openai_chat", mode, count, *_] if mode.startswith("loop-") and count.isdecimal():
                self._write(_step(step_of(body), int(mode.removeprefix("loop-")), int(count)))
            case ["", dialect, mode, count, *_] if dialect in wire.DIALECTS and count.isdecimal():
                self._answer_as(dialect, mode.split("-"), int(count))
            case _:
                self._write(_NOT_FOUND)

    def _answer_as(self, dialect: str, mode: list[str], events: int) -> None:
        match mode:
            case ["plain"]:
                self._write(_plain(wire.plain_body(dialect, events)))
            case ["blast"]:
                self._write(_blast(dialect, events))
            case ["stalled"]:
                self._write(_stalled(dialect, events))
            case ["each", gap]:
                self._write(_STREAM_HEAD)
                self._pacer.spread(self._write, _chunks(dialect, events), int(gap) * 1000)
            case ["paced", gap, streams]:
                self._write(_STREAM_HEAD)
                pieces = partial(_stamped_chunks, dialect, events)
                self._pacer.gather(self._write, pieces, int(gap) * 1000, int(streams))
            case _:
                self._write(_NOT_FOUND)

    def _write(self, data: bytes) -> bool:
        """Send bytes; False if the connection is closed."""
        if self._transport is None:
            return False
        self._transport.write(data)
        return True


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return 0


def _plain(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body


def _chunk(event: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(event), event)


# Everything below is cached, so that only warm-ups pay for the encoding.


@cache
def _chunks(dialect: str, events: int) -> tuple[bytes, ...]:
    chunks = [_chunk(event) for event in wire.answer(dialect, events).events]
    chunks[-1] += _END
    return tuple(chunks)


@cache
def _blast(dialect: str, events: int) -> bytes:
    return _STREAM_HEAD + b"".join(_chunks(dialect, events))


@cache
def _step(step: int, steps: int, tokens: int) -> bytes:
    return _STREAM_HEAD + b"".join(_chunk(event) for event in step_events(step, steps, tokens)) + _END


@cache
def _stalled(dialect: str, events: int) -> bytes:
    answer = wire.answer(dialect, events + 1)
    return _STREAM_HEAD + b"".join(_chunk(event) for event in answer.events[: answer.prelude + events])


@cache
def _paced(dialect: str, events: int) -> tuple[bytes, tuple[bytes, ...], tuple[int, ...]]:
    """Return the bytes before the first text, the pieces of the tokens, and the indexes of pieces with the stamp."""
    answer = wire.answer(dialect, events, stamped=True)
    chunks = [_chunk(event) for event in answer.events]
    last = answer.prelude + events - 1
    pieces = [*chunks[answer.prelude : last], b"".join(chunks[last:]) + _END]
    stamped = tuple(number for number, piece in enumerate(pieces) if wire.NO_STAMP.encode() in piece)
    return b"".join(chunks[: answer.prelude]), tuple(pieces), stamped


def _stamped_chunks(dialect: str, events: int, start: int) -> list[bytes]:
    prelude, kept, stamped = _paced(dialect, events)
    pieces = list(kept)
    for number in stamped:
        pieces[number] = pieces[number].replace(wire.NO_STAMP.encode(), wire.stamp(start).encode())
    pieces[0] = prelude + pieces[0]
    return pieces


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    pacer = Pacer()
    server = await loop.create_server(lambda: _Connection(pacer), HOST, 0, backlog=_BACKLOG)
    print(server.sockets[0].getsockname()[1], flush=True)
    parent_is_gone = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), parent_is_gone.set)
    async with server:
        await parent_is_gone.wait()


if __name__ == "__main__":
    machine.pin(int(sys.argv[1]) if sys.argv[1:] and sys.argv[1] else None)
    asyncio.run(_serve())
