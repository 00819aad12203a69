"""The ``response`` object of the Responses API, whole or at a moment of its stream. Pure.

Source: https://platform.openai.com/docs/api-reference/responses/object and the types of the ``openai`` package 3.57
(``types/responses/response.py``, read 2026-11-28)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from dhenara_async.drivers.base import JsonObject
from dhenara_async.drivers.openai_responses.reading import UNREPORTED
from dhenara_async.framing.lenient_json import dumps
from dhenara_async.frozen import ShortRepr
from dhenara_async.response import ChatResponse, FinishReason
from dhenara_async.usage.tokens import UNKNOWN, Usage
from dhenara_async.web.openai.errors import FAILED, OpenAIError
from dhenara_async.web.openai.responses.hosted_items import transformations_of
from dhenara_async.web.openai.responses.items import output_items

ResponseStatus = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]

_DEFAULTS: Mapping[str, object] = {
    "max_output_tokens": None,
    "parallel_tool_calls": True,
    "reasoning": {"effort": None, "summary": None},
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": None,
    "truncation": "disabled",
}
"""Fields that clients expect in every response."""

_INCOMPLETE: Mapping[FinishReason, str] = {
    FinishReason.LENGTH: "max_output_tokens",
    FinishReason.CONTEXT_WINDOW: "max_output_tokens",
    FinishReason.CONTENT_FILTER: "content_filter",
    # the nearest words for an answer that ended before its end, so that no client takes it for a whole one
    FinishReason.PAUSE: "max_messages",
    FinishReason.OTHER: "max_messages",
}
_NO_IMAGES: Mapping[str, object] = {
    "input_tokens": 0,
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
    "output_tokens": 0,
    "total_tokens": 0,
}
_WITHOUT_USAGE = frozenset(("queued", "in_progress", "failed", "cancelled"))


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ResponseHead(ShortRepr):
    """The fields of a response that are known before its answer: its id, and those repeated from its request.

    Attributes:
        id: The id of the response, ``resp_`` and letters.
        created_at: When it was asked for, in seconds since 1970.
        model: The name that the client asked for.
        previous_response_id: The response that it goes on from; None if there is none.
        conversation: The conversation that the client named; None if it named none.
        background: Whether it is answered without a reader.
        store: Whether it is kept.
        instructions: The instructions of the request; None if it had none.
        metadata: The client's own notes.
        echo: Further fields of the request, in the shape of the API; those that are missing have defaults.
    """

    id: str
    created_at: int
    model: str
    previous_response_id: str | None = None
    conversation: str | None = None
    background: bool = False
    store: bool = True
    instructions: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    echo: Mapping[str, object] = field(default_factory=dict[str, object])


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ResponseState(ShortRepr):
    """The outcome of a response.

    Attributes:
        status: Where it is.
        output: Its items.
        reason: Why it is incomplete, in the words of the API; None if it is not.
        error: Why it failed; None if it did not.
        usage: Its tokens. They are not shown before the end, or of a response that failed or was cancelled.
        transformations: The parts of the request that the provider left out.
    """

    status: ResponseStatus
    output: Sequence[JsonObject] = ()
    reason: str | None = None
    error: OpenAIError | None = None
    usage: Usage = UNKNOWN
    transformations: Sequence[JsonObject] = ()


def finished_state(
    finish: FinishReason,
    output: Sequence[JsonObject],
    usage: Usage,
    transformations: Sequence[JsonObject],
    *,
    refused: bool,
) -> ResponseState:
    """Return the state of a response whose answer has ended.

    Args:
        finish: Why it ended.
        output: Its items.
        usage: Its tokens.
        transformations: The parts of the request that the provider left out.
        refused: Whether it has the text of a refusal.
    """
    reason = _INCOMPLETE.get(finish)
    if finish is FinishReason.REFUSAL and not refused:
        reason = "content_filter"
    if finish is FinishReason.ERROR:
        return ResponseState(status="failed", output=output, error=FAILED)
    return ResponseState(
        status="completed" if reason is None else "incomplete",
        output=output,
        reason=reason,
        usage=usage,
        transformations=transformations,
    )


def response_object(
    head: ResponseHead,
    answer: ChatResponse | None,
    status: ResponseStatus | None = None,
    error: OpenAIError | None = None,
) -> JsonObject:
    """Return a response as one object; of a finished one it equals that of the last event of its stream.

    Args:
        head: The id and the other fields that it has from its beginning.
        answer: The answer, whole or as far as it came; only the first choice is shown. None if there is none yet.
        status: Where it is; None = at its end, completed or not by its finish reason.
        error: Why it failed, with the status ``failed``.
    """
    # a partial answer may lack the first choice
    shown = () if answer is None or answer.choices[0].index else answer.choices[0].parts
    output = output_items(head.id, shown)
    if status is not None:
        usage = UNKNOWN if answer is None else answer.usage
        return object_of(head, ResponseState(status=status, output=output, error=error, usage=usage))
    if answer is None:
        return object_of(head, ResponseState(status="in_progress"))
    left_out = [entry for part in shown for entry in transformations_of(part)]
    refused = bool(answer.refusal())
    return object_of(head, finished_state(answer.finish_reason, output, answer.usage, left_out, refused=refused))


def response_body(
    head: ResponseHead,
    answer: ChatResponse | None,
    status: ResponseStatus | None = None,
    error: OpenAIError | None = None,
) -> bytes:
    """Return ``response_object`` as JSON."""
    return dumps(response_object(head, answer, status, error))


def object_of(head: ResponseHead, state: ResponseState) -> JsonObject:
    """Return a response in a given state as one object."""
    told: JsonObject = {
        "id": head.id,
        "object": "response",
        "created_at": head.created_at,
        "status": state.status,
        "background": head.background,
        "error": _error(state),
        "incomplete_details": None if state.reason is None else {"reason": state.reason},
        "instructions": head.instructions,
        "metadata": {**head.metadata},
        "model": head.model,
        "output": list(state.output),
        "previous_response_id": head.previous_response_id,
        "store": head.store,
        **_DEFAULTS,
        **head.echo,
        "usage": None if state.status in _WITHOUT_USAGE else usage_of(state.usage),
    }
    if head.conversation is not None:
        told["conversation"] = {"id": head.conversation}
    if state.transformations:
        told["input_transformations"] = list(state.transformations)
    searches = state.usage.web_searches
    if searches is not None and state.status not in _WITHOUT_USAGE:
        told["tool_usage"] = {"image_gen": _NO_IMAGES, "web_search": {"num_requests": searches}}
    return told


def usage_of(usage: Usage) -> JsonObject | None:
    """Return tokens in the words of the API; null if the whole is not known.

    Clients read the details without asking whether they are there, so those that the provider did not tell are zeros.
    ``unreported``, a field of ours, names them, and our own driver reads them as unknown.
    """
    asked, answered = usage.input_tokens, usage.output_tokens
    if asked is None or answered is None:
        return None
    return {
        "input_tokens": asked,
        "input_tokens_details": _cached(usage),
        "output_tokens": answered,
        "output_tokens_details": _details({"reasoning_tokens": usage.reasoning_tokens}),
        "total_tokens": asked + answered if usage.total_tokens is None else usage.total_tokens,
    }


def _cached(usage: Usage) -> JsonObject:
    counts = {"cached_tokens": usage.cache_read_tokens, "cache_write_tokens": usage.cache_write_tokens}
    details = _details(counts)
    kept_30m, kept_12h = usage.cache_write_30m_tokens, usage.cache_write_12h_tokens
    if kept_30m is not None and kept_12h is not None:
        details["cache_write_tokens_details"] = {"ttl_30m_tokens": kept_30m, "ttl_12h_tokens": kept_12h}
    return details


def _details(counts: Mapping[str, int | None]) -> JsonObject:
    told: JsonObject = {name: count or 0 for name, count in counts.items()}
    if unknown := [name for name, count in counts.items() if count is None]:
        told[UNREPORTED] = unknown
    return told


def _error(state: ResponseState) -> JsonObject | None:
    error = state.error
    if error is None or state.status != "failed":
        return None
    return {"code": error.code or "server_error", "message": error.message}
