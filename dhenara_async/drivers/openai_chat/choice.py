"""One choice of an answer of Chat Completions: what its deltas, or its message, say, as parts.

Source: https://platform.openai.com/docs/api-reference/chat/object and the compatible hosts' own references
(read 2026-11-22)
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
    Said,
    pieces_of,
    thought_of,
    words,
)
from dhenara_async.drivers.parts import OpenPart, PartsInFlight
from dhenara_async.events import ChoiceFinish, PartKind, ReasoningDelta, RefusalDelta, StreamEvent, TextDelta
from dhenara_async.messages.messages import Citation, TokenLogprob
from dhenara_async.response import FinishReason

_OPEN_MARK, _CLOSE_MARK = "<think>", "</think>"
# What a delta or a message may have beside its role and its words.
_THOUGHTS = frozenset((*THINKING_FIELDS, "reasoning_details"))
_RARE = frozenset(
    (
        *("executed_tools", "refusal", "annotations", "citations", "context"),
        *("images", "audio", "tool_calls", "function_call"),
    )
)
_NO_DETAILS: list[object] = []
_LIKELIHOODS_IN_A_PART = 100  # how many of these small values count like one part
_SOUNDS = {"mp3": "audio/mpeg", "pcm16": "audio/pcm"}


class Sources:
    """The sources of a whole answer; hosts tell all of them again with every chunk.

    Args:
        parts: The answer's parts.
    """

    __slots__ = ("_known", "_parts", "_told")

    def __init__(self, parts: PartsInFlight) -> None:
        self._parts = parts
        self._told: JsonObject | None = None  # not read yet: that is done once, not for every chunk
        self._known: tuple[Citation, ...] = ()

    def note(self, told: JsonObject) -> None:
        """Take what stands beside the choices, or in a message."""
        self._told = told

    def known(self) -> tuple[Citation, ...]:
        """All that were told last; the same tuple as long as nothing else is."""
        told, self._told = self._told, None
        if told is not None:
            listed = source_lists(told)
            self._parts.admit(sum(map(len, listed)))
            self._known = tuple(sources_of(*listed)) or self._known
        return self._known


class ChoiceInFlight:
    """One choice that is being received. A text or reasoning part ends when the other kind begins; calls stay open.

    Args:
        parts: The answer's parts.
        index: Its number, also an attribute.
        quirks: How the host differs.
        sources: The answer's sources.
        sound: The format of sound that was asked for.

    Attributes:
        speaking: The text, reasoning or refusal that is open; None = there is none.
        word: The host's word for how it ended; None = it gave none.
        ended: Whether it has a finish reason, and has not gone on without one since: some gateways give a reason with
            every chunk that has no words. None = nothing was told.
        by_delta: Whether deltas have said anything.
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
        self._repeats = False  # its messages hold all that was said so far
        self._spoke = self._refused = self._cited = self._has_files = False
        self._thinks_in_field = False  # its thinking has a field of its own, and its details say the same
        self._thinks_inline: bool | None = None if quirks.inline_thinking else False
        self._blanks: list[str] = []  # the white space that it begins with, where thinking between marks may follow
        self._held = ""  # behind that: what may be the beginning of a mark
        self._citations: list[Citation] = []  # these two wait for the end of the text that they belong to
        self._logprobs: list[TokenLogprob] = []
        self._likelihoods = 0
        self._details: DetailWords | None = None
        self._calls: CallsInFlight | None = None
        self._executed: ExecutedTools | None = None
        self._sound: list[bytes] | None = None
        self._sound_state: JsonObject = {}
        self._said: dict[PartKind, Said] = {}

    # ------------------------------------------------------------------------------------------------ messages

    def feed(self, message: JsonObject, events: list[StreamEvent]) -> None:
        """A delta, or the whole message of a plain body: reasoning, what the host ran, words, files, calls."""
        rare = not _RARE.isdisjoint(message)
        if rare and len(message) == 1 and "tool_calls" in message:  # as most fragments of calls are
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
        """A message in a stream: the first one, or one that may repeat what was said before it."""
        if not self._touched():
            self.feed(message, events)
            return
        thought, details = thought_of(message)
        self._catch_up("reasoning", thought or DetailWords().read(details), events)
        content = message.get("content")
        told = [Piece("text", content)] if isinstance(content, str) else list(pieces_of(content))
        for kind in ("reasoning", "text", "refusal"):
            self._catch_up(kind, "".join(piece.text for piece in told if piece.kind == kind), events)
        known = {
            *(("tool_calls", "function_call") if self._calls is not None else ()),
            *(("annotations", "citations", "context") if self._cited or self._citations else ()),
            *(("refusal",) if self._refused else ()),
            *(("images",) if self._has_files else ()),
            *(("audio",) if self._sound is not None else ()),
        }
        self._feed_rest({name: value for name, value in message.items() if name not in known}, events)

    def note_logprobs(self, raw: object) -> None:
        """Likelihoods of the text that is being said."""
        before = self._likelihoods // _LIKELIHOODS_IN_A_PART
        self._likelihoods += count_logprobs(raw)
        self._parts.admit(self._likelihoods // _LIKELIHOODS_IN_A_PART - before)
        self._logprobs += logprobs_of(raw)

    def close(self, events: list[StreamEvent]) -> ChoiceFinish:
        """End whatever is open; how the choice ended."""
        if self._blanks or self._held:
            held, self._held = "".join((*self._blanks, self._held)), ""
            self._blanks.clear()
            self._speak("reasoning" if self._thinks_inline else "text", held, events)
        if self._citations or (self._sources.known() and not self._cited):
            self._part("text", events)  # maybe an empty one, for sources told after their text was over
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

    def _touched(self) -> bool:
        """Whether anything of it has come."""
        return bool(self.speaking or self._said or self._calls or self._executed or self._sound or self._has_files)

    def _catch_up(self, kind: PartKind, text: str, events: list[StreamEvent]) -> None:
        """Say what ``text`` has beyond what was said; hosts repeat that in every chunk, or once more at the end."""
        if not text:
            return
        speaking = self.speaking if self.speaking is not None and self.speaking.start.kind == kind else None
        said = self._said.setdefault(kind, Said())
        begins = said.begins(text, speaking)
        if begins is not None:
            self._repeats = self._repeats or begins > 0
            self._speak(kind, text[begins:], events)
        elif not (self.by_delta or self._repeats):  # pieces of an answer, each in a message
            self._speak(kind, text, events)

    # ------------------------------------------------------------------------------------------------ thinking

    def _feed_thoughts(self, message: JsonObject, events: list[StreamEvent]) -> None:
        """Thinking in fields of its own, and in details, where it has no words beside them."""
        text, details = message.get("reasoning_content") or message.get("reasoning"), _NO_DETAILS
        if not isinstance(text, str) or "reasoning_details" in message:  # not as most of them are
            text, details = thought_of(message)
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
        """Words that may begin with reasoning between marks; what may be half a mark waits for its other half."""
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
        """One part of a content that is a list."""
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
        """The part of that kind that is open, or a new one after closing the other kind."""
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
        """End what is being said, with what has come for it from the side."""
        part, self.speaking = self.speaking, None
        if part is None:
            return
        kind = part.start.kind
        if kind == "text":
            part.citations = self._citations or self._sources.known()
            self._parts.admit(0 if self._citations else len(part.citations))
            self._cited = self._cited or bool(part.citations)
            part.logprobs, self._citations, self._logprobs = self._logprobs, [], []
        elif "reasoning_details" in part.state:
            part.state["reasoning_details"] = merged_details(as_list(part.state["reasoning_details"]))
        ended = self._parts.close(part)
        events.append(ended)
        self._said.setdefault(kind, Said()).end(ended.part.get_text())

    # ------------------------------------------------------------------------------------------------ the rest

    def _feed_rest(self, message: JsonObject, events: list[StreamEvent]) -> None:
        if message.get("refusal"):
            self._refuse(words(message["refusal"]), events)
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
        """Sources of the text: of places in it, or of all of it."""
        for annotation in map(as_object, as_list(message.get("annotations"))):
            found = citations_of(annotation)
            self._parts.admit(len(found))
            self._citations += found
        context = as_object(message.get("context"))
        for told in (message, context):
            if told.get("citations"):
                self._sources.note(told)

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
        """Sound in pieces, each its own base64; its transcript is the visible answer."""
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

    def _take_calls(self, told: Sequence[StreamEvent], events: list[StreamEvent]) -> None:
        """Take the events of calls; a call ends the text before it, even while its start waits for its name."""
        if self.speaking is not None and self._calls is not None and self._calls.begun:
            self._pause(events)
        events += told
