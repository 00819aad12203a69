"""Decodes Gemini's answers, streamed chunks and plain bodies, into events.

The stream has no terminal event. It is complete if every candidate has a finish reason, or the prompt was blocked.
Content may follow a finish reason: old models sent one with every chunk, and some gateways send one with every chunk
without text. But a candidate that continues without a further reason has not finished.

A plain body looks like the first chunk of a stream, and some gateways stream although a plain body was requested. So
the first chunk of a plain answer is held until the body ends or a second chunk arrives.

Source: https://ai.google.dev/api/generate-content and the types of the ``google-genai`` package 3.4 (read 2026-11-22)
"""

import re
from collections.abc import Iterator, Sequence
from typing import NoReturn, TypedDict, cast

import orjson

from dhenara_async.drivers.base import (
    BatchDecoder,
    JsonObject,
    as_count,
    as_list,
    as_object,
    as_text,
    dumped,
    is_object,
    not_an_object,
    not_json,
    only_one,
)
from dhenara_async.drivers.failures import truncated
from dhenara_async.drivers.gemini.candidate import METADATA, Candidate, has_content
from dhenara_async.drivers.gemini.reading import (
    error_of,
    failure_in,
    finish_by,
    is_failure,
    newest_counts,
    reason_of,
    usage_of,
)
from dhenara_async.drivers.gemini.spelling import candidates_of, normalized, parts_of
from dhenara_async.drivers.parts import PartsInFlight, state, usage_events
from dhenara_async.errors import APIError, ProtocolError
from dhenara_async.events import ReasoningDelta, StreamEvent, TextDelta
from dhenara_async.framing import Frame, name_of
from dhenara_async.framing.lenient_json import exact
from dhenara_async.messages.messages import Origin
from dhenara_async.request import ChatRequest
from dhenara_async.response import CONTINUATION, Usage

# Fields with JSON values written by the model or by tools.
_VALUES = re.compile(rb'"(?:args|response|partialArgs|partial_args)"')
_CANDIDATE_EXTRAS = frozenset((*METADATA, CONTINUATION, "logprobsResult", "error"))
# The fields of a plain answer of one text.
_OF_A_BODY = frozenset(("candidates", "usageMetadata", "modelVersion", "responseId", "createTime"))
_OF_A_CANDIDATE = frozenset(("content", "finishReason", "index", "avgLogprobs", "safetyRatings", "tokenCount"))
_OF_A_CONTENT = frozenset(("parts", "role"))
_DETAILS = ("promptTokensDetails", "candidatesTokensDetails", "cacheTokensDetails", "toolUsePromptTokensDetails")
_OF_USAGE = frozenset(
    (
        *("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "totalTokenCount", "serviceTier"),
        *("cachedContentTokenCount", "toolUsePromptTokenCount", "trafficType", *_DETAILS),
    )
)
_OF_A_DETAIL = frozenset(("modality", "tokenCount"))
_LATE_CHUNKS = 8  # gateways may begin with a chunk without model and id; many answers never have them


class _UsualContent(TypedDict):
    """A content of the usual shape."""

    parts: list[dict[str, str]]


class _UsualCandidate(TypedDict):
    """A candidate of the usual shape."""

    content: _UsualContent
    index: int


class _UsualGeminiChunk(TypedDict):
    """A chunk of the usual shape, as far as it is read; another shape fails with an exception."""

    candidates: list[_UsualCandidate]
    usageMetadata: JsonObject


class GeminiDecoder(BatchDecoder):
    """Decodes one answer.

    Args:
        request: The request that is answered.
        origin: The endpoint that answers.
    """

    __slots__ = (
        *("_blocked", "_body", "_candidates", "_done", "_explained", "_failure", "_last", "_latest"),
        *("_parts", "_plain", "_raw_usage", "_speaker", "_unnamed"),
    )

    def __init__(self, request: ChatRequest, origin: Origin) -> None:
        self._parts = PartsInFlight(origin, request.config.bounds.max_parts)
        self._candidates: dict[object, Candidate] = {}
        self._raw_usage: JsonObject = {}
        self._latest: JsonObject = {}  # the usage of the last usual chunk, parsed only when it is needed
        self._unnamed = _LATE_CHUNKS  # how many more chunks are searched for the model and the id
        self._blocked: object = None  # a block reason that is not a candidate's finish reason
        self._explained = False  # whether the answer states why it has no candidates
        self._failure: APIError | None = None  # the error at the end of a list of chunks
        # A plain body was requested: its end proves it complete even without a finish reason. False once it turns out
        # to be a stream.
        self._plain = not request.stream
        # That body, as it was parsed, and its JSON text, until it ends or a second chunk arrives.
        self._body: tuple[JsonObject, bytes] | None = None
        self._speaker: Candidate | None = None  # the candidate of the last chunk
        self._last: bytes | None = None  # the chunk in which a candidate finished
        self._done = False

    def feed_all(self, frames: Iterator[Frame], events: list[StreamEvent]) -> None:
        """See ``drivers.base.FeedAll``."""
        for frame in frames:
            try:
                usual: _UsualGeminiChunk = orjson.loads(frame)
            except orjson.JSONDecodeError as exc:
                if frame.__class__ is bytes:
                    raise not_json(frame) from exc
                events += self._feed_named(frame)
                continue
            speaker = self._speaker
            try:  # only text, for the open part, as in nearly every chunk
                (raw,) = usual["candidates"]
                (part,) = raw["content"]["parts"]
                if (
                    speaker is not None
                    and (open_part := speaker.speaking) is not None
                    and (text := part["text"])
                    and text.__class__ is str
                    and (raw["index"] == speaker.index if len(raw) == 2 else len(raw) == 1 and not speaker.index)
                    and not ("error" in usual or "promptFeedback" in usual)
                    and (usage := usual["usageMetadata"]).__class__ is dict
                ):
                    is_text = open_part.start.kind == "text"
                    if (len(part) == 1) if is_text else (len(part) == 2 and part["thought"]):
                        self._latest = usage  # parsed later, since every chunk has it
                        if speaker.ended:
                            speaker.ended, self._last = False, None
                        open_part.pieces.append(text)
                        events.append((TextDelta if is_text else ReasoningDelta)(open_part.part_id, text))
                        continue
            except (KeyError, TypeError, ValueError):  # another shape
                pass
            events += self._feed(usual, frame)

    def _feed_named(self, frame: Frame) -> Sequence[StreamEvent]:
        if name_of(frame) == b"error":
            self._raise(as_object(normalized(failure_in(bytes(frame)), frame)))
        return self.feed(bytes(frame))

    def _feed(self, chunk: object, data: bytes) -> Sequence[StreamEvent]:
        if data == self._last:  # a repeated chunk, with the last text in it
            return ()
        if self._plain and self._body is None and is_object(chunk):
            self._body = chunk, data
            return ()
        events: list[StreamEvent] = []
        chunk = _exact(chunk, data)
        if self._plain and self._body is not None and is_object(chunk):
            body, self._body = as_object(_exact(*self._body)), None
            self._plain = False  # a stream, although a plain body was requested
            self._feed_chunk(body, events)
        if is_object(chunk):
            if self._feed_chunk(chunk, events):
                self._last = data
        elif isinstance(chunk, list):  # without alt=sse the answer is one array of chunks
            self._feed_list(cast("list[object]", chunk), events)
        elif chunk is not None:
            raise not_an_object(data)
        return events

    def _feed_list(self, chunks: Sequence[object], events: list[StreamEvent]) -> None:
        try:
            for chunk in chunks:
                self._feed_chunk(as_object(chunk), events)
        except APIError as exc:
            if not events:
                raise
            self._failure = exc  # raised at the end, so that earlier content is not lost

    def finish(self) -> Sequence[StreamEvent]:
        """See ``drivers.base.Decoder``."""
        if self._failure is not None:
            raise self._failure
        if self._done:
            return ()
        events: list[StreamEvent] = []
        if self._body is not None:
            whole = self._at_once(self._body[0])
            if whole:
                return whole
            self._feed_chunk(as_object(_exact(*self._body)), events)
        candidates = self._candidates.values()
        finished = bool(candidates) and all(candidate.ended for candidate in candidates)
        if not (finished or self._blocked or self._plain):
            raise truncated("a finishReason")
        return [*events, *self._end()]

    @property
    def usage(self) -> Usage | None:
        """See ``drivers.base.Decoder``."""
        self._read_latest()
        usage = usage_of(self._raw_usage)
        searches = sum(
            len(as_list(as_object(candidate.metadata.get("groundingMetadata")).get("webSearchQueries")))
            for candidate in self._candidates.values()
        )
        return usage.changed(web_searches=searches) if usage is not None and searches else usage

    def _at_once(self, body: JsonObject) -> Sequence[StreamEvent]:
        """Decode a plain answer in one step if it is a single text with its usage, as most are; otherwise return
        nothing.

        It may have known fields only: the text was not searched for names in snake_case, which would cost more than all
        else here.
        """
        candidate, usage = only_one(body.get("candidates")), as_object(body.get("usageMetadata"))
        content = as_object(candidate.get("content"))
        part = only_one(content.get("parts"))
        text, word, signature = as_text(part.get("text")), candidate.get("finishReason"), part.get("thoughtSignature")
        if not (text and word and usage) or candidate.get("index") or len(part) > 1 + ("thoughtSignature" in part):
            return ()
        if signature and signature.__class__ is not str:
            return ()
        if not (_OF_A_BODY.issuperset(body) and _OF_A_CANDIDATE.issuperset(candidate)):
            return ()
        if not (_OF_A_CONTENT.issuperset(content) and _has_usual_names(usage)):
            return ()
        self._done, self._raw_usage = True, usage
        return self._parts.all_at_once(
            text,
            model=body.get("modelVersion"),
            response_id=body.get("responseId"),
            finish=finish_by(word, has_calls=False),
            usage=self.usage,
            kept=state({"thoughtSignature": signature}) if signature else None,
        )

    def _feed_chunk(self, chunk: JsonObject, events: list[StreamEvent]) -> bool:
        """Decode a chunk; returns whether a candidate finished in it."""
        finished = False
        if not self._parts.started:
            if is_failure(chunk):
                self._raise(chunk)
            if not chunk.keys() & {"candidates", "promptFeedback", "usageMetadata"}:
                return False  # no known field: the end of the body will report an empty answer
            events.append(self._parts.begin(model=chunk.get("modelVersion"), response_id=chunk.get("responseId")))
        self._read_report(chunk)
        candidates = chunk.get("candidates")
        if candidates:
            for raw in candidates_of(candidates):
                if is_object(raw) and self._feed_candidate(raw, events):
                    finished = True
        elif is_failure(chunk):
            self._raise(chunk)
        if chunk.get("error"):
            self._raise(chunk)
        if "promptFeedback" in chunk:
            self._read_feedback(as_object(chunk["promptFeedback"]))
        return finished

    def _read_report(self, chunk: JsonObject) -> None:
        """Read usage, model and id of a chunk."""
        self._read_latest()
        usage = chunk.get("usageMetadata")
        if is_object(usage):
            self._raw_usage = newest_counts(self._raw_usage, usage)
        model, response_id = chunk.get("modelVersion"), chunk.get("responseId")
        self._parts.complete(model=model, response_id=response_id)
        if self._unnamed:
            self._unnamed = 0 if model and response_id else self._unnamed - 1

    def _read_latest(self) -> None:
        if self._latest:
            latest, self._latest = self._latest, {}
            self._raw_usage = newest_counts(self._raw_usage, latest)

    def _read_feedback(self, feedback: JsonObject) -> None:
        reason = feedback.get("blockReason")
        if reason_of(reason):
            self._blocked = reason
        self._explained = self._explained or bool(self._blocked or feedback.get("blockReasonMessage"))

    def _feed_candidate(self, raw: JsonObject, events: list[StreamEvent]) -> bool:
        """Decode one candidate of a chunk; returns whether it finished."""
        try:
            candidate = self._candidates.get(raw.get("index", 0))
        except TypeError:  # the index is not hashable, so not a number
            candidate = None
        content, before, finished = raw.get("content"), len(events), False
        parts: object = content.get("parts") if is_object(content) else None
        if not isinstance(parts, list):
            parts = parts_of(raw)
        if candidate is None:
            candidate = self._candidate(raw, cast("list[object]", parts), events)
        else:
            candidate.feed_parts(cast("list[object]", parts), events)
        if candidate.speaking is not None and not (self._plain or self._unnamed):
            self._speaker = candidate
        reason = raw.get("finishReason")
        if reason and reason_of(reason):
            candidate.raw_finish = reason
            if not candidate.ended:
                candidate.ended = finished = True
        elif candidate.ended is not False and len(events) > before and has_content(cast("list[object]", parts)):
            candidate.ended, self._last = False, None
        # the usual candidate has a content and an index only
        if (len(raw) > 2 or content is None or "index" not in raw) and not _CANDIDATE_EXTRAS.isdisjoint(raw):
            if raw.get("error"):
                self._raise({"error": raw["error"]})
            candidate.keep_extras(raw)
        return finished

    def _candidate(self, raw: JsonObject, parts: Sequence[object], events: list[StreamEvent]) -> Candidate:
        """Return the candidate that ``raw`` belongs to, with ``parts`` added; a new one unless its index was spelled
        differently."""
        index = as_count(raw.get("index")) or 0
        known = self._candidates.get(index)
        if known is not None:
            known.feed_parts(parts, events)
            return known
        if self._candidates:
            self._parts.admit(1)  # a candidate takes more memory than the few bytes that create one
        candidate = self._candidates[index] = Candidate(self._parts, index)
        candidate.feed_first(parts, events)
        return candidate

    def _end(self) -> Sequence[StreamEvent]:
        self._done = True
        events: list[StreamEvent] = []
        if not self._parts.started:
            raise ProtocolError("the answer has neither candidates nor prompt feedback")
        for candidate in self._candidates.values():
            candidate.pause(events)
            candidate.close_texts(events)
            if candidate.continuation:
                state: JsonObject = {CONTINUATION: candidate.continuation}
                events += self._parts.hosted(CONTINUATION, state, choice=candidate.index, report=True)
            self._parts.finishes[candidate.index] = finish_by(
                candidate.raw_finish, has_calls=candidate.has_calls, choice=candidate.index, blocked=self._blocked
            )
        if not self._candidates:
            if not self._explained:
                raise ProtocolError("the answer has no candidates, and no reason for that")
            self._parts.finishes[0] = finish_by(None, has_calls=False, blocked=self._blocked)
        return [*events, *usage_events(self.usage), self._parts.end()]

    def _raise(self, error: JsonObject) -> NoReturn:
        raise error_of(200, {}, dumped(error).encode(), error, self._parts.provider)


# ---------------------------------------------------------------------------------------------------- beside the parts


def _exact(chunk: object, data: bytes) -> object:
    """Return a parsed chunk with its integers exact and its fields in one spelling; ``data`` is its JSON text."""
    return normalized(exact(chunk, data) if _VALUES.search(data) else chunk, data)


def _has_usual_names(usage: JsonObject) -> bool:
    """Whether a token report has known fields only, in camelCase."""
    if not _OF_USAGE.issuperset(usage):
        return False
    for name in _DETAILS:
        for detail in as_list(usage.get(name)) if name in usage else ():
            if not _OF_A_DETAIL.issuperset(as_object(detail)):
                return False
    return True
