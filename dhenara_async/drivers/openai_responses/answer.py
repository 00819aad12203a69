"""State shared by the items of one Responses answer, and the text that an item adds to a part.

An item's text arrives in up to four ways: deltas, ``*.done`` events, the finished item, and the response at the end.
Hosts leave some of them out, so each may hold the whole text, or the rest of earlier ones. New text becomes a delta:
joined deltas are the part's text. Where two ways contradict each other, the streamed text stays.
"""

from dhenara_async.drivers.parts import OpenPart, PartsInFlight
from dhenara_async.errors import ProtocolError
from dhenara_async.events import PartKind, ReasoningDelta, RefusalDelta, StreamEvent, TextDelta, ToolCallDelta

ContentPlace = tuple[object, object]
"""An output index and a content index."""


class AnswerInFlight:
    """The state that all items of one answer share.

    Args:
        parts: Numbers the answer's parts.

    Attributes:
        parts: The same.
        texts: The open text parts by their place, for the usual delta.
        has_calls: Whether the answer has a tool call for the caller to run.
        refused: Whether the answer has a refusal.
        has_text: Whether the answer has a text that is not empty.
        gap: Whether numbered events are missing.
        audio: The pieces of audio that are in no file yet.
        transcript: The open transcript of the audio.
    """

    __slots__ = ("audio", "gap", "has_calls", "has_text", "parts", "refused", "texts", "transcript")

    def __init__(self, parts: PartsInFlight) -> None:
        self.parts: PartsInFlight = parts
        self.texts: dict[ContentPlace, OpenPart] = {}
        self.has_calls: bool = False
        self.refused: bool = False
        self.has_text: bool = False
        self.gap: bool = False
        self.audio: list[bytes] = []
        self.transcript: OpenPart | None = None

    def open(self, kind: PartKind, events: list[StreamEvent]) -> OpenPart:
        """Open a part and add its start to ``events``."""
        part = self.parts.open(kind)
        self.refused = self.refused or kind == "refusal"
        events.append(part.start)
        return part

    def close(self, part: OpenPart) -> StreamEvent:
        """Close a part; returns its end."""
        self.has_text = self.has_text or (part.start.kind == "text" and bool(part.pieces))
        return self.parts.close(part)

    def say(self, kind: PartKind, text: str, events: list[StreamEvent]) -> None:
        """Add a part to ``events`` whose text arrives in one piece."""
        part = self.open(kind, events)
        events += (grow(part, text), self.close(part))

    def play(self, events: list[StreamEvent]) -> None:
        """Add the audio to ``events`` as one file; the API does not report its format."""
        if self.audio:
            audio = b"".join(self.audio)
            self.audio.clear()
            events += self.parts.file("audio/*", {}, data=audio)

    def check_contradiction(self) -> None:
        """Refuse text that contradicts the streamed text, if some of that may be lost.

        Raises:
            ProtocolError: Numbered events are missing.
        """
        if self.gap:
            raise ProtocolError("events of the stream are missing: the finished item has text that was not streamed")


def grow(part: OpenPart, text: str) -> StreamEvent:
    """Append text to a part; returns the delta."""
    part.pieces.append(text)
    match part.start.kind:
        case "text":
            return TextDelta(part.part_id, text)
        case "reasoning":
            return ReasoningDelta(part.part_id, text)
        case "refusal":
            return RefusalDelta(part.part_id, text)
        case _:
            return ToolCallDelta(part.part_id, text)


def rest_of(pieces: list[str], whole: str) -> str | None:
    """Return the text that ``whole`` has behind ``pieces``; None if it does not begin with them.

    Joins ``pieces`` in place, unless the first piece, the result of earlier joins, is longer than ``whole``. So joining
    takes linear time in what the host sent, however often the host repeats itself.
    """
    if len(pieces) > 1 and len(pieces[0]) <= len(whole):
        pieces[:] = ["".join(pieces)]
    streamed = pieces[0] if pieces else ""
    if whole.startswith(streamed):
        return whole[len(streamed) :]
    return "" if streamed.startswith(whole) else None


def loose_rest_of(streamed: str, whole: str) -> str | None:
    """Like ``rest_of``, but ignores surrounding white space, which some hosts cut off in the finished text."""
    rest = rest_of([streamed], whole)
    return rest_of([streamed.strip()], whole.strip()) if rest is None else rest


def continued(announced: str, delta: str) -> str:
    """Return the first delta of a part, behind its announced text unless the delta repeats that."""
    return delta if announced.startswith(delta) else announced + delta
