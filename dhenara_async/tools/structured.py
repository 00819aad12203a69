"""Parses structured output: the complete answer to a validated object, a partial answer to plain JSON values.

A partial answer is never validated, because its missing members would fail.

Models without native JSON mode often put a code fence around their JSON, or reasoning between ``<think>`` tags before
it. One of each is removed if the text itself is not JSON.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

from pydantic import BaseModel, JsonValue, PydanticUserError, TypeAdapter, ValidationError

from dhenara_async.errors import AnswerCutError, AnswerRefusedError, ConfigurationError, StructuredOutputError
from dhenara_async.framing.lenient_json import read as read_json
from dhenara_async.framing.lenient_json import sound
from dhenara_async.tools.schema_answers import restored, validation_words, without_placeholders
from dhenara_async.tools.schema_reading import JsonSchema

OutputType = type[BaseModel] | JsonSchema
Read = TypeVar("Read")

_REFUSED = frozenset({"refusal", "content_filter"})
_DIGITS = tuple("0123456789")
_NUMBER_AT_END = re.compile(r"[-+.eE0-9]+$")
_THINKING = re.compile(r"\s*<think(?:ing)?>", re.IGNORECASE)
_THOUGHT = re.compile(r"</think(?:ing)?>", re.IGNORECASE)
_FENCE_BEGINS = re.compile(r"(?P<fence>`{3,}|~{3,})[ \t]*[\w+.-]*[ \t]*\r?\n")
_FENCE = re.compile(_FENCE_BEGINS.pattern + r"(?P<inside>.*?)\s*(?P=fence)", re.DOTALL)
_CUT = frozenset({"length", "context_window", "pause", "error"})


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """The content of a choice.

    Attributes:
        texts: Its text parts, in order.
        refusal: The text of its refusal.
        finish_reason: A value of ``FinishReason``.
        calls: The names of the called tools.
        model: The model id, for error messages.
    """

    texts: Sequence[str]
    refusal: str
    finish_reason: str
    calls: Sequence[str]
    model: str

    @property
    def text(self) -> str:
        """The text parts, joined."""
        return "".join(self.texts)


def read(output: ModelOutput, wanted: OutputType | None) -> object:
    """Parse an answer as requested: an instance of the pydantic class, or the JSON value for a schema.

    Raises:
        AnswerRefusedError: The model or a filter declined.
        AnswerCutError: The answer ended before it was complete.
        StructuredOutputError: It is not JSON, does not fit the request, or is missing.
        ConfigurationError: ``wanted`` is None.
    """
    if wanted is None:
        raise ConfigurationError(
            "the type of this answer is unknown: the call had no structured_output, or the answer was read from JSON, "
            "which does not keep the class; pass the class: structured(Model)"
        )
    if not isinstance(wanted, dict):
        return read_as(output, wanted)
    text = _answer(output)
    try:
        value = cast("JsonValue", read_json(text))
    except ValueError as exc:
        raise _fault(output, "is not JSON") from exc
    return restored(wanted, value)


def read_as(output: ModelOutput, kind: type[Read]) -> Read:
    """Parse an answer as ``kind``, any type that pydantic can validate; errors as for ``read``."""
    try:
        adapter = TypeAdapter(kind)
    except PydanticUserError as exc:
        raise ConfigurationError(f"an answer cannot be read as {kind!r}: {exc.message}") from exc
    text = sound(_answer(output))
    try:
        return adapter.validate_json(text)
    except ValidationError as exc:
        fault = exc
    lean = without_placeholders(cast(JsonSchema, adapter.json_schema()), text)
    if lean is not None:
        try:
            return adapter.validate_json(lean)
        except ValidationError as exc:
            fault = exc
    raise _fault(output, f"does not fit: {validation_words(fault)}") from fault


def _answer(output: ModelOutput) -> str:
    """Return the text to parse; raises if the answer was refused, cut or is empty."""
    if output.finish_reason in _REFUSED or (output.refusal and not output.text.strip()):
        raise AnswerRefusedError(
            f"{output.model} declined to answer ({output.finish_reason}); .text has its refusal",
            text=output.refusal or output.text,
            finish_reason=output.finish_reason,
        )
    if output.finish_reason in _CUT:
        raise AnswerCutError(
            f"the answer of {output.model} ended before it was complete ({output.finish_reason}); .text has the "
            "received text",
            text=output.text,
            finish_reason=output.finish_reason,
        )
    if not output.text.strip():
        raise _fault(output, f"calls tools first: {', '.join(output.calls)}" if output.calls else "is empty")
    candidates = list(_candidates(output.texts))
    return next((text for text in (*candidates, *map(_unwrapped, candidates)) if _is_json(text)), output.text)


def is_wrapped(texts: Sequence[str]) -> bool:
    """Whether an answer becomes JSON only by removing a code fence around it or reasoning before it."""
    if "".join(texts).lstrip()[:1] in ("{", "["):
        return False
    candidates = list(_candidates(texts))
    return not any(map(_is_json, candidates)) and any(_is_json(_unwrapped(text)) for text in candidates)


def _unwrapped(text: str) -> str:
    """Return ``text`` without reasoning before the answer and without a code fence around the whole answer."""
    answer = _without_thinking(text).strip()
    fenced = _FENCE.fullmatch(answer)
    return fenced["inside"] if fenced else answer


def _without_thinking(text: str) -> str:
    """Return ``text`` after its tagged reasoning; the opening tag may be missing if the prompt ended with it."""
    opened = _THINKING.match(text)
    closed = _THOUGHT.search(text, opened.end() if opened else 0)
    return text[closed.end() :] if closed else text


def _fault(output: ModelOutput, what: str) -> StructuredOutputError:
    return StructuredOutputError(
        f"the answer of {output.model} {what}; .text has it", text=output.text, finish_reason=output.finish_reason
    )


def _is_json(text: str) -> bool:
    try:
        read_json(text)
    except ValueError:
        return False
    return True


def _candidates(texts: Sequence[str]) -> Iterator[str]:
    """Yield the texts that may be the answer: all joined, then the last one, for models that comment tool calls."""
    yield "".join(texts)
    filled = [text for text in texts if text.strip()]
    if len(filled) > 1:
        yield filled[-1]


def so_far(texts: Sequence[str]) -> JsonValue:
    """Parse a partial answer to its JSON value so far; only a string at the end may be incomplete.

    Returns:
        None if there is no value yet, or the text is not JSON.
    """
    candidates = list(_candidates(texts))
    for text in (*candidates, *map(_opened, candidates)):
        for written in (text, sound(text)):
            try:
                return _partial(_without_cut_number(written))
            except (RecursionError, ValueError):
                continue
    return None


def _opened(text: str) -> str:
    """Return ``text`` without reasoning before the answer and without the beginning of a code fence."""
    answer = _without_thinking(text).lstrip()
    fence = _FENCE_BEGINS.match(answer)
    return answer[fence.end() :] if fence else answer


def _partial(text: str) -> JsonValue:
    from pydantic_core import from_json

    return cast(JsonValue, from_json(text, allow_partial="trailing-strings"))


def _without_cut_number(text: str) -> str:
    """Return ``text`` without a number at its end, whose digits may be incomplete."""
    if text[-1:] not in _DIGITS:
        return text
    inside_a_string = _partial(text + "x") != _partial(text)
    return text if inside_a_string else _NUMBER_AT_END.sub("", text)
