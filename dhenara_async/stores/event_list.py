"""``EventList``: the events of a turn, of which deltas that follow each other keep their texts alone.

A turn has an event for every token, and its log stays for minutes. As objects they cost more than receiving them does:
Python's collector walks through all of them again and again, but never through texts.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

from dhenara_async.events import ReasoningDelta, StreamEvent, TextDelta


class DeltaRun(Sequence[StreamEvent]):
    """Deltas of one part that follow each other, as their texts.

    Args:
        kind: Their class.
        part_id: Their part.
        texts: Their texts, in order.
    """

    __slots__ = ("kind", "part_id", "texts")

    def __init__(self, kind: type[TextDelta | ReasoningDelta], part_id: int, texts: list[str]) -> None:
        self.kind: type[TextDelta | ReasoningDelta] = kind
        self.part_id: int = part_id
        self.texts: list[str] = texts

    def __len__(self) -> int:
        return len(self.texts)

    @overload
    def __getitem__(self, place: int) -> StreamEvent: ...

    @overload
    def __getitem__(self, place: slice) -> list[StreamEvent]: ...

    def __getitem__(self, place: int | slice) -> StreamEvent | list[StreamEvent]:
        if isinstance(place, slice):
            return [self.kind(self.part_id, text) for text in self.texts[place]]
        return self.kind(self.part_id, self.texts[place])


class EventList(Sequence[StreamEvent]):
    """Events in order, to which more can be added. Deltas that are read are equal to those that were added.

    Args:
        events: The first ones.
    """

    __slots__ = ("_firsts", "_kind", "_length", "_part_id", "_pieces", "_texts")

    def __init__(self, events: Iterable[StreamEvent] = ()) -> None:
        self._pieces: list[StreamEvent | DeltaRun] = []
        self._firsts: list[int] = []  # the place of each piece's first event
        self._length = 0
        # of the last piece, if it is a delta or a run of them:
        self._kind: type[TextDelta | ReasoningDelta] | None = None
        self._part_id = -1
        self._texts: list[str] = []
        self.extend([*events])

    def append(self, event: StreamEvent) -> None:
        """Add an event."""
        self.extend((event,))

    def extend(self, events: Sequence[StreamEvent]) -> None:
        """Add events."""
        if len(self._texts) > 1:  # nearly all reads in the middle of an answer have deltas of one part alone
            texts = _texts_of(events, self._kind, self._part_id)
            if len(texts) == len(events):
                self._texts += texts
                self._length += len(texts)
                return
        self._extend_piece_by_piece(events)

    def _extend_piece_by_piece(self, events: Sequence[StreamEvent]) -> None:
        kind: type[TextDelta | ReasoningDelta] | None = self._kind
        part_id, texts = self._part_id, self._texts
        for place, event in enumerate(events, self._length):
            if event.__class__ is kind and event.part_id == part_id:  # type: ignore[union-attr] - a delta
                if len(texts) == 1 and kind is not None:
                    self._pieces[-1] = DeltaRun(kind, part_id, texts)
                texts.append(event.text)  # type: ignore[union-attr] - a delta
            else:
                self._pieces.append(event)
                self._firsts.append(place)
                kind = None
                if isinstance(event, TextDelta | ReasoningDelta):
                    kind, part_id, texts = event.__class__, event.part_id, list[str]((event.text,))
        self._length += len(events)
        self._kind, self._part_id, self._texts = kind, part_id, texts

    def pieces(self, first: int = 0, end: int | None = None) -> Iterator[StreamEvent | DeltaRun]:
        """Yield the events from one place to another, with runs of deltas in the place of their events."""
        end = self._length if end is None else min(end, self._length)
        if first >= end:
            return
        number = bisect_right(self._firsts, first) - 1
        while number < len(self._pieces) and (begin := self._firsts[number]) < end:
            piece = self._pieces[number]
            if isinstance(piece, DeltaRun) and (first > begin or end < begin + len(piece.texts)):
                piece = DeltaRun(piece.kind, piece.part_id, piece.texts[max(0, first - begin) : end - begin])
            yield piece
            number += 1

    def cut(self, first: int, end: int) -> "EventList | DeltaRun":
        """Return the events from one place to another, which later ones are not added to."""
        number = bisect_right(self._firsts, first) - 1
        if number >= 0 and isinstance(run := self._pieces[number], DeltaRun):  # the most common case, with few objects
            begin = self._firsts[number]
            if min(end, self._length) <= begin + len(run.texts):
                return DeltaRun(run.kind, run.part_id, run.texts[first - begin : end - begin])
        cut = EventList()
        for piece in self.pieces(first, end):
            is_run = isinstance(piece, DeltaRun)
            cut._pieces.append(DeltaRun(piece.kind, piece.part_id, piece.texts[:]) if is_run else piece)  # it may grow
            cut._firsts.append(cut._length)
            cut._length += len(piece.texts) if is_run else 1
        return cut

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, place: int) -> StreamEvent: ...

    @overload
    def __getitem__(self, place: slice) -> list[StreamEvent]: ...

    def __getitem__(self, place: int | slice) -> StreamEvent | list[StreamEvent]:
        if isinstance(place, slice):
            first, end, step = place.indices(self._length)
            return self._events(first, end) if step == 1 else [self[at] for at in range(first, end, step)]
        at = place + self._length if place < 0 else place
        if not 0 <= at < self._length:
            raise IndexError("there is no event at this place")
        number = bisect_right(self._firsts, at) - 1
        piece = self._pieces[number]
        if isinstance(piece, DeltaRun):
            return piece[at - self._firsts[number]]
        return piece

    def __iter__(self) -> Iterator[StreamEvent]:
        return iter(self._events(0, self._length))

    def _events(self, first: int, end: int) -> list[StreamEvent]:
        events: list[StreamEvent] = []
        for piece in self.pieces(first, end):
            if isinstance(piece, DeltaRun):
                events += piece[:]
            else:
                events.append(piece)
        return events


def _texts_of(events: Sequence[StreamEvent], kind: type[object] | None, part_id: int) -> list[str]:
    """Return the texts of the deltas of one kind and part."""
    if isinstance(events, DeltaRun):
        return events.texts if events.kind is kind and events.part_id == part_id else []
    return [event.text for event in events if event.__class__ is kind and event.part_id == part_id]  # type: ignore[union-attr] - deltas


def pieces_of(events: Sequence[StreamEvent]) -> Iterator[StreamEvent | DeltaRun]:
    """Yield events, those of an ``EventList`` with runs of deltas in the place of their events."""
    if isinstance(events, DeltaRun):
        return iter((events,))
    return events.pieces() if isinstance(events, EventList) else iter(events)
