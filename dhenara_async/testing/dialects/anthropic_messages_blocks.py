"""The content-block rules of Anthropic Messages: the blocks of each role, and the pairing of tool calls.

Follows: https://platform.claude.com/docs/en/api/messages and the tool-use guide beside it (read 2026-11-22).
"""

import re
from collections.abc import Callable, Sequence

from dhenara_async.testing.dialects.base import (
    JsonKind,
    Refusal,
    as_array,
    as_object,
    as_text,
    fits,
    is_base64,
    objects,
)

_USER_BLOCKS = ("text", "image", "document", "search_result", "tool_result", "container_upload")
_ASSISTANT_BLOCKS = (
    "text",
    "thinking",
    "redacted_thinking",
    "tool_use",
    "server_tool_use",
    "mcp_tool_use",
    "mcp_tool_result",
    "container_upload",
    "compaction",
)
_SYSTEM_BLOCKS = {"system": ("text", "tool_addition", "tool_removal"), "instructions": ("text",)}
_RESULT_BLOCKS = ("text", "image", "document", "search_result", "tool_reference")
_IMAGE_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_SOURCES = {
    "image": ("base64", "url", "file"),
    "document": ("base64", "text", "url", "content", "file"),
}


def check_block(where: str, role: str, block: dict[str, object], *, newest: bool) -> None:
    """Check one content block.

    Args:
        where: Its path in the request, for the error.
        role: The role of its message; ``instructions`` for the top-level ``system``.
        block: The block.
        newest: Whether the request uses the newest API version.

    Raises:
        Refusal: The block is not allowed there, or is incomplete.
    """
    kind = as_text(block.get("type"))
    _check_place(where, role, kind, newest=newest)
    if role == "user" and newest and kind == "text" and as_array(block.get("citations")):
        raise Refusal(f"{where}.text.citations: Extra inputs are not permitted")
    check = _CHECKS.get(kind)
    if check:
        check(where, block)


def _check_place(where: str, role: str, kind: str, *, newest: bool) -> None:
    allowed = {"user": _USER_BLOCKS, "assistant": _ASSISTANT_BLOCKS, **_SYSTEM_BLOCKS}[role]
    if kind == "document" and role == "assistant" and not newest:
        return
    # Results of hosted tools are in the assistant turn; every hosted tool has its own type of result.
    hosted_result = role == "assistant" and kind.endswith("_tool_result")
    if kind not in allowed and not hosted_result:
        tags = ", ".join(f"'{name}'" for name in allowed)
        raise Refusal(f"{where}: Input tag '{kind}' found using 'type' does not match any of the expected tags: {tags}")


def _check_text(where: str, block: dict[str, object]) -> None:
    text = block.get("text")
    if not isinstance(text, str):
        raise Refusal(f"{where}.text.text: Input should be a valid string")
    if not text:
        raise Refusal("messages: text content blocks must be non-empty")
    if not text.strip():
        raise Refusal("messages: text content blocks must contain non-whitespace text")


def _check_source(where: str, block: dict[str, object]) -> None:
    kind = as_text(block["type"])
    source = as_object(block.get("source"))
    form = source.get("type")
    if form not in _SOURCES[kind]:
        raise Refusal(f"{where}.{kind}.source: Input tag '{form}' does not match any of the expected tags")
    if form == "base64":
        media_type = source.get("media_type")
        supported = _IMAGE_TYPES if kind == "image" else ("application/pdf",)
        if media_type not in supported:
            names = " or ".join(f"'{name}'" for name in supported)
            raise Refusal(f"{where}.{kind}.source.base64.media_type: Input should be {names}")
        if not source.get("data") or not is_base64(source.get("data")):
            raise Refusal(f"{where}.{kind}.source.base64.data: Input should be valid base64")
    needed = {"url": "url", "file": "file_id", "text": "data", "content": "content"}.get(as_text(form))
    if needed and not source.get(needed):
        raise Refusal(f"{where}.{kind}.source.{form}.{needed}: Field required")


def _check_thinking(where: str, block: dict[str, object]) -> None:
    for field in ("thinking", "signature"):
        if not isinstance(block.get(field), str):
            raise Refusal(f"{where}.thinking.{field}: Field required")
    if not block["signature"]:
        raise Refusal(f"{where}: Invalid `signature` in `thinking` block")


def _check_redacted(where: str, block: dict[str, object]) -> None:
    if not as_text(block.get("data")):
        raise Refusal(f"{where}.redacted_thinking.data: Field required")


def _check_tool_use(where: str, block: dict[str, object]) -> None:
    kind = as_text(block["type"])
    identifier = as_text(block.get("id"))
    if not re.fullmatch(r"[a-zA-Z0-9_-]+", identifier):
        raise Refusal(f"{where}.{kind}.id: String should match pattern '^[a-zA-Z0-9_-]+$'")
    if not re.fullmatch(r"[a-zA-Z0-9_-]{1,128}", as_text(block.get("name"))):
        raise Refusal(f"{where}.{kind}.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
    if not isinstance(block.get("input"), dict):
        raise Refusal(f"{where}.{kind}.input: Input should be a valid dictionary")


def _check_tool_result(where: str, block: dict[str, object]) -> None:
    if not as_text(block.get("tool_use_id")):
        raise Refusal(f"{where}.tool_result.tool_use_id: Field required")
    content = block.get("content")
    if not fits(content, (JsonKind.NULL, JsonKind.STRING, JsonKind.ARRAY)):
        raise Refusal(f"{where}.tool_result.content: Input should be a valid string or list")
    if block.get("is_error") is True and not content:
        raise Refusal(f"{where}.tool_result: content cannot be empty if `is_error` is true")
    for number, entry in objects(content):
        kind = as_text(entry.get("type"))
        if kind not in _RESULT_BLOCKS:
            raise Refusal(f"{where}.tool_result.content.{number}: Input tag '{kind}' is not expected here")
        check = _CHECKS.get(kind)
        if check:
            check(f"{where}.tool_result.content.{number}", entry)


_CHECKS: dict[str, Callable[[str, dict[str, object]], None]] = {
    "text": _check_text,
    "image": _check_source,
    "document": _check_source,
    "thinking": _check_thinking,
    "redacted_thinking": _check_redacted,
    "tool_use": _check_tool_use,
    "server_tool_use": _check_tool_use,
    "tool_result": _check_tool_result,
}


def check_tool_pairs(messages: Sequence[dict[str, object]]) -> None:
    """Check that each ``tool_use`` has its ``tool_result`` at the start of the next user turn.

    Raises:
        Refusal: A call has no result, a result has no call, or one is repeated.
    """
    open_ids: list[str] = []
    for role, first, blocks in _merged(messages):
        if role == "user":
            _check_results(first, blocks, open_ids)
            open_ids = []
            continue
        open_ids = [as_text(block["id"]) for block in blocks if block.get("type") == "tool_use"]
        if len(set(open_ids)) < len(open_ids):
            raise Refusal(f"messages.{first}: `tool_use` ids must be unique")
    if open_ids:
        raise _unanswered(len(messages) - 1, open_ids)


def check_hosted_pairs(messages: Sequence[dict[str, object]]) -> None:
    """Check that each hosted call and its result are in one turn, the call first; the last turn may be paused.

    Raises:
        Refusal: A call has no result, or a result has no call.
    """
    turns = _merged(messages)
    for place, (role, first, blocks) in enumerate(turns):
        waiting: dict[str, str] = {}
        for block in blocks if role == "assistant" else ():
            kind = as_text(block.get("type"))
            identifier = as_text(block.get("tool_use_id"))
            if kind in {"server_tool_use", "mcp_tool_use"}:
                waiting[as_text(block.get("id"))] = as_text(block.get("name"))
            elif kind.endswith("_tool_result") and waiting.pop(identifier, None) is None:
                needed = "mcp_tool_use" if kind == "mcp_tool_result" else "server_tool_use"
                raise Refusal(
                    f"messages.{first}.content: unexpected `tool_use_id` found in `{kind}` blocks: {identifier}. Each "
                    f"`{kind}` block must have a corresponding `{needed}` block before it."
                )
        if waiting and place < len(turns) - 1:
            identifier, name = next(iter(waiting.items()))
            raise Refusal(
                f"messages.{first}: `{name}` tool use with id `{identifier}` was found without a corresponding "
                f"`{name}_tool_result` block"
            )


def _merged(messages: Sequence[dict[str, object]]) -> list[tuple[str, int, list[dict[str, object]]]]:
    """Join adjacent messages of one role, as the server does: role, index of the first message, blocks."""
    turns: list[tuple[str, int, list[dict[str, object]]]] = []
    for index, message in enumerate(messages):
        role = as_text(message.get("role"))
        if role == "system":
            continue
        content = message.get("content")
        text: dict[str, object] = {"type": "text", "text": content}
        blocks = [text] if isinstance(content, str) else [block for _number, block in objects(content)]
        if turns and turns[-1][0] == role:
            turns[-1][2].extend(blocks)
        else:
            turns.append((role, index, [*blocks]))
    return turns


def _check_results(first: int, blocks: list[dict[str, object]], open_ids: list[str]) -> None:
    results = [as_text(block.get("tool_use_id")) for block in blocks if block.get("type") == "tool_result"]
    for identifier in results:
        if identifier not in open_ids:
            raise Refusal(
                f"messages.{first}.content: unexpected `tool_use_id` found in `tool_result` blocks: {identifier}. Each "
                "`tool_result` block must have a corresponding `tool_use` block in the previous message."
            )
        if results.count(identifier) > 1:
            raise Refusal(f"messages.{first}.content: each tool_use must have a single result. Found multiple results.")
    leading = blocks[: len(results)]
    missing = [identifier for identifier in open_ids if identifier not in results]
    if missing or any(block.get("type") != "tool_result" for block in leading):
        raise _unanswered(first - 1, missing or open_ids)


def _unanswered(index: int, identifiers: Sequence[str]) -> Refusal:
    return Refusal(
        f"messages.{index}: `tool_use` ids were found without `tool_result` blocks immediately after: "
        f"{', '.join(identifiers)}. Each `tool_use` block must have a corresponding `tool_result` block in the next "
        "message."
    )
