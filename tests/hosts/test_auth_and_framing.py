"""A registered host signs its requests and frames its streams in its own way, over a real connection."""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import anyio
import orjson
import pytest
from pydantic import SecretStr

from dhenara_async import (
    AIModel,
    AIModelAPI,
    AIModelCallConfig,
    AIModelClient,
    AIModelEndpoint,
    Bounds,
    Host,
    RetryPolicy,
    Timeouts,
    register_host,
)
from dhenara_async.errors import APIError, AuthenticationError, BoundsError, DeadlineError, ProtocolError
from dhenara_async.framing import Frame, Framing
from dhenara_async.hosts.auth import Credentials
from dhenara_async.request import HttpRequest
from tests.loopback import HttpSeen, chat_body, chat_stream, chunked, replies, serve, whole

SECRET = "tin-kettle-secret"
NO_RETRIES = AIModelCallConfig(retries=RetryPolicy(attempts=1))
FRAMES_TYPE = "application/vnd.tin.frames"


@dataclass
class SigningAuth:
    """Signs URL and body with a token that is fetched before the first request."""

    credentials: Credentials
    token: str | None = None
    fetched: int = 0
    lock: anyio.Lock = field(default_factory=anyio.Lock)

    async def sign(self, request: HttpRequest) -> HttpRequest:
        async with self.lock:
            if self.token is None:
                await anyio.lowlevel.checkpoint()
                self.token, self.fetched = "fetched-token-1", self.fetched + 1
        assert self.credentials.key is not None
        proof = signature(self.credentials.key.get_secret_value(), request.url, request.body)
        return replace(request, headers={**request.headers, "x-token": self.token, "x-signature": proof})

    def hide(self, text: str) -> str:
        return text if self.token is None else text.replace(self.token, "***")


def signature(secret: str, url: str, body: bytes) -> str:
    return hmac.new(secret.encode(), url.encode() + body, hashlib.sha256).hexdigest()


class LengthFramer:
    """Frames of four bytes length, big-endian, and as many bytes of payload."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._held = b""

    def feed(self, chunk: bytes) -> list[Frame]:
        self._held += chunk
        frames: list[Frame] = []
        while len(self._held) >= 4:
            length = int.from_bytes(self._held[:4])
            if length > self._limit:
                raise BoundsError("a frame is too large", setting="max_answer_bytes", limit=self._limit)
            if len(self._held) < 4 + length:
                break
            frames.append(self._held[4 : 4 + length])
            self._held = self._held[4 + length :]
        return frames

    def finish(self) -> list[Frame]:
        if self._held:
            raise ProtocolError("the stream ended inside a frame")
        return []


MADE: list[SigningAuth] = []


def signing(credentials: Credentials) -> SigningAuth:
    MADE.append(SigningAuth(credentials))
    return MADE[-1]


register_host("tin", Host("https://tin.test/v1", auth=signing, framing=Framing(FRAMES_TYPE, LengthFramer)))


def tin(url: str) -> AIModelEndpoint:
    api = AIModelAPI(provider="tin", api_key=SecretStr(SECRET), base_url=f"{url}/v1")
    return AIModelEndpoint(api=api, ai_model=AIModel(model_name="tin-1"))


def length_framed(*words: str) -> bytes:
    payloads = [event.removeprefix(b"data: ").rstrip(b"\n") for event in chat_stream(*words)]
    return b"".join(len(payload).to_bytes(4) + payload for payload in payloads)


def cut(body: bytes, size: int) -> Sequence[bytes]:
    return [body[at : at + size] for at in range(0, len(body), size)]


def check_signature(seen: HttpSeen, url: str) -> None:
    assert seen.header("x-token") == ["fetched-token-1"]
    assert seen.header("x-signature") == [signature(SECRET, f"{url}/v1/chat/completions", seen.body)]
    assert seen.header("authorization") == []


async def test_a_signed_request_is_answered_in_binary_frames() -> None:
    async with serve(replies(chunked(*cut(length_framed("Tin ", "speaks."), 7), content_type=FRAMES_TYPE))) as server:
        async with AIModelClient(tin(server.url)) as client, client.stream("Hi.") as stream:
            assert (await stream.collect()).text() == "Tin speaks."
        (seen,) = server.requests
        check_signature(seen, server.url)
    assert seen.header("accept") == [FRAMES_TYPE]


@pytest.mark.parametrize("content_type", ["", "application/octet-stream"])
async def test_binary_frames_are_recognized_without_their_content_type(content_type: str) -> None:
    async with (
        serve(replies(chunked(*cut(length_framed("Tin."), 3), content_type=content_type))) as server,
        AIModelClient(tin(server.url)).stream("Hi.") as stream,
    ):
        assert (await stream.collect()).text() == "Tin."


async def test_a_plain_body_of_the_host_is_read_as_json() -> None:
    async with serve(replies(whole(chat_body("Plain tin.")))) as server, AIModelClient(tin(server.url)) as client:
        assert (await client.generate("Hi.")).text() == "Plain tin."
        (seen,) = server.requests
        check_signature(seen, server.url)
    assert seen.header("accept") == ["application/json"]


async def test_each_attempt_is_signed_and_the_token_is_fetched_once() -> None:
    config = AIModelCallConfig(retries=RetryPolicy(attempts=3, first_delay=0.0))
    answers = whole(b"{}", status=503), whole(chat_body("Yes.")), whole(chat_body("Again."))
    async with serve(replies(*answers)) as server, AIModelClient(tin(server.url), config) as client:
        assert (await client.generate("Hi.")).text() == "Yes."
        assert (await client.generate("And?")).text() == "Again."
        for seen in server.requests:
            check_signature(seen, server.url)
    assert (len(server.requests), MADE[-1].fetched) == (3, 1)


@pytest.mark.parametrize("headers", [{}, {"x-lid-secret": "lid-of-the-kettle"}], ids=["bare", "extra headers"])
async def test_an_error_quotes_neither_token_nor_key(headers: dict[str, str]) -> None:
    quoted = f"bad token fetched-token-1 of {SECRET} with lid-of-the-kettle"
    body = orjson.dumps({"error": {"message": quoted}})
    config = NO_RETRIES.changed(extra_headers=headers)
    async with serve(replies(whole(body, status=400))) as server, AIModelClient(tin(server.url), config) as client:
        with pytest.raises(APIError) as raised:
            await client.generate("Hi.")
    lid = "***" if headers else "lid-of-the-kettle"
    assert f"bad token *** of *** with {lid}" in str(raised.value)


async def test_a_frame_over_the_limit_is_refused() -> None:
    config = NO_RETRIES.changed(bounds=Bounds(max_answer_bytes=2048))
    body = (4096).to_bytes(4) + b"{"
    async with (
        serve(replies(chunked(body, content_type=FRAMES_TYPE))) as server,
        AIModelClient(tin(server.url), config).stream("Hi.") as stream,
    ):
        with pytest.raises(BoundsError, match="a frame is too large"):
            await stream.collect()


class NeverReady:
    """Waits for a token that does not come."""

    async def sign(self, request: HttpRequest) -> HttpRequest:
        await anyio.sleep_forever()
        return request

    def hide(self, text: str) -> str:
        return text


class Refusing(NeverReady):
    """Is refused a token."""

    async def sign(self, request: HttpRequest) -> HttpRequest:
        raise AuthenticationError("the token service refused us", status=401, provider="refusing")


register_host("waiting", Host("https://waiting.test", auth=lambda _: NeverReady(), key_required=False))
register_host("refusing", Host("https://refusing.test", auth=lambda _: Refusing(), key_required=False))


def without_key(provider: str) -> AIModelEndpoint:
    return AIModelEndpoint(api=AIModelAPI(provider=provider), ai_model=AIModel(model_name="m"))


async def test_the_total_time_limit_covers_a_token_that_does_not_come() -> None:
    config = NO_RETRIES.changed(timeouts=Timeouts(total=0.05))
    async with AIModelClient(without_key("waiting"), config) as client:
        with pytest.raises(DeadlineError, match="total"):
            await client.generate("Hi.")


async def test_a_refused_token_is_an_error_of_the_call() -> None:
    async with AIModelClient(without_key("refusing"), NO_RETRIES) as client:
        with pytest.raises(AuthenticationError, match="the token service refused us"):
            await client.generate("Hi.")
