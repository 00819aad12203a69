"""Decodes Gemini's answers, streamed chunks and plain bodies, into events.

The stream has no terminal event. It is complete if every candidate has a finish reason, or the prompt was blocked.
Content may follow a finish reason: old models sent one with every chunk, and some gateways send one with every chunk
without text. But a candidate that continues without a further reason has not finished.

The grounding of an answer's texts arrives with its last chunk, so text parts are closed only at the end. A signature in
a part of its own becomes an empty text part, unless a call without a signature follows, which requires one.

A plain body looks like the first chunk of a stream, and some gateways stream although a plain body was requested. So
the first chunk of a plain answer is held until the body ends or a second chunk arrives.

Source: https://ai.google.dev/api/generate-content and the types of the ``google-genai`` package 3.4 (read 2026-11-22)
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
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
from dhenara_async.drivers.gemini.calls import FunctionCall, PartialArguments
from dhenara_async.drivers.gemini.citing import cite
from dhenara_async.drivers.gemini.reading import (
    decoded,
    error_of,
    failure_in,
    finish_by,
    is_failure,
    logprob_of,
    newest_counts,
    reason_of,
    usage_of,
)
from dhenara_async.drivers.gemini.spelling import PART_DATA, candidates_of, normalized, parts_of
from dhenara_async.drivers.parts import OpenPart, PartsInFlight, state, usage_events
from dhenara_async.errors import APIError, ProtocolError
from dhenara_async.events import PartKind, ReasoningDelta, StreamEvent, TextDelta, ToolCallDelta
from dhenara_async.framing import Frame, name_of
from dhenara_async.framing.lenient_json import exact
from dhenara_async.messages.messages import FilePart, Origin, TokenLogprob
from dhenara_async.request import ChatRequest
from dhenara_async.response import CONTINUATION, Usage
from dhenara_async.tools.declarations import HostedToolType

# Fields with JSON values written by the model or by tools.
_VALUES = re.compile(rb'"(?:args|response|partialArgs|partial_args)"')
_TOOLS: dict[str, HostedToolType] = {
    "GOOGLE_SEARCH_WEB": "web_search",
    "GOOGLE_SEARCH_IMAGE": "web_search",
    "URL_CONTEXT": "url_context",
    "FILE_SEARCH": "file_search",
}
_METADATA = ("groundingMetadata", "citationMetadata", "urlContextMetadata")
_WORDS = frozenset(("text", "thought", "thoughtSignature"))
# metadata, not content
_BESIDE = frozenset(("thought", "thoughtSignature", "partMetadata", "mediaResolution", "videoMetadata"))
_PART_DATA = frozenset(PART_DATA)
_CANDIDATE_EXTRAS = frozenset((*_METADATA, CONTINUATION, "logprobsResult", "error"))
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


@dataclass(slots=True)
class _Candidate:
    index: int
    speaking: OpenPart | None = None
    calling: FunctionCall | None = None
    held: object = None  # a signature that arrived in a part of its own
    has_calls: bool = False
    raw_finish: object = None
    ended: bool | None = None  # whether a finish reason came and no content after it; None = no chunk yet
    texts: list[OpenPart] = field(default_factory=list[OpenPart])  # emitted, and not closed yet
    places: dict[int, OpenPart] = field(default_factory=dict[int, OpenPart])  # by index in the first chunk's parts
    metadata: JsonObject = field(default_factory=dict[str, object])
    sources: list[object] = field(default_factory=list[object])
    logprobs: list[TokenLogprob] = field(default_factory=list[TokenLogprob])
    continuation: str = ""  # the newest token by which the API goes on with an answer that it cut


_NOBODY = _Candidate(0)


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
    """Decodes one answer. Consecutive texts of one kind form one part, unless a signature separates them.

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
        self._candidates: dict[object, _Candidate] = {}
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
        self._speaker = _NOBODY  # the candidate of the last chunk
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
            open_part = speaker.speaking
            try:  # only text, for the open part, as in nearly every chunk
                (raw,) = usual["candidates"]
                (part,) = raw["content"]["parts"]
                if (
                    open_part is not None
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
            self._feed_parts(candidate, cast("list[object]", parts), events)
        reason = raw.get("finishReason")
        if reason and reason_of(reason):
            candidate.raw_finish = reason
            if not candidate.ended:
                candidate.ended = finished = True
        elif candidate.ended is not False and len(events) > before and _has_content(cast("list[object]", parts)):
            candidate.ended, self._last = False, None
        # the usual candidate has a content and an index only
        if (len(raw) > 2 or content is None or "index" not in raw) and not _CANDIDATE_EXTRAS.isdisjoint(raw):
            if raw.get("error"):
                self._raise({"error": raw["error"]})
            _keep_extras(candidate, raw)
        return finished

    def _candidate(self, raw: JsonObject, parts: Sequence[object], events: list[StreamEvent]) -> _Candidate:
        """Return the candidate that ``raw`` belongs to, with ``parts`` added; a new one unless its index was spelled
        differently."""
        index = as_count(raw.get("index")) or 0
        known = self._candidates.get(index)
        if known is not None:
            self._feed_parts(known, parts, events)
            return known
        if self._candidates:
            self._parts.admit(1)  # a candidate takes more memory than the few bytes that create one
        candidate = self._candidates[index] = _Candidate(index)
        self._feed_first(candidate, parts, events)
        return candidate

    def _feed_first(self, candidate: _Candidate, parts: Sequence[object], events: list[StreamEvent]) -> None:
        """Decode a candidate's first parts, which in a plain answer are all: citations refer to them by index."""
        for place, part in enumerate(parts):
            self._feed_parts(candidate, (part,), events)
            fields = as_object(part)
            if candidate.texts and (isinstance(part, str) or (fields.get("text") and not fields.get("thought"))):
                candidate.places[place] = candidate.texts[-1]

    def _feed_parts(self, candidate: _Candidate, parts: Sequence[object], events: list[StreamEvent]) -> None:
        for raw in parts:
            part: JsonObject = raw if is_object(raw) else {"text": as_text(raw)}
            if candidate.held is not None:
                part = self._release(candidate, part, events)
            self._feed_part(candidate, part, events)

    def _feed_part(self, candidate: _Candidate, raw: JsonObject, events: list[StreamEvent]) -> None:
        text = raw.get("text")
        if text and isinstance(text, str) and _WORDS.issuperset(raw):
            if not (self._plain or self._unnamed):
                self._speaker = candidate
            kind: PartKind = "reasoning" if raw.get("thought") else "text"
            signature = raw.get("thoughtSignature")
            if signature:
                self._signed_text(candidate, kind, text, signature, events)
            else:
                self._speak(candidate, kind, text, events)
        else:
            self._feed_other(candidate, {name: value for name, value in raw.items() if value is not None}, events)

    def _feed_other(self, candidate: _Candidate, raw: JsonObject, events: list[StreamEvent]) -> None:
        """Decode a part that has no text, or has other fields as well."""
        text, native = raw.get("text"), not _PART_DATA.isdisjoint(raw)
        if isinstance(text, str):
            del raw["text"]
            if text:  # beside a call, for example, which then owns the signature
                shared = {"thought"} if native else _WORDS
                words = {name: value for name, value in raw.items() if name in shared}
                self._feed_part(candidate, {"text": text, **words}, events)
                if not native:
                    return
        if is_object(raw.get("functionCall")):
            self._call(candidate, raw, events)
        elif not _BESIDE.issuperset(raw):
            self._pause(candidate, events)
            events += self._complete_part(candidate, raw)
        elif raw.get("thoughtSignature"):
            self._hold(candidate, raw, events)

    def _hold(self, candidate: _Candidate, raw: JsonObject, events: list[StreamEvent]) -> None:
        """Hold a part with only a signature, which gateways send before the signed call."""
        signature, calling = raw["thoughtSignature"], candidate.calling
        if calling is not None and calling.will_continue:
            calling.signature = calling.signature or signature
            return
        self._pause(candidate, events)
        if raw.get("thought"):
            self._sign(candidate, "reasoning", signature, events)
        else:
            candidate.held = signature

    def _release(self, candidate: _Candidate, following: JsonObject, events: list[StreamEvent]) -> JsonObject:
        """Attach a held signature to the following call if the call has none; otherwise emit it as a part."""
        call = following.get("functionCall")
        if is_object(call) and not _signature_of(following, call):
            signature, candidate.held = candidate.held, None
            return {**following, "thoughtSignature": signature}
        self._pause(candidate, events)
        return following

    def _speak(self, candidate: _Candidate, kind: PartKind, text: str, events: list[StreamEvent]) -> OpenPart:
        part = candidate.speaking
        if part is None or part.start.kind != kind:
            self._pause(candidate, events)
            part = candidate.speaking = self._parts.open(kind, choice=candidate.index)
            events.append(part.start)
            if kind == "text":
                candidate.texts.append(part)
        part.pieces.append(text)
        events.append(TextDelta(part.part_id, text) if kind == "text" else ReasoningDelta(part.part_id, text))
        return part

    def _signed_text(
        self, candidate: _Candidate, kind: PartKind, text: str, signature: object, events: list[StreamEvent]
    ) -> None:
        """Emit a signed text as a part of its own, because a signature covers exactly one part."""
        self._pause(candidate, events)
        self._speak(candidate, kind, text, events).state = {"thoughtSignature": signature}
        self._pause(candidate, events)

    def _sign(self, candidate: _Candidate, kind: PartKind, signature: object, events: list[StreamEvent]) -> None:
        """Emit an empty part for a signature."""
        part = self._parts.open(kind, choice=candidate.index)
        part.state = {"thoughtSignature": signature}
        events += [part.start, self._parts.close(part)]

    def _call(self, candidate: _Candidate, raw: JsonObject, events: list[StreamEvent]) -> None:
        call, calling = as_object(raw["functionCall"]), candidate.calling
        name, call_id, signature = as_text(call.get("name")), as_text(call.get("id")), _signature_of(raw, call)
        if calling is None and not call:  # the end marker of a call that has ended
            return
        if calling is None or not calling.continues(name, call_id):
            self._pause(candidate, events)
            calling = candidate.calling = FunctionCall(PartialArguments(self._parts.admit))
        streamed = calling.will_continue
        calling.take(call, signature)
        if calling.is_whole or (streamed and calling.name and not calling.will_continue):
            self._end_call(candidate, calling, events)
        elif calling.name and (calling.call_id or calling.will_continue):
            self._open_call(candidate, calling, events)

    def _open_call(self, candidate: _Candidate, calling: FunctionCall, events: list[StreamEvent]) -> OpenPart:
        if calling.part is None:
            candidate.has_calls = True
            calling.part = self._parts.open(
                "tool_call", choice=candidate.index, call_id=calling.call_id, name=calling.name
            )
            events.append(calling.part.start)
        return calling.part

    def _end_call(self, candidate: _Candidate, calling: FunctionCall, events: list[StreamEvent]) -> None:
        candidate.calling = None
        part = self._open_call(candidate, calling, events)
        if calling.signature:
            part.state = {"thoughtSignature": calling.signature}
        arguments = calling.arguments()
        part.pieces.append(arguments)
        events += [ToolCallDelta(part.part_id, arguments), self._parts.close(part)]

    def _complete_part(self, candidate: _Candidate, raw: JsonObject) -> list[StreamEvent]:
        """Return the events of a part that arrives complete: a file, or a hosted tool part without text."""
        choice = candidate.index
        if not raw.get("thought"):  # an image inside the reasoning is not part of the answer
            file = self._file(raw, choice)
            if file:
                return file
        fields = (name for name in raw if name not in _BESIDE)
        name = next((name for name in PART_DATA if name in raw), None) or next(fields)
        value = as_object(raw[name])
        call_id = as_text(value.get("id")) or None
        match name:
            case "executableCode":
                asked = {key: value[key] for key in ("language", "code") if key in value}
                return self._parts.hosted(
                    name, dict(raw), choice=choice, tool="code_execution", call_id=call_id, asked=asked
                )
            case "codeExecutionResult":
                output = {key: value[key] for key in ("outcome", "output") if key in value}
                return self._parts.hosted(
                    name, dict(raw), choice=choice, tool="code_execution", call_id=call_id, output=output
                )
            case "toolCall" | "toolResponse":
                return self._parts.hosted(
                    name,
                    dict(raw),
                    choice=choice,
                    tool=_TOOLS.get(as_text(value.get("toolType"))),
                    call_id=call_id,
                    asked=value.get("args"),
                    output=value.get("response"),
                )
            case _:
                return self._parts.hosted(name, dict(raw), choice=choice)

    def _file(self, raw: JsonObject, choice: int) -> list[StreamEvent]:
        """Return the events of a generated file; none if a ``FilePart`` cannot hold it."""
        signature = raw.get("thoughtSignature")
        kept: JsonObject = {"thoughtSignature": signature} if signature else {}
        inline, elsewhere = as_object(raw.get("inlineData")), as_object(raw.get("fileData"))
        reported_type = as_text((inline or elsewhere).get("mimeType"))
        media_type = reported_type.partition(";")[0].strip()
        if media_type != reported_type:
            kept["mimeType"] = reported_type
        data = decoded(as_text(inline.get("data")))
        url = as_text(elsewhere.get("fileUri")) or None
        if data is None and url is None:
            return []
        try:
            FilePart(media_type=media_type, data=data, url=None if data is not None else url)
        except ValueError:  # the type is missing, or the bytes contradict it
            media_type, kept["mimeType"] = "application/octet-stream", reported_type
        if data is not None:
            return self._parts.file(media_type, kept, choice=choice, data=data)
        return self._parts.file(media_type, kept, choice=choice, url=url)

    def _pause(self, candidate: _Candidate, events: list[StreamEvent]) -> None:
        """End the current text or call; texts are closed at the end, see the module."""
        if candidate.calling is not None:
            self._end_call(candidate, candidate.calling, events)
        speaking, candidate.speaking = candidate.speaking, None
        if speaking is not None and speaking.start.kind != "text":
            events.append(self._parts.close(speaking))
        if candidate.held is not None:
            signature, candidate.held = candidate.held, None
            self._sign(candidate, "text", signature, events)

    def _close_texts(self, candidate: _Candidate, events: list[StreamEvent]) -> None:
        texts = candidate.texts
        kept = candidate.metadata
        cite(texts, candidate.places, as_object(kept.get("groundingMetadata")), candidate.sources, self._parts.admit)
        if texts:
            texts[-1].logprobs = candidate.logprobs
            texts[-1].state |= kept
        events += [self._parts.close(part) for part in texts]
        if kept and not texts:
            events += self._parts.hosted(next(iter(kept)), dict(kept), choice=candidate.index, report=True)

    def _end(self) -> Sequence[StreamEvent]:
        self._done = True
        events: list[StreamEvent] = []
        if not self._parts.started:
            raise ProtocolError("the answer has neither candidates nor prompt feedback")
        for candidate in self._candidates.values():
            self._pause(candidate, events)
            self._close_texts(candidate, events)
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


def _has_content(parts: list[object]) -> bool:
    """Whether ``parts`` has more than a signature."""
    return any(
        isinstance(part, str) or part.get("text") or not _WORDS.issuperset(part) for part in _text_or_object(parts)
    )


def _text_or_object(parts: list[object]) -> Iterator[str | JsonObject]:
    return (part if isinstance(part, str) else as_object(part) for part in parts if part)


def _signature_of(raw: JsonObject, call: JsonObject) -> object:
    """Return the signature of a call; older models put it inside the call."""
    return raw.get("thoughtSignature") or call.get("thoughtSignature")


def _keep_extras(candidate: _Candidate, raw: JsonObject) -> None:
    candidate.metadata |= {key: raw[key] for key in _METADATA if raw.get(key)}
    candidate.continuation = as_text(raw.get(CONTINUATION)) or candidate.continuation
    cited = as_object(raw.get("citationMetadata"))
    candidate.sources += as_list(cited.get("citationSources") or cited.get("citations"))
    logprobs = as_object(raw.get("logprobsResult"))
    likeliest = as_list(logprobs.get("topCandidates"))
    for place, chosen in enumerate(as_list(logprobs.get("chosenCandidates"))):
        one = logprob_of(chosen)
        if one is not None:
            others = as_list(as_object(likeliest[place]).get("candidates")) if place < len(likeliest) else []
            top = tuple(other for item in others if (other := logprob_of(item)) is not None)
            candidate.logprobs.append(TokenLogprob(token=one[0], logprob=one[1], top=top))
