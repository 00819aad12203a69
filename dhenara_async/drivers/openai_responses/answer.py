"""The state of one answer of OpenAI Responses, which its items share, and the words that an item adds to a part.

An item's words come in up to four ways: deltas, ``*.done`` events, the finished item, and the response at the end.
Hosts leave some of them out, so each may hold all words, or the rest of those that came before. Whatever is new becomes
a delta: joined deltas are the part's text. Where two ways contradict each other, what was streamed stays.
"""

from dhenara_async.drivers.parts import OpenPart, PartsInFlight
from dhenara_async.errors import ProtocolError
from dhenara_async.events import PartKind, ReasoningDelta, RefusalDelta, StreamEvent, TextDelta, ToolCallDelta

Place = tuple[object, object]
"""An output index and a content index."""


class Answer:
    """The state that all items of one answer share.

    Args:
        parts: Numbers the answer's parts.

    Attributes:
        parts: The same.
        texts: The texts that are open, by their place, for the usual delta.
        has_calls: Whether there is a call to a tool of ours.
        refused: Whether there is a refusal.
        spoke: Whether there is a text that is not empty.
        gap: Whether numbered events are missing.
        sound: The pieces of audio that are in no file yet.
        transcript: The words of the audio, while they come.
    """

    __slots__ = ("gap", "has_calls", "parts", "refused", "sound", "spoke", "texts", "transcript")

    def __init__(self, parts: PartsInFlight) -> None:
        self.parts = parts
        self.texts: dict[Place, OpenPart] = {}
        self.has_calls = self.refused = self.spoke = self.gap = False
        self.sound: list[bytes] = []
        self.transcript: OpenPart | None = None

    def open(self, kind: PartKind, events: list[StreamEvent]) -> OpenPart:
        """Open a part; its start goes to ``events``."""
        part = self.parts.open(kind)
        self.refused = self.refused or kind == "refusal"
        events.append(part.start)
        return part

    def close(self, part: OpenPart) -> StreamEvent:
        """The end of a part."""
        self.spoke = self.spoke or (part.start.kind == "text" and bool(part.pieces))
        return self.parts.close(part)

    def say(self, kind: PartKind, text: str, events: list[StreamEvent]) -> None:
        """Add a part to ``events`` whose words come in one piece."""
        part = self.open(kind, events)
        events += (grow(part, text), self.close(part))

    def play(self, events: list[StreamEvent]) -> None:
        """Add the sound to ``events`` as one file; the API does not say which kind of sound it is."""
        if self.sound:
            sound = b"".join(self.sound)
            self.sound.clear()
            events += self.parts.file("audio/*", {}, data=sound)

    def check_contradiction(self) -> None:
        """Refuse words that differ from those that were streamed, if some of the latter may be lost.

        Raises:
            ProtocolError: Numbered events are missing.
        """
        if self.gap:
            raise ProtocolError("events of the stream are missing, and with them words that the finished item has")


def grow(part: OpenPart, text: str) -> StreamEvent:
    """Add words to a part; returns their delta."""
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
    """The words that ``whole`` has behind those of ``pieces``; None if it does not begin with them.

    Joins ``pieces`` in place, but not if their first one, which has whatever was joined before, is longer than
    ``whole`` already: so all joining together is linear in what the host sent, however often it repeats itself.
    """
    if len(pieces) > 1 and len(pieces[0]) <= len(whole):
        pieces[:] = ["".join(pieces)]
    said = pieces[0] if pieces else ""
    if whole.startswith(said):
        return whole[len(said) :]
    return "" if said.startswith(whole) else None


def loose_rest_of(said: str, whole: str) -> str | None:
    """As ``rest_of``; white space around a text, which some hosts cut off when it is finished, is no difference."""
    rest = rest_of([said], whole)
    return rest_of([said.strip()], whole.strip()) if rest is None else rest


def continued(announced: str, delta: str) -> str:
    """A part's first delta, behind the words that it was announced with unless the delta begins to repeat them."""
    return delta if announced.startswith(delta) else announced + delta
