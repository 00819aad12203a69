"""Allow-list of the Responses API's own items that are sent back, with their keys.

It has the hosted items that both answers and requests have. Excluded are items that only a caller sends
(``function_call_output``, ``mcp_approval_response``, ``item_reference`` …), items with a role (``message``,
``additional_tools``), and items whose text no part field shows (``apply_patch_call``).

Source: ``ResponseOutputItem`` and ``ResponseInputItemParam`` of the ``openai`` package 3.57 (read 2026-11-22)
"""

from collections.abc import Mapping

from dhenara_async.drivers.base import JsonObject, as_list, as_object, as_text
from dhenara_async.drivers.native import (
    ByType,
    Each,
    Either,
    Shape,
    ValueKind,
    altered,
    cut,
    refused,
    repeats,
    says,
    shows,
)
from dhenara_async.drivers.openai_responses.reading import HOSTED
from dhenara_async.drivers.rules import Vetted, bounded, within_bounds
from dhenara_async.messages.messages import (
    FilePart,
    HostedToolPart,
    Part,
    ReasoningPart,
    RefusalPart,
    TextPart,
    ToolCallPart,
)

_WORD, _SEAL, _SHOWN, _LEFT = ValueKind.WORD, ValueKind.SEAL, ValueKind.SHOWN, ValueKind.LEFT
_NUMBER, _FLAG, _JSON = ValueKind.NUMBER, ValueKind.FLAG, ValueKind.JSON

TEXT: Mapping[str, Shape] = {
    "id": _LEFT,
    "status": _LEFT,
    "text": _LEFT,
    "phase": _WORD,
    "annotations": _LEFT,
}
"""Keys of a message's text beside the text; only the phase is sent back."""
CALL: Mapping[str, Shape] = {
    "id": _LEFT,
    "type": _WORD,
    "namespace": _WORD,
    "call_id": _LEFT,
    "name": _LEFT,
    "arguments": _LEFT,
    "input": _LEFT,
}
"""Keys of a call beside id, name and arguments."""
REASONING: Mapping[str, Shape] = {
    "type": _WORD,
    "id": _WORD,
    "summary": Each(Either((ByType({"summary_text": {"text": _SHOWN}}), {"text": _SHOWN}, _SHOWN))),
    "encrypted_content": _SEAL,
    "status": _LEFT,
    "content": _LEFT,
}
PICTURE: Mapping[str, Shape] = {
    "type": _WORD,
    "id": _WORD,
    "status": _WORD,
    "action": _WORD,
    "background": _WORD,
    "output_format": _WORD,
    "quality": _WORD,
    "size": _WORD,
    "result": _LEFT,
    "revised_prompt": _LEFT,
    "error": _LEFT,
    "svg_usage": _LEFT,
}
"""Keys of a generated image beside its bytes. Its revised prompt is left out, because no part field shows it."""

_CALLER: Mapping[str, Shape] = {"type": _WORD, "caller_id": _WORD}
_ITEM: Mapping[str, Shape] = {"id": _WORD, "status": _WORD, "created_by": _LEFT}
_CALLED: Mapping[str, Shape] = {**_ITEM, "call_id": _WORD}

_FUNCTION: Mapping[str, Shape] = {
    "name": _SHOWN,
    "description": _SHOWN,
    "parameters": _JSON,
    "output_schema": _JSON,
    "strict": _FLAG,
    "defer_loading": _FLAG,
    "async": _FLAG,
    "allowed_callers": Each(_WORD),
}
_CUSTOM: Mapping[str, Shape] = {
    "name": _SHOWN,
    "description": _SHOWN,
    "format": _JSON,
    "defer_loading": _FLAG,
    "async": _FLAG,
    "allowed_callers": Each(_WORD),
}
_MEMBERS = Each(ByType({"function": _FUNCTION, "custom": _CUSTOM}))
_TOOLS = Each(
    ByType(
        {
            "function": _FUNCTION,
            "custom": _CUSTOM,
            "namespace": {"name": _SHOWN, "description": _SHOWN, "tools": _MEMBERS},
        }
    )
)
_MCP_TOOLS = Each({"name": _SHOWN, "description": _SHOWN, "input_schema": _JSON, "annotations": _JSON})
_MCP_ASKED: Mapping[str, Shape] = {"server_label": _SHOWN, "name": _SHOWN, "arguments": _JSON}
_SHELL_OUTCOME = ByType({"timeout": {}, "exit": {"exit_code": _NUMBER}})
_SOURCES = Each(ByType({"url": {"url": _SHOWN}, "api": {"name": _SHOWN}}))
_CHECK: Mapping[str, Shape] = {"id": _WORD, "code": _WORD, "message": _LEFT}

ITEMS: Mapping[str, Mapping[str, Shape]] = {
    "web_search_call": {
        **_ITEM,
        "action": ByType(
            {
                "search": {"query": _SHOWN, "queries": Each(_SHOWN), "sources": _SOURCES},
                "open_page": {"url": _SHOWN},
                "find_in_page": {"url": _SHOWN, "pattern": _SHOWN},
                "find": {"url": _SHOWN, "pattern": _SHOWN},  # an older name
            }
        ),
    },
    "file_search_call": {**_ITEM, "queries": Each(_SHOWN), "results": _JSON},
    "code_interpreter_call": {
        **_ITEM,
        "code": _SHOWN,
        "container_id": _WORD,
        "outputs": Each(ByType({"logs": {"logs": _SHOWN}, "image": {"url": _SHOWN}})),
    },
    "image_generation_call": {**PICTURE, "result": ValueKind.NOTHING},  # an item with an image is a file part
    "mcp_call": {**_ITEM, **_MCP_ASKED, "approval_request_id": _WORD, "output": _SHOWN, "error": _JSON},
    "mcp_list_tools": {**_ITEM, "server_label": _SHOWN, "tools": _MCP_TOOLS, "error": _JSON},
    "mcp_approval_request": {**_ITEM, **_MCP_ASKED},
    "tool_search_call": {**_CALLED, "arguments": _JSON, "execution": _WORD},
    "tool_search_output": {**_CALLED, "tools": _TOOLS, "execution": _WORD},
    "shell_call": {
        **_CALLED,
        "action": _JSON,
        "caller": _CALLER,
        "environment": ByType({"local": {}, "container_reference": {"container_id": _WORD}}),
    },
    "shell_call_output": {
        **_CALLED,
        "caller": _CALLER,
        "max_output_length": _NUMBER,
        "output": Each({"stdout": _SHOWN, "stderr": _SHOWN, "outcome": _SHELL_OUTCOME, "created_by": _LEFT}),
    },
    "local_shell_call": {**_CALLED, "action": _JSON},
    "computer_call": {**_CALLED, "action": _JSON, "actions": _JSON, "pending_safety_checks": Each(_CHECK)},
    "program": {**_CALLED, "code": _SHOWN, "fingerprint": _SEAL},
    "program_output": {**_CALLED, "result": _SHOWN},
    "compaction": {**_ITEM, "encrypted_content": _SEAL},
}
"""Hosted items and reports by type: the whole item is sent back."""

# the fields that a part does not show, for items that may have only one of the two
_HIDDEN_BY: Mapping[str, str] = {"output": "error", "tools": "error", "action": "actions"}
_ITEM_SHAPE = ByType(ITEMS)


def vetted(part: Part) -> Vetted:
    """Return the portion of a part's state that may be sent; see ``Rules.vet``."""
    state = part.provider_state
    if not state or not within_bounds(state):
        return bounded(part)
    match part:
        case TextPart() | RefusalPart():
            return repeats(state, {"text": part.text}) or cut(state, TEXT)
        case ToolCallPart():
            if state.get("type") not in (None, "function_call", "custom_tool_call"):
                return refused("no item of that type is a call of the caller's tools")
            words = part.arguments
            shown = {"call_id": part.call_id, "name": part.name, "arguments": words, "input": words}
            return repeats(state, shown) or cut(state, CALL)
        case ReasoningPart():
            return _reasoning(part)
        case FilePart():
            if state.get("type") not in (None, "image_generation_call"):
                return refused("no item of that type is a generated image")
            return cut(state, PICTURE)
        case HostedToolPart() if not part.report:
            return _hosted(part)
        case _:
            return Vetted(state)  # such state is never sent


def _reasoning(part: ReasoningPart) -> Vetted:
    """Check that the summary of a reasoning item equals the beginning of the part's text."""
    state = part.provider_state or {}
    if state.get("type") not in (None, "reasoning"):
        return refused("no item of that type is reasoning")
    found = cut(state, REASONING)
    summary = as_list((found.state or {}).get("summary"))
    summary_text = "".join(as_text(piece) or as_text(as_object(piece).get("text")) for piece in summary)
    return found if says(part.text, summary_text) else altered("the summary")


def _hosted(part: HostedToolPart) -> Vetted:
    found = cut(part.provider_state or {}, _ITEM_SHAPE)
    item: JsonObject = {**(found.state or {})}
    if not item:
        return found
    kind = as_text(item.get("type"))
    if part.name != kind:
        return altered("the type")
    if part.call_id not in (None, item.get("call_id"), item.get("id")):
        return altered("the id")
    if any(item.get(shown) not in (None, []) and item.get(other) is not None for shown, other in _HIDDEN_BY.items()):
        return altered("what it gave")
    read = HOSTED.get(kind)
    _tool, asked, output = read(item) if read else (None, None, None)
    if not shows(part.input, asked):
        return altered("what was asked")
    return found if shows(part.output, output) else altered("what it gave")
