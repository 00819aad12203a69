"""Allow-list of Gemini's own parts that are sent back, with their keys.

It has the parts for tools that Google ran. Excluded are images inside the reasoning (``inlineData``) and files given by
URI alone (``fileData``): no part field shows their content.

Source: ``Part`` of the ``google-genai`` package 3.6 and https://ai.google.dev/gemini-api/docs/thought-signatures (read
2026-11-22)
"""

from collections.abc import Mapping

from dhenara_async.drivers.base import JsonObject, as_object, as_text
from dhenara_async.drivers.native import Shape, ValueKind, altered, cut, refused, repeats, shows
from dhenara_async.drivers.rules import Vetted, bounded, within_bounds
from dhenara_async.messages.messages import FilePart, HostedToolPart, Part, ProviderState, ReasoningPart, TextPart

_WORD, _SEAL, _SHOWN, _JSON = ValueKind.WORD, ValueKind.SEAL, ValueKind.SHOWN, ValueKind.JSON

SIGNED: Mapping[str, Shape] = {"thoughtSignature": _SEAL}
"""Keys of a part beside its content."""
_TEXT: Mapping[str, Shape] = {
    **SIGNED,
    **dict.fromkeys(("text", "groundingMetadata", "citationMetadata", "urlContextMetadata"), ValueKind.LEFT),
}
_THOUGHT: Mapping[str, Shape] = {**SIGNED, "text": ValueKind.LEFT}
_FILE: Mapping[str, Shape] = {**SIGNED, "mimeType": _SHOWN}

PARTS: Mapping[str, Mapping[str, Shape]] = {
    "executableCode": {"language": _SHOWN, "code": _SHOWN, "id": _WORD},
    "codeExecutionResult": {"outcome": _SHOWN, "output": _SHOWN, "id": _WORD},
    "toolCall": {"toolType": _WORD, "id": _WORD, "args": _JSON},
    "toolResponse": {"toolType": _WORD, "id": _WORD, "response": _JSON},
}
"""Parts of tools that Google ran, by the one key that such a part has beside its signature: the whole part is sent
back."""

_INPUT: Mapping[str, tuple[str, ...] | str] = {"executableCode": ("language", "code"), "toolCall": "args"}
_OUTPUT: Mapping[str, tuple[str, ...] | str] = {
    "codeExecutionResult": ("outcome", "output"),
    "toolResponse": "response",
}


def vetted(part: Part) -> Vetted:
    """Return the portion of a part's state that may be sent; see ``Rules.vet``."""
    state = part.provider_state
    if not state or not within_bounds(state):
        return bounded(part)
    match part:
        case TextPart():
            return repeats(state, {"text": part.text}) or cut(state, _TEXT)
        case FilePart():
            return _file(part, state)
        case HostedToolPart() if part.report:
            return Vetted(part.provider_state)  # such state is never sent
        case HostedToolPart():
            return _hosted(part)
        case ReasoningPart():
            return repeats(state, {"text": part.text}) or cut(state, _THOUGHT)
        case _:
            return cut(state, SIGNED)


def native_name(part: HostedToolPart) -> str | None:
    """Return the key of Gemini's own part for a hosted tool part; None if there is none."""
    return next((key for key in part.provider_state or {} if key in PARTS), None)


def _file(part: FilePart, state: ProviderState) -> Vetted:
    """Check a file's state: its media type as received, without the fields that are ours."""
    found = cut(state, _FILE)
    received_type = as_text(state.get("mimeType")).partition(";")[0].strip()
    if found.state is None or received_type in ("", part.media_type) or part.media_type == "application/octet-stream":
        return found
    return altered("the type")


def _hosted(part: HostedToolPart) -> Vetted:
    name = native_name(part)
    if name is None:
        return refused("Gemini does not accept this part in a request")
    found = cut(part.provider_state or {}, {name: PARTS[name], "thought": ValueKind.FLAG, **SIGNED})
    value = as_object((found.state or {}).get(name))
    if found.state is None:
        return found
    if part.name != name or part.call_id not in (None, value.get("id")):
        return altered("the kind or the id")
    if not shows(part.input, _part_of(value, _INPUT.get(name))):
        return altered("what was asked")
    return found if shows(part.output, _part_of(value, _OUTPUT.get(name))) else altered("what it gave")


def _part_of(value: JsonObject, keys: tuple[str, ...] | str | None) -> object:
    if isinstance(keys, tuple):
        return {key: value[key] for key in keys if key in value}
    return None if keys is None else value.get(keys)
