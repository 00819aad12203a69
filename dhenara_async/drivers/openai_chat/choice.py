"""Decodes the deltas or the message of one Chat Completions choice into parts.

Source: https://platform.openai.com/docs/api-reference/chat/object and the compatible hosts' own references (read
2026-11-22)
"""

from collections.abc import Sequence

from dhenara_async.drivers.base import JsonObject, as_list, as_object, as_text
from dhenara_async.drivers.openai_chat.calls import CallsInFlight, calls_in
from dhenara_async.drivers.openai_chat.executed import ExecutedTools
from dhenara_async.drivers.openai_chat.quirks import Quirks
from dhenara_async.drivers.openai_chat.reading import (
    chat_finish,
    citations_of,
    count_logprobs,
    decoded,
    legal_type,
    logprobs_of,
    merged_details,
    overlap,
    settled_type,
    source_lists,
    sources_of,
)
from dhenara_async.drivers.openai_chat.shapes import (
    THINKING_FIELDS,
    DetailWords,
    Piece,
    ReceivedText,
    pieces_of,
    reasoning_of,
    text_in,
)
from dhenara_async.drivers.parts import OpenPart, PartsInFlight
from dhenara_async.events import ChoiceFinish, PartKind, ReasoningDelta, RefusalDelta, StreamEvent, TextDelta
from dhenara_async.messages.messages import Citation, TokenLogprob
from dhenara_async.response import FinishReason

_OPEN_MARK, _CLOSE_MARK = "<think>", "</think>"
# Fields of a delta or message beside its role and content.
_THOUGHTS = frozenset((*THINKING_FIELDS, "reasoning_details"))
_RARE = frozenset(
    (
        *("executed_tools", "refusal", "annotations", "citations", "context"),
        *("images", "audio", "tool_calls", "function_call"),
    )
)
_NO_DETAILS: list[object] = []
_LIKELIHOODS_IN_A_PART = 100  # how many log probabilities count as one part
_SOUNDS = {"mp3": "audio/mpeg", "pcm16": "audio/pcm"}


class Sources:
    """Collects the sources of an answer; hosts repeat all of them with every chunk.

    Args:
        parts: The parts of the answer.
    """

    __slots__ = ("_known", "_latest", "_parts")

    def __init__(self, parts: PartsInFlight) -> None:
        self._parts = parts
        self._latest: JsonObject | None = None  # parsed once, not with every chunk
        self._known: tuple[Citation, ...] = ()

    def note(self, report: JsonObject) -> None:
        """Record the fields beside the choices, or of a message."""
        self._latest = report

    def current(self) -> tuple[Citation, ...]:
        """Return the sources of the last report; the same tuple until another report arrives."""
        report, self._latest = self._latest, None
        if report is not None:
            listed = source_lists(report)
            self._parts.admit(sum(map(len, listed)))
            self._known = tuple(sources_of(*listed)) or self._known
        return self._known


class ChoiceInFlight:
    """A choice that is being received. A text or reasoning part ends when the other kind begins; calls stay open.

    Args:
        parts: The parts of the answer.
        index: The choice's index, also an attribute.
        quirks: The host's differences.
        sources: The answer's sources.
        sound: The requested audio format.

    Attributes:
        speaking: The open text, reasoning or refusal part; None = none.
        word: The host's finish reason; None = none yet.
        ended: Whether it has a finish reason and has not continued without one since: some gateways send a reason with
            every chunk without text. None = no chunk yet.
        by_delta: Whether deltas have carried content.
    """

    __slots__ = (
        "_blanks",
        "_calls",
        "_citations",
        "_cited",
        "_details",
        "_executed",
        "_has_files",
        "_held",
        "_likelihoods",
        "_logprobs",
        "_parts",
        "_quirks",
        "_refused",
        "_repeats",
        "_said",
        "_sound",
        "_sound_kind",
        "_sound_state",
        "_sources",
        "_spoke",
        "_thinks_in_field",
        "_thinks_inline",
        "by_delta",
        "ended",
        "index",
        "speaking",
        "word",
    )

    def __init__(self, parts: PartsInFlight, index: int, quirks: Quirks, sources: Sources, sound: str) -> None:
        self._parts = parts
        self.index: int = index
        self._quirks = quirks
        self._sources = sources
        self._sound_kind = sound
        self.speaking: OpenPart | None = None
        self.word: str | None = None
        self.ended: bool | None = None
        self.by_delta: bool = False
        self._repeats = False  # its messages contain all text so far
        self._spoke = self._refused = self._cited = self._has_files = False
        self._thinks_in_field = False  # its reasoning has a field of its own, which its details repeat
        self._thinks_inline: bool | None = None if quirks.inline_thinking else False
        self._blanks: list[str] = []  # leading white space, which reasoning between marks may follow
        self._held = ""  # text behind it that may be the beginning of a mark
        self._citations: list[Citation] = []  # citations and log probabilities wait for the end of their text
        self._logprobs: list[TokenLogprob] = []
        self._likelihoods = 0
        self._details: DetailWords | None = None
        self._calls: CallsInFlight | None = None
        self._executed: ExecutedTools | None = None
        self._sound: list[bytes] | None = None
        self._sound_state: JsonObject = {}
        self._said: dict[PartKind, ReceivedText] = {}

    # ------------------------------------------------------------------------------------------------ messages

    def feed(self, message: JsonObject, events: list[StreamEvent]) -> None:
        """Decode a delta, or the message of a plain body: reasoning, hosted tools, text, files, calls."""
        rare = not _RARE.isdisjoint(message)
        if rare and len(message) == 1 and "tool_calls" in message:  # as in most fragments of calls
            for call in calls_in(message["tool_calls"]):
                self._call(call, events)
            return
        if not _THOUGHTS.isdisjoint(message):
            self._feed_thoughts(message, events)
        if rare and message.get("executed_tools"):
            self._executed = self._executed or ExecutedTools(self._parts, self.index)
            events += self._executed.feed(as_list(message["executed_tools"]))
        content = message.get("content")
        if not content:
            pass
        elif not isinstance(content, str):
            for piece in pieces_of(content):
                self._feed_piece(piece, events)
        elif self._thinks_inline is not False:
            self._feed_inline(content, events)
        else:
            self._speak("text", content, events)
        if rare:
            self._feed_rest(message, events)

    def feed_whole(self, message: JsonObject, events: list[StreamEvent]) -> None:
        """Decode a message inside a stream: the first one, or one that may repeat earlier text."""
        if not self._has_content():
            self.feed(message, events)
            return
        thought, details = reasoning_of(message)
        self._catch_up("reasoning", thought or DetailWords().read(details), events)
        content = message.get("content")
        pieces = [Piece("text", content)] if isinstance(content, str) else list(pieces_of(content))
        for kind in ("reasoning", "text", "refusal"):
            self._catch_up(kind, "".join(piece.text for piece in pieces if piece.kind == kind), events)
        read = {
            *(("tool_calls", "function_call") if self._calls is not None else ()),
            *(("annotations", "citations", "context") if self._cited or self._citations else ()),
            *(("refusal",) if self._refused else ()),
            *(("images",) if self._has_files else ()),
            *(("audio",) if self._sound is not None else ()),
        }
        self._feed_rest({name: value for name, value in message.items() if name not in read}, events)

    def note_logprobs(self, raw: object) -> None:
        """Add log probabilities of the current text."""
        before = self._likelihoods // _LIKELIHOODS_IN_A_PART
        self._likelihoods += count_logprobs(raw)
        self._parts.admit(self._likelihoods // _LIKELIHOODS_IN_A_PART - before)
        self._logprobs += logprobs_of(raw)

    def close(self, events: list[StreamEvent]) -> ChoiceFinish:
        """Close all open parts; returns how the choice ended."""
        if self._blanks or self._held:
            held, self._held = "".join((*self._blanks, self._held)), ""
            self._blanks.clear()
            self._speak("reasoning" if self._thinks_inline else "text", held, events)
        if self._citations or (self._sources.current() and not self._cited):
            self._part("text", events)  # possibly empty, for sources that arrive after their text has ended
        self._pause(events)
        calls = [] if self._calls is None else self._calls.close()
        events += calls
        if self._executed is not None:
            events += self._executed.close()
        sound = b"".join(self._sound or ())
        if sound:
            kind = legal_type(_SOUNDS.get(self._sound_kind, f"audio/{self._sound_kind}"))
            events += self._parts.file(kind, self._sound_state, choice=self.index, data=sound)
        finish = chat_finish(self.word, has_calls=bool(calls), choice=self.index)
        if self._refused and not self._spoke and finish.finish_reason is FinishReason.STOP:
            finish.finish_reason = FinishReason.REFUSAL
        return finish

    def _has_content(self) -> bool:
        """Whether any content has arrived."""
        return bool(self.speaking or self._said or self._calls or self._executed or self._sound or self._has_files)

    def _catch_up(self, kind: PartKind, text: str, events: list[StreamEvent]) -> None:
        """Emit the new portion of ``text``. Hosts repeat the earlier text in every chunk, or once at the end."""
        if not text:
            return
        speaking = self.speaking if self.speaking is not None and self.speaking.start.kind == kind else None
        received = self._said.setdefault(kind, ReceivedText())
        repeated = received.repeated_length(text, speaking)
        if repeated is not None:
            self._repeats = self._repeats or repeated > 0
            self._speak(kind, text[repeated:], events)
        elif not (self.by_delta or self._repeats):  # pieces of an answer, each in a message of its own
            self._speak(kind, text, events)

    # ------------------------------------------------------------------------------------------------ thinking

    def _feed_thoughts(self, message: JsonObject, events: list[StreamEvent]) -> None:
        """Decode reasoning in fields of its own, or in details if those fields are missing."""
        text, details = message.get("reasoning_content") or message.get("reasoning"), _NO_DETAILS
        if not isinstance(text, str) or "reasoning_details" in message:  # not the usual shape
            text, details = reasoning_of(message)
        if text:
            self._thinks_in_field = True
        elif details and not self._thinks_in_field:
            self._details = self._details or DetailWords()
            text = self._details.read(details)
        if text or details:
            self._reason(text, details, events)

    def _reason(self, text: str, details: Sequence[object], events: list[StreamEvent]) -> None:
        part = self.speaking
        if part is None or part.start.kind != "reasoning":
            part = self._part("reasoning", events)
        if details:
            as_list(part.state.setdefault("reasoning_details", [])).extend(details)
        if text:
            part.pieces.append(text)
            events.append(ReasoningDelta(part.part_id, text))

    def _feed_inline(self, content: str, events: list[StreamEvent]) -> None:
        """Decode text that may begin with reasoning between marks; a possible half mark waits for the rest."""
        text, self._held = self._held + content, ""
        if self._thinks_inline is None:
            begin = text.lstrip()
            if len(begin) < len(_OPEN_MARK) and _OPEN_MARK.startswith(begin):
                self._blanks.append(text[: len(text) - len(begin)])
                self._held = begin
                return
            self._thinks_inline = begin.startswith(_OPEN_MARK)
            text = begin.removeprefix(_OPEN_MARK) if self._thinks_inline else "".join((*self._blanks, text))
            self._blanks.clear()
        if self._thinks_inline:
            thought, mark, text = text.partition(_CLOSE_MARK)
            if not mark:
                sure = len(thought) - overlap(thought, _CLOSE_MARK)
                thought, self._held = thought[:sure], thought[sure:]
            self._speak("reasoning", thought, events)
            if not mark:
                return
            self._thinks_inline = False
        self._speak("text", text, events)

    # ------------------------------------------------------------------------------------------------ words

    def _feed_piece(self, piece: Piece, events: list[StreamEvent]) -> None:
        """Decode one part of a content list."""
        match piece.kind:
            case "text":
                self._cite(piece.raw)
                if self._thinks_inline is not False:
                    self._feed_inline(piece.text, events)
                else:
                    self._speak("text", piece.text, events)
            case "reasoning":
                self._think(piece, events)
            case "refusal":
                self._refuse(piece.text, events)
            case "image":
                events += self._image(piece.raw)
            case "stored_file":
                self._has_files = True
                events += self._parts.file(
                    legal_type(f"image/{piece.raw.get('file_type')}", "image/*"),
                    dict(piece.raw),
                    choice=self.index,
                    file_id=as_text(piece.raw.get("file_id")),
                    filename=as_text(piece.raw.get("file_name")) or None,
                )
            case "call":
                self._call(piece.raw, events)

    def _think(self, piece: Piece, events: list[StreamEvent]) -> None:
        if piece.text or piece.signature:
            self._reason(piece.text, (), events)
        if piece.signature and self.speaking is not None:
            self.speaking.state["signature"] = piece.signature

    def _refuse(self, text: str, events: list[StreamEvent]) -> None:
        self._refused = self._refused or bool(text)
        self._speak("refusal", text, events)

    def _speak(self, kind: PartKind, text: str, events: list[StreamEvent]) -> None:
        if not text:
            return
        part = self._part(kind, events)
        part.pieces.append(text)
        match kind:
            case "reasoning":
                events.append(ReasoningDelta(part.part_id, text))
            case "refusal":
                events.append(RefusalDelta(part.part_id, text))
            case _:
                self._spoke = True
                events.append(TextDelta(part.part_id, text))

    def _part(self, kind: PartKind, events: list[StreamEvent]) -> OpenPart:
        """Return the open part of this kind, or a new one after closing the other kind."""
        speaking = self.speaking
        if speaking is not None and speaking.start.kind == kind:
            return speaking
        self._pause(events)
        if self._calls is not None:
            events += self._calls.settle()
        self.speaking = part = self._parts.open(kind, choice=self.index)
        events.append(part.start)
        return part

    def _pause(self, events: list[StreamEvent]) -> None:
        """Close the open text or reasoning part, with its citations and log probabilities."""
        part, self.speaking = self.speaking, None
        if part is None:
            return
        kind = part.start.kind
        if kind == "text":
            part.citations = self._citations or self._sources.current()
            self._parts.admit(0 if self._citations else len(part.citations))
            self._cited = self._cited or bool(part.citations)
            part.logprobs, self._citations, self._logprobs = self._logprobs, [], []
        elif "reasoning_details" in part.state:
            part.state["reasoning_details"] = merged_details(as_list(part.state["reasoning_details"]))
        ended = self._parts.close(part)
        events.append(ended)
        self._said.setdefault(kind, ReceivedText()).end(ended.part.get_text())

    # ------------------------------------------------------------------------------------------------ the rest

    def _feed_rest(self, message: JsonObject, events: list[StreamEvent]) -> None:
        if message.get("refusal"):
            self._refuse(text_in(message["refusal"]), events)
        if message.get("annotations") or message.get("citations") or message.get("context"):
            self._cite(message)
        if message.get("images"):
            for image in map(as_object, as_list(message["images"])):
                events += self._image(image)
        if message.get("audio"):
            self._feed_sound(as_object(message["audio"]), events)
        for call in calls_in(message.get("tool_calls")):
            self._call(call, events)
        legacy = as_object(message.get("function_call"))
        if legacy:
            self._take_calls(self._calls_in_flight().feed_legacy(legacy), events)

    def _cite(self, message: JsonObject) -> None:
        """Collect citations of ranges of the text, or of the whole text."""
        for annotation in map(as_object, as_list(message.get("annotations"))):
            found = citations_of(annotation)
            self._parts.admit(len(found))
            self._citations += found
        context = as_object(message.get("context"))
        for report in (message, context):
            if report.get("citations"):
                self._sources.note(report)

    def _image(self, raw: JsonObject) -> list[StreamEvent]:
        place = raw.get("image_url")
        url = as_text(as_object(place).get("url")) or as_text(place)
        if not url:
            return []
        self._has_files = True
        head, comma, payload = url.partition(";base64,")
        data = decoded(payload) if comma and head.startswith("data:") else b""
        if not data:
            return self._parts.file("image/*", {}, choice=self.index, url=url)
        return self._parts.file(settled_type(data, head.removeprefix("data:")), {}, choice=self.index, data=data)

    def _feed_sound(self, sound: JsonObject, events: list[StreamEvent]) -> None:
        """Collect pieces of audio, each separate base64; the transcript is the visible answer."""
        self._sound = self._sound or []
        self._sound.append(decoded(as_text(sound.get("data"))))
        self._sound_state |= {key: sound[key] for key in ("id", "expires_at") if sound.get(key) is not None}
        self._speak("text", as_text(sound.get("transcript")), events)

    def _call(self, raw: JsonObject, events: list[StreamEvent]) -> None:
        self._take_calls(self._calls_in_flight().feed(raw), events)

    def _calls_in_flight(self) -> CallsInFlight:
        if self._calls is None:
            self._calls = CallsInFlight(self._parts, self.index)
        return self._calls

    def _take_calls(self, call_events: Sequence[StreamEvent], events: list[StreamEvent]) -> None:
        """Emit the events of calls; a call ends the text before it, even while its start waits for its name."""
        if self.speaking is not None and self._calls is not None and self._calls.has_calls:
            self._pause(events)
        events += call_events
