"""Halves of a character in two events reach a reader as one character, in the deltas and in the part."""

import orjson

from dhenara_async.calls.split_characters import SplitCharacters
from dhenara_async.events import PartEnd, PartStart, ReasoningDelta, StreamEvent, TextDelta, ToolCallDelta
from dhenara_async.framing.lenient_json import repaired
from dhenara_async.messages.messages import ReasoningPart, TextPart, ToolCallPart


def _sent(half: str) -> str:
    """A half as a decoder gets it from a frame that was repaired."""
    strict = repaired(f'["{half}"]'.encode("utf-8", "surrogatepass"))
    assert strict is not None
    return orjson.loads(strict)[0]


HIGH, LOW = _sent("\ud83e"), _sent("\udd16")


def _mended(*events: StreamEvent) -> list[StreamEvent]:
    split = SplitCharacters()
    return [mended for event in events for mended in split.mend([event])]


def test_surrogate_pairs_split_over_deltas_of_a_part_are_joined() -> None:
    found = _mended(
        PartStart(0, "text", 0),
        PartStart(1, "reasoning", 0),
        TextDelta(0, f"a{HIGH}"),
        ReasoningDelta(1, HIGH),
        TextDelta(0, f"{LOW}b"),
        ReasoningDelta(1, f"{LOW}c"),
        PartEnd(0, TextPart(text=f"a{HIGH}{LOW}b")),
        PartEnd(1, ReasoningPart(text=f"{HIGH}{LOW}c")),
    )
    assert found[2:] == [
        TextDelta(0, "a"),
        TextDelta(0, "\N{ROBOT FACE}b"),
        ReasoningDelta(1, "\N{ROBOT FACE}c"),
        PartEnd(0, TextPart(text="a\N{ROBOT FACE}b")),
        PartEnd(1, ReasoningPart(text="\N{ROBOT FACE}c")),
    ]


def test_a_lone_surrogate_becomes_a_replacement_character_in_its_place() -> None:
    found = _mended(
        PartStart(0, "text", 0),
        TextDelta(0, f"a{HIGH}"),
        TextDelta(0, f"b{LOW}c{HIGH}d"),
        TextDelta(0, HIGH),
        PartEnd(0, TextPart(text=f"a{HIGH}b{LOW}c{HIGH}d{HIGH}")),
    )
    said = "".join(event.text for event in found if isinstance(event, TextDelta))
    assert said == "a\ufffdb\ufffdc\ufffdd\ufffd"
    assert found[-1] == PartEnd(0, TextPart(text=said))


def test_surrogates_in_names_and_arguments_of_tool_calls_are_repaired() -> None:
    call = ToolCallPart(call_id="c", name=f"f{HIGH}", arguments=f'{{"a":"{HIGH}{LOW}"}}', provider_state={"k": LOW})
    found = _mended(
        PartStart(0, "tool_call", 0, "c", f"f{HIGH}"),
        ToolCallDelta(0, f'{{"a":"{HIGH}'),
        ToolCallDelta(0, f'{LOW}"}}'),
        PartEnd(0, call),
    )
    assert found[0] == PartStart(0, "tool_call", 0, "c", "f\ufffd")
    assert "".join(event.arguments for event in found if isinstance(event, ToolCallDelta)) == '{"a":"\N{ROBOT FACE}"}'
    end = found[-1]
    assert isinstance(end, PartEnd)
    assert isinstance(end.part, ToolCallPart)
    assert (end.part.name, end.part.arguments) == ("f\ufffd", '{"a":"\N{ROBOT FACE}"}')
    assert end.part.provider_state == {"k": "\ufffd"}
