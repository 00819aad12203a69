"""What reads aiohttp's buffer at once gives what aiohttp gives, and holds back whoever sends as aiohttp does."""

import gzip
import random
from collections.abc import Awaitable, Callable

import aiohttp
import anyio
import pytest
from aiohttp.streams import StreamReader

from dhenara_async import AIModelClient
from dhenara_async.transport import aiohttp_reading, over_aiohttp
from tests.loopback import PATIENCE, Connection, chat_endpoint, chat_stream, chunked, head, replies, serve, whole

NOISE = random.Random(20261122)  # the same every time
PIECES = [NOISE.randbytes(NOISE.choice((1, 7, 300, 20_000, 300_000))) for _ in range(120)]
BODY = b"".join(PIECES)


def test_this_version_is_one_of_those_that_were_tried() -> None:
    """If this fails, aiohttp has a new version: read what the room says, try it, and add it."""
    assert aiohttp_reading.AT_ONCE, aiohttp.__version__


async def read_at_once(content: StreamReader) -> bytes:
    while (data := aiohttp_reading.taken(content)) is None:
        await aiohttp_reading.more(content)
    return data


async def received(url: str, read: Callable[[StreamReader], Awaitable[bytes]], *, idle: float = 0.0) -> bytes:
    pieces: list[bytes] = []
    async with aiohttp.ClientSession(read_bufsize=4096) as session, session.post(url, data=b"{}") as response:
        while piece := await read(response.content):
            pieces.append(piece)
            await anyio.sleep(idle)
        assert response.content.at_eof()
        assert await read(response.content) == b""
    return b"".join(pieces)


@pytest.mark.parametrize("read", [read_at_once, StreamReader.readany], ids=["at once", "by aiohttp"])
@pytest.mark.parametrize("idle", [0.0, 0.001], ids=["busy", "slow"])
async def test_bodies_come_whole(read: Callable[[StreamReader], Awaitable[bytes]], idle: float) -> None:
    answers = {
        "chunked": (chunked(*PIECES), BODY),
        "with a length": (whole(BODY), BODY),
        "compressed": (whole(gzip.compress(b"0" * 3_000_000), content_encoding="gzip"), b"0" * 3_000_000),
        "in compressed chunks": (
            head(transfer_encoding="chunked", content_encoding="gzip")
            + chunked(gzip.compress(BODY)).partition(b"\r\n\r\n")[2],
            BODY,
        ),
        "empty": (chunked(), b""),
    }
    for name, (answer, body) in answers.items():
        async with serve(replies(answer)) as server:
            with anyio.fail_after(PATIENCE):
                assert await received(server.url, read, idle=idle) == body, name


async def test_a_body_that_somebody_has_begun_to_read() -> None:
    async with (
        serve(replies(chunked(b"one", b"two"))) as server,
        aiohttp.ClientSession() as session,
        session.post(server.url, data=b"{}") as response,
    ):
        begun = await response.content.readexactly(2)
        rest = b""
        while piece := await read_at_once(response.content):
            rest += piece
    assert (begun, rest) == (b"on", b"etwo")


async def test_who_does_not_read_holds_the_host_back() -> None:
    sent = 0

    async def play(connection: Connection) -> None:
        nonlocal sent
        await connection.request()
        await connection.send(head(transfer_encoding="chunked"))
        with anyio.move_on_after(0.5):
            for _ in range(1000):
                await connection.send(b"%x\r\n%s\r\n" % (100_000, b"." * 100_000))
                sent += 1

    async with (
        serve(play) as server,
        aiohttp.ClientSession() as session,
        session.post(server.url, data=b"{}") as response,
    ):
        assert await read_at_once(response.content)
        await anyio.sleep(0.6)
        response.close()
    assert sent < 300  # 100 MB would have come


async def test_other_versions_are_read_their_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(over_aiohttp, "AT_ONCE", False)
    async with (
        serve(replies(chunked(*chat_stream("One", " two")))) as server,
        AIModelClient(chat_endpoint(server.url)).stream("Hi.") as stream,
    ):
        assert (await stream.collect()).text() == "One two"
