"""``Candidate``: decodes the parts of one candidate of Gemini's answers into events.

The grounding of its texts arrives with the last chunk, so texts are closed only at the end. A signature in a part of
its own becomes an empty text part, unless a call without a signature follows, which requires one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from dhenara_async.drivers.base import JsonObject, as_list, as_object, as_text, is_object
from dhenara_async.drivers.gemini.calls import FunctionCall, PartialArguments
from dhenara_async.drivers.gemini.citing import cite
from dhenara_async.drivers.gemini.reading import decoded, logprob_of
from dhenara_async.drivers.gemini.spelling import PART_DATA
from dhenara_async.drivers.parts import OpenPart, PartsInFlight
from dhenara_async.events import PartKind, ReasoningDelta, StreamEvent, TextDelta, ToolCallDelta
from dhenara_async.messages.messages import FilePart, TokenLogprob
from dhenara_async.response import CONTINUATION
from dhenara_async.tools.declarations import HostedToolType

METADATA = ("groundingMetadata", "citationMetadata", "urlContextMetadata")
_TOOLS: dict[str, HostedToolType] = {
    "GOOGLE_SEARCH_WEB": "web_search",
    "GOOGLE_SEARCH_IMAGE": "web_search",
    "URL_CONTEXT": "url_context",
    "FILE_SEARCH": "file_search",
}
_WORDS = frozenset(("text", "thought", "thoughtSignature"))
# metadata, not content
_BESIDE = frozenset(("thought", "thoughtSignature", "partMetadata", "mediaResolution", "videoMetadata"))
_PART_DATA = frozenset(PART_DATA)


@dataclass(slots=True)
class Candidate:
    """One candidate. Consecutive texts of one kind form one part, unless a signature separates them.

    Attributes:
        answer: The parts of the whole answer.
        index: The candidate's index.
        speaking: The open text or reasoning.
        calling: The open call.
        held: A signature that arrived in a part of its own.
        has_calls: Whether it calls a function.
        raw_finish: Its newest finish reason.
        ended: Whether a finish reason came and no content after it; None = no chunk yet.
        texts: The texts that were begun and are not closed yet.
        places: Those of the first chunk, by index in its parts.
        metadata: The fields of its chunks beside the content.
        sources: The sources of its citations.
        logprobs: The probabilities of its tokens.
        continuation: The newest token by which the API goes on with an answer that it cut.
    """

    answer: PartsInFlight
    index: int
    speaking: OpenPart | None = None
    calling: FunctionCall | None = None
    held: object = None
    has_calls: bool = False
    raw_finish: object = None
    ended: bool | None = None
    texts: list[OpenPart] = field(default_factory=list[OpenPart])
    places: dict[int, OpenPart] = field(default_factory=dict[int, OpenPart])
    metadata: JsonObject = field(default_factory=dict[str, object])
    sources: list[object] = field(default_factory=list[object])
    logprobs: list[TokenLogprob] = field(default_factory=list[TokenLogprob])
    continuation: str = ""

    def feed_first(self, parts: Sequence[object], events: list[StreamEvent]) -> None:
        """Decode the first parts, which in a plain answer are all: citations refer to them by index."""
        for place, part in enumerate(parts):
            self.feed_parts((part,), events)
            fields = as_object(part)
            if self.texts and (isinstance(part, str) or (fields.get("text") and not fields.get("thought"))):
                self.places[place] = self.texts[-1]

    def feed_parts(self, parts: Sequence[object], events: list[StreamEvent]) -> None:
        """Decode the parts of a chunk."""
        for raw in parts:
            part: JsonObject = raw if is_object(raw) else {"text": as_text(raw)}
            if self.held is not None:
                part = self._release(part, events)
            self._feed_part(part, events)

    def _feed_part(self, raw: JsonObject, events: list[StreamEvent]) -> None:
        text = raw.get("text")
        if text and isinstance(text, str) and _WORDS.issuperset(raw):
            kind: PartKind = "reasoning" if raw.get("thought") else "text"
            signature = raw.get("thoughtSignature")
            if signature:
                self._signed_text(kind, text, signature, events)
            else:
                self._speak(kind, text, events)
        else:
            self._feed_other({name: value for name, value in raw.items() if value is not None}, events)

    def _feed_other(self, raw: JsonObject, events: list[StreamEvent]) -> None:
        """Decode a part that has no text, or has other fields as well."""
        text, native = raw.get("text"), not _PART_DATA.isdisjoint(raw)
        if isinstance(text, str):
            del raw["text"]
            if text:  # beside a call, for example, which then owns the signature
                shared = {"thought"} if native else _WORDS
                words = {name: value for name, value in raw.items() if name in shared}
                self._feed_part({"text": text, **words}, events)
                if not native:
                    return
        if is_object(raw.get("functionCall")):
            self._call(raw, events)
        elif not _BESIDE.issuperset(raw):
            self.pause(events)
            events += self._complete_part(raw)
        elif raw.get("thoughtSignature"):
            self._hold(raw, events)

    def _hold(self, raw: JsonObject, events: list[StreamEvent]) -> None:
        """Hold a part with only a signature, which gateways send before the signed call."""
        signature, calling = raw["thoughtSignature"], self.calling
        if calling is not None and calling.will_continue:
            calling.signature = calling.signature or signature
            return
        self.pause(events)
        if raw.get("thought"):
            self._sign("reasoning", signature, events)
        else:
            self.held = signature

    def _release(self, following: JsonObject, events: list[StreamEvent]) -> JsonObject:
        """Attach a held signature to the following call if the call has none; otherwise emit it as a part."""
        call = following.get("functionCall")
        if is_object(call) and not _signature_of(following, call):
            signature, self.held = self.held, None
            return {**following, "thoughtSignature": signature}
        self.pause(events)
        return following

    def _speak(self, kind: PartKind, text: str, events: list[StreamEvent]) -> OpenPart:
        part = self.speaking
        if part is None or part.start.kind != kind:
            self.pause(events)
            part = self.speaking = self.answer.open(kind, choice=self.index)
            events.append(part.start)
            if kind == "text":
                self.texts.append(part)
        part.pieces.append(text)
        events.append(TextDelta(part.part_id, text) if kind == "text" else ReasoningDelta(part.part_id, text))
        return part

    def _signed_text(self, kind: PartKind, text: str, signature: object, events: list[StreamEvent]) -> None:
        """Emit a signed text as a part of its own, because a signature covers exactly one part."""
        self.pause(events)
        self._speak(kind, text, events).state = {"thoughtSignature": signature}
        self.pause(events)

    def _sign(self, kind: PartKind, signature: object, events: list[StreamEvent]) -> None:
        """Emit an empty part for a signature."""
        part = self.answer.open(kind, choice=self.index)
        part.state = {"thoughtSignature": signature}
        events += [part.start, self.answer.close(part)]

    def _call(self, raw: JsonObject, events: list[StreamEvent]) -> None:
        call, calling = as_object(raw["functionCall"]), self.calling
        name, call_id, signature = as_text(call.get("name")), as_text(call.get("id")), _signature_of(raw, call)
        if calling is None and not call:  # the end marker of a call that has ended
            return
        if calling is None or not calling.continues(name, call_id):
            self.pause(events)
            calling = self.calling = FunctionCall(PartialArguments(self.answer.admit))
        streamed = calling.will_continue
        calling.take(call, signature)
        if calling.is_whole or (streamed and calling.name and not calling.will_continue):
            self._end_call(calling, events)
        elif calling.name and (calling.call_id or calling.will_continue):
            self._open_call(calling, events)

    def _open_call(self, calling: FunctionCall, events: list[StreamEvent]) -> OpenPart:
        if calling.part is None:
            self.has_calls = True
            calling.part = self.answer.open("tool_call", choice=self.index, call_id=calling.call_id, name=calling.name)
            events.append(calling.part.start)
        return calling.part

    def _end_call(self, calling: FunctionCall, events: list[StreamEvent]) -> None:
        self.calling = None
        part = self._open_call(calling, events)
        if calling.signature:
            part.state = {"thoughtSignature": calling.signature}
        arguments = calling.arguments()
        part.pieces.append(arguments)
        events += [ToolCallDelta(part.part_id, arguments), self.answer.close(part)]

    def _complete_part(self, raw: JsonObject) -> list[StreamEvent]:
        """Return the events of a part that arrives complete: a file, or a hosted tool part without text."""
        choice = self.index
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
                return self.answer.hosted(
                    name, dict(raw), choice=choice, tool="code_execution", call_id=call_id, asked=asked
                )
            case "codeExecutionResult":
                output = {key: value[key] for key in ("outcome", "output") if key in value}
                return self.answer.hosted(
                    name, dict(raw), choice=choice, tool="code_execution", call_id=call_id, output=output
                )
            case "toolCall" | "toolResponse":
                return self.answer.hosted(
                    name,
                    dict(raw),
                    choice=choice,
                    tool=_TOOLS.get(as_text(value.get("toolType"))),
                    call_id=call_id,
                    asked=value.get("args"),
                    output=value.get("response"),
                )
            case _:
                return self.answer.hosted(name, dict(raw), choice=choice)

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
            return self.answer.file(media_type, kept, choice=choice, data=data)
        return self.answer.file(media_type, kept, choice=choice, url=url)

    def pause(self, events: list[StreamEvent]) -> None:
        """End the current text or call; texts are closed at the end, see the module."""
        if self.calling is not None:
            self._end_call(self.calling, events)
        speaking, self.speaking = self.speaking, None
        if speaking is not None and speaking.start.kind != "text":
            events.append(self.answer.close(speaking))
        if self.held is not None:
            signature, self.held = self.held, None
            self._sign("text", signature, events)

    def close_texts(self, events: list[StreamEvent]) -> None:
        """Close the texts at the end of the answer, with their citations."""
        texts = self.texts
        kept = self.metadata
        cite(texts, self.places, as_object(kept.get("groundingMetadata")), self.sources, self.answer.admit)
        if texts:
            texts[-1].logprobs = self.logprobs
            texts[-1].state |= kept
        events += [self.answer.close(part) for part in texts]
        if kept and not texts:
            events += self.answer.hosted(next(iter(kept)), dict(kept), choice=self.index, report=True)

    def keep_extras(self, raw: JsonObject) -> None:
        """Keep what a chunk says beside the content."""
        self.metadata |= {key: raw[key] for key in METADATA if raw.get(key)}
        self.continuation = as_text(raw.get(CONTINUATION)) or self.continuation
        cited = as_object(raw.get("citationMetadata"))
        self.sources += as_list(cited.get("citationSources") or cited.get("citations"))
        logprobs = as_object(raw.get("logprobsResult"))
        likeliest = as_list(logprobs.get("topCandidates"))
        for place, chosen in enumerate(as_list(logprobs.get("chosenCandidates"))):
            one = logprob_of(chosen)
            if one is not None:
                others = as_list(as_object(likeliest[place]).get("candidates")) if place < len(likeliest) else []
                top = tuple(other for item in others if (other := logprob_of(item)) is not None)
                self.logprobs.append(TokenLogprob(token=one[0], logprob=one[1], top=top))


def _signature_of(raw: JsonObject, call: JsonObject) -> object:
    """Return the signature of a call; older models put it inside the call."""
    return raw.get("thoughtSignature") or call.get("thoughtSignature")


def has_content(parts: list[object]) -> bool:
    """Whether ``parts`` has more than a signature."""
    return any(
        isinstance(part, str) or part.get("text") or not _WORDS.issuperset(part) for part in _text_or_object(parts)
    )


def _text_or_object(parts: list[object]) -> Iterator[str | JsonObject]:
    return (part if isinstance(part, str) else as_object(part) for part in parts if part)
