"""Compressed answers: asked for as both transports can read them, read a piece at a time, refused by name otherwise."""

import gzip
import zlib

import orjson
import pytest

from dhenara_async import AIModelCallConfig, AIModelClient, Bounds, Timeouts
from dhenara_async.errors import BoundsError, ProtocolError, RateLimitError, ReadError
from dhenara_async.request import HttpRequest
from dhenara_async.transport import Exchange
from dhenara_async.transport.decompression import PIECE_BYTES
from tests.loopback import ONCE, PATIENCE, chat_body, chat_endpoint, chat_stream, chunk, head, replies, serve, whole
from tests.transport.conftest import Opened

LIMITS = Timeouts(connect=PATIENCE, between_bytes=PATIENCE)
WORDS = b"Plums, pears and medlars. " * 400


def deflated(data: bytes, window: int = zlib.MAX_WBITS) -> bytes:
    packer = zlib.compressobj(wbits=window)
    return packer.compress(data) + packer.flush()


def flushed(data: bytes) -> bytes:
    """gzip that never comes to its end, as hosts leave it that flush each event."""
    packer = zlib.compressobj(wbits=31)
    return packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)


PACKED: dict[str, tuple[str, bytes]] = {
    "gzip": ("gzip", gzip.compress(WORDS)),
    "x-gzip": ("X-GZIP", gzip.compress(WORDS)),
    "two members": ("gzip", gzip.compress(WORDS[:99]) + gzip.compress(WORDS[99:])),
    "an empty member": ("gzip", gzip.compress(b"") + gzip.compress(WORDS)),
    "padded": ("gzip", gzip.compress(WORDS) + b"\0" * 9),
    "never ended": ("gzip", flushed(WORDS)),
    "deflate": ("deflate", deflated(WORDS)),
    "deflate without its head": ("deflate", deflated(WORDS, -zlib.MAX_WBITS)),
    "identity": ("identity", WORDS),
    "identity and gzip": ("identity, gzip", gzip.compress(WORDS)),
    "a charset": ("utf-8", WORDS),
    "no word": (" , ", WORDS),
}


async def read(exchange: Exchange) -> list[bytes]:
    pieces: list[bytes] = []
    while piece := await exchange.read():
        pieces.append(piece)
    assert exchange.ended()
    await exchange.close()
    return pieces


@pytest.mark.parametrize(("told", "body"), PACKED.values(), ids=PACKED)
async def test_compressed_bodies_are_decompressed(told: str, body: bytes, opened: Opened) -> None:
    torn = head(transfer_encoding="chunked", content_encoding=told) + b"".join(
        chunk(body[at : at + 7]) for at in range(0, len(body), 7)
    )
    async with serve(replies(whole(body, content_encoding=told), torn + b"0\r\n\r\n")) as server, opened() as sender:
        for _ in range(2):
            exchange = await sender.send(HttpRequest(server.url, {}, b"{}"), LIMITS)
            assert b"".join(await read(exchange)) == WORDS
    assert server.connections == 1
    assert [seen.header("accept-encoding") for seen in server.requests] == [["gzip, deflate"]] * 2


async def test_a_decompression_bomb_is_read_in_bounded_pieces(opened: Opened) -> None:
    bomb = gzip.compress(b"\0" * (40 * PIECE_BYTES + 1))
    async with serve(replies(whole(bomb, content_encoding="gzip"))) as server, opened() as sender:
        pieces = await read(await sender.send(HttpRequest(server.url, {}, b"{}"), LIMITS))
        assert [len(piece) for piece in pieces] == [PIECE_BYTES] * 40 + [1]
        config = AIModelCallConfig(bounds=Bounds(max_answer_bytes=5 * PIECE_BYTES))
        with pytest.raises(BoundsError, match="max_answer_bytes"):
            await AIModelClient(chat_endpoint(server.url), config, transport=sender).generate("Hi.")


@pytest.mark.parametrize("body", [b"this is no gzip", gzip.compress(WORDS)[:-8] + b"\1" * 8], ids=["none", "damaged"])
async def test_bodies_that_contradict_their_encoding_are_read_errors(body: bytes, opened: Opened) -> None:
    async with serve(replies(whole(body, content_encoding="gzip"))) as server, opened() as sender:
        with pytest.raises(ReadError, match="not compressed as its head says"):
            await read(await sender.send(HttpRequest(server.url, {}, b"{}"), LIMITS))


@pytest.mark.parametrize("told", ["br", "zstd", "compress", "gzip, br", "gzip, gzip", "DCZ"])
@pytest.mark.parametrize("streaming", [False, True])
async def test_an_unrequested_encoding_is_named_in_the_error(told: str, streaming: bool, opened: Opened) -> None:
    body, kind = (
        (b"".join(chat_stream("Hi.")), "text/event-stream") if streaming else (chat_body("Hi."), "application/json")
    )
    config = AIModelCallConfig(streaming=streaming)
    async with serve(replies(whole(body, 200, kind, content_encoding=told))) as server, opened() as sender:
        with pytest.raises(ProtocolError, match=rf"encoded as '{told}'") as caught:
            await AIModelClient(chat_endpoint(server.url), config, transport=sender).generate("Hi.")
    assert not caught.value.retryable


async def test_an_undecodable_error_body_keeps_its_status(opened: Opened) -> None:
    refusal = whole(orjson.dumps({"error": {"message": "Later."}}), 429, content_encoding="zstd", retry_after="7")
    async with serve(replies(refusal)) as server, opened() as sender:
        with pytest.raises(RateLimitError, match=r"answered 429: the body .* encoded as 'zstd'") as caught:
            await AIModelClient(chat_endpoint(server.url), ONCE, transport=sender).generate("Hi.")
    assert (caught.value.retry_after, caught.value.retryable) == (7.0, True)


async def test_an_empty_body_needs_no_encoding(opened: Opened) -> None:
    async with serve(replies(whole(b"", content_encoding="br"))) as server, opened() as sender:
        assert await read(await sender.send(HttpRequest(server.url, {}, b"{}"), LIMITS)) == []


@pytest.mark.parametrize(
    ("headers", "limit"),
    [
        ({"x_long": "y" * 300}, 200),
        ({f"x_{number}": "y" * 20 for number in range(20)}, 300),
        ({"x_long": "y" * 70_000}, 64 * 1024),
        ({f"x_{number}": "y" * 2000 for number in range(100)}, 64 * 1024),
        ({f"x_{number}": "y" for number in range(400)}, 2000),
    ],
    ids=["one", "many", "one is too long for a parser", "many are too long for a parser", "too many for a parser"],
)
async def test_a_header_block_over_the_limit_is_refused(headers: dict[str, str], limit: int, opened: Opened) -> None:
    config = AIModelCallConfig(bounds=Bounds(max_header_bytes=limit))
    async with (
        serve(replies(whole(chat_body("Hi."), 200, "application/json", **headers))) as server,
        opened() as sender,
    ):
        with pytest.raises(BoundsError, match="header block") as caught:
            await AIModelClient(chat_endpoint(server.url), config, transport=sender).generate("Hi.")
    assert (caught.value.setting, caught.value.limit) == ("max_header_bytes", limit)
    assert len(server.requests) == 1


async def test_a_long_header_within_the_limit_is_read(opened: Opened) -> None:
    async with serve(replies(whole(chat_body("Hi."), x_long="y" * 30_000))) as server, opened() as sender:
        assert (await AIModelClient(chat_endpoint(server.url), transport=sender).generate("Hi.")).text() == "Hi."
