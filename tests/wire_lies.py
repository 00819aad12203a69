"""What hosts really send where their protocol would have them send something else, for ``test_faults``: failures that
are reported inside an answer with status 200, and answers whose end, order or numbers are not what they should be.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from dhenara_async import Dialect
from dhenara_async.errors import (
    APIError,
    AuthenticationError,
    ContextLengthError,
    DhenaraError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ProtocolError,
    RateLimitError,
    ServerError,
    TruncatedStreamError,
)

JSON = dict[str, object]

CHAT, RESPONSES, ANTHROPIC, GEMINI = (
    Dialect.OPENAI_CHAT,
    Dialect.OPENAI_RESPONSES,
    Dialect.ANTHROPIC_MESSAGES,
    Dialect.GEMINI,
)


def sse(*events: JSON | bytes) -> bytes:
    """A stream's body; bytes stand as they are."""
    spelled = (event if isinstance(event, bytes) else orjson.dumps(event) for event in events)
    return b"".join(b"data: " + event + b"\n\n" for event in spelled)


# ---------------------------------------------------------------------------------------------------- failures


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure inside an answer.

    Attributes:
        dialect: In whose words.
        event: What is sent.
        error: What it is, exactly.
        status: The HTTP status it stands for.
        retryable: Whether another try makes sense.
    """

    dialect: Dialect
    event: JSON
    error: type[APIError]
    status: int
    retryable: bool = False


def _chat(error: object, kind: type[APIError], status: int, *, retryable: bool = False) -> Failure:
    return Failure(CHAT, {"error": error}, kind, status, retryable)


def _responses(error: JSON, kind: type[APIError], status: int, *, retryable: bool = False) -> list[Failure]:
    """Flat, nested, and as the end of its response."""
    failed: JSON = {"id": "resp_1", "object": "response", "status": "failed", "error": error, "output": []}
    events: list[JSON] = [
        {"type": "error", "sequence_number": 0, "error": error},
        {"type": "response.failed", "sequence_number": 0, "response": failed},
    ]
    if "type" not in error:
        events.append({**error, "type": "error", "sequence_number": 0})
    return [Failure(RESPONSES, event, kind, status, retryable) for event in events]


def _anthropic(kind: str, error: type[APIError], status: int, *, retryable: bool = False) -> Failure:
    return Failure(ANTHROPIC, {"type": "error", "error": {"type": kind, "message": "m"}}, error, status, retryable)


def _gemini(error: JSON, kind: type[APIError], status: int, *, retryable: bool = False) -> Failure:
    return Failure(GEMINI, {"error": {"message": "m", **error}}, kind, status, retryable)


FAILURES: Sequence[Failure] = (
    _chat({"message": "m", "type": "requests", "code": "rate_limit_exceeded"}, RateLimitError, 429, retryable=True),
    _chat({"message": "m", "type": "tokens", "code": None}, RateLimitError, 429, retryable=True),
    _chat({"message": "m", "type": "insufficient_quota", "code": "insufficient_quota"}, RateLimitError, 429),
    _chat({"message": "m", "code": 429}, RateLimitError, 429, retryable=True),
    _chat({"message": "m", "code": "429"}, RateLimitError, 429, retryable=True),
    _chat({"message": "m", "code": 502}, ServerError, 502, retryable=True),
    _chat({"message": "m", "code": 503}, OverloadedError, 503, retryable=True),
    _chat({"message": "m", "code": 1302}, ServerError, 500, retryable=True),
    _chat({"message": "m", "type": "engine_overloaded_error"}, OverloadedError, 503, retryable=True),
    _chat({"message": "m", "type": "server_error", "code": "unheard_of"}, ServerError, 500, retryable=True),
    _chat({"message": "m", "type": "invalid_request_error"}, InvalidRequestError, 400),
    _chat(
        {"message": "m", "type": "invalid_request_error", "code": "tool_use_failed", "status_code": 400},
        InvalidRequestError,
        400,
    ),
    _chat({"message": "m", "code": "context_length_exceeded"}, ContextLengthError, 400),
    _chat({"message": "m", "code": "invalid_api_key"}, AuthenticationError, 401),
    _chat({"message": "m", "type": "permission_error"}, PermissionDeniedError, 403),
    _chat({"message": "m", "type": "invalid_request_error", "code": "model_not_found"}, NotFoundError, 404),
    _chat({"message": "m"}, ServerError, 500, retryable=True),
    _chat("in words", ServerError, 500, retryable=True),
    Failure(
        CHAT, {"object": "error", "message": "m", "type": "BadRequestError", "code": 400}, InvalidRequestError, 400
    ),
    Failure(CHAT, {"object": "error", "message": "m"}, ServerError, 500, retryable=True),
    Failure(
        CHAT,
        {"message": "m", "type": "too_many_requests_error", "param": "", "code": "too_many_requests"},
        RateLimitError,
        429,
        retryable=True,
    ),
    *_responses({"code": "rate_limit_exceeded", "message": "m"}, RateLimitError, 429, retryable=True),
    *_responses({"code": "insufficient_quota", "message": "m"}, RateLimitError, 429),
    *_responses({"type": "rate_limit_error", "code": None, "message": "m"}, RateLimitError, 429, retryable=True),
    *_responses({"code": 429, "message": "m"}, RateLimitError, 429, retryable=True),
    *_responses({"code": "server_error", "message": "m"}, ServerError, 500, retryable=True),
    *_responses({"code": "vector_store_timeout", "message": "m"}, ServerError, 500, retryable=True),
    *_responses({"code": "server_is_overloaded", "message": "m"}, OverloadedError, 503, retryable=True),
    *_responses({"code": "invalid_prompt", "message": "m"}, InvalidRequestError, 400),
    *_responses({"code": "image_of_tomorrow", "message": "m"}, InvalidRequestError, 400),
    *_responses({"code": "context_length_exceeded", "message": "m"}, ContextLengthError, 400),
    *_responses({"code": None, "message": "m"}, ServerError, 500, retryable=True),
    _anthropic("invalid_request_error", InvalidRequestError, 400),
    _anthropic("authentication_error", AuthenticationError, 401),
    _anthropic("billing_error", InvalidRequestError, 402),
    _anthropic("permission_error", PermissionDeniedError, 403),
    _anthropic("not_found_error", NotFoundError, 404),
    _anthropic("request_too_large", ContextLengthError, 413),
    _anthropic("rate_limit_error", RateLimitError, 429, retryable=True),
    _anthropic("api_error", ServerError, 500, retryable=True),
    _anthropic("timeout_error", ServerError, 504, retryable=True),
    _anthropic("overloaded_error", OverloadedError, 529, retryable=True),
    _anthropic("error_of_tomorrow", ServerError, 500, retryable=True),
    Failure(ANTHROPIC, {"error": {"type": "overloaded_error", "message": "m"}}, OverloadedError, 529, retryable=True),
    _gemini({"code": 400, "status": "INVALID_ARGUMENT"}, InvalidRequestError, 400),
    _gemini({"code": 401, "status": "UNAUTHENTICATED"}, AuthenticationError, 401),
    _gemini({"code": 403, "status": "PERMISSION_DENIED"}, PermissionDeniedError, 403),
    _gemini({"code": 404, "status": "NOT_FOUND"}, NotFoundError, 404),
    _gemini({"code": 429, "status": "RESOURCE_EXHAUSTED"}, RateLimitError, 429, retryable=True),
    _gemini({"code": 8, "status": "RESOURCE_EXHAUSTED"}, RateLimitError, 429, retryable=True),
    _gemini({"status": "UNAVAILABLE"}, OverloadedError, 503, retryable=True),
    _gemini({"code": 499, "status": "CANCELLED"}, InvalidRequestError, 499),
    _gemini({"code": 500, "status": "INTERNAL"}, ServerError, 500, retryable=True),
    _gemini({"code": 503, "status": "UNAVAILABLE"}, OverloadedError, 503, retryable=True),
    _gemini({"code": 504, "status": "DEADLINE_EXCEEDED"}, ServerError, 504, retryable=True),
    _gemini({}, ServerError, 500, retryable=True),
)


# ---------------------------------------------------------------------------------------------------- streams


@dataclass(frozen=True, slots=True)
class Lie:
    """A stream that is not what its protocol says, and what comes of it.

    Attributes:
        name: What is wrong, or odd and yet right.
        dialect: In whose words.
        body: The stream.
        text: The words that there are.
        error: What is raised, exactly; None = the answer is whole.
    """

    name: str
    dialect: Dialect
    body: bytes
    text: str
    error: type[DhenaraError] | None = None


DONE = b"[DONE]"


def _chunk(content: str | None, finish: str | None = None, **more: object) -> JSON:
    delta = {} if content is None else {"content": content}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [choice], **more}


_ROLE: JSON = {"id": "c", "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}


def _candidate(text: str | None, finish: object = None, *, index: int = 0, **more: object) -> JSON:
    said: JSON = {} if text is None else {"content": {"role": "model", "parts": [{"text": text}]}}
    ended = {} if finish is None else {"finishReason": finish}
    return {"candidates": [{**said, **ended, "index": index, **more}], "responseId": "r"}


_SIGNED: JSON = {"content": {"role": "model", "parts": [{"text": "", "thoughtSignature": "c2ln"}]}, "index": 0}


def _spoken(*deltas: str, repeated: bool = True, done: str | None = None) -> list[JSON]:
    """A whole answer of Responses without numbers; ``done`` is what the finished item has, if that is another text."""
    text = "".join(deltas) if done is None else done
    content: list[JSON] = [{"type": "output_text", "text": text, "annotations": []}]
    item: JSON = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": content}
    place = {"output_index": 0, "content_index": 0}
    response: JSON = {"id": "resp_1", "object": "response", "model": "m", "output": []}
    return [
        {"type": "response.created", "response": {**response, "status": "in_progress"}},
        {"type": "response.output_item.added", "output_index": 0, "item": {**item, "content": []}},
        {"type": "response.content_part.added", **place, "part": {"type": "output_text", "text": ""}},
        *({"type": "response.output_text.delta", **place, "delta": delta} for delta in deltas),
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {
            "type": "response.completed",
            "response": {**response, "status": "completed", "output": [item] if repeated else []},
        },
    ]


def _numbered(numbers: Sequence[object], events: Sequence[JSON]) -> bytes:
    return sse(*({**event, "sequence_number": number} for event, number in zip(events, numbers, strict=True)))


_LATE: JSON = {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "c"}
_START: JSON = {"type": "message_start", "message": {"id": "msg_1", "model": "m", "usage": {"input_tokens": 1}}}
_OPEN: JSON = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
_CLOSE: JSON = {"type": "content_block_stop", "index": 0}
_STOP: tuple[JSON, JSON] = (
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
    {"type": "message_stop"},
)


def _block(text: str, index: int = 0) -> JSON:
    return {"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": text}}


LIES: Sequence[Lie] = (
    Lie("the end twice, with words", CHAT, sse(_ROLE, _chunk("a"), *2 * [_chunk("b", "stop")], DONE), "ab"),
    Lie("the end twice, all in it", CHAT, sse(*2 * [_chunk("a", "stop")], DONE), "a"),
    Lie("the end twice, then tokens", CHAT, sse(_chunk("a"), *2 * [_chunk(None, "stop")], _chunk(None, usage={})), "a"),
    Lie("nothing but [DONE]", CHAT, sse(_chunk("a"), DONE), "a"),
    Lie("an end without [DONE]", CHAT, sse(_chunk("a"), _chunk(None, "stop")), "a"),
    Lie(
        "words after the end, and another end",
        CHAT,
        sse(_ROLE, _chunk("a", "stop"), _chunk("b"), _chunk("c", "stop")),
        "abc",
    ),
    Lie(
        "an end in every chunk",
        CHAT,
        sse(_chunk("", "stop"), _chunk("ha", "stop"), _chunk("ha", "stop"), _chunk("!", "stop")),
        "haha!",
    ),
    Lie(
        "an end in every chunk without words",
        CHAT,
        sse(_ROLE, *2 * [_chunk("", "stop")], _chunk("a"), _chunk("b"), *2 * [_chunk("", "stop")]),
        "ab",
    ),
    Lie("words after the end", CHAT, sse(_ROLE, _chunk("", "stop"), _chunk("a")), "a", TruncatedStreamError),
    Lie(
        "thoughts after the end",
        CHAT,
        sse(
            _chunk("a", "stop"),
            {"id": "c", "choices": [{"index": 0, "delta": {"reasoning_content": "hm"}}]},
        ),
        "a",
        TruncatedStreamError,
    ),
    Lie("words after the end, and [DONE]", CHAT, sse(_ROLE, _chunk("", "stop"), _chunk("a"), DONE), "a"),
    Lie(
        "more words after the end",
        CHAT,
        sse(_ROLE, _chunk("a"), _chunk("", "stop"), _chunk("b")),
        "ab",
        TruncatedStreamError,
    ),
    Lie("an empty end", CHAT, sse(_chunk("a", "")), "a", TruncatedStreamError),
    Lie("an empty end in every chunk", CHAT, sse(_chunk("a", ""), _chunk("b", "")), "ab", TruncatedStreamError),
    Lie("an empty end in every chunk, and [DONE]", CHAT, sse(_chunk("a", ""), _chunk("b", ""), DONE), "ab"),
    Lie("the end twice, with words", GEMINI, sse(_candidate("a"), *2 * [_candidate("b", "STOP")]), "ab"),
    Lie("the end twice, all in it", GEMINI, sse(*2 * [_candidate("a", "STOP")]), "a"),
    Lie(
        "an end in every chunk",
        GEMINI,
        sse(_candidate("oh ", "STOP"), _candidate("ha", "STOP"), _candidate("ha", "STOP")),
        "oh haha",
    ),
    Lie(
        "an end in every chunk without words",
        GEMINI,
        sse(*2 * [_candidate(None, "STOP")], _candidate("a"), _candidate("b"), *2 * [_candidate(None, "STOP")]),
        "ab",
    ),
    Lie(
        "words after the end",
        GEMINI,
        sse(_candidate(None, "STOP"), _candidate("a")),
        "a",
        TruncatedStreamError,
    ),
    Lie(
        "a signature, sources and tokens after the end",
        GEMINI,
        sse(
            _candidate("a", "STOP"),
            {"candidates": [_SIGNED]},
            _candidate(None, groundingMetadata={"webSearchQueries": ["q"]}),
            _candidate(""),
            {"usageMetadata": {"promptTokenCount": 1, "totalTokenCount": 2}},
        ),
        "a",
    ),
    Lie(
        "an end that is none in every chunk",
        GEMINI,
        sse(_candidate("a", "FINISH_REASON_UNSPECIFIED"), _candidate("b", "FINISH_REASON_UNSPECIFIED")),
        "ab",
        TruncatedStreamError,
    ),
    Lie("an end of null", GEMINI, sse({"candidates": [{"finishReason": None}]}), "", TruncatedStreamError),
    Lie("null after the end", GEMINI, sse(_candidate("a", "STOP"), {"candidates": [{"finishReason": None}]}), "a"),
    Lie(
        "one candidate of two without an end",
        GEMINI,
        sse(_candidate("a", "STOP"), _candidate("b", index=1)),
        "a",
        TruncatedStreamError,
    ),
    Lie("no numbers", RESPONSES, sse(*_spoken("a", "b")), "ab"),
    Lie("numbers from 0", RESPONSES, _numbered(range(7), _spoken("a", "b")), "ab"),
    Lie("numbers from 41", RESPONSES, _numbered(range(41, 48), _spoken("a", "b")), "ab"),
    Lie("numbers that are all 0", RESPONSES, _numbered([0] * 7, _spoken("a", "b")), "ab"),
    Lie("numbers that are all 1", RESPONSES, _numbered([1] * 7, _spoken("a", "b")), "ab"),
    Lie("numbers that are all -1", RESPONSES, _numbered([-1] * 7, _spoken("a", "b")), "ab"),
    Lie("numbers that are none", RESPONSES, _numbered(["0", None, [], {}, 1.5, True, "x"], _spoken("a", "b")), "ab"),
    Lie("numbers in no order at all", RESPONSES, _numbered([9, 4, 9, 1, 2, 3, 3], _spoken("a", "b")), "ab"),
    Lie("numbers of some events only", RESPONSES, _numbered([0, 1, 2, 0, 0, 3, 0], _spoken("a", "b")), "ab"),
    Lie("numbers with gaps", RESPONSES, _numbered([0, 1, 2, 5, 6, 9, 12], _spoken("a", "b")), "ab"),
    Lie(
        "a number twice",
        RESPONSES,
        _numbered([0, 1, 2, 3, 3, 4, 5], _spoken("a", "a", done="a")),
        "a",
        ProtocolError,
    ),
    Lie("a number that goes back", RESPONSES, _numbered([0, 1, 2, 4, 3, 5, 6], _spoken("b", "a")), "b", ProtocolError),
    Lie(
        "all from the beginning",
        RESPONSES,
        _numbered([*range(5), *range(7)], [*_spoken("a", "b")[:5], *_spoken("a", "b")]),
        "ab",
        ProtocolError,
    ),
    Lie(
        "a failure with a number of its own",
        RESPONSES,
        _numbered(
            [0, 1, 2, 3, 1],
            [*_spoken("a")[:4], {"type": "error", "code": "rate_limit_exceeded", "message": "m"}],
        ),
        "a",
        RateLimitError,
    ),
    Lie(
        "words lost with their number",
        RESPONSES,
        _numbered([0, 1, 2, 3, 5, 6, 7], _spoken("a", "c", done="abc")),
        "ac",
        ProtocolError,
    ),
    Lie(
        "the last words lost with their number",
        RESPONSES,
        _numbered([0, 1, 2, 3, 5, 6], _spoken("a", done="ab")),
        "ab",
    ),
    Lie("words that the end goes on with", RESPONSES, sse(*_spoken("a", done="ab")), "ab"),
    Lie("words that the end corrects", RESPONSES, sse(*_spoken("a", done="b")), "a"),  # nobody says which are right
    Lie(
        "words for a finished item",
        RESPONSES,
        sse(*_spoken("a", "b")[:-1], _LATE, _spoken("a", "b", repeated=False)[-1]),
        "ab",
        ProtocolError,
    ),
    Lie(
        "words for a finished item, which the end repeats",
        RESPONSES,
        sse(*_spoken("a", "b")[:-1], _LATE, _spoken("a", "b")[-1]),
        "ab",
    ),
    Lie("the end twice", RESPONSES, sse(*_spoken("a"), _spoken("a")[-1], _LATE), "a"),
    Lie("a block that was not opened", ANTHROPIC, sse(_START, _block("a"), *_STOP), "a"),
    Lie(
        "another block than the open one",
        ANTHROPIC,
        sse(_START, _OPEN, _block("a"), _block("b", 1), *_STOP),
        "ab",
    ),
    Lie(
        "arguments for a call that was not opened",
        ANTHROPIC,
        sse(
            _START,
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "input_json_delta", "partial_json": "{}"},
            },
            *_STOP,
        ),
        "",
        ProtocolError,
    ),
    Lie(
        "words for a closed block",
        ANTHROPIC,
        sse(_START, _OPEN, _block("a"), _CLOSE, _block("b"), *_STOP),
        "a",
        ProtocolError,
    ),
    Lie("no words for a closed block", ANTHROPIC, sse(_START, _OPEN, _block("a"), _CLOSE, _block(""), *_STOP), "a"),
    Lie("a block that is not closed", ANTHROPIC, sse(_START, _OPEN, _block("a"), *_STOP), "a"),
    Lie(
        "the end twice, and more", ANTHROPIC, sse(_START, _OPEN, _block("a"), _CLOSE, *_STOP, *_STOP, _block("b")), "a"
    ),
    Lie("no start", ANTHROPIC, sse(_OPEN, _block("a"), _CLOSE, *_STOP), "", ProtocolError),
)
