"""``SplitCharacters``: joins characters whose two UTF-16 halves arrive in two events.

A half (see ``lenient_json``) at the end of a delta waits for the next delta of the same part. A half without a
counterpart becomes U+FFFD, in the delta and in the part alike: joined deltas stay equal to the part's text.
"""

from collections.abc import Sequence
from dataclasses import replace

from dhenara_async.events import (
    PartEnd,
    PartStart,
    ReasoningDelta,
    RefusalDelta,
    StreamEnd,
    StreamEvent,
    StreamStart,
    TextDelta,
    ToolCallDelta,
)
from dhenara_async.framing.lenient_json import has_halves, whole, without_open_half
from dhenara_async.messages.messages import Part

_Delta = TextDelta | ReasoningDelta | RefusalDelta | ToolCallDelta


class SplitCharacters:
    """Joins halves of characters in the events of one answer, from the first event that contains a half."""

    __slots__ = ("_open",)

    def __init__(self) -> None:
        self._open: dict[int, tuple[_Delta, str]] = {}  # by part: the delta that ended with a half, and that half

    def mend(self, events: Sequence[StreamEvent]) -> list[StreamEvent]:
        """Join halves in ``events``; a delta that is a single half is held back until its counterpart arrives."""
        mended: list[StreamEvent] = []
        for event in events:
            match event:
                case TextDelta() | ReasoningDelta() | RefusalDelta() | ToolCallDelta():
                    self._mend_delta(event, mended)
                case PartEnd():
                    last, half = self._open.pop(event.part_id, (None, ""))
                    if last is not None:
                        mended.append(_with_text(last, whole(half)))
                    mended.append(PartEnd(event.part_id, _without_halves(event.part)))
                case PartStart(name=str(name)):
                    mended.append(replace(event, name=whole(name)))
                case StreamStart(response_id=str(response_id)):
                    mended.append(replace(event, response_id=whole(response_id)))
                case StreamEnd(response_id=str(response_id)):
                    mended.append(replace(event, response_id=whole(response_id)))
                case _:
                    mended.append(event)
        return mended

    def _mend_delta(self, event: _Delta, mended: list[StreamEvent]) -> None:
        _, half = self._open.pop(event.part_id, (None, ""))
        text, half = without_open_half(half + _text(event))
        if half:
            self._open[event.part_id] = event, half
        if text:
            mended.append(_with_text(event, whole(text)))


def _text(delta: _Delta) -> str:
    return delta.arguments if isinstance(delta, ToolCallDelta) else delta.text


def _with_text(delta: _Delta, text: str) -> _Delta:
    if isinstance(delta, ToolCallDelta):
        return ToolCallDelta(delta.part_id, text)
    return type(delta)(delta.part_id, text)


def _without_halves(part: Part) -> Part:
    written = part.model_dump_json()
    return type(part).model_validate_json(whole(written)) if has_halves(written) else part
