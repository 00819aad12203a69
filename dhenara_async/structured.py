"""Reads an answer as the object it was asked to be: whole and checked, or as far as it has come.

Nothing is ever built from half an answer: while it comes there are plain JSON values only, because validators would
see members that the model has not written yet.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

import orjson
from pydantic import BaseModel, JsonValue, PydanticUserError, TypeAdapter, ValidationError

from dhenara_async.errors import AnswerCutError, AnswerRefusedError, ConfigurationError, StructuredOutputError
from dhenara_async.schemas import JsonSchema, restored, validation_words, without_placeholders

Wanted = type[BaseModel] | JsonSchema
Read = TypeVar("Read")

_REFUSED = frozenset({"refusal", "content_filter"})
_DIGITS = tuple("0123456789")
_NUMBER_AT_END = re.compile(r"[-+.eE0-9]+$")
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
        value: JsonValue = orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        raise _fault(said, "is not JSON") from exc
    return restored(wanted, value)


def read_as(said: Said, kind: type[Read]) -> Read:
    """The answer as an instance of ``kind``, any type that pydantic can read; errors as for ``read``."""
    try:
        adapter = TypeAdapter(kind)
    except PydanticUserError as exc:
        raise ConfigurationError(f"an answer cannot be read as {kind!r}: {exc.message}") from exc
    text = _answer(said)
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
    return next((text for text in _candidates(said.texts) if _is_json(text)), said.text)


def _fault(said: Said, what: str) -> StructuredOutputError:
    return StructuredOutputError(
        f"the answer of {said.model} {what}; .text has it", text=said.text, finish_reason=said.finish_reason
    )


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
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
    for text in _candidates(texts):
        try:
            return _partial(_without_cut_number(text))
        except (RecursionError, ValueError):
            continue
    return None


def _partial(text: str) -> JsonValue:
    from pydantic_core import from_json

    return cast(JsonValue, from_json(text, allow_partial="trailing-strings"))


def _without_cut_number(text: str) -> str:
    """``text`` less a number at its end, which the next digit would make another one."""
    if text[-1:] not in _DIGITS:
        return text
    inside_a_string = _partial(text + "x") != _partial(text)
    return text if inside_a_string else _NUMBER_AT_END.sub("", text)
