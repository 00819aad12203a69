"""Writes answers as Chat Completions: one object, or the chunks of a stream. Pure.

Source: https://platform.openai.com/docs/api-reference/chat/object (read 2026-11-28)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dhenara_async.drivers.base import JsonObject
from dhenara_async.events import (
    PartEnd,
    PartStart,
    ReasoningDelta,
    RefusalDelta,
    StreamEvent,
    StreamReset,
    TextDelta,
    ToolCallDelta,
)
from dhenara_async.framing.lenient_json import dumps
from dhenara_async.frozen import ShortRepr
from dhenara_async.messages.messages import TextPart, TokenLogprob, ToolCallPart
from dhenara_async.response import ChatResponse, Choice, FinishReason
from dhenara_async.usage.tokens import Usage
from dhenara_async.web.frames.failures import Failure
from dhenara_async.web.frames.protocol import UNBUFFERED, Ended
from dhenara_async.web.frames.sse import COMMENT
from dhenara_async.web.openai.chat.functions import told_call
from dhenara_async.web.openai.errors import FAILED, OpenAIError, error_of
from dhenara_async.web.openai.logprobs import told_logprobs

_PARAGRAPH = "\n\n"
_DONE = b"data: [DONE]\n\n"
_FINISHES: Mapping[FinishReason, str] = {
    FinishReason.LENGTH: "length",
    FinishReason.CONTEXT_WINDOW: "length",
    FinishReason.TOOL_CALLS: "tool_calls",
    FinishReason.CONTENT_FILTER: "content_filter",
    # the nearest word for an answer that ended before its end, so that no client takes it for a whole one
    FinishReason.PAUSE: "length",
    FinishReason.OTHER: "length",
}
_RESTARTED = OpenAIError(502, "The answer was begun again by another model, after a tool call of it was sent.")


@dataclass(frozen=True, slots=True, repr=False)
class CompletionHead(ShortRepr):
    """The fields that every piece of one answer repeats.

    Attributes:
        id: The id of the answer.
        created: When it was asked for, in seconds since 1970.
        model: The name that the client asked for.
        functions: Whether the first call is told as ``function_call``, for a request that declared ``functions``.
    """

    id: str
    created: int
    model: str
    functions: bool = False


class ChatFrames:
    """One answer as the stream of Chat Completions. See ``Frames``.

    A plan that starts the answer again at another endpoint begins a new paragraph, since the protocol cannot take words
    back; if a tool call was sent already, the answer ends with an error. Generated files are left out.

    Args:
        completion: The fields that every chunk repeats.
        include_usage: Whether the usage follows the answer.

    Attributes:
        void: The words that stand before the answer because it was begun again, as its client shows them.
    """

    media_type: str = "text/event-stream"
    headers: Mapping[str, str] = UNBUFFERED
    comment: bytes = COMMENT

    def __init__(self, completion: CompletionHead, *, include_usage: bool) -> None:
        self._include_usage = include_usage
        self._functions = completion.functions
        self._fields: dict[str, object] = {
            "id": completion.id,
            "object": "chat.completion.chunk",
            "created": completion.created,
            "model": completion.model,
        }
        self._choices: dict[int, int] = {}  # the choice of each part
        self._calls: dict[int, int] = {}  # the place of each call among those of its choice
        self._placed: dict[int, int] = {}  # how many calls each choice has
        self._told: set[int] = set()  # calls whose arguments have begun
        self._words: list[str] = []  # of the first choice, since it was begun
        self._lengths: dict[int, int] = {}  # of the texts of each choice that have ended
        self.void: str = ""
        self._cut = False

    def begin(self) -> bytes:
        """Return the chunk with the role."""
        return self._chunk(0, {"role": "assistant", "content": ""})

    def feed(self, events: Sequence[StreamEvent], ids: Sequence[str] = ()) -> bytes:
        """See ``Frames``; the ids are left out."""
        chunks: list[bytes] = []
        for event in events:
            if self._cut:
                break
            chunks.append(self._written(event))
        return b"".join(chunks)

    def end(self, ended: Ended) -> bytes:
        """Return the finish reasons, the usage if it is wanted, and the mark of the end."""
        if self._cut:
            return b""
        response = None if ended.response is None else ended.response.chat_response
        if response is None:
            return b""
        if response.finish_reason is FinishReason.ERROR:
            return b"data: %b\n\n" % FAILED.body
        chunks = [
            self._chunk(choice.index, {}, finish_of(choice, functions=self._functions)) for choice in response.choices
        ]
        if self._include_usage:
            usage = usage_of(response.usage)
            chunks.append(b"data: %b\n\n" % dumps({**self._fields, "choices": [], "usage": usage}))
        return b"".join([*chunks, _DONE])

    def fail(self, failure: Failure) -> bytes:
        """Return the error, and no mark of the end: its clients take a bare end of the body for success."""
        return b"" if self._cut else b"data: %b\n\n" % error_of(failure).body

    def _written(self, event: StreamEvent) -> bytes:
        match event:
            case TextDelta():
                choice = self._choices.get(event.part_id, 0)
                if choice == 0:
                    self._words.append(event.text)
                return self._chunk(choice, {"content": event.text})
            case ReasoningDelta():
                return self._delta(event.part_id, {"reasoning_content": event.text})
            case RefusalDelta():
                return self._delta(event.part_id, {"refusal": event.text})
            case PartStart():
                return self._started(event)
            case ToolCallDelta():
                self._told.add(event.part_id)
                return self._arguments(event.part_id, event.arguments)
            case PartEnd(part=ToolCallPart(arguments=arguments)) if event.part_id not in self._told and arguments:
                return self._arguments(event.part_id, arguments)
            case PartEnd(part=TextPart() as part):
                return self._text_end(self._choices.get(event.part_id, 0), part)
            case StreamReset():
                return self._restarted()
            case _:
                return b""

    def _started(self, event: PartStart) -> bytes:
        self._choices[event.part_id] = event.choice
        if event.kind != "tool_call":
            return b""
        place = self._placed.get(event.choice, 0)
        self._placed[event.choice] = place + 1
        self._calls[event.part_id] = place
        if self._functions:
            return b"" if place else self._chunk(event.choice, told_call(event.name or "", ""))
        call = {
            "index": place,
            "id": event.call_id or f"call_{event.part_id}",
            "type": "function",
            "function": {"name": event.name or "", "arguments": ""},
        }
        return self._chunk(event.choice, {"tool_calls": [call]})

    def _arguments(self, part_id: int, arguments: str) -> bytes:
        place = self._calls.get(part_id, 0)
        if self._functions:
            return b"" if place else self._delta(part_id, {"function_call": {"arguments": arguments}})
        call = {"index": place, "function": {"arguments": arguments}}
        return self._delta(part_id, {"tool_calls": [call]})

    def _restarted(self) -> bytes:
        if self._placed:
            self._cut = True
            return b"data: %b\n\n" % _RESTARTED.body
        self._choices.clear()
        if not self._words:
            return b""
        self.void += f"{''.join(self._words)}{_PARAGRAPH}"
        self._words.clear()
        self._lengths = {0: len(self.void)}
        return self._chunk(0, {"content": _PARAGRAPH})

    def _text_end(self, choice: int, part: TextPart) -> bytes:
        """Return the sources and the log probabilities of a text: they are known at its end."""
        begin = self._lengths.get(choice, 0)
        self._lengths[choice] = begin + len(part.text)
        sources = _annotations(part, begin)
        logprobs = {"content": told_logprobs(part.logprobs), "refusal": None} if part.logprobs else None
        if not sources and logprobs is None:
            return b""
        return self._chunk(choice, {"annotations": sources} if sources else {}, logprobs=logprobs)

    def _delta(self, part_id: int, delta: Mapping[str, object]) -> bytes:
        return self._chunk(self._choices.get(part_id, 0), delta)

    def _chunk(
        self,
        choice: int,
        delta: Mapping[str, object],
        finish: str | None = None,
        logprobs: Mapping[str, object] | None = None,
    ) -> bytes:
        told: dict[str, object] = {"index": choice, "delta": delta, "finish_reason": finish}
        if logprobs is not None:
            told["logprobs"] = logprobs
        return b"data: %b\n\n" % dumps({**self._fields, "choices": [told]})


def completion_body(completion: CompletionHead, response: ChatResponse) -> bytes:
    """Return a whole answer as one object.

    Args:
        completion: The id and the other fields of the answer.
        response: The answer. Its generated files are left out.
    """
    body: dict[str, object] = {
        "id": completion.id,
        "object": "chat.completion",
        "created": completion.created,
        "model": completion.model,
        "choices": [
            {
                "index": choice.index,
                "message": _message(choice, completion),
                "logprobs": _logprobs(choice),
                "finish_reason": finish_of(choice, functions=completion.functions),
            }
            for choice in response.choices
        ],
    }
    usage = usage_of(response.usage)
    if usage is not None:
        body["usage"] = usage
    return dumps(body)


def finish_of(choice: Choice, *, functions: bool = False) -> str:
    """Return OpenAI's word for why an answer ended.

    Args:
        choice: The answer.
        functions: Whether its calls are told as ``function_call``.
    """
    if functions and choice.finish_reason is FinishReason.TOOL_CALLS:
        return "function_call"
    if choice.finish_reason is FinishReason.REFUSAL and not choice.refusal():
        return "content_filter"
    return _FINISHES.get(choice.finish_reason, "stop")


def usage_of(usage: Usage) -> dict[str, object] | None:
    """Return usage in OpenAI's words; None if the provider did not tell it."""
    asked, answered = usage.input_tokens, usage.output_tokens
    if asked is None or answered is None:
        return None
    told: dict[str, object] = {
        "prompt_tokens": asked,
        "completion_tokens": answered,
        "total_tokens": asked + answered if usage.total_tokens is None else usage.total_tokens,
    }
    read = {"cached_tokens": usage.cache_read_tokens, "cache_write_tokens": usage.cache_write_tokens}
    if details := {name: count for name, count in read.items() if count is not None}:
        told["prompt_tokens_details"] = details
    if usage.reasoning_tokens is not None:
        told["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return told


def _logprobs(choice: Choice) -> dict[str, object] | None:
    found: list[TokenLogprob] = []
    for part in choice.parts:
        if isinstance(part, TextPart):
            found += part.logprobs
    return {"content": told_logprobs(found), "refusal": None} if found else None


def _all_annotations(choice: Choice) -> list[JsonObject]:
    found, begin = list[JsonObject](), 0
    for part in choice.parts:
        if isinstance(part, TextPart):
            found += _annotations(part, begin)
            begin += len(part.text)
    return found


def _annotations(part: TextPart, begin: int) -> list[JsonObject]:
    """Return the web sources of a text; the API knows no others.

    Args:
        part: The text.
        begin: Where it begins in the whole content, in characters.
    """
    return [
        {
            "type": "url_citation",
            "url_citation": {
                "url": cited.url,
                "title": cited.title or "",
                "start_index": begin + (cited.start or 0),
                "end_index": begin + (len(part.text) if cited.end is None else cited.end),
            },
        }
        for cited in part.citations
        if cited.url is not None
    ]


def _message(choice: Choice, completion: CompletionHead) -> dict[str, object]:
    text, refusal, calls = choice.text(), choice.refusal(), choice.tools()
    message: dict[str, object] = {"role": "assistant", "content": text if text or not calls else None}
    message["refusal"] = refusal or None
    message["annotations"] = _all_annotations(choice)
    if calls and completion.functions:
        message |= told_call(calls[0].name, calls[0].arguments)
        calls = ()
    if reasoning := choice.reasoning():
        message["reasoning_content"] = reasoning
    if calls:
        message["tool_calls"] = [
            {
                "id": call.call_id or f"call_{at}",
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for at, call in enumerate(calls)
        ]
    return message
