"""Assigns the sources of a Gemini answer to ranges of its texts.

Offsets on the wire count UTF-8 bytes, ours count characters. Each text is encoded once, and a passage costs time in
proportion to its own length, so the total is linear in what was received.

Source: https://ai.google.dev/api/generate-content (read 2026-11-22)
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from typing import Final

from dhenara_async.drivers.base import JsonObject, as_count, as_list, as_object, as_text, is_object
from dhenara_async.drivers.parts import OpenPart
from dhenara_async.messages.messages import Citation

_STEP: Final = 1024
_CONTINUATION_BYTES: Final = bytes(range(0x80, 0xC0))
_MOST_TRIED: Final = 16

CitedSpan = tuple[OpenPart, int, int]
"""A text part and a range of its characters."""


def cite(
    texts: Sequence[OpenPart],
    places: Mapping[int, OpenPart],
    grounding: JsonObject,
    sources: Sequence[object],
    admit: Callable[[int], None],
) -> None:
    """Attach every source to the text it supports: by chunk, then by passage. A source without a passage goes to the
    last text.

    Args:
        texts: The texts of the answer, in order, all still open.
        places: The same texts by their index among the parts of the first chunk.
        grounding: ``groundingMetadata``.
        sources: The sources of ``citationMetadata``.
        admit: Called with the number of citations before they are created; raises if there are too many.
    """
    if not texts:
        return
    answer_text = _CandidateText(texts, places)
    for source, passage in [*_grounded(grounding, admit), *_cited(sources, admit)]:
        found = answer_text.find(passage)
        if found is None:
            texts[-1].cite((source,))
        else:
            part, start, end = found
            part.cite((source.changed(start=start, end=end),))


def _grounded(grounding: JsonObject, admit: Callable[[int], None]) -> Iterator[tuple[Citation, JsonObject]]:
    """Yield every source with each passage that it supports."""
    chunks = as_list(grounding.get("groundingChunks"))
    passages: dict[int, list[JsonObject]] = {}
    for raw in as_list(grounding.get("groundingSupports")):
        support = as_object(raw)
        numbers = {as_count(index) for index in as_list(support.get("groundingChunkIndices"))}
        for number in numbers:
            if number is not None:
                passages.setdefault(number, []).append(as_object(support.get("segment")))
    for number, raw in enumerate(chunks):
        source, supported = source_of(as_object(raw)), passages.get(number, [{}])
        admit(len(supported))
        for passage in supported:
            yield source, passage


def _cited(sources: Sequence[object], admit: Callable[[int], None]) -> Iterator[tuple[Citation, JsonObject]]:
    admit(len(sources))
    for raw in sources:
        source = as_object(raw)
        yield Citation(url=as_text(source.get("uri")) or None, title=as_text(source.get("title")) or None), source


def source_of(chunk: JsonObject) -> Citation:
    """Return the citation of a grounding chunk: ``web``, ``retrievedContext``, ``maps`` or ``image``, which share field
    names."""
    value = next((as_object(item) for item in chunk.values() if is_object(item)), dict[str, object]())
    document = as_text(value.get("documentName")) or as_text(value.get("fileSearchStore")) or None
    return Citation(
        url=as_text(value.get("uri")) or as_text(value.get("sourceUri")) or None,
        title=as_text(value.get("title")) or None,
        cited_text=as_text(value.get("text")) or None,
        file_id=document,
    )


class _CandidateText:
    """All texts of one candidate, searched by byte offset."""

    def __init__(self, texts: Sequence[OpenPart], places: Mapping[int, OpenPart]) -> None:
        self._texts = [(part, EncodedText("".join(part.pieces))) for part in texts]
        self._starts = list(accumulate((len(text.data) for _, text in self._texts), initial=0))
        encoded = {id(part): text for part, text in self._texts}
        self._places = {place: (part, encoded[id(part)]) for place, part in places.items() if id(part) in encoded}

    def find(self, passage: JsonObject) -> CitedSpan | None:
        """Find the text and the range of a passage.

        Its offsets count within the part ``partIndex`` in a plain answer, and over all texts in a streamed one. The
        passage's own text, if given, decides between the two.
        """
        start, end = as_count(passage.get("startIndex")) or 0, as_count(passage.get("endIndex"))
        if end is None or end <= start:
            return None
        words = passage.get("text")
        expected = words.encode() if isinstance(words, str) else None
        own = self._places.get(as_count(passage.get("partIndex")) or 0)
        if own is not None and (found := own[1].span(start, end, expected)) is not None:
            return (own[0], *found)
        return self._overall(start, end, expected) or self._in_any(start, end, expected)

    def _overall(self, start: int, end: int, words: bytes | None) -> CitedSpan | None:
        number = bisect_right(self._starts, start) - 1
        if number >= len(self._texts):
            return None
        part, text = self._texts[number]
        found = text.span(start - self._starts[number], end - self._starts[number], words)
        return None if found is None else (part, *found)

    def _in_any(self, start: int, end: int, words: bytes | None) -> CitedSpan | None:
        for part, text in self._texts[:_MOST_TRIED]:
            found = text.span(start, end, words)
            if found is not None:
                return (part, *found)
        return None


class EncodedText:
    """A text as UTF-8, which converts byte offsets to character offsets."""

    def __init__(self, text: str) -> None:
        self.data: bytes = text.encode()
        self._single_bytes = len(self.data) == len(text)

    def span(self, start: int, end: int, words: bytes | None) -> tuple[int, int] | None:
        """Convert a byte range to a character range; None if it lies outside the text, or lacks ``words``."""
        data = self.data
        if end > len(data) or (words is not None and (end - start != len(words) or not data.startswith(words, start))):
            return None
        first, last = self._characters(start), self._characters(end)
        return None if first is None or last is None else (first, last)

    def _characters(self, offset: int) -> int | None:
        """Return the number of characters in the first ``offset`` bytes; None if they end inside a character."""
        if self._single_bytes:
            return offset
        if offset < len(self.data) and self.data[offset] in _CONTINUATION_BYTES:
            return None
        whole = offset // _STEP
        return self._marks[whole] + _count(self.data[whole * _STEP : offset])

    @cached_property
    def _marks(self) -> list[int]:
        """The number of characters before every ``_STEP`` bytes."""
        steps = range(0, len(self.data), _STEP)
        return list(accumulate((_count(self.data[at : at + _STEP]) for at in steps), initial=0))


def _count(data: bytes) -> int:
    """Return how many characters begin in ``data``."""
    return len(data.translate(None, _CONTINUATION_BYTES))
