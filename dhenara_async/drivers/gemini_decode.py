"""Gemini's answers: streamed chunks and whole bodies as events.

The stream has no terminal event of its own: it is whole if every candidate said why it finished, or the prompt was
blocked. A reason does not forbid to go on: old models gave one with every chunk, and gateways give one with every chunk
that has no words. But a candidate that goes on without one has not finished.

What an answer's texts are grounded on comes with its last chunk, so a text part is closed only at the end; a text that
carries nothing but a signature is closed at once.

Source: https://ai.google.dev/api/generate-content and the types of the ``google-genai`` package 3.4 (read 2026-11-22)
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypedDict, cast

import orjson

from dhenara_async.drivers.base import JsonObject, as_count, as_list, as_object, as_text, is_object, not_json, only_one
from dhenara_async.drivers.failures import truncated
from dhenara_async.drivers.gemini_reading import decoded, error_of, lay, logprob_of, source_of, span_of, usage_of
from dhenara_async.drivers.parts import OpenPart, PartsInFlight, finish_of, state, usage_events
from dhenara_async.errors import ProtocolError
from dhenara_async.events import ChoiceFinish, PartKind, ReasoningDelta, StreamEvent, TextDelta, ToolCallDelta
from dhenara_async.framing import Frame
from dhenara_async.messages import Citation, FilePart, Origin, TokenLogprob
from dhenara_async.request import ChatRequest
from dhenara_async.response import FinishReason, Usage
from dhenara_async.tools import HostedToolType

_FINISH_BY_MEANING = {
    FinishReason.STOP: "STOP",
    FinishReason.LENGTH: "MAX_TOKENS",
    FinishReason.PAUSE: "CONTINUATION",
    FinishReason.CONTENT_FILTER: (
        "SAFETY RECITATION BLOCKLIST PROHIBITED_CONTENT SPII LANGUAGE IMAGE_SAFETY IMAGE_PROHIBITED_CONTENT "
        "IMAGE_RECITATION ESCALATION MODEL_ARMOR PUP_LIMITED_DISABLED"
    ),
    FinishReason.ERROR: (
        "MALFORMED_FUNCTION_CALL UNEXPECTED_TOOL_CALL TOO_MANY_TOOL_CALLS MALFORMED_RESPONSE MISSING_THOUGHT_SIGNATURE"
    ),
}
_FINISH: dict[str, FinishReason] = {
    **{word: reason for reason, words in _FINISH_BY_MEANING.items() for word in words.split()},
    # the same as enum numbers, which gateways that re-encode the protocol send
    "1": FinishReason.STOP,
    "2": FinishReason.LENGTH,
    "3": FinishReason.CONTENT_FILTER,
    "4": FinishReason.CONTENT_FILTER,
}
_TOOLS: dict[str, HostedToolType] = {
    "GOOGLE_SEARCH_WEB": "web_search",
    "GOOGLE_SEARCH_IMAGE": "web_search",
    "URL_CONTEXT": "url_context",
    "FILE_SEARCH": "file_search",
}
_METADATA = ("groundingMetadata", "citationMetadata", "urlContextMetadata")
_BARE = frozenset(("text", "thought", "thoughtSignature"))
_CANDIDATE_EXTRAS = frozenset((*_METADATA, "logprobsResult"))
_MORE = frozenset(("error", "promptFeedback"))
_UNSAID = "FINISH_REASON_UNSPECIFIED"  # what an encoder writes that leaves nothing out


@dataclass(slots=True)
class _Call:
    """A function call whose arguments come in pieces, as paths and values; only Vertex sends these, and if asked."""

    part: OpenPart
    arguments: JsonObject = field(default_factory=dict[str, object])


@dataclass(slots=True)
class _Candidate:
    index: int
    speaking: OpenPart | None = None
    calling: _Call | None = None
    has_calls: bool = False
    raw_finish: object = None
    ended: bool | None = None  # whether it said why it finished, and nothing after it; None = it has said nothing yet
    texts: list[OpenPart] = field(default_factory=list[OpenPart])  # said, and not closed yet
    places: dict[int, OpenPart] = field(default_factory=dict[int, OpenPart])  # by index in the first chunk's parts
    metadata: JsonObject = field(default_factory=dict[str, object])
    sources: list[object] = field(default_factory=list[object])
    logprobs: list[TokenLogprob] = field(default_factory=list[TokenLogprob])


_NOBODY = _Candidate(0)


class _Content(TypedDict):
    """What the usual candidate says."""

    parts: list[dict[str, str]]


class _Words(TypedDict):
    """The usual candidate of a chunk."""

    content: _Content


class _Usual(TypedDict):
    """The usual chunk, as far as it is looked at; others are told by how that fails."""

    candidates: list[_Words]
    usageMetadata: JsonObject


class GeminiDecoder:
    """Parts are deltas: texts of one kind run on, unless a signature sets one apart.

    Args:
        request: The question.
        origin: The endpoint that answers.
    """

    __slots__ = ("_blocked", "_candidates", "_done", "_last", "_parts", "_plain", "_raw_usage", "_speaker")

    def __init__(self, request: ChatRequest, origin: Origin) -> None:
        self._parts = PartsInFlight(origin, request.config.bounds.max_parts)
        self._candidates: dict[object, _Candidate] = {}
        self._raw_usage: JsonObject = {}
        self._blocked: str = ""
        self._plain = not request.stream  # one document, whose own end proves it whole even without a finish reason
        self._speaker = _NOBODY  # who spoke last
        self._last: bytes | None = None  # the chunk in which a candidate finished
        self._done = False

    def feed(self, frame: Frame) -> Sequence[StreamEvent]:
        """See ``drivers.base.Decoder``."""
        try:
            usual: _Usual = orjson.loads(frame)
        except orjson.JSONDecodeError as exc:
            if frame.__class__ is not bytes:  # it has a name
                return self.feed(bytes(frame))
            raise not_json(frame) from exc
        speaker = self._speaker
        open_part = speaker.speaking
        try:  # words and nothing else, for the text that is open, as nearly every chunk has them
            (raw,) = usual["candidates"]
            (part,) = raw["content"]["parts"]
            if (
                open_part is not None
                and len(part) == 1
                and (text := part.get("text"))
                and text.__class__ is str
                and open_part.start.kind == "text"
                and raw.get("index", 0) == speaker.index
                and len(raw) == 1 + ("index" in raw)
                and not ("error" in usual or "promptFeedback" in usual)
                and (usage := usual["usageMetadata"]).__class__ is dict
            ):
                self._raw_usage = usage  # read at the end: it comes with every chunk
                if speaker.ended:
                    speaker.ended, self._last = False, None
                open_part.pieces.append(text)
                return (TextDelta(open_part.part_id, text),)
        except (AttributeError, KeyError, TypeError, ValueError):  # another shape
            pass
        return self._feed(usual, frame)

    def _feed(self, chunk: object, data: bytes) -> Sequence[StreamEvent]:
        if data == self._last:  # said again, with the last words in it
            return ()
        events: list[StreamEvent] = []
        if is_object(chunk):
            whole = self._at_once(chunk) if self._plain and not self._parts.started else ()
            if whole:
                return whole
            if self._feed_chunk(chunk, events):
                self._last = data
        elif isinstance(chunk, list):  # without alt=sse the answer is one array of chunks
            self._plain = True
            for item in cast(list[object], chunk):
                self._feed_chunk(as_object(item), events)
        return events

    def finish(self) -> Sequence[StreamEvent]:
        """See ``drivers.base.Decoder``."""
        if self._done:
            return ()
        candidates = self._candidates.values()
        finished = bool(candidates) and all(candidate.ended for candidate in candidates)
        if not (finished or self._blocked or self._plain):
            raise truncated("a finishReason")
        return self._end()

    @property
    def usage(self) -> Usage | None:
        """See ``drivers.base.Decoder``."""
        usage = usage_of(self._raw_usage)
        searches = sum(
            len(as_list(as_object(candidate.metadata.get("groundingMetadata")).get("webSearchQueries")))
            for candidate in self._candidates.values()
        )
        return usage.changed(web_searches=searches) if usage is not None and searches else usage

    def _at_once(self, body: JsonObject) -> Sequence[StreamEvent]:
        """A plain answer, all at once, if it is one text and its usage, as most are; else nothing is done."""
        candidate, usage = only_one(body.get("candidates")), as_object(body.get("usageMetadata"))
        part = only_one(as_object(candidate.get("content")).get("parts"))
        text, word = as_text(part.get("text")), candidate.get("finishReason")
        signed = {name: value for name, value in part.items() if name != "text"}
        if not (text and word and usage) or candidate.get("index") or signed.keys() - {"thoughtSignature"}:
            return ()
        if not (_CANDIDATE_EXTRAS.isdisjoint(candidate) and _MORE.isdisjoint(body)):
            return ()
        self._done, self._raw_usage = True, usage
        return self._parts.all_at_once(
            text,
            model=body.get("modelVersion"),
            response_id=body.get("responseId"),
            finish=finish_of(word, _FINISH, has_calls=False),
            usage=self.usage,
            kept=state(signed) if signed.get("thoughtSignature") else None,
        )

    def _feed_chunk(self, chunk: JsonObject, events: list[StreamEvent]) -> bool:
        """Whether a candidate finished with ``chunk``."""
        finished = False
        if not self._parts.started:
            if "error" in chunk:
                self._raise(chunk)
            if not chunk.keys() & {"candidates", "promptFeedback", "usageMetadata"}:
                return False  # nothing of ours in it: the end of the body will say that nothing came
            events.append(self._parts.begin(model=chunk.get("modelVersion"), response_id=chunk.get("responseId")))
        candidates = chunk.get("candidates")
        if isinstance(candidates, list):
            for raw in cast("list[object]", candidates):
                if is_object(raw) and self._feed_candidate(raw, events):
                    finished = True
        usage = chunk.get("usageMetadata")
        if is_object(usage):
            self._raw_usage = usage  # only read at the end: it comes with every chunk
        if "error" in chunk:
            self._raise(chunk)
        if "promptFeedback" in chunk:
            feedback = as_object(chunk["promptFeedback"])
            self._blocked = as_text(feedback.get("blockReason")) or self._blocked
        return finished

    def _feed_candidate(self, raw: JsonObject, events: list[StreamEvent]) -> bool:
        """Whether it finished with ``raw``."""
        try:
            candidate = self._candidates.get(raw.get("index", 0))
        except TypeError:  # whatever the index is, it is no number
            candidate = None
        content, before, finished = raw.get("content"), len(events), False
        parts = content.get("parts") if is_object(content) else None
        if candidate is None:
            candidate = self._new_candidate(raw)
            self._feed_first(candidate, as_list(parts), events)
        elif isinstance(parts, list):
            for part in cast("list[object]", parts):
                if is_object(part):
                    self._feed_part(candidate, part, events)
        reason = raw.get("finishReason")
        if reason:
            candidate.raw_finish = reason
            if not candidate.ended and reason != _UNSAID:
                candidate.ended = finished = True
        elif candidate.ended is not False and len(events) > before and _says(as_list(as_object(content).get("parts"))):
            candidate.ended, self._last = False, None
        # nothing to look for in the usual one, which has a content and an index
        if (len(raw) > 2 or parts is None or "index" not in raw) and not _CANDIDATE_EXTRAS.isdisjoint(raw):
            _keep_extras(candidate, raw)
        return finished

    def _feed_first(self, candidate: _Candidate, parts: list[object], events: list[StreamEvent]) -> None:
        """A candidate's first parts, which in a plain answer are all of them: what is cited names them by place."""
        for place, part in enumerate(parts):
            if is_object(part):
                self._feed_part(candidate, part, events)
                if candidate.texts and "text" in part and not part.get("thought"):
                    candidate.places[place] = candidate.texts[-1]

    def _new_candidate(self, raw: JsonObject) -> _Candidate:
        index = as_count(raw.get("index")) or 0
        return self._candidates.setdefault(index, _Candidate(index))

    def _feed_part(self, candidate: _Candidate, raw: JsonObject, events: list[StreamEvent]) -> None:
        text = raw.get("text")
        if isinstance(text, str):
            self._speaker = candidate
            kind: PartKind = "reasoning" if raw.get("thought") else "text"
            signature = raw.get("thoughtSignature")
            if signature:
                self._signed_text(candidate, kind, text, signature, events)
            elif text:
                self._speak(candidate, kind, text, events)
        elif "functionCall" in raw:
            self._call(candidate, raw, events)
        elif raw.keys() - {"thought", "thoughtSignature"}:
            self._pause(candidate, events)
            events += self._whole(candidate, raw)

    def _speak(self, candidate: _Candidate, kind: PartKind, text: str, events: list[StreamEvent]) -> OpenPart:
        part = candidate.speaking
        if part is None or part.start.kind != kind:
            self._pause(candidate, events)
            part = candidate.speaking = self._parts.open(kind, choice=candidate.index)
            events.append(part.start)
            if kind == "text":
                candidate.texts.append(part)
        if text:
            part.pieces.append(text)
            events.append(TextDelta(part.part_id, text) if kind == "text" else ReasoningDelta(part.part_id, text))
        return part

    def _signed_text(
        self, candidate: _Candidate, kind: PartKind, text: str, signature: object, events: list[StreamEvent]
    ) -> None:
        """A signature belongs to exactly its own part, which may be empty: never merged with a neighbour."""
        self._pause(candidate, events)
        part = self._speak(candidate, kind, text, events)
        part.state = {"thoughtSignature": signature}
        if kind == "text" and not text:
            candidate.texts.remove(part)
            events.append(self._parts.close(part))
            candidate.speaking = None
        self._pause(candidate, events)

    def _call(self, candidate: _Candidate, raw: JsonObject, events: list[StreamEvent]) -> None:
        call = as_object(raw["functionCall"])
        calling = candidate.calling
        if calling is not None and not call.get("name"):  # more of the call that is open, or its end
            if raw.get("thoughtSignature"):
                calling.part.state = {"thoughtSignature": raw["thoughtSignature"]}
            self._more_arguments(candidate, calling, call, events)
            return
        self._pause(candidate, events)
        candidate.has_calls = True
        part = self._parts.open(
            "tool_call",
            choice=candidate.index,
            call_id=as_text(call.get("id")),
            name=as_text(call.get("name")),
        )
        if raw.get("thoughtSignature"):
            part.state = {"thoughtSignature": raw["thoughtSignature"]}
        events.append(part.start)
        if "partialArgs" in call or call.get("willContinue"):
            calling = candidate.calling = _Call(part, dict(as_object(call.get("args"))))
            self._more_arguments(candidate, calling, call, events)
        else:
            self._end_call(part, call.get("args") or {}, events)

    def _more_arguments(
        self, candidate: _Candidate, calling: _Call, call: JsonObject, events: list[StreamEvent]
    ) -> None:
        for piece in as_list(call.get("partialArgs")):
            if is_object(piece):
                lay(calling.arguments, piece)
        if not call.get("willContinue"):
            candidate.calling = None
            self._end_call(calling.part, calling.arguments, events)

    def _end_call(self, part: OpenPart, value: object, events: list[StreamEvent]) -> None:
        arguments = orjson.dumps(value).decode()
        part.pieces.append(arguments)
        events += [ToolCallDelta(part.part_id, arguments), self._parts.close(part)]

    def _whole(self, candidate: _Candidate, raw: JsonObject) -> list[StreamEvent]:
        """A part that comes in one piece: a file, or something the provider ran or said that has no text."""
        choice = candidate.index
        if not raw.get("thought"):  # a picture the model only thought of is not an answer
            file = self._file(raw, choice)
            if file:
                return file
        name = next(key for key in raw if key not in ("thought", "thoughtSignature"))
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
        """The events of a generated file; none if ``raw`` is no file that a ``FilePart`` can hold."""
        signature = raw.get("thoughtSignature")
        kept: JsonObject = {"thoughtSignature": signature} if signature else {}
        inline, elsewhere = as_object(raw.get("inlineData")), as_object(raw.get("fileData"))
        told = as_text((inline or elsewhere).get("mimeType"))
        media_type = told.partition(";")[0].strip()
        if media_type != told:
            kept["mimeType"] = told
        data = decoded(as_text(inline.get("data")))
        url = as_text(elsewhere.get("fileUri")) or None
        if data is None and url is None:
            return []
        try:
            FilePart(media_type=media_type, data=data, url=None if data is not None else url)
        except ValueError:  # the type is missing, or the bytes are something else than it says
            media_type, kept["mimeType"] = "application/octet-stream", told
        if data is not None:
            return self._parts.file(media_type, kept, choice=choice, data=data)
        return self._parts.file(media_type, kept, choice=choice, url=url)

    def _pause(self, candidate: _Candidate, events: list[StreamEvent]) -> None:
        """End what is being said; a text's end is told later, see the module."""
        if candidate.calling is not None:
            calling, candidate.calling = candidate.calling, None
            self._end_call(calling.part, calling.arguments, events)
        speaking, candidate.speaking = candidate.speaking, None
        if speaking is not None and speaking.start.kind != "text":
            events.append(self._parts.close(speaking))

    def _close_texts(self, candidate: _Candidate, events: list[StreamEvent]) -> None:
        texts = candidate.texts
        _cite(candidate)
        kept = candidate.metadata
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
            raise ProtocolError("the answer holds neither candidates nor feedback on the prompt")
        for candidate in self._candidates.values():
            self._pause(candidate, events)
            self._close_texts(candidate, events)
            finish = finish_of(candidate.raw_finish, _FINISH, has_calls=candidate.has_calls, choice=candidate.index)
            if candidate.raw_finish is None:
                finish.finish_reason = FinishReason.OTHER
            elif candidate.has_calls and finish.finish_reason is FinishReason.STOP:
                finish.finish_reason = FinishReason.TOOL_CALLS
            self._parts.finishes[candidate.index] = finish
        if not self._candidates:
            reason = FinishReason.CONTENT_FILTER if self._blocked else FinishReason.OTHER
            self._parts.finishes[0] = ChoiceFinish(0, reason, self._blocked or None)
        return [*events, *usage_events(self.usage), self._parts.end()]

    def _raise(self, chunk: JsonObject) -> None:
        raise error_of(200, {}, orjson.dumps(chunk), as_object(chunk.get("error")), self._parts.provider)


# ---------------------------------------------------------------------------------------------------- beside the parts


def _says(parts: list[object]) -> bool:
    """Whether there is more in ``parts`` than a signature."""
    return any(as_text(part.get("text")) or not _BARE.issuperset(part) for part in map(as_object, parts))


def _keep_extras(candidate: _Candidate, raw: JsonObject) -> None:
    candidate.metadata |= {key: raw[key] for key in _METADATA if raw.get(key)}
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


def _cite(candidate: _Candidate) -> None:
    """Hang every source on the text it speaks for: by chunk, then by passage; one without a passage on the last."""
    if not candidate.texts:
        return
    grounding = as_object(candidate.metadata.get("groundingMetadata"))
    supports = [as_object(support) for support in as_list(grounding.get("groundingSupports"))]
    for number, raw in enumerate(as_list(grounding.get("groundingChunks"))):
        source = source_of(as_object(raw))
        passages = [
            as_object(support.get("segment"))
            for support in supports
            if number in as_list(support.get("groundingChunkIndices"))
        ]
        for passage in passages or [{}]:
            _hang(candidate, source, passage)
    for raw in candidate.sources:
        told = as_object(raw)
        source = Citation(url=as_text(told.get("uri")) or None, title=as_text(told.get("title")) or None)
        _hang(candidate, source, told)


def _hang(candidate: _Candidate, source: Citation, passage: JsonObject) -> None:
    found = _place(candidate, passage)
    if found is None:
        candidate.texts[-1].cite([source])
    else:
        part, start, end = found
        part.cite([source.changed(start=start, end=end)])


def _place(candidate: _Candidate, passage: JsonObject) -> tuple[OpenPart, int, int] | None:
    """Where a passage is, in characters of its part.

    Offsets count UTF-8 bytes: of the part with ``partIndex`` in a plain answer, of everything said in a streamed one.
    The passage's own words, where they are told, decide which of the two is meant.
    """
    start, end = as_count(passage.get("startIndex")) or 0, as_count(passage.get("endIndex"))
    words = passage.get("text")
    if end is None or end <= start:
        return None
    own = candidate.places.get(as_count(passage.get("partIndex")) or 0)
    texts = [own] if own is not None else []
    texts += [part for part in candidate.texts if part is not own]
    said = {id(part): "".join(part.pieces).encode() for part in candidate.texts}
    for part in texts:
        found = span_of(said[id(part)], start, end, words)
        if found is not None:
            return (part, *found)
    before = 0
    for part in candidate.texts:
        data = said[id(part)]
        if before <= start and end <= before + len(data):
            found = span_of(data, start - before, end - before, words)
            return None if found is None else (part, *found)
        before += len(data)
    return None
