"""The floor: a hand-written loop over aiohttp and orjson that extracts the text and nothing else."""

from collections.abc import Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from benchmarks.peers.calls import KEY, MAX_OUTPUT_TOKENS, PROMPT, Calls, Opened, Take
from benchmarks.wire import MODELS

_PATHS: Mapping[str, str] = {
    "openai_chat": "/v1/chat/completions",
    "openai_responses": "/v1/responses",
    "anthropic_messages": "/v1/messages",
    "gemini": f"/v1beta/models/{MODELS['gemini']}:streamGenerateContent?alt=sse",
}


def _body(dialect: str, *, stream: bool) -> dict[str, object]:
    model = MODELS[dialect]
    match dialect:
        case "openai_responses":
            return {"model": model, "input": PROMPT, "store": False, "stream": stream}
        case "gemini":
            return {"contents": [{"role": "user", "parts": [{"text": PROMPT}]}]}
        case "anthropic_messages":
            messages = [{"role": "user", "content": PROMPT}]
            return {"model": model, "max_tokens": MAX_OUTPUT_TOKENS, "messages": messages, "stream": stream}
        case _:
            return {"model": model, "messages": [{"role": "user", "content": PROMPT}], "stream": stream}


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
async def open_floor(dialect: str, url: str) -> Opened:
    """Open the floor: a hand-written loop over aiohttp and orjson."""
    import aiohttp
    from orjson import dumps, loads
    from yarl import URL

    target = URL(url + _PATHS[dialect], encoded=True)
    delta_text, plain_text = _DELTAS[dialect], _TEXTS[dialect]
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers) as session:

        async def stream(take: Take) -> None:
            tail = b""
            async with session.post(target, data=dumps(_body(dialect, stream=True))) as response:
                async for data in response.content.iter_any():
                    *lines, tail = (tail + data).split(b"\n")
                    for line in lines:
                        if line.startswith(b"data: ") and line != b"data: [DONE]":
                            text = delta_text(loads(line[6:]))
                            if text:
                                take(text)

        async def generate() -> str:
            async with session.post(target, data=dumps(_body(dialect, stream=False))) as response:
                return plain_text(loads(await response.read()))

        async def fold() -> str:
            texts: list[str] = []
            await stream(texts.append)
            return "".join(texts)

        yield Calls(stream=stream, generate=generate, fold=fold)


async def count_reads(dialect: str, url: str) -> int:
    """Count the reads of the floor's client for one stream."""
    import aiohttp
    from orjson import dumps
    from yarl import URL

    target = URL(url + _PATHS[dialect], encoded=True)
    async with aiohttp.ClientSession() as session, session.post(target, data=dumps({})) as response:
        return len([data async for data in response.content.iter_any()])
