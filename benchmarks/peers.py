"""Everybody who is measured, one adapter each: the same call, and only the text of it kept.

A peer is opened once per dialect and server mode, outside the measurement, and keeps its connections between calls, as
a program would. It is imported when it is opened: a peer that is not installed is left out.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from benchmarks.wire import DIALECTS, MODELS

_KEY = "benchmark"
_PROMPT = "Tell me about streams."
_MAX_OUTPUT_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class Calls:
    """An opened peer.

    Attributes:
        stream: One streamed call; the text of each delta, in order.
        generate: One plain call; the text of its answer.
    """

    stream: Callable[[], Awaitable[list[str]]]
    generate: Callable[[], Awaitable[str]]


Open = Callable[[str, str], AbstractAsyncContextManager[Calls]]


@dataclass(frozen=True, slots=True)
class Peer:
    """Somebody who is measured.

    Attributes:
        name: As in the table.
        package: What must be importable.
        dialects: What it speaks.
        open: Opens it for a dialect at the server's URL (dialect, mode and count in the path).
        streams_only: Its plain call is no other than an earlier peer's.
    """

    name: str
    package: str
    dialects: tuple[str, ...]
    open: Open
    streams_only: bool = False

    @property
    def installed(self) -> bool:
        """Whether it can be imported here."""
        return _importable(self.package)


def _importable(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # the parent of a dotted name is missing
        return False


# The floor: what anybody would write by hand who wants the text and nothing else.

_FLOOR_PATHS: Mapping[str, str] = {
    "openai_chat": "/v1/chat/completions",
    "openai_responses": "/v1/responses",
    "anthropic_messages": "/v1/messages",
    "gemini": f"/v1beta/models/{MODELS['gemini']}:streamGenerateContent?alt=sse",
}


def _floor_body(dialect: str, *, stream: bool) -> dict[str, object]:
    model = MODELS[dialect]
    match dialect:
        case "openai_responses":
            return {"model": model, "input": _PROMPT, "store": False, "stream": stream}
        case "gemini":
            return {"contents": [{"role": "user", "parts": [{"text": _PROMPT}]}]}
        case "anthropic_messages":
            messages = [{"role": "user", "content": _PROMPT}]
            return {"model": model, "max_tokens": _MAX_OUTPUT_TOKENS, "messages": messages, "stream": stream}
        case _:
            return {"model": model, "messages": [{"role": "user", "content": _PROMPT}], "stream": stream}


def _chat_delta(event: Any) -> str | None:
    choices = event["choices"]
    return choices[0]["delta"].get("content") if choices else None


def _responses_delta(event: Any) -> str | None:
    return event["delta"] if event["type"] == "response.output_text.delta" else None


def _anthropic_delta(event: Any) -> str | None:
    return event["delta"]["text"] if event["type"] == "content_block_delta" else None


def _gemini_delta(event: Any) -> str | None:
    return event["candidates"][0]["content"]["parts"][0]["text"]


_DELTAS: Mapping[str, Callable[[Any], str | None]] = {
    "openai_chat": _chat_delta,
    "openai_responses": _responses_delta,
    "anthropic_messages": _anthropic_delta,
    "gemini": _gemini_delta,
}

_TEXTS: Mapping[str, Callable[[Any], str]] = {
    "openai_chat": lambda answer: answer["choices"][0]["message"]["content"],
    "openai_responses": lambda answer: answer["output"][0]["content"][0]["text"],
    "anthropic_messages": lambda answer: answer["content"][0]["text"],
    "gemini": lambda answer: answer["candidates"][0]["content"]["parts"][0]["text"],
}


@asynccontextmanager
async def open_floor(dialect: str, url: str) -> AsyncGenerator[Calls]:
    """A loop over aiohttp and orjson, written by hand."""
    import aiohttp
    from orjson import dumps, loads
    from yarl import URL

    target = URL(url + _FLOOR_PATHS[dialect], encoded=True)
    delta_text, plain_text = _DELTAS[dialect], _TEXTS[dialect]
    headers = {"authorization": f"Bearer {_KEY}", "content-type": "application/json"}

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers) as session:

        async def stream() -> list[str]:
            texts: list[str] = []
            tail = b""
            async with session.post(target, data=dumps(_floor_body(dialect, stream=True))) as response:
                async for data in response.content.iter_any():
                    *lines, tail = (tail + data).split(b"\n")
                    for line in lines:
                        if line.startswith(b"data: ") and line != b"data: [DONE]":
                            text = delta_text(loads(line[6:]))
                            if text:
                                texts.append(text)
            return texts

        async def generate() -> str:
            async with session.post(target, data=dumps(_floor_body(dialect, stream=False))) as response:
                return plain_text(loads(await response.read()))

        yield Calls(stream=stream, generate=generate)


async def count_reads(dialect: str, url: str) -> int:
    """How many reads it takes the floor's client to take in one stream."""
    import aiohttp
    from orjson import dumps
    from yarl import URL

    target = URL(url + _FLOOR_PATHS[dialect], encoded=True)
    async with aiohttp.ClientSession() as session, session.post(target, data=dumps({})) as response:
        return len([data async for data in response.content.iter_any()])


@asynccontextmanager
async def open_dhenara_async(dialect: str, url: str) -> AsyncGenerator[Calls]:
    """This library, through its public names only."""
    from dhenara_async import (
        AIModel,
        AIModelAPI,
        AIModelAPIProviderEnum,
        AIModelCallConfig,
        AIModelClient,
        AIModelEndpoint,
        Dialect,
    )
    from dhenara_async.events import TextDelta

    provider = {
        "anthropic_messages": AIModelAPIProviderEnum.ANTHROPIC,
        "gemini": AIModelAPIProviderEnum.GOOGLE_AI,
    }.get(dialect, AIModelAPIProviderEnum.OPEN_AI)
    base_url = f"{url}/v1" if provider is AIModelAPIProviderEnum.OPEN_AI else url
    # From a mapping, as from a user's settings file: a key in plain text becomes a SecretStr in here.
    api = AIModelAPI.model_validate(
        {"provider": provider, "api_key": _KEY, "base_url": base_url, "dialect": Dialect(dialect)}
    )
    endpoint = AIModelEndpoint(api=api, ai_model=AIModel(model_name=MODELS[dialect]))
    config = AIModelCallConfig(max_output_tokens=_MAX_OUTPUT_TOKENS)

    async with AIModelClient(model_endpoint=endpoint, config=config) as client:

        async def stream() -> list[str]:
            texts: list[str] = []
            async with client.stream(prompt=_PROMPT) as events:
                async for event in events:
                    if isinstance(event, TextDelta):
                        texts.append(event.text)
            return texts

        async def generate() -> str:
            return (await client.generate(prompt=_PROMPT)).text()

        yield Calls(stream=stream, generate=generate)


@asynccontextmanager
async def open_openai_chat(_dialect: str, url: str) -> AsyncGenerator[Calls]:
    """The vendor's SDK on Chat Completions."""
    from openai import AsyncOpenAI

    model = MODELS["openai_chat"]

    async with AsyncOpenAI(api_key=_KEY, base_url=f"{url}/v1", max_retries=0) as client:

        async def stream() -> list[str]:
            texts: list[str] = []
            chunks = await client.chat.completions.create(
                model=model, messages=[{"role": "user", "content": _PROMPT}], stream=True
            )
            async for chunk in chunks:
                if chunk.choices and (text := chunk.choices[0].delta.content):
                    texts.append(text)
            return texts

        async def generate() -> str:
            answer = await client.chat.completions.create(model=model, messages=[{"role": "user", "content": _PROMPT}])
            return answer.choices[0].message.content or ""

        yield Calls(stream=stream, generate=generate)


@asynccontextmanager
async def open_openai_responses(_dialect: str, url: str) -> AsyncGenerator[Calls]:
    """The vendor's SDK on Responses."""
    from openai import AsyncOpenAI

    model = MODELS["openai_responses"]

    async with AsyncOpenAI(api_key=_KEY, base_url=f"{url}/v1", max_retries=0) as client:

        async def stream() -> list[str]:
            texts: list[str] = []
            events = await client.responses.create(model=model, input=_PROMPT, store=False, stream=True)
            async for event in events:
                if event.type == "response.output_text.delta":
                    texts.append(event.delta)
            return texts

        async def generate() -> str:
            return (await client.responses.create(model=model, input=_PROMPT, store=False)).output_text

        yield Calls(stream=stream, generate=generate)


@asynccontextmanager
async def open_anthropic(_dialect: str, url: str) -> AsyncGenerator[Calls]:
    """The vendor's SDK, its plain iterator of events."""
    from anthropic import AsyncAnthropic

    model = MODELS["anthropic_messages"]

    async with AsyncAnthropic(api_key=_KEY, base_url=url, max_retries=0) as client:

        async def stream() -> list[str]:
            texts: list[str] = []
            events = await client.messages.create(
                model=model,
                max_tokens=_MAX_OUTPUT_TOKENS,
                messages=[{"role": "user", "content": _PROMPT}],
                stream=True,
            )
            async for event in events:
                if event.type == "content_block_delta" and event.delta.type == "text_delta":
                    texts.append(event.delta.text)
            return texts

        async def generate() -> str:
            answer = await client.messages.create(
                model=model, max_tokens=_MAX_OUTPUT_TOKENS, messages=[{"role": "user", "content": _PROMPT}]
            )
            return "".join(block.text for block in answer.content if block.type == "text")

        yield Calls(stream=stream, generate=generate)


@asynccontextmanager
async def open_anthropic_helper(dialect: str, url: str) -> AsyncGenerator[Calls]:
    """The vendor's SDK, its ``messages.stream()``, which folds the message as this library does."""
    from anthropic import AsyncAnthropic

    model = MODELS["anthropic_messages"]

    async with (
        AsyncAnthropic(api_key=_KEY, base_url=url, max_retries=0) as client,
        open_anthropic(dialect, url) as plain,
    ):

        async def stream() -> list[str]:
            texts: list[str] = []
            async with client.messages.stream(
                model=model, max_tokens=_MAX_OUTPUT_TOKENS, messages=[{"role": "user", "content": _PROMPT}]
            ) as events:
                async for event in events:
                    if event.type == "text":
                        texts.append(event.text)
            return texts

        yield Calls(stream=stream, generate=plain.generate)


@asynccontextmanager
async def open_google_genai(_dialect: str, url: str) -> AsyncGenerator[Calls]:
    """The vendor's SDK."""
    from google import genai
    from google.genai.types import HttpOptions

    model = MODELS["gemini"]

    async with genai.Client(api_key=_KEY, http_options=HttpOptions(base_url=url)).aio as client:

        async def stream() -> list[str]:
            texts: list[str] = []
            chunks = await client.models.generate_content_stream(  # pyright: ignore[reportUnknownMemberType] - PIL's
                model=model, contents=_PROMPT
            )
            async for chunk in chunks:
                if text := chunk.text:
                    texts.append(text)
            return texts

        async def generate() -> str:
            answer = await client.models.generate_content(  # pyright: ignore[reportUnknownMemberType] - PIL's
                model=model, contents=_PROMPT
            )
            return answer.text or ""

        yield Calls(stream=stream, generate=generate)


FLOOR = "floor"

PEERS = (
    Peer(FLOOR, "aiohttp", DIALECTS, open_floor),
    Peer("dhenara_async", "dhenara_async", DIALECTS, open_dhenara_async),
    Peer("openai", "openai", ("openai_chat",), open_openai_chat),
    Peer("openai", "openai", ("openai_responses",), open_openai_responses),
    Peer("anthropic", "anthropic", ("anthropic_messages",), open_anthropic),
    Peer("anthropic-stream", "anthropic", ("anthropic_messages",), open_anthropic_helper, streams_only=True),
    Peer("google-genai", "google.genai", ("gemini",), open_google_genai),
)

PEER_NAMES = tuple(dict.fromkeys(peer.name for peer in PEERS))


def choose(names: list[str] | None, dialects: list[str] | None) -> tuple[list[Peer], list[Peer]]:
    """The peers of these names that speak one of these dialects (None = all): installed ones, and missing ones."""
    wanted = [
        peer
        for peer in PEERS
        if (not names or peer.name in names) and (not dialects or not set(dialects).isdisjoint(peer.dialects))
    ]
    return [peer for peer in wanted if peer.installed], [peer for peer in wanted if not peer.installed]
