"""Reads an answer as the object it was asked to be: whole and checked, or as far as it has come.

Nothing is ever built from half an answer: while it comes there are plain JSON values only, because validators would
see members that the model has not written yet.

Models that are only told about JSON in words wrap it: into a code fence, or behind thinking between ``<think>`` tags.
One of each is taken off, where the text is no JSON as it stands.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

from pydantic import BaseModel, JsonValue, PydanticUserError, TypeAdapter, ValidationError

from dhenara_async.errors import AnswerCutError, AnswerRefusedError, ConfigurationError, StructuredOutputError
from dhenara_async.framing.lenient_json import read as read_json
from dhenara_async.framing.lenient_json import sound
from dhenara_async.tools.schemas import JsonSchema, restored, validation_words, without_placeholders

Wanted = type[BaseModel] | JsonSchema
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
class Said:
    """What a choice holds, as far as it matters here.

    Attributes:
        texts: Its texts, in order.
        refusal: The words of its refusal.
        finish_reason: A value of ``FinishReason``.
        calls: The tools it asks for, by name.
        model: Who said it, for messages.
    """

    texts: Sequence[str]
    refusal: str
    finish_reason: str
    calls: Sequence[str]
    model: str

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(self.texts)


def read(said: Said, wanted: Wanted | None) -> object:
    """The answer as what the call wanted: an instance of the pydantic class, or for a schema the JSON value.

    Raises:
        AnswerRefusedError: The model or a filter declined.
        AnswerCutError: It ended before it was whole.
        StructuredOutputError: It is not JSON, not what was asked for, or missing.
        ConfigurationError: It is not known what the call wanted.
    """
    if wanted is None:
        raise ConfigurationError(
            "it is not known what this answer has to follow: the call asked for no structured_output, or the answer "
            "comes back from JSON, where the class is not kept; pass it: structured(Model)"
        )
    if not isinstance(wanted, dict):
        return read_as(said, wanted)
    text = _answer(said)
    try:
        value = cast("JsonValue", read_json(text))
    except ValueError as exc:
        raise _fault(said, "is not JSON") from exc
    return restored(wanted, value)


def read_as(said: Said, kind: type[Read]) -> Read:
    """The answer as an instance of ``kind``, any type that pydantic can read; errors as for ``read``."""
    try:
        adapter = TypeAdapter(kind)
    except PydanticUserError as exc:
        raise ConfigurationError(f"an answer cannot be read as {kind!r}: {exc.message}") from exc
    text = sound(_answer(said))
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
    raise _fault(said, f"does not fit: {validation_words(fault)}") from fault


def _answer(said: Said) -> str:
    """The text that is the answer, from a choice that ended well."""
    if said.finish_reason in _REFUSED or (said.refusal and not said.text.strip()):
        raise AnswerRefusedError(
            f"{said.model} declined to answer ({said.finish_reason}); .text has its words",
            text=said.refusal or said.text,
            finish_reason=said.finish_reason,
        )
    if said.finish_reason in _CUT:
        raise AnswerCutError(
            f"the answer of {said.model} ended before it was whole ({said.finish_reason}); .text has what came",
            text=said.text,
            finish_reason=said.finish_reason,
        )
    if not said.text.strip():
        raise _fault(said, f"asks for tools first: {', '.join(said.calls)}" if said.calls else "is empty")
    candidates = list(_candidates(said.texts))
    return next((text for text in (*candidates, *map(_unwrapped, candidates)) if _is_json(text)), said.text)


def is_wrapped(texts: Sequence[str]) -> bool:
    """Whether an answer is JSON only without what stands around it: a code fence, or thinking before it."""
    if "".join(texts).lstrip()[:1] in ("{", "["):
        return False
    candidates = list(_candidates(texts))
    return not any(map(_is_json, candidates)) and any(_is_json(_unwrapped(text)) for text in candidates)


def _unwrapped(text: str) -> str:
    """``text`` without thinking before it and without a code fence around all of the rest."""
    answer = _without_thinking(text).strip()
    fenced = _FENCE.fullmatch(answer)
    return fenced["inside"] if fenced else answer


def _without_thinking(text: str) -> str:
    """``text`` behind thinking between tags; the first tag may be missing, where the prompt ended with it."""
    opened = _THINKING.match(text)
    closed = _THOUGHT.search(text, opened.end() if opened else 0)
    return text[closed.end() :] if closed else text


def _fault(said: Said, what: str) -> StructuredOutputError:
    return StructuredOutputError(
        f"the answer of {said.model} {what}; .text has it", text=said.text, finish_reason=said.finish_reason
    )


def _is_json(text: str) -> bool:
    try:
        read_json(text)
    except ValueError:
        return False
    return True


def _candidates(texts: Sequence[str]) -> Iterator[str]:
    """An answer is all its texts together; where the model spoke before it, between tool calls, it is the last one."""
    yield "".join(texts)
    spoken = [text for text in texts if text.strip()]
    if len(spoken) > 1:
        yield spoken[-1]


def so_far(texts: Sequence[str]) -> JsonValue:
    """The JSON value as far as its texts have come: a string at its end may be cut, anything else is whole.

    Returns:
        None where there is no value yet, or where it is no JSON.
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
    """``text`` without thinking before it and without the beginning of a code fence."""
    answer = _without_thinking(text).lstrip()
    fence = _FENCE_BEGINS.match(answer)
    return answer[fence.end() :] if fence else answer


def _partial(text: str) -> JsonValue:
    from pydantic_core import from_json

    return cast(JsonValue, from_json(text, allow_partial="trailing-strings"))


def _without_cut_number(text: str) -> str:
    """``text`` less a number at its end, which the next digit would make another one."""
    if text[-1:] not in _DIGITS:
        return text
    inside_a_string = _partial(text + "x") != _partial(text)
    return text if inside_a_string else _NUMBER_AT_END.sub("", text)
