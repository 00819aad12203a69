"""Descriptions of parts that cannot be sent as they are: hosted tool runs, files, results without a call."""

from collections.abc import Iterable

from pydantic import JsonValue

from dhenara_async.framing.lenient_json import dumps
from dhenara_async.messages.messages import FilePart, HostedToolPart, ToolCallPart, ToolResultPart

NO_RESULT = "No result was recorded for this call."
NO_DECISION = "The user has not allowed this call."
MOVED = "(The file is in the next message.)"

_LONGEST = 200
# The keys of a tool's input and output that are described; all others may be opaque and are not.
_ASKED = ("query", "queries", "q", "code", "command", "url", "urls", "pattern")
_GAVE = ("output", "stdout", "text", "logs")


def hosted_gist(call: HostedToolPart, result: HostedToolPart | None) -> str:
    """Describe a hosted tool run in a line, ``[web_search "query" → 5 results]``; empty if both are unknown."""
    asked_about = call.requested_call()
    if asked_about is not None:
        return f"[asked for approval to run {_quoted(asked_about.get_text())}]"
    asked = _asked(call.input)
    gave = _gave(call.output) or ("" if result is None else _gave(result.output))
    if not asked and not gave:
        return ""
    words = [str(call.tool or call.name)]
    if asked:
        words.append(_quoted(asked))
    if gave:
        words += ["→", gave]
    return f"[{' '.join(words)}]"


def file_gist(part: FilePart, *, made: bool) -> str:
    """Describe a file that cannot be sent in a line."""
    name = f"{part.filename}: " if part.filename else ""
    size = "" if part.size is None else f", {part.size} bytes"
    who = "made by the assistant, " if made else ""
    return f"[{name}{part.media_type}{size}, {who}not shown here]"


def result_gist(part: ToolResultPart) -> str:
    """Describe a tool result without a call, as user text."""
    text = "\n".join(item.get_text() for item in part.content if not isinstance(item, FilePart))
    return f"[result of {part.name or 'a tool'}: {text or '(no output)'}]"


def heading(result: ToolResultPart) -> str:
    """Return the text before files that were moved out of a tool result."""
    return f"Files from the result of {result.name or 'the call'}:"


def made_heading(count: int) -> str:
    """Return the text before files that the assistant made."""
    return f"{'Files' if count > 1 else 'File'} made by the assistant in its last answer:"


def wrapped(call: ToolCallPart) -> str:
    """Wrap arguments that are not a JSON object in one; lone surrogates, which JSON cannot hold, become U+FFFD."""
    return dumps({"_raw": call.arguments}).decode()


def _asked(value: JsonValue, levels: int = 8) -> str:
    match value:
        case str():
            return value
        case dict() if levels:  # no real input is nested deeper
            found = (_asked(value[key], levels - 1) for key in _ASKED if key in value)
            return next((text for text in found if text), "")
        case list():
            return "; ".join(item for item in value if isinstance(item, str))
        case _:
            return ""


def _gave(value: JsonValue) -> str:
    match value:
        case str():
            return _quoted(value) if value.strip() else ""
        case list():
            return _number(value)
        case dict():
            text_result = next((text for key in _GAVE if isinstance(text := value.get(key), str) and text.strip()), "")
            listed = next((item for item in value.values() if isinstance(item, list) and item), None)
            return _quoted(text_result) if text_result else "" if listed is None else _number(listed)
        case _:
            return ""


def _number(found: Iterable[object]) -> str:
    count = len(tuple(found))
    return f"{count} result{'' if count == 1 else 's'}"


def _quoted(text: str) -> str:
    line = " ".join(text.split())
    return f'"{line}"' if len(line) <= _LONGEST else f'"{line[: _LONGEST - 1]}…"'
