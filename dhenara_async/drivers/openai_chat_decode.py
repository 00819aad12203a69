"""The answers of Chat Completions: what a stream or a plain body says, how many tokens it took, what an error means.

Source: https://platform.openai.com/docs/api-reference/chat-streaming, the types of the ``openai`` package 3.54 and
the compatible hosts' own references (read 2026-11-22)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypedDict, cast

import orjson

from dhenara_async.drivers.base import (
    JsonObject,
    as_count,
    as_list,
    as_object,
    as_text,
    has_more,
    is_object,
    load,
    not_an_object,
    only_one,
    quote,
)
from dhenara_async.drivers.failures import truncated
from dhenara_async.drivers.openai_chat_quirks import Quirks
from dhenara_async.drivers.openai_chat_reading import (
    chat_error,
    citations_of,
    decoded,
    is_whole,
    legal_type,
    logprobs_of,
    merged_details,
    overlap,
    parsed,
    settled_type,
    usage_of,
)
from dhenara_async.drivers.parts import OpenPart, PartsInFlight, finish_of, usage_events
from dhenara_async.errors import ProtocolError
from dhenara_async.events import PartKind, ReasoningDelta, RefusalDelta, StreamEvent, TextDelta, ToolCallDelta
from dhenara_async.framing import Frame
from dhenara_async.messages import Citation, Origin, TokenLogprob
from dhenara_async.request import ChatRequest
from dhenara_async.response import FinishReason, Usage
from dhenara_async.tools import HostedToolType

_FINISH = {
    "stop": FinishReason.STOP,
    "eos": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "model_length": FinishReason.CONTEXT_WINDOW,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
    "error": FinishReason.ERROR,
    "insufficient_system_resource": FinishReason.ERROR,
}
_OPEN_MARK, _CLOSE_MARK = "<think>", "</think>"
_EXECUTED: Mapping[str, HostedToolType] = {
    "search": "web_search",
    "web_search": "web_search",
    "browser_search": "web_search",
    "python": "code_execution",
    "code_interpreter": "code_execution",
    "code_execution": "code_execution",
    "visit": "url_context",
    "visit_website": "url_context",
}
# What a delta or a message may have beside its role and its words.
_RARE = frozenset(
    {
        *("reasoning_content", "reasoning", "reasoning_details", "executed_tools", "refusal", "annotations"),
        *("images", "audio", "tool_calls", "function_call"),
    }
)
# What a plain answer of one text is made of, and what there is beside that in others.
_OF_A_CHOICE, _OF_A_MESSAGE = frozenset(("message", "finish_reason")), frozenset(("role", "content"))
_MORE = frozenset(("error", "citations", "x_groq"))
_SOUNDS = {"mp3": "audio/mpeg", "pcm16": "audio/pcm"}


@dataclass(slots=True)
class _Choice:
    """One choice in flight. A text or reasoning part ends when the other kind begins; calls stay open.

    ``citations`` and ``logprobs`` wait for the text they belong to; ``held`` may be the beginning of a mark. It has
    ``ended`` with a finish reason, and not any more if it goes on without one: some gateways give a reason with every
    chunk that has no words. None = neither.
    """

    index: int
    speaking: OpenPart | None = None
    calls: list[OpenPart] = field(default_factory=list[OpenPart])
    calls_by_id: dict[str, tuple[OpenPart, int | None]] = field(default_factory=dict[str, tuple[OpenPart, int | None]])
    calls_by_index: dict[int, OpenPart] = field(default_factory=dict[int, OpenPart])
    raw_finish: object = None
    ended: bool | None = None
    refused: bool = False
    spoke: bool = False
    citations: Sequence[Citation] = ()
    cited: bool = False
    logprobs: list[TokenLogprob] | None = None
    executed: dict[int, JsonObject] = field(default_factory=dict[int, JsonObject])
    sound: list[bytes] | None = None
    sound_state: JsonObject = field(default_factory=dict[str, object])
    thinks_inline: bool | None = None
    held: str = ""


_NOBODY = _Choice(0)


class _Words(TypedDict):
    """The usual choice of a chunk."""

    index: int
    delta: dict[str, str]
    finish_reason: object


class _Usual(TypedDict):
    """The usual chunk, as far as it is looked at; others are told by how that fails."""

    choices: list[_Words]


class ChatDecoder:
    """Decodes one answer.

    Args:
        request: What is answered.
        origin: Who answers.
        quirks: How the host differs.
    """

    __slots__ = (
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
        "_stranger",
    )

    def __init__(self, request: ChatRequest, origin: Origin, quirks: Quirks) -> None:
        self._parts = PartsInFlight(origin, request.config.bounds.max_parts)
        self._quirks = quirks
        self._plain = not request.stream
        self._choices: dict[object, _Choice] = {}
        self._raw_usage: JsonObject = {}
        self._sources: Sequence[Citation] = ()
        self._sound = as_text(as_object(request.config.extra_body.get("audio")).get("format")) or "wav"
        self._stranger = b""
        self._last: bytes | None = None  # the chunk that ended a choice
        self._speaker = _NOBODY  # who spoke last
        self._done = False

    def feed(self, frame: Frame) -> Sequence[StreamEvent]:
        try:
            chunk: _Usual = orjson.loads(frame)
        except orjson.JSONDecodeError:
            if frame == b"[DONE]":
                return self._end() if self._parts.started and not self._done else ()
            return self._feed(load(frame), frame)
        speaker = self._speaker
        part = speaker.speaking
        try:  # words and nothing else, for the text that is open, as nearly every chunk has them
            (raw,) = chunk["choices"]
            delta = raw["delta"]
            if (
                part is not None
                and len(delta) == 1
                and (text := delta.get("content"))
                and text.__class__ is str
                and part.start.kind == "text"
                and raw.get("finish_reason") is None  # some hosts leave these two out
                and raw.get("index", 0) == speaker.index
                and not (raw.get("logprobs") or "usage" in raw or chunk.get("usage") or chunk.get("error"))
            ):
                if speaker.ended:
                    speaker.ended, self._last = False, None
                part.pieces.append(text)
                return (TextDelta(part.part_id, text),)
        except (AttributeError, KeyError, TypeError, ValueError):  # another shape
            pass
        return self._feed(chunk, frame)

    def _feed(self, chunk: object, frame: Frame) -> Sequence[StreamEvent]:
        if frame == self._last:  # said again, maybe with the last words in it
            return ()
        if not is_object(chunk):
            raise not_an_object(frame)
        events: list[StreamEvent] = []
        if not self._parts.started:
            whole = self._at_once(chunk) if self._plain else ()
            if whole:
                return whole
            if not self._is_answer(chunk, frame):
                return ()
            events.append(self._parts.begin(model=chunk.get("model"), response_id=chunk.get("id")))
        elif chunk.get("error"):
            raise chat_error(200, {}, frame, chunk, self._parts.provider)
        else:
            self._parts.complete(model=chunk.get("model"), response_id=chunk.get("id"))
        choices = chunk.get("choices")
        if isinstance(choices, list):
            for choice in as_list(cast(object, choices)):
                if is_object(choice):
                    self._feed_choice(choice, frame, events)
        elif _is_failure(chunk):
            raise chat_error(200, {}, frame, chunk, self._parts.provider)
        if chunk.get("usage") is not None:
            self._raw_usage = as_object(chunk["usage"])
        if "x_groq" in chunk or "citations" in chunk:
            self._note_extras(chunk)
        return events

    def _at_once(self, body: JsonObject) -> Sequence[StreamEvent]:
        """A plain answer, all at once, if it is one text and its usage, as most are; else nothing is done."""
        choice, usage = only_one(body.get("choices")), as_object(body.get("usage"))
        message = as_object(choice.get("message"))
        text, word = as_text(message.get("content")), choice.get("finish_reason")
        if not (text and word and usage) or self._quirks.inline_thinking or not _MORE.isdisjoint(body):
            return ()
        if has_more(choice, _OF_A_CHOICE) or has_more(message, _OF_A_MESSAGE):
            return ()
        self._done, self._raw_usage = True, usage
        return self._parts.all_at_once(
            text,
            model=body.get("model"),
            response_id=body.get("id"),
            finish=finish_of(word, _FINISH, has_calls=False),
            usage=self.usage,
        )

    def finish(self) -> Sequence[StreamEvent]:
        if self._done:
            return ()
        if self._choices and all(choice.ended for choice in self._choices.values()):
            return self._end()
        if self._stranger and not self._parts.started:
            raise ProtocolError(f"the answer has no choices, so it is no chat completion: {quote(self._stranger)}")
        if self._quirks.ends_unsaid and self._choices:
            return self._end()
        raise truncated("a finish_reason or [DONE]")

    @property
    def usage(self) -> Usage | None:
        return usage_of(self._raw_usage, self._quirks)

    def _is_answer(self, chunk: JsonObject, frame: Frame) -> bool:
        """Whether the answer begins with ``chunk``; what comes before it is an event that we do not know yet."""
        answers = not chunk.keys().isdisjoint(("choices", "usage"))
        if chunk.get("error") or (not answers and _is_failure(chunk)):
            raise chat_error(200, {}, frame, chunk, self._parts.provider)
        if answers:
            return True
        self._stranger = self._stranger or frame
        return False

    def _feed_choice(self, raw: JsonObject, data: bytes, events: list[StreamEvent]) -> None:
        try:
            choice = self._choices.get(raw.get("index", 0)) or self._new_choice(raw)
        except TypeError:  # an index that is a list or an object
            choice = self._new_choice(raw)
        if raw.get("logprobs"):
            choice.logprobs = choice.logprobs or []
            choice.logprobs += logprobs_of(raw["logprobs"])
        delta, finish = raw.get("delta"), raw.get("finish_reason")
        if is_object(delta) and (delta or "message" not in raw):
            before = len(events)
            self._feed_message(choice, delta, events)
            if len(events) > before and not finish:
                choice.ended, self._last = False, None
            self._speaker = choice
        elif "message" in raw:
            self._feed_message(choice, as_object(raw["message"]), events)
            choice.ended = True  # a plain body is whole
        if finish:  # some hosts have an empty one in every chunk
            choice.raw_finish = finish
            if not choice.ended:
                choice.ended, self._last = True, data
        if "usage" in raw:  # where some hosts put it
            self._raw_usage = as_object(raw["usage"]) or self._raw_usage

    def _new_choice(self, raw: JsonObject) -> _Choice:
        index = as_count(raw.get("index")) or 0
        return self._choices.setdefault(index, _Choice(index))

    # ------------------------------------------------------------------------------------------------ messages

    def _feed_message(self, choice: _Choice, message: JsonObject, events: list[StreamEvent]) -> None:
        """A delta, or the whole message of a plain body: reasoning, what the host ran, words, files, calls."""
        rare = not _RARE.isdisjoint(message)
        if rare:
            reasoning = as_text(message.get("reasoning_content")) or as_text(message.get("reasoning"))
            details = as_list(message.get("reasoning_details"))
            if reasoning or details:
                self._reason(choice, reasoning, details, events)
            if message.get("executed_tools"):
                self._feed_executed(choice, as_list(message["executed_tools"]), events)
        content = message.get("content")
        if not content:
            pass
        elif not isinstance(content, str):
            self._feed_chunks(choice, as_list(content), events)
        elif self._quirks.inline_thinking and choice.thinks_inline is not False:
            self._feed_inline(choice, content, events)
        else:
            self._speak(choice, "text", content, events)
        if rare:
            self._feed_rest(choice, message, events)

    def _feed_rest(self, choice: _Choice, message: JsonObject, events: list[StreamEvent]) -> None:
        refusal = as_text(message.get("refusal"))
        if refusal:
            choice.refused = True
            self._speak(choice, "refusal", refusal, events)
        if message.get("annotations"):
            for annotation in map(as_object, as_list(message["annotations"])):
                choice.citations = [*choice.citations, *citations_of(annotation)]
        if message.get("images"):
            for image in map(as_object, as_list(message["images"])):
                events += self._image(choice, image)
        if message.get("audio"):
            self._feed_sound(choice, as_object(message["audio"]), events)
        if message.get("tool_calls"):
            for call in map(as_object, as_list(message["tool_calls"])):
                self._call(choice, call, events)
        legacy = as_object(message.get("function_call"))
        if legacy.get("name"):  # the protocol before tools; kept whole, since nothing we send can ask for it
            events += self._parts.hosted("function_call", dict(legacy), choice=choice.index)

    def _feed_chunks(self, choice: _Choice, content: list[object], events: list[StreamEvent]) -> None:
        """Content as a list of typed chunks."""
        for chunk in map(as_object, content):
            match chunk.get("type"):
                case "thinking":
                    self._think(choice, chunk, events)
                case "text":
                    self._speak(choice, "text", as_text(chunk.get("text")), events)
                case "image_url":
                    events += self._image(choice, chunk)
                case "tool_file":
                    events += self._parts.file(
                        legal_type(f"image/{chunk.get('file_type')}", "image/*"),
                        dict(chunk),
                        choice=choice.index,
                        file_id=as_text(chunk.get("file_id")),
                        filename=as_text(chunk.get("file_name")) or None,
                    )
                case _:
                    pass

    def _think(self, choice: _Choice, chunk: JsonObject, events: list[StreamEvent]) -> None:
        thoughts = chunk.get("thinking")
        texts = [as_text(as_object(item).get("text")) for item in as_list(thoughts)]
        text, signature = "".join(texts) or as_text(thoughts), chunk.get("signature")
        if text or signature:
            self._reason(choice, text, [], events)
        if signature and choice.speaking is not None:
            choice.speaking.state["signature"] = signature

    def _feed_inline(self, choice: _Choice, content: str, events: list[StreamEvent]) -> None:
        """Words that may begin with reasoning between marks; what may be half a mark waits for its other half."""
        text, choice.held = choice.held + content, ""
        if choice.thinks_inline is None:
            begin = text.lstrip()
            if len(begin) < len(_OPEN_MARK) and _OPEN_MARK.startswith(begin):
                choice.held = text
                return
            choice.thinks_inline = begin.startswith(_OPEN_MARK)
            text = begin.removeprefix(_OPEN_MARK) if choice.thinks_inline else text
        if choice.thinks_inline:
            thought, mark, text = text.partition(_CLOSE_MARK)
            if not mark:
                sure = len(thought) - overlap(thought, _CLOSE_MARK)
                thought, choice.held = thought[:sure], thought[sure:]
            self._speak(choice, "reasoning", thought, events)
            if not mark:
                return
            choice.thinks_inline = False
        self._speak(choice, "text", text, events)

    def _reason(self, choice: _Choice, text: str, details: list[object], events: list[StreamEvent]) -> None:
        part = self._part(choice, "reasoning", events)
        if details:
            as_list(part.state.setdefault("reasoning_details", [])).extend(details)
        if text:
            part.pieces.append(text)
            events.append(ReasoningDelta(part.part_id, text))

    def _speak(self, choice: _Choice, kind: PartKind, text: str, events: list[StreamEvent]) -> None:
        if not text:
            return
        part = self._part(choice, kind, events)
        part.pieces.append(text)
        match kind:
            case "reasoning":
                events.append(ReasoningDelta(part.part_id, text))
            case "refusal":
                events.append(RefusalDelta(part.part_id, text))
            case _:
                choice.spoke = True
                events.append(TextDelta(part.part_id, text))

    def _part(self, choice: _Choice, kind: PartKind, events: list[StreamEvent]) -> OpenPart:
        """The part of that kind that is open, or a new one after closing the other kind."""
        speaking = choice.speaking
        if speaking is not None and speaking.start.kind == kind:
            return speaking
        self._pause(choice, events)
        choice.speaking = part = self._parts.open(kind, choice=choice.index)
        events.append(part.start)
        return part

    def _pause(self, choice: _Choice, events: list[StreamEvent]) -> None:
        """End what is being said, with what has come for it from the side."""
        part, choice.speaking = choice.speaking, None
        if part is None:
            return
        if part.start.kind == "text":
            part.citations, choice.citations = choice.citations or self._sources, ()
            choice.cited = choice.cited or bool(part.citations)
            part.logprobs, choice.logprobs = choice.logprobs or (), None
        elif "reasoning_details" in part.state:
            part.state["reasoning_details"] = merged_details(as_list(part.state["reasoning_details"]))
        events.append(self._parts.close(part))

    # ------------------------------------------------------------------------------------------------ files

    def _image(self, choice: _Choice, raw: JsonObject) -> list[StreamEvent]:
        place = raw.get("image_url")
        url = as_text(as_object(place).get("url")) or as_text(place)
        if not url:
            return []
        head, comma, payload = url.partition(";base64,")
        data = decoded(payload) if comma and head.startswith("data:") else b""
        if not data:
            return self._parts.file("image/*", {}, choice=choice.index, url=url)
        return self._parts.file(settled_type(data, head.removeprefix("data:")), {}, choice=choice.index, data=data)

    def _feed_sound(self, choice: _Choice, sound: JsonObject, events: list[StreamEvent]) -> None:
        """Sound in pieces, each its own base64; its transcript is the visible answer."""
        choice.sound = choice.sound or []
        choice.sound.append(decoded(as_text(sound.get("data"))))
        choice.sound_state |= {key: sound[key] for key in ("id", "expires_at") if sound.get(key) is not None}
        self._speak(choice, "text", as_text(sound.get("transcript")), events)

    # ------------------------------------------------------------------------------------------------ calls

    def _call(self, choice: _Choice, raw: JsonObject, events: list[StreamEvent]) -> None:
        function = as_object(raw.get("function"))
        custom = as_object(raw.get("custom"))
        name = as_text(function.get("name")) or as_text(custom.get("name"))
        arguments = as_text(function.get("arguments")) or as_text(custom.get("input"))
        call_id = as_text(raw.get("id"))
        index = as_count(raw.get("index"))
        part = self._call_slot(choice, call_id, index, name, arguments)
        if part is None:
            part = self._open_call(choice, call_id, index, name, events)
            if custom:
                part.state["type"] = "custom"
        extra = raw.get("extra_content")
        if extra:
            part.state["extra_content"] = extra
        if arguments:
            part.pieces.append(arguments)
            events.append(ToolCallDelta(part.part_id, arguments))

    def _call_slot(
        self, choice: _Choice, call_id: str, index: int | None, name: str, arguments: str
    ) -> OpenPart | None:
        """Which call a fragment continues: by id if it has one, else by index, else the latest; None = a new call.

        Hosts reuse and omit ids and indexes, number their fragments, and repeat names: a name with arguments for a call
        that has all of its own is another call, a new id without a name is not.
        """
        latest = choice.calls[-1] if choice.calls else None
        if call_id:
            known, place = choice.calls_by_id.get(call_id, (None, None))
            if known is None:
                return None if name or latest is None else choice.calls_by_index.get(index or 0, latest)
            if name and None not in (index, place) and index != place:
                return choice.calls_by_index.get(index or 0)
        else:
            known = latest if index is None else choice.calls_by_index.get(index)
            if known is None or (name and index is None):
                return None if name else latest
        return None if name and arguments and is_whole(known) else known

    def _open_call(
        self, choice: _Choice, call_id: str, index: int | None, name: str, events: list[StreamEvent]
    ) -> OpenPart:
        self._pause(choice, events)
        part = self._parts.open("tool_call", choice=choice.index, call_id=call_id, name=name)
        choice.calls.append(part)
        if call_id:
            choice.calls_by_id[call_id] = part, index
        if index is not None:
            choice.calls_by_index[index] = part
        events.append(part.start)
        return part

    def _feed_executed(self, choice: _Choice, tools: list[object], events: list[StreamEvent]) -> None:
        """Tools that the host ran itself: first the call, later the same one with its output."""
        for place, tool in enumerate(map(as_object, tools)):
            index = as_count(tool.get("index"))
            index = place if index is None else index
            told = choice.executed.setdefault(index, {})
            complete = "output" in told
            told |= {key: value for key, value in tool.items() if value is not None}
            if "output" in told and not complete:
                events += self._executed(choice, told)

    def _executed(self, choice: _Choice, told: JsonObject) -> list[StreamEvent]:
        kind = as_text(told.get("type")) or as_text(told.get("name")) or "executed_tool"
        return self._parts.hosted(
            kind,
            dict(told),
            choice=choice.index,
            tool=_EXECUTED.get(kind),
            asked=parsed(told.get("arguments")),
            output=told.get("search_results") or told.get("code_results") or told.get("output"),
        )

    # ------------------------------------------------------------------------------------------------ the end

    def _note_extras(self, chunk: JsonObject) -> None:
        extra = as_object(chunk.get("x_groq"))
        if extra.get("error"):
            raise chat_error(200, {}, orjson.dumps(extra), extra, self._parts.provider)
        usage = as_object(extra.get("usage"))
        if usage and not self._raw_usage:
            self._raw_usage = usage
        urls = [url for url in as_list(chunk.get("citations")) if isinstance(url, str)]
        if urls:  # the sources of the whole answer, told again with every chunk
            results = map(as_object, as_list(chunk.get("search_results")))
            titles = {as_text(result.get("url")): as_text(result.get("title")) or None for result in results}
            self._sources = [Citation(url=url, title=titles.get(url)) for url in urls]

    def _end(self) -> Sequence[StreamEvent]:
        self._done = True
        events: list[StreamEvent] = []
        if not self._choices:
            self._choices[0] = _Choice(0)
        for choice in self._choices.values():
            self._end_choice(choice, events)
        return [*events, *usage_events(self.usage), self._parts.end()]

    def _end_choice(self, choice: _Choice, events: list[StreamEvent]) -> None:
        if choice.held:
            self._speak(choice, "reasoning" if choice.thinks_inline else "text", choice.held, events)
        if choice.citations or (self._sources and not choice.cited):
            self._part(choice, "text", events)  # maybe an empty one, for sources told after their text was over
        self._pause(choice, events)
        events += [self._parts.close(part) for part in choice.calls]
        for told in choice.executed.values():
            if "output" not in told:
                events += self._executed(choice, told)
        sound = b"".join(choice.sound or ())
        if sound:
            kind = _SOUNDS.get(self._sound, f"audio/{self._sound}")
            events += self._parts.file(legal_type(kind), choice.sound_state, choice=choice.index, data=sound)
        finish = finish_of(choice.raw_finish, _FINISH, has_calls=bool(choice.calls), choice=choice.index)
        if choice.refused and not choice.spoke and finish.finish_reason is FinishReason.STOP:
            finish.finish_reason = FinishReason.REFUSAL
        self._parts.finishes[choice.index] = finish


def _is_failure(chunk: JsonObject) -> bool:
    """Whether a chunk without choices is a failure of the hosts that have no ``error`` around it."""
    return chunk.get("object") == "error" or ("message" in chunk and not chunk.keys().isdisjoint(("code", "type")))
