"""A raw server on the loopback interface: plays scripted bytes, cuts, stalls, and sees when the client hangs up.

``ProviderServer`` is a well-behaved provider; this is what networks, proxies and failing hosts do. A test gives
``serve`` a play, a function that is run for each connection; returning from it closes the connection in good order.
"""

import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from socket import SO_LINGER, SOL_SOCKET
from struct import pack

import anyio
import anyio.lowlevel
import orjson
from anyio.abc import SocketAttribute, SocketStream
from pydantic import SecretStr

from dhenara_async import (
    AIModel,
    AIModelAPI,
    AIModelAPIProviderEnum,
    AIModelCallConfig,
    AIModelEndpoint,
    Dialect,
    RetryPolicy,
)
from dhenara_async.testing import ProviderServer

PATIENCE = 60.0
"""Seconds after which a test that waits for something has failed: many, as a busy machine is no fault."""

NO_RETRIES = RetryPolicy(attempts=1)
"""For tests about one request that fails."""
ONCE = AIModelCallConfig(retries=NO_RETRIES)
"""The default configuration without retries."""

_HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class HttpSeen:
    """A request as it arrived.

    Attributes:
        target: The request line's target, as sent.
        headers: Names in lower case, in order, repeated ones too.
        body: The bytes.
    """

    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> list[str]:
        """Every value of a header."""
        return [value for key, value in self.headers if key == name]


class Connection:
    """One client's connection, as a play sees it."""

    def __init__(self, server: "Server", stream: SocketStream) -> None:
        self._server = server
        self._stream = stream
        self._held = b""

    async def request(self) -> HttpSeen | None:
        """The next request; None when the client has hung up instead."""
        while _HEAD_END not in self._held:
            if not await self._more():
                return None
        head, _, self._held = self._held.partition(_HEAD_END)
        first, *lines = head.decode().split("\r\n")
        headers = tuple((name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines))
        length = int(dict(headers).get("content-length", "0"))
        while len(self._held) < length:
            if not await self._more():
                return None
        body, self._held = self._held[:length], self._held[length:]
        seen = HttpSeen(first.split(" ")[1], headers, body)
        self._server.requests.append(seen)
        self._server.asked.set()
        return seen

    async def send(self, *pieces: bytes) -> None:
        """Send bytes; a client that has hung up is no failure."""
        try:
            await self._stream.send(b"".join(pieces))
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            self._server.hung_up.set()

    async def until_hung_up(self) -> None:
        """Wait until the client has closed its side."""
        while await self._more():
            pass

    async def finish(self) -> None:
        """Close our side in good order; the client's is still open."""
        await self._stream.send_eof()

    def reset_on_close(self) -> None:
        """Have the connection end with a reset instead of in good order."""
        raw = self._stream.extra(SocketAttribute.raw_socket)  # noqa: S610 - anyio's, not Django's
        raw.setsockopt(SOL_SOCKET, SO_LINGER, pack("ii", 1, 0))

    async def _more(self) -> bool:
        try:
            self._held += await self._stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            self._server.hung_up.set()
            return False
        return True


Play = Callable[[Connection], Awaitable[None]]


@dataclass(slots=True)
class Server:
    """What a test sees of the server.

    Attributes:
        port: Where it listens.
        connections: How many were accepted.
        open: How many of them are not closed yet.
        requests: Every request, in order of arrival.
        asked: Set when a request has arrived.
        hung_up: Set when a client closed its side.
    """

    port: int
    connections: int = 0
    open: int = 0
    requests: list[HttpSeen] = field(default_factory=list[HttpSeen])
    asked: anyio.Event = field(default_factory=anyio.Event)
    hung_up: anyio.Event = field(default_factory=anyio.Event)

    @property
    def url(self) -> str:
        """The server's root, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    async def wait_connected(self, number: int) -> None:
        """Wait until ``number`` connections were accepted in all; fails after ``PATIENCE``.

        A client is connected as soon as the kernel says so, which may be before this server has taken the connection.
        """
        with anyio.fail_after(PATIENCE):
            while self.connections < number:
                await anyio.lowlevel.checkpoint()

    async def wait_hung_up(self) -> None:
        """Wait until one more client has closed its side; fails after ``PATIENCE``."""
        with anyio.fail_after(PATIENCE):
            await self.hung_up.wait()
        self.hung_up = anyio.Event()

    async def wait_left(self) -> None:
        """Wait until no client is connected; fails after ``PATIENCE``.

        For calls whose whole time is limited: on a slow machine it may be over before they have connected.
        """
        with anyio.fail_after(PATIENCE):
            while self.open:
                await anyio.lowlevel.checkpoint()


@contextmanager
def nobody() -> Generator[str]:
    """The URL of a port at which nobody listens, and nobody can while the block lasts."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


@asynccontextmanager
async def serve(play: Play) -> AsyncGenerator[Server]:
    """Run ``play`` for every connection until the block ends."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    server = Server(listener.extra(SocketAttribute.local_port))  # noqa: S610 - anyio's, not Django's

    async def handle(stream: SocketStream) -> None:
        server.connections += 1
        server.open += 1
        try:
            async with stream:
                await play(Connection(server, stream))
        finally:
            server.open -= 1

    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handle)
        yield server
        tasks.cancel_scope.cancel()  # not in a finally: a scope that is cancelled swallows cancellations on their way


def replies(*answers: bytes) -> Play:
    """Give these answers, one a request over all connections, the last one again and again; keeps connections open."""
    left = list(answers)

    async def play(connection: Connection) -> None:
        while await connection.request() is not None:
            await connection.send(left.pop(0) if len(left) > 1 else left[0])

    return play


def once(*pieces: bytes) -> Play:
    """Answer one request with these bytes and close the connection in good order."""

    async def play(connection: Connection) -> None:
        if await connection.request() is not None:
            await connection.send(*pieces)

    return play


def stalling(*pieces: bytes) -> Play:
    """Answer one request with these bytes, then say nothing until the client hangs up."""

    async def play(connection: Connection) -> None:
        if await connection.request() is not None:
            await connection.send(*pieces)
            await connection.until_hung_up()

    return play


def resetting(*pieces: bytes, when: anyio.Event) -> Play:
    """Answer one request with these bytes and reset the connection as soon as ``when`` is set."""

    async def play(connection: Connection) -> None:
        if await connection.request() is not None:
            await connection.send(*pieces)
            await when.wait()
            connection.reset_on_close()

    return play


def head(status: int = 200, content_type: str = "text/event-stream", **more: str) -> bytes:
    """The head of an answer whose body ends with the connection, unless ``more`` says otherwise.

    Args:
        status: HTTP status.
        content_type: Empty for none.
        more: Further headers, ``_`` for ``-``.
    """
    named = {"content-type": content_type, **{name.replace("_", "-"): value for name, value in more.items()}}
    lines = "".join(f"{name}: {value}\r\n" for name, value in named.items() if value)
    return f"HTTP/1.1 {status} Status\r\n{lines}\r\n".encode()


def whole(body: bytes, status: int = 200, content_type: str = "application/json", **more: str) -> bytes:
    """A whole answer of known length, after which the connection stays open."""
    return head(status, content_type, content_length=str(len(body)), **more) + body


def chunked(*pieces: bytes, content_type: str = "text/event-stream") -> bytes:
    """A whole chunked answer, after which the connection stays open."""
    return head(200, content_type, transfer_encoding="chunked") + b"".join(map(chunk, pieces)) + LAST_CHUNK


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"


def event(value: object) -> bytes:
    """One server-sent event."""
    return b"data: " + orjson.dumps(value) + b"\n\n"


def chat_delta(content: str, *, finish: str | None = None) -> bytes:
    """One event of a Chat Completions stream."""
    choice: Mapping[str, object] = {"index": 0, "delta": {"content": content}, "finish_reason": finish}
    return event({"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "served", "choices": [choice]})


def chat_stream(*words: str) -> tuple[bytes, ...]:
    """The events of a whole Chat Completions stream."""
    return (*map(chat_delta, words), chat_delta("", finish="stop"), b"data: [DONE]\n\n")


def chat_body(text: str) -> bytes:
    """A plain Chat Completions body."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return orjson.dumps({"id": "chatcmpl-1", "object": "chat.completion", "model": "served", "choices": [choice]})


def chat_endpoint(url: str, *, key: str | None = "loopback-key", model: str = "some-model") -> AIModelEndpoint:
    """An endpoint that speaks Chat Completions to ``url``."""
    secret = None if key is None else SecretStr(key)
    api = AIModelAPI(provider=AIModelAPIProviderEnum.OPENAI_COMPATIBLE, api_key=secret, base_url=f"{url}/v1")
    return AIModelEndpoint(api=api, ai_model=AIModel(model_name=model))


SPEAKERS: Mapping[Dialect, tuple[AIModelAPIProviderEnum, str]] = {
    Dialect.OPENAI_CHAT: (AIModelAPIProviderEnum.GROQ, "some-model"),
    Dialect.OPENAI_RESPONSES: (AIModelAPIProviderEnum.OPEN_AI, "gpt-6-sol"),
    Dialect.ANTHROPIC_MESSAGES: (AIModelAPIProviderEnum.ANTHROPIC, "claude-opus-5-5"),
    Dialect.GEMINI: (AIModelAPIProviderEnum.GOOGLE_AI, "gemini-3.8-flash"),
}
"""For each dialect, a provider that speaks it and a model of theirs."""


def endpoint_at(server: ProviderServer, dialect: Dialect) -> AIModelEndpoint:
    """An endpoint of ``server`` that speaks ``dialect``."""
    provider, model = SPEAKERS[dialect]
    return AIModelEndpoint(api=server.api(provider, dialect=dialect), ai_model=AIModel(model_name=model))


def moved(endpoint: AIModelEndpoint, url: str) -> AIModelEndpoint:
    """The same endpoint, but at another server."""
    return endpoint.model_copy(update={"api": endpoint.api.model_copy(update={"base_url": url})})


def boundaries(events: Sequence[bytes]) -> list[bytes]:
    """Every beginning of a stream that ends between two events, the empty one first."""
    return [b"".join(events[:count]) for count in range(len(events) + 1)]
