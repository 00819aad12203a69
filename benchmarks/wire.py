"""The answers of the loopback server: one realistic answer for each dialect, encoded before the measurement.

The events have the fields, line ends and spacing of the providers, because bare events would favour the peer that
parses least: most bytes are padding, ids, empty lists and repeated usage. The words are drawn with a fixed seed, so
that every process builds the same answer and can check the received text.
"""

import json
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256

import orjson

DIALECTS = ("openai_chat", "openai_responses", "anthropic_messages", "gemini")

MODELS: Mapping[str, str] = {
    "openai_chat": "gpt-4o-mini",
    "openai_responses": "gpt-4o-mini",
    "anthropic_messages": "claude-sonnet-5-5",
    "gemini": "gemini-3.8-flash",
}

_SEED = 20261122
_CREATED = 1_795_353_600
_WORDS = (
    " the", " of", " and", " to", " stream", "ing", " token", "s", ",", ".", "\n\n", " \"quoted\"", " café", " naïve",
    " 日本語", " 👍🏽", " asynchronous", " a", " in", " model", " return", "()", " {", "}", "\n", "\t", " \\n",
    " Zürich", " understanding", " it", " is", " that", " with", " 42", " 3.14", " —", " “so”", " <b>", "</b>", " &",
)  # fmt: skip
_PADDING = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

NO_STAMP = "<" + "0" * 20 + ">"
"""Stands where the server writes a moment."""

# Words in one event: OpenAI sends about one token in an event, Anthropic a few, Gemini a phrase.
_WORDS_PER_EVENT: Mapping[str, int] = {
    "openai_chat": 1,
    "openai_responses": 1,
    "anthropic_messages": 2,
    "gemini": 5,
}


@dataclass(frozen=True, slots=True)
class Answer:
    """One streamed answer.

    Attributes:
        texts: The text of each token event, in order.
        events: The wire events of the body, in order, token events and others.
        prelude: The number of ``events`` before the first token event.
    """

    texts: tuple[str, ...]
    events: tuple[bytes, ...]
    prelude: int

    @property
    def digest(self) -> str:
        """SHA-256 of the joined text, which every peer must receive."""
        return text_digest("".join(self.texts))


def text_digest(text: str) -> str:
    """Return the SHA-256 of ``text`` in hexadecimal."""
    return sha256(text.encode()).hexdigest()


@cache
def answer(dialect: str, events: int, *, stamped: bool = False) -> Answer:
    """Build the streamed answer of ``dialect`` with ``events`` token events, optionally with a leading ``NO_STAMP``.

    Raises:
        KeyError: The dialect is unknown.
    """
    texts = _texts(dialect, events)
    if stamped:
        texts = (NO_STAMP + texts[0], *texts[1:])
    return Answer(texts=texts, events=tuple(_STREAMS[dialect](texts)), prelude=_PRELUDES[dialect])


def stamp(nanoseconds: int) -> str:
    """Return the text that replaces ``NO_STAMP``: a moment of the monotonic clock, of the same length."""
    return f"<{nanoseconds:020d}>"


def split_stamp(text: str) -> tuple[int, str]:
    """Split a stamped text into its moment and the text with ``NO_STAMP``.

    Raises:
        ValueError: The text has no stamp.
    """
    return int(text[1 : len(NO_STAMP) - 1]), NO_STAMP + text[len(NO_STAMP) :]


@cache
def plain_text(dialect: str, events: int) -> str:
    """Return the text of the plain answer: the same words as in the stream."""
    return "".join(_texts(dialect, events))


@cache
def plain_body(dialect: str, events: int) -> bytes:
    """Return the body of the plain (not streamed) answer with the text of ``events`` token events."""
    return _PLAINS[dialect](plain_text(dialect, events), events)


def _texts(dialect: str, events: int) -> tuple[str, ...]:
    source = random.Random(_SEED)
    words = _WORDS_PER_EVENT[dialect]
    return tuple("".join(source.choices(_WORDS, k=words)) for _ in range(events))


def _data(value: object) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"


def _named(value: Mapping[str, object]) -> bytes:
    return f"event: {value['type']}\n".encode() + _data(value)


def _paddings(count: int) -> list[str]:
    source = random.Random(_SEED)
    return ["".join(source.choices(_PADDING, k=source.randint(1, 14))) for _ in range(count)]


def _chat_usage(tokens: int) -> dict[str, object]:
    return {
        "prompt_tokens": 21,
        "completion_tokens": tokens,
        "total_tokens": 21 + tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _chat_stream(texts: tuple[str, ...]) -> Iterable[bytes]:
    def chunk(choices: list[object], usage: object, padding: str) -> bytes:
        return _data(
            {
                "id": "chatcmpl-CfR2bT7mYw0Qe9uXn5KzJc1aPs4Vd",
                "object": "chat.completion.chunk",
                "created": _CREATED,
                "model": "gpt-4o-mini-2024-07-18",
                "service_tier": "default",
                "system_fingerprint": "fp_560af6e559",
                "choices": choices,
                "usage": usage,
                "obfuscation": padding,
            }
        )

    def choice(delta: object, finish_reason: str | None) -> list[object]:
        return [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}]

    yield chunk(choice({"role": "assistant", "content": "", "refusal": None}, None), None, "k2Jd8sLq")
    for text, padding in zip(texts, _paddings(len(texts)), strict=True):
        yield chunk(choice({"content": text}, None), None, padding)
    yield chunk(choice({}, "stop"), None, "Qe0")
    yield chunk([], _chat_usage(len(texts)), "x8Rw2LmP")
    yield b"data: [DONE]\n\n"


def _chat_plain(text: str, tokens: int) -> bytes:
    return orjson.dumps(
        {
            "id": "chatcmpl-CfR2bT7mYw0Qe9uXn5KzJc1aPs4Vd",
            "object": "chat.completion",
            "created": _CREATED,
            "model": "gpt-4o-mini-2024-07-18",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text, "refusal": None, "annotations": []},
                    "logprobs": None,
                    "finish_reason": "stop",
                }
            ],
            "usage": _chat_usage(tokens),
            "service_tier": "default",
            "system_fingerprint": "fp_560af6e559",
        }
    )


_RESPONSE_ID = "resp_0d1f6a7b9c2e4d5f8091a2b3c4d5e6f7a8b9c0d1e2f3a4b5"
_MESSAGE_ID = "msg_0d1f6a7b9c2e4d5f8091a2b3c4d5e6f7a8b9c0d1e2f3a4b6"


def _response(status: str, output: list[object], usage: object) -> dict[str, object]:
    return {
        "id": _RESPONSE_ID,
        "object": "response",
        "created_at": _CREATED,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "max_tool_calls": None,
        "model": "gpt-4o-mini-2024-07-18",
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "reasoning": {"effort": None, "summary": None},
        "safety_identifier": None,
        "service_tier": "default",
        "store": False,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": usage,
        "user": None,
        "metadata": {},
    }


def _output_text(text: str) -> dict[str, object]:
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}


def _output_message(status: str, content: list[object]) -> dict[str, object]:
    return {"id": _MESSAGE_ID, "type": "message", "status": status, "content": content, "role": "assistant"}


def _response_usage(tokens: int) -> dict[str, object]:
    return {
        "input_tokens": 21,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 21 + tokens,
    }


def _responses_stream(texts: tuple[str, ...]) -> Iterable[bytes]:
    whole = "".join(texts)
    place: dict[str, object] = {"item_id": _MESSAGE_ID, "output_index": 0, "content_index": 0}
    item = _output_message("completed", [_output_text(whole)])
    final = _response("completed", [item], _response_usage(len(texts)))
    before: list[dict[str, object]] = [
        {"type": "response.created", "response": _response("in_progress", [], None)},
        {"type": "response.in_progress", "response": _response("in_progress", [], None)},
        {"type": "response.output_item.added", "output_index": 0, "item": _output_message("in_progress", [])},
        {"type": "response.content_part.added", **place, "part": _output_text("")},
    ]
    deltas: list[dict[str, object]] = [
        {"type": "response.output_text.delta", **place, "delta": text, "logprobs": [], "obfuscation": padding}
        for text, padding in zip(texts, _paddings(len(texts)), strict=True)
    ]
    after: list[dict[str, object]] = [
        {"type": "response.output_text.done", **place, "text": whole, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": _output_text(whole)},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": final},
    ]
    for number, event in enumerate([*before, *deltas, *after]):
        kind = event.pop("type")
        yield _named({"type": kind, "sequence_number": number, **event})


def _responses_plain(text: str, tokens: int) -> bytes:
    item = _output_message("completed", [_output_text(text)])
    return orjson.dumps(_response("completed", [item], _response_usage(tokens)))


def _anthropic_message(content: list[object], stop_reason: str | None, tokens: int) -> dict[str, object]:
    return {
        "model": "claude-sonnet-5-5",
        "id": "msg_01XFDUDYJgAACzvnptvVoYEL",
        "type": "message",
        "role": "assistant",
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "stop_details": None,
        "usage": {
            "input_tokens": 21,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
            "output_tokens": tokens,
            "service_tier": "standard",
            "inference_geo": "not_available",
        },
    }


def _anthropic_stream(texts: tuple[str, ...]) -> Iterable[bytes]:
    yield _named({"type": "message_start", "message": _anthropic_message([], None, 1)})
    yield _named({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})
    yield _named({"type": "ping"})
    for text in texts:
        yield _named({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}})
    yield _named({"type": "content_block_stop", "index": 0})
    usage = {
        "input_tokens": 21,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": len(texts),
    }
    delta = {"stop_reason": "end_turn", "stop_sequence": None, "stop_details": None}
    yield _named({"type": "message_delta", "delta": delta, "usage": usage})
    yield _named({"type": "message_stop"})


def _anthropic_plain(text: str, tokens: int) -> bytes:
    return orjson.dumps(_anthropic_message([{"type": "text", "text": text}], "end_turn", tokens))


def _gemini_chunk(text: str, tokens: int, *, last: bool) -> dict[str, object]:
    finish = {"finishReason": "STOP"} if last else {}
    return {
        "candidates": [{"content": {"parts": [{"text": text}], "role": "model"}, **finish, "index": 0}],
        "usageMetadata": {
            "promptTokenCount": 21,
            "candidatesTokenCount": tokens,
            "totalTokenCount": 21 + tokens,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 21}],
        },
        "modelVersion": "gemini-3.8-flash",
        "responseId": "Zq8gaZ3wJ5yVvdIP4brM0Qs",
    }


def _gemini_stream(texts: tuple[str, ...]) -> Iterable[bytes]:
    # This provider ends lines with CR LF, and writes a space after each colon.
    for number, text in enumerate(texts, start=1):
        chunk = _gemini_chunk(text, number, last=number == len(texts))
        body = json.dumps(chunk, ensure_ascii=False, separators=(",", ": "))
        yield b"data: " + body.encode() + b"\r\n\r\n"


def _gemini_plain(text: str, tokens: int) -> bytes:
    return json.dumps(_gemini_chunk(text, tokens, last=True), ensure_ascii=False, indent=2).encode()


_STREAMS: Mapping[str, Callable[[tuple[str, ...]], Iterable[bytes]]] = {
    "openai_chat": _chat_stream,
    "openai_responses": _responses_stream,
    "anthropic_messages": _anthropic_stream,
    "gemini": _gemini_stream,
}

# Events before the first token.
_PRELUDES: Mapping[str, int] = {"openai_chat": 1, "openai_responses": 4, "anthropic_messages": 3, "gemini": 0}

_PLAINS: Mapping[str, Callable[[str, int], bytes]] = {
    "openai_chat": _chat_plain,
    "openai_responses": _responses_plain,
    "anthropic_messages": _anthropic_plain,
    "gemini": _gemini_plain,
}
