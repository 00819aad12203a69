"""Allow-list of the Messages API's own content blocks that are sent back, with their keys.

It has the blocks that both answers and requests have. Excluded are blocks whose text no part field shows
(``mcp_tool_listing``), files named by their id alone (``container_upload``), and everything that only a caller sends
(``tool_result``, ``document``, ``image`` …).

Source: ``BetaContentBlock`` and ``BetaContentBlockParam`` of the ``anthropic`` package 2.14 (read 2026-11-22)
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
    shows,
)
from dhenara_async.drivers.rules import Vetted, bounded, within_bounds
from dhenara_async.messages.messages import (
    Citation,
    HostedToolPart,
    Part,
    ProviderState,
    ReasoningPart,
    TextPart,
    ToolCallPart,
)

_WORD, _SEAL, _SHOWN, _LEFT = ValueKind.WORD, ValueKind.SEAL, ValueKind.SHOWN, ValueKind.LEFT
_NUMBER, _FLAG, _JSON = ValueKind.NUMBER, ValueKind.FLAG, ValueKind.JSON

_CALLER: Mapping[str, Shape] = {"type": _WORD, "tool_id": _WORD}

_DOCUMENT: Mapping[str, Shape] = {
    "cited_text": _SHOWN,
    "document_index": _NUMBER,
    "document_title": _SHOWN,
    "file_id": _WORD,
}
_CITATIONS = Each(
    ByType(
        {
            "char_location": {**_DOCUMENT, "start_char_index": _NUMBER, "end_char_index": _NUMBER},
            "page_location": {**_DOCUMENT, "start_page_number": _NUMBER, "end_page_number": _NUMBER},
            "content_block_location": {**_DOCUMENT, "start_block_index": _NUMBER, "end_block_index": _NUMBER},
            "web_search_result_location": {
                "cited_text": _SHOWN,
                "encrypted_index": _SEAL,
                "title": _SHOWN,
                "url": _SHOWN,
            },
            "search_result_location": {
                "cited_text": _SHOWN,
                "source": _SHOWN,
                "title": _SHOWN,
                "search_result_index": _NUMBER,
                "start_block_index": _NUMBER,
                "end_block_index": _NUMBER,
            },
        }
    )
)

TEXT: Mapping[str, Shape] = {"type": _WORD, "text": _LEFT, "citations": _CITATIONS}
"""Keys of a text block beside its text."""
CALL: Mapping[str, Shape] = {
    "type": _WORD,
    "id": _LEFT,
    "name": _LEFT,
    "input": _LEFT,
    "caller": _CALLER,
    "toolset_name": _WORD,
}
"""Keys of a ``tool_use`` block beside id, name and input."""
THINKING: Mapping[str, Mapping[str, Shape]] = {
    "thinking": {"thinking": _LEFT, "signature": _SEAL},
    "redacted_thinking": {"data": _SEAL},
}
"""The thinking blocks, with their keys beside the text."""

_ERROR: Mapping[str, Shape] = {"error_code": _SHOWN, "error_message": _SHOWN}
_RAN: Mapping[str, Shape] = {"return_code": _NUMBER, "stderr": _SHOWN}
_MADE: Shape = Each(
    ByType({"code_execution_output": {"file_id": _WORD}, "bash_code_execution_output": {"file_id": _WORD}})
)
_FETCHED = ByType({"base64": {"data": _SHOWN, "media_type": _SHOWN}, "text": {"data": _SHOWN, "media_type": _SHOWN}})
_PAGE = ByType({"document": {"source": _FETCHED, "title": _SHOWN, "citations": {"enabled": _FLAG}}})
_LINES: Mapping[str, Shape] = {
    "lines": Each(_SHOWN),
    "new_lines": _NUMBER,
    "new_start": _NUMBER,
    "old_lines": _NUMBER,
    "old_start": _NUMBER,
}
_VIEWED: Mapping[str, Shape] = {
    "content": _SHOWN,
    "file_type": _SHOWN,
    "num_lines": _NUMBER,
    "start_line": _NUMBER,
    "total_lines": _NUMBER,
}
_FOUND = Each(ByType({"tool_reference": {"tool_name": _SHOWN}}))


def _result_block(content: Shape, **more: Shape) -> Mapping[str, Shape]:
    return {"tool_use_id": _WORD, "content": content, **more}


_ADDED_OR_REMOVED = {"tool": ByType({
    "tool_reference": {"name": _WORD},
    "mcp_tool_reference": {"name": _WORD, "server_name": _WORD},
    "mcp_toolset_reference": {"server_name": _WORD},
})}  # fmt: skip

BLOCKS: Mapping[str, Mapping[str, Shape]] = {
    "server_tool_use": {"id": _WORD, "name": _WORD, "input": _JSON, "caller": _CALLER},
    "mcp_tool_use": {"id": _WORD, "name": _WORD, "server_name": _WORD, "input": _JSON},
    "web_search_tool_result": _result_block(
        Either(
            (
                Each(
                    ByType(
                        {
                            "web_search_result": {
                                "encrypted_content": _SEAL,
                                "page_age": _SHOWN,
                                "title": _SHOWN,
                                "url": _SHOWN,
                            }
                        }
                    )
                ),
                ByType({"web_search_tool_result_error": _ERROR}),
            )
        ),
        caller=_CALLER,
    ),
    "web_fetch_tool_result": _result_block(
        ByType(
            {
                "web_fetch_result": {"content": _PAGE, "retrieved_at": _SHOWN, "url": _SHOWN},
                "web_fetch_tool_result_error": _ERROR,
            }
        ),
        caller=_CALLER,
    ),
    "code_execution_tool_result": _result_block(
        ByType(
            {
                "code_execution_result": {**_RAN, "stdout": _SHOWN, "content": _MADE},
                "encrypted_code_execution_result": {**_RAN, "encrypted_stdout": _SEAL, "content": _MADE},
                "code_execution_tool_result_error": _ERROR,
            }
        )
    ),
    "bash_code_execution_tool_result": _result_block(
        ByType(
            {
                "bash_code_execution_result": {**_RAN, "stdout": _SHOWN, "content": _MADE},
                "bash_code_execution_tool_result_error": _ERROR,
            }
        )
    ),
    "text_editor_code_execution_tool_result": _result_block(
        ByType(
            {
                "text_editor_code_execution_view_result": _VIEWED,
                "text_editor_code_execution_create_result": {"is_file_update": _FLAG},
                "text_editor_code_execution_str_replace_result": _LINES,
                "text_editor_code_execution_tool_result_error": _ERROR,
            }
        )
    ),
    "tool_search_tool_result": _result_block(
        ByType(
            {
                "tool_search_tool_search_result": {"tool_references": _FOUND},
                "tool_search_tool_result_error": _ERROR,
            }
        )
    ),
    "mcp_tool_result": _result_block(
        Either((_SHOWN, Each(ByType({"text": {"text": _SHOWN, "citations": _CITATIONS}})))), is_error=_FLAG
    ),
    "advisor_tool_result": _result_block(
        ByType(
            {
                "advisor_result": {"text": _SHOWN, "stop_reason": _SHOWN},
                "advisor_redacted_result": {"encrypted_content": _SEAL, "stop_reason": _SHOWN},
                "advisor_tool_result_error": _ERROR,
            }
        )
    ),
    "compaction": {
        "content": _SHOWN,
        "encrypted_content": _SEAL,
        "signature": _SEAL,
        "tool_changes": Each(ByType({"tool_addition": _ADDED_OR_REMOVED, "tool_removal": _ADDED_OR_REMOVED})),
    },
    "fallback": {
        "from": {"model": _WORD},
        "to": {"model": _WORD},
        "trigger": {"type": _WORD, "category": _WORD},
    },
}
"""Blocks of tools that the API runs, and of its own reports, by type: the whole block is sent back."""

_BLOCK = ByType(BLOCKS)
_THOUGHT = ByType(THINKING)


def vetted(part: Part) -> Vetted:
    """Return the portion of a part's state that may be sent; see ``Rules.vet``."""
    state = part.provider_state
    if not state or not within_bounds(state):
        return bounded(part)
    match part:
        case TextPart():
            return _text(part, state)
        case ReasoningPart():
            return _reasoning(part, state)
        case ToolCallPart():
            if state.get("type") != "tool_use":
                return _none(state)
            shown = {"id": part.call_id, "name": part.name, "input": part.arguments}
            return repeats(state, shown) or cut(state, CALL)
        case HostedToolPart() if not part.report:
            return _hosted(part, state)
        case _:
            return Vetted(state)  # such state is never sent


def _text(part: TextPart, state: ProviderState) -> Vetted:
    kind = state.get("type")
    if kind == "tool_use":  # text that came as the arguments of the answer tool, and is sent back as text
        return Vetted(state)
    if kind != "text":
        return _none(state)
    found = repeats(state, {"text": part.text}) or cut(state, TEXT)
    raw = as_list((found.state or {}).get("citations"))
    shown = [_source(citation) for citation in part.citations]
    return found if found.state is None or [_source_of(as_object(one)) for one in raw] == shown else altered("a source")


def _reasoning(part: ReasoningPart, state: ProviderState) -> Vetted:
    found = repeats(state, {"thinking": part.text}) or cut(state, _THOUGHT)
    hidden = state.get("type") == "redacted_thinking"
    return altered("the hidden thinking") if found.state is not None and hidden and part.text else found


def _source(citation: Citation) -> tuple[str | None, ...]:
    return citation.url, citation.title, citation.cited_text, citation.file_id


def _source_of(raw: JsonObject) -> tuple[str | None, ...]:
    aliases = ("url", "source"), ("title", "document_title"), ("cited_text",), ("file_id",)
    return tuple(next((text for name in names if (text := as_text(raw.get(name)))), None) for names in aliases)


def _hosted(part: HostedToolPart, state: ProviderState) -> Vetted:
    found = cut(state, _BLOCK)
    block: JsonObject = {**(found.state or {})}
    if not block:
        return found
    kind = as_text(block.get("type"))
    call_id = as_text(block.get("id" if kind.endswith("tool_use") else "tool_use_id")) or None
    if part.name != kind or part.call_id not in (None, call_id):
        return altered("the type or the id")
    if not shows(part.input, block.get("input")):
        return altered("the input")
    if not shows(part.output, block.get("content")):
        return altered("the content")
    return found


def _none(state: ProviderState) -> Vetted:
    return refused(f"no block of type {as_text(state.get('type'))[:40]!r} may be sent back as a part of this kind")
