"""Decodes Chat Completions answers, streamed or plain.

Source: https://platform.openai.com/docs/api-reference/chat-streaming, the types of the ``openai`` package 3.54 and the
compatible hosts' own references (read 2026-11-22)
"""

from collections.abc import Iterator, Sequence
from typing import TypedDict, cast

import orjson

from dhenara_async.drivers.base import (
    BatchDecoder,
    JsonObject,
    as_count,
    as_list,
    as_object,
    as_text,
    dumped,
    has_more,
    is_object,
    load,
    not_an_object,
    only_one,
    quote,
)
from dhenara_async.drivers.failures import error_object, truncated
from dhenara_async.drivers.openai_chat.choice import ChoiceInFlight, Sources
from dhenara_async.drivers.openai_chat.quirks import Quirks
from dhenara_async.drivers.openai_chat.reading import (
    chat_error,
    chat_finish,
    counts_tokens,
    is_failure,
    raw_finish,
    usage_of,
)
from dhenara_async.drivers.openai_chat.shapes import message_in
from dhenara_async.drivers.parts import OpenPart, PartsInFlight, usage_events
from dhenara_async.errors import APIError, ProtocolError
from dhenara_async.events import StreamEnd, StreamEvent, TextDelta
from dhenara_async.framing import Frame, name_of
from dhenara_async.framing.lenient_json import exact
from dhenara_async.messages.messages import Origin
from dhenara_async.request import ChatRequest
from dhenara_async.response import Usage

# The fields of a plain answer with one text, and the fields that other answers have beside them.
_OF_A_CHOICE, _OF_A_MESSAGE = frozenset(("message", "finish_reason")), frozenset(("role", "content"))
_MORE = frozenset(("error", "citations", "search_results", "sources", "x_groq"))


class _NoChoice:
    """Stands for the current choice before the first one."""

    index: int = 0
    speaking: OpenPart | None = None
    ended: bool | None = None


_NO_CHOICE = _NoChoice()


class _UsualChoice(TypedDict):
    """A choice of the usual shape."""

    index: int
    delta: dict[str, str]
    finish_reason: object


class _UsualChatChunk(TypedDict):
    """A chunk of the usual shape, as far as it is read; another shape fails with an exception."""

    choices: list[_UsualChoice]


class ChatDecoder(BatchDecoder):
    """Decodes one answer.

    Args:
        request: The request that is answered.
        origin: The endpoint that answers.
        quirks: The host's differences.
    """

    __slots__ = (
        "_body",
        "_choices",
        "_done",
        "_last",
        "_parts",
        "_plain",
        "_quirks",
        "_raw_usage",
        "_sound",
        "_sources",
        "_speaker",
    )

    def __init__(self, request: ChatRequest, origin: Origin, quirks: Quirks) -> None:
        self._parts = PartsInFlight(origin, request.config.bounds.max_parts)
        self._quirks = quirks
        self._plain = not request.stream
        self._choices: dict[object, ChoiceInFlight] = {}
        self._raw_usage: JsonObject = {}
        self._sources = Sources(self._parts)
        self._sound = as_text(as_object(request.config.extra_body.get("audio")).get("format")) or "wav"
        self._body = b""  # the first chunk, quoted if the body has no answer
        self._last: bytes | None = None  # the chunk that ended a choice
        self._speaker: ChoiceInFlight | _NoChoice = _NO_CHOICE  # the choice of the last chunk
        self._done = False

    def feed_all(self, frames: Iterator[Frame], events: list[StreamEvent]) -> None:
        """See ``drivers.base.FeedAll``."""
        for frame in frames:
            try:
                chunk: _UsualChatChunk = orjson.loads(frame)
            except orjson.JSONDecodeError:
                last = self._feed_unusual(frame)
            else:
                speaker = self._speaker
                part = speaker.speaking
                try:  # only text, for the open part, as in nearly every chunk
                    (raw,) = chunk["choices"]
                    delta = raw["delta"]
                    if (
                        part is not None
                        and len(delta) == 1
                        and (text := delta.get("content"))
                        and text.__class__ is str
                        and part.start.kind == "text"
                        and raw.get("finish_reason") is None  # some hosts omit it
                        and raw.get("index", 0) == speaker.index
                        and not (raw.get("logprobs") or "usage" in raw or "error" in raw)
                        and not (chunk.get("usage") or chunk.get("error"))
                    ):
                        if speaker.ended:
                            speaker.ended, self._last = False, None
                        part.pieces.append(text)
                        events.append(TextDelta(part.part_id, text))
                        continue
                except (AttributeError, KeyError, TypeError, ValueError):  # another shape
                    pass
                last = self._feed(chunk, frame)
            events += last
            if last and last[-1].__class__ is StreamEnd:
                return

    def _feed_unusual(self, frame: Frame) -> Sequence[StreamEvent]:
        """Decode a frame that is not plain JSON: the end mark, or a frame with an event name."""
        if frame == b"[DONE]":
            return self._end() if self._parts.started and not self._done else ()
        if name_of(frame) == b"error":
            data = bytes(frame)
            raise self._failure(error_object(data), data) from None
        return self._feed(load(frame), frame)

    def _feed(self, chunk: object, frame: Frame) -> Sequence[StreamEvent]:
        if frame == self._last:  # a repeated chunk, maybe with the last text in it
            return ()
        if not is_object(chunk):
            raise not_an_object(frame)
        whole = self._at_once(chunk) if self._plain and not self._parts.started else ()
        if whole:
            return whole
        if self._plain or b'"arguments"' in frame:
            chunk = as_object(exact(chunk, frame))
        events: list[StreamEvent] = []
        if not self._parts.started:
            if not self._is_answer(chunk, frame):
                return ()
            events.append(self._parts.begin(model=chunk.get("model"), response_id=chunk.get("id")))
        elif chunk.get("error"):
            raise self._failure(chunk, frame)
        elif self._parts.nameless:
            self._parts.complete(model=chunk.get("model"), response_id=chunk.get("id"))
        choices = chunk.get("choices")
        if not choices and is_failure(chunk):
            raise self._failure(chunk, frame)
        for choice in as_list(cast(object, choices)) if isinstance(choices, list) else _alone(choices):
            if is_object(choice):
                self._feed_choice(choice, frame, events)
        if "usage" in chunk:
            self._take_usage(chunk["usage"])
        if "x_groq" in chunk:
            self._take_usage(self._usage_of_groq(chunk["x_groq"]))
        if "citations" in chunk or "search_results" in chunk or "sources" in chunk:
            self._sources.note(chunk)
        return events

    def _at_once(self, body: JsonObject) -> Sequence[StreamEvent]:
        """Decode a plain answer in one step if it is a single text with its usage, as most are; otherwise return
        nothing."""
        choice, usage = only_one(body.get("choices")), as_object(body.get("usage"))
        message = as_object(choice.get("message"))
        text, word = as_text(message.get("content")), raw_finish(choice.get("finish_reason"))
        if not (text and word and usage) or self._quirks.inline_thinking or not _MORE.isdisjoint(body):
            return ()
        if has_more(choice, _OF_A_CHOICE) or has_more(message, _OF_A_MESSAGE):
            return ()
        self._done, self._raw_usage = True, usage
        return self._parts.all_at_once(
            text,
            model=body.get("model"),
            response_id=body.get("id"),
            finish=chat_finish(word, has_calls=False),
            usage=self.usage,
        )

    def finish(self) -> Sequence[StreamEvent]:
        if self._done:
            return ()
        if self._choices and all(choice.ended for choice in self._choices.values()):
            return self._end()
        if self._body and (not self._parts.started or (self._plain and not self._streamed())):
            raise self._no_answer()
        if self._parts.started and not self._choices:
            raise truncated("choices, a finish_reason or [DONE]")
        raise truncated("a finish_reason or [DONE]")

    @property
    def usage(self) -> Usage | None:
        return usage_of(self._raw_usage, self._quirks)

    def _streamed(self) -> bool:
        """Whether the answer came in deltas; hosts may stream although a plain body was requested."""
        return any(choice.by_delta for choice in self._choices.values())

    def _no_answer(self) -> ProtocolError:
        return ProtocolError(f"the answer has no choice with a message: {quote(self._body)}")

    def _failure(self, error: JsonObject, frame: Frame) -> APIError:
        return chat_error(200, {}, frame, error, self._parts.provider)

    def _is_answer(self, chunk: JsonObject, frame: Frame) -> bool:
        """Whether the answer begins with ``chunk``; chunks before it are unknown events."""
        answers = not chunk.keys().isdisjoint(("choices", "usage"))
        if chunk.get("error") or (not answers and is_failure(chunk)):
            raise self._failure(chunk, frame)
        self._body = self._body or frame
        return answers

    def _feed_choice(self, raw: JsonObject, data: bytes, events: list[StreamEvent]) -> None:
        try:
            choice = self._choices.get(raw.get("index", 0)) or self._new_choice(raw)
        except TypeError:  # the index is a list or an object
            choice = self._new_choice(raw)
        if raw.get("error"):
            raise self._failure({"error": raw["error"]}, data)
        if raw.get("logprobs"):
            choice.note_logprobs(raw["logprobs"])
        before, word, delta = len(events), raw.get("finish_reason"), raw.get("delta")
        word = None if word is None else raw_finish(word)
        delta = delta if is_object(delta) else message_in(delta)
        if delta:
            choice.feed(delta, events)
            choice.by_delta = choice.by_delta or len(events) > before
        elif "message" not in raw and as_text(raw.get("text")):  # of the older text completions protocol
            choice.feed({"content": raw["text"]}, events)
        whole = False
        if "message" in raw:
            whole = choice.ended is None and (self._plain or raw.get("delta") is None)
            choice.feed_whole(message_in(raw["message"]), events)
        if word is not None:  # some hosts send an empty one with every chunk
            choice.word = word
            if not choice.ended:
                choice.ended, self._last = True, data
        elif whole:
            choice.ended = True
        elif len(events) > before:
            choice.ended, self._last = False, None
        self._speaker = choice
        if "usage" in raw:  # some hosts put it inside the choice
            self._take_usage(raw["usage"])

    def _new_choice(self, raw: JsonObject) -> ChoiceInFlight:
        index = as_count(raw.get("index")) or 0
        known = self._choices.get(index)
        if known is None:
            self._parts.admit(1 if self._choices else 0)  # the first one is the answer itself, whose parts are counted
            known = ChoiceInFlight(self._parts, index, self._quirks, self._sources, self._sound)
            self._choices[index] = known
        return known

    def _take_usage(self, raw: object) -> None:
        """Keep a usage report, unless it has no counts and an earlier one has."""
        report = as_object(raw)
        if report and (not self._raw_usage or counts_tokens(report)):
            self._raw_usage = report

    def _usage_of_groq(self, raw: object) -> object:
        """Return the usage in Groq's extra field, if there is no other; Groq reports failures there too."""
        extra = as_object(raw)
        if extra.get("error"):
            raise self._failure(extra, dumped(extra).encode())
        return None if self._raw_usage else extra.get("usage")

    def _end(self) -> Sequence[StreamEvent]:
        if not self._choices:
            raise self._no_answer()
        self._done = True
        events: list[StreamEvent] = []
        for choice in self._choices.values():
            self._parts.finishes[choice.index] = choice.close(events)
        return [*events, *usage_events(self.usage), self._parts.end()]


def _alone(value: object) -> list[object]:
    """Return the choice of a chunk that has no list around it, as a list."""
    return [value] if value and is_object(value) else []
