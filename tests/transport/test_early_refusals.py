"""Hosts that refuse a request while megabytes of it are on their way, and hang up: what they said is heard."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from struct import pack

import httpx
import orjson
import pytest
import trustme

from dhenara_async import AIModelClient, HttpxTransport
from dhenara_async.errors import DhenaraError, InvalidRequestError, ReadError, ServerError
from dhenara_async.transport.aiohttp_internals import LastWordsProtocol
from dhenara_async.transport.aiohttp_transport import AiohttpTransport
from tests.loopback import PATIENCE, chat_endpoint

pytestmark = pytest.mark.usefixtures("private_aiohttp")

CALLS = 8
MEGABYTES = 5
BODY = orjson.dumps({"error": {"message": "a scroll that long nobody unrolls", "type": "invalid_request_error"}})


def answer(status: int, *, length: bool = True) -> bytes:
    told = b"content-length: %d\r\n" % len(BODY) if length else b""
    return b"HTTP/1.1 %d No\r\ncontent-type: application/json\r\n%s\r\n%s" % (status, told, BODY)


@dataclass(slots=True)
class Hasty:
    """A host in a thread that answers before it has read a request.

    Attributes:
        said: Its answer.
        after: How many bytes it reads before that.
        reset: Whether it ends connections by a reset of its own; otherwise what it has not read does.
        tls: Its side of TLS; None = none.
        requests: How many have begun.
        url: Its root.
    """

    said: bytes
    after: int = 0
    reset: bool = False
    tls: ssl.SSLContext | None = None
    requests: int = 0
    url: str = ""

    def serve(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with suppress(OSError):
                self.refuse(connection)

    def refuse(self, connection: socket.socket) -> None:
        connection.settimeout(PATIENCE)
        with connection if self.tls is None else self.tls.wrap_socket(connection, server_side=True) as stream:
            got = b""
            while b"\r\n\r\n" not in got or len(got) < self.after:
                got += stream.recv(65536)
            self.requests += 1
            stream.sendall(self.said)
            if self.reset:
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, pack("ii", 1, 0))


@contextmanager
def running(host: Hasty) -> Generator[Hasty]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        scheme = "http" if host.tls is None else "https"
        host.url = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
        thread = threading.Thread(target=host.serve, args=(listener,))
        thread.start()
        yield host
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
    thread.join(PATIENCE)


async def refusals(host: Hasty, *, stream: bool = False) -> list[DhenaraError]:
    """What calls with a large question meet, one after another."""
    met: list[DhenaraError] = []
    transport = AiohttpTransport()
    client = AIModelClient(chat_endpoint(host.url), transport=transport)
    question = "scroll " * (MEGABYTES * 150_000)
    for _ in range(CALLS):
        with pytest.raises(DhenaraError) as caught:
            if stream:
                async with client.stream(question) as reader:
                    await reader.collect()
            else:
                await client.generate(question)
        met.append(caught.value)
    await transport.aclose()
    return met


def are_heard(met: list[DhenaraError], host: Hasty) -> None:
    """Each call was refused with the host's own words, and made once."""
    assert [type(error) for error in met] == [InvalidRequestError] * CALLS
    assert all("nobody unrolls" in str(error) for error in met)
    assert host.requests == CALLS


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("after", [0, 1_000_000])
@pytest.mark.parametrize("reset", [False, True])
async def test_an_early_refusal_is_received_and_not_retried(reset: bool, after: int, stream: bool) -> None:
    with running(Hasty(answer(413), after, reset)) as host:
        are_heard(await refusals(host, stream=stream), host)


@pytest.mark.parametrize("status", [400, 422])
async def test_an_early_refusal_without_a_length_is_received(status: int) -> None:
    with running(Hasty(answer(status, length=False))) as host:
        met = await refusals(host)
        assert [type(error) for error in met] == [InvalidRequestError] * CALLS
        assert host.requests == CALLS


async def test_an_early_503_is_retried() -> None:
    with running(Hasty(answer(503).replace(b"No\r\n", b"No\r\nretry-after: 0\r\n", 1))) as host:
        client = AIModelClient(chat_endpoint(host.url))
        with pytest.raises(DhenaraError) as caught:
            await client.generate("scroll " * 1_000_000)
        assert not isinstance(caught.value, ReadError)
        assert (caught.value.attempts, host.requests) == (3, 3)
        assert isinstance(caught.value, ServerError) or getattr(caught.value, "status", None) == 503


async def test_a_reset_without_a_response_is_a_broken_connection() -> None:
    with running(Hasty(b"")) as host:
        client = AIModelClient(chat_endpoint(host.url))
        with pytest.raises(ReadError) as caught:
            await client.generate("scroll " * 1_000_000)
        assert caught.value.attempts == host.requests == 3


async def test_a_write_that_fails_after_the_connection_is_lost_fails_the_reader() -> None:
    protocol = LastWordsProtocol(asyncio.get_running_loop())  # without a transport, as after ``connection_lost``
    protocol.set_exception(ConnectionResetError("gone"))
    assert isinstance(protocol.exception(), ConnectionResetError)


async def test_an_early_refusal_over_tls_is_received(monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    theirs, ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(theirs)  # pyright: ignore[reportUnknownMemberType] - and pyOpenSSL's
    authority.configure_trust(ours)  # pyright: ignore[reportUnknownMemberType]
    monkeypatch.setattr("aiohttp.connector._SSL_CONTEXT_VERIFIED", ours)
    with running(Hasty(answer(413), 300_000, tls=theirs)) as host:
        are_heard(await refusals(host), host)


async def test_httpx_reads_an_early_refusal_that_it_has_received() -> None:
    """It does not look again when sending fails, which may lose the answer; a small request fits into the socket."""
    with running(Hasty(answer(413))) as host:
        async with httpx.AsyncClient() as http:
            client = AIModelClient(chat_endpoint(host.url), transport=HttpxTransport(http))
            with pytest.raises(InvalidRequestError):
                await client.generate("scroll " * 1000)
        assert host.requests == 1
