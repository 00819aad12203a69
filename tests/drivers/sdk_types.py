"""Holds a request body against the request types of the vendor's own SDK, more strictly than the SDK does.

The SDKs' ``TypedDict`` parameters are never checked at run time, and pydantic lets unknown keys of a union's members
pass. Here a key that no member of a union knows is a problem, at every depth. google-genai has pydantic models, which
are taken as they are, but by their wire names only.
"""

import types
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from typing import Annotated, Literal, NotRequired, Required, Union, cast, get_args, get_origin

import orjson
from anthropic.types import message_create_params as anthropic_messages
from anthropic.types.beta import message_create_params as anthropic_beta
from google.genai import types as gemini
from openai.types.chat import completion_create_params as openai_chat
from openai.types.responses import response_create_params as openai_responses
from pydantic import BaseModel, ConfigDict, ValidationError
from typing_extensions import ReadOnly, TypeAliasType, get_type_hints, is_typeddict

from dhenara_async import Dialect

_WRAPPERS = (Annotated, Required, NotRequired, ReadOnly)
_SCALARS = (str, bool, int, float)
_FREE_FORM = frozenset({"args", "response", "parametersJsonSchema", "responseJsonSchema"})

_TYPES: Mapping[tuple[Dialect, bool], object] = {
    (Dialect.OPENAI_RESPONSES, False): openai_responses.ResponseCreateParamsNonStreaming,
    (Dialect.OPENAI_RESPONSES, True): openai_responses.ResponseCreateParamsStreaming,
    (Dialect.OPENAI_CHAT, False): openai_chat.CompletionCreateParamsNonStreaming,
    (Dialect.OPENAI_CHAT, True): openai_chat.CompletionCreateParamsStreaming,
    (Dialect.ANTHROPIC_MESSAGES, False): anthropic_messages.MessageCreateParamsNonStreaming,
    (Dialect.ANTHROPIC_MESSAGES, True): anthropic_messages.MessageCreateParamsStreaming,
}


# What the Messages API takes beside a beta header only.
_BETA_TYPES: Mapping[bool, object] = {
    False: anthropic_beta.MessageCreateParamsNonStreaming,
    True: anthropic_beta.MessageCreateParamsStreaming,
}


class _GeminiBody(BaseModel):
    """The body of ``generateContent``; the SDK knows its members but has no type for the whole."""

    model_config = ConfigDict(extra="forbid")

    contents: list[gemini.Content]
    systemInstruction: gemini.Content | None = None
    generationConfig: gemini.GenerationConfig | None = None
    safetySettings: list[gemini.SafetySetting] | None = None
    tools: list[gemini.Tool] | None = None
    toolConfig: gemini.ToolConfig | None = None
    cachedContent: str | None = None
    serviceTier: gemini.ServiceTier | None = None


def problems(dialect: Dialect, body: bytes, *, stream: bool, extras: Collection[str] = ()) -> list[str]:
    """What the SDK's types have against ``body``; nothing if it fits.

    Args:
        dialect: Whose types.
        body: The request as it goes on the wire.
        stream: Whether it asks for a streamed answer; the types differ.
        extras: Top-level keys that a compatible host has beyond the types; they are not looked at.
    """
    value = cast("dict[str, object]", orjson.loads(body))
    if dialect is Dialect.GEMINI:
        return _gemini_problems(value, body)
    thinking = value.get("thinking")
    binds = dialect is Dialect.ANTHROPIC_MESSAGES and isinstance(thinking, dict) and "block_binding" in thinking
    expected = _BETA_TYPES[stream] if binds else _TYPES[dialect, stream]
    return mismatches({key: item for key, item in value.items() if key not in extras}, expected)


def mismatches(value: object, expected: object, at: str = "body") -> list[str]:
    """Where the JSON ``value`` differs from the type ``expected``; for a union, from its nearest member."""
    expected = _bare(expected)
    origin, arguments = get_origin(expected), get_args(expected)
    if expected is object or repr(expected) == "typing.Any":
        return []
    if origin is Literal:
        return [] if value in arguments else [f"{at}: {value!r} is none of {arguments!r}"]
    if origin is Union or origin is types.UnionType:
        found: list[list[str]] = []
        for member in arguments:
            found.append(mismatches(value, member, at))
            if not found[-1]:
                return []
        # A member of the right type but with a wrong detail says more than one of another type.
        return min(found, key=_distance)
    if expected is None or expected is types.NoneType:
        return [] if value is None else [f"{at}: not null"]
    if is_typeddict(expected):
        return _object_mismatches(value, cast(type, expected), at)
    if isinstance(expected, type) and expected in _SCALARS:
        return [] if _is_scalar(value, expected) else [f"{at}: {value!r} is no {expected}"]
    if _is_mapping(expected, origin):
        items = cast("dict[str, object]", value).items() if isinstance(value, dict) else None
        member = arguments[1] if arguments else object
        return (
            [f"{at}: not an object"]
            if items is None
            else [problem for key, item in items for problem in mismatches(item, member, f"{at}.{key}")]
        )
    if arguments and hasattr(origin, "__iter__"):
        if not isinstance(value, list):
            return [f"{at}: not an array"]
        entries = cast("list[object]", value)
        return [
            problem
            for index, item in enumerate(entries)
            for problem in mismatches(item, arguments[0], f"{at}[{index}]")
        ]
    # What is left are types that JSON cannot hold: models of answers, open files, raw bytes.
    return [f"{at}: cannot be {expected!r} in JSON"]


def _bare(expected: object) -> object:
    while True:
        if isinstance(expected, TypeAliasType):
            expected = expected.__value__
        elif get_origin(expected) in _WRAPPERS:
            expected = get_args(expected)[0]
        else:
            return expected


def _object_mismatches(value: object, expected: type, at: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{at}: not an object"]
    fields, required = _fields(expected)
    found = cast("dict[str, object]", value)
    name = expected.__name__
    unknown = [f"{at}.{key}: unknown to {name}" for key in found if key not in fields]
    missing = [f"{at}.{key}: missing in {name}" for key in sorted(required - found.keys())]
    wrong = [
        problem
        for key, item in found.items()
        if key in fields
        for problem in mismatches(item, fields[key], f"{at}.{key}")
    ]
    return unknown + missing + wrong


@cache
def _fields(expected: type) -> tuple[Mapping[str, object], frozenset[str]]:
    """The fields of a ``TypedDict`` and the required ones. The SDKs' annotations are texts, so the class itself does
    not know which those are."""
    hints = cast("dict[str, object]", get_type_hints(expected, include_extras=True))
    by_class = cast("frozenset[str]", getattr(expected, "__required_keys__", frozenset[str]()))
    required = {
        key
        for key, hint in hints.items()
        if get_origin(hint) is Required or (key in by_class and get_origin(hint) is not NotRequired)
    }
    return hints, frozenset(required)


def _distance(found: list[str]) -> tuple[bool, int, int]:
    """How far a value is from a type: the deeper the first problem lies, the nearer the type; then by their number."""
    depth = min((problem.partition(": ")[0].count(".") for problem in found), default=0)
    return bool(found), -depth, len(found)


def _is_scalar(value: object, expected: type) -> bool:
    if isinstance(value, bool):
        return expected is bool
    return isinstance(value, (int, float) if expected is float else expected)


def _is_mapping(expected: object, origin: object) -> bool:
    kind = origin or expected
    return isinstance(kind, type) and issubclass(kind, Mapping)


def _gemini_problems(value: dict[str, object], body: bytes) -> list[str]:
    try:
        parsed = _GeminiBody.model_validate_json(body, strict=True, by_alias=True, by_name=False)
    except ValidationError as exc:
        return [f"body.{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in exc.errors()]
    # A part has a constructor of its own, through which pydantic forgets that only wire names count.
    found = [f"body: {key!r} is not a wire name" for key in _keys(value) if "_" in key]
    contents = [*parsed.contents, *([parsed.systemInstruction] if parsed.systemInstruction else [])]
    parts = [part for content in contents for part in content.parts or [None]]
    found += ["body: a part holds not exactly one datum" for part in parts if part is None or _data(part) != 1]
    roles = {content.role for content in parsed.contents}
    return found + [f"body.contents: no such role {role!r}" for role in roles - {"user", "model"}]


def _keys(value: object) -> Iterator[str]:
    """Every key that the dialect has given a name, at any depth; those of free-form JSON are the user's."""
    if isinstance(value, dict):
        for key, item in cast("dict[str, object]", value).items():
            yield key
            yield from () if key in _FREE_FORM else _keys(item)
    elif isinstance(value, list):
        for item in cast("list[object]", value):
            yield from _keys(item)


def _data(part: gemini.Part) -> int:
    """How many kinds of data a part holds; the models allow any number, the service one."""
    decoration = {"thought", "thought_signature", "media_resolution", "video_metadata", "part_metadata"}
    return len(part.model_fields_set - decoration)
