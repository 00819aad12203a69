"""The input-item rules of OpenAI Responses: the fields of each item, and the items that need each other.

Follows: the openai SDK 3.54 (``types/responses/response_input_item_param.py``) and
https://platform.openai.com/docs/api-reference/responses/create (read 2026-11-22).
"""

import re
from collections.abc import Callable

from dhenara_async.testing.dialects.base import (
    Arrived,
    JsonKind,
    Refusal,
    Rule,
    as_array,
    as_object,
    as_text,
    fits,
    objects,
)
from dhenara_async.testing.dialects.openai_errors import check_kind, check_length, invalid_value, missing
from dhenara_async.testing.dialects.openai_responses_state import check_led, check_seals

_ROLES = ("assistant", "system", "developer", "user")
_INPUT_PARTS = ("input_text", "input_image", "input_file", "input_audio")
_PARTS = {
    "user": _INPUT_PARTS,
    "system": ("input_text",),
    "developer": ("input_text",),
    "assistant": ("output_text", "refusal"),
}
_ITEMS = (
    "message",
    "reasoning",
    "function_call",
    "function_call_output",
    "item_reference",
    "custom_tool_call",
    "custom_tool_call_output",
    "web_search_call",
    "file_search_call",
    "code_interpreter_call",
    "computer_call",
    "computer_call_output",
    "image_generation_call",
    "local_shell_call",
    "local_shell_call_output",
    "shell_call",
    "shell_call_output",
    "apply_patch_call",
    "apply_patch_call_output",
    "mcp_call",
    "mcp_list_tools",
    "mcp_approval_request",
    "mcp_approval_response",
    "tool_search_call",
    "tool_search_output",
    "program",
    "program_output",
    "additional_tools",
    "configuration_update",
    "compaction",
    "compaction_trigger",
)
_ID_PREFIXES = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "custom_tool_call": "ctc",
    "web_search_call": "ws",
    "file_search_call": "fs",
    "code_interpreter_call": "ci",
    "image_generation_call": "ig",
}
# Items of hosted tools are returned unchanged.
_HOSTED_FIELDS = {
    "web_search_call": ("id", "status", "action"),
    "file_search_call": ("id", "status", "queries"),
    "code_interpreter_call": ("id", "status", "container_id"),
    "image_generation_call": ("id", "status", "result"),
    "mcp_call": ("id", "name", "arguments", "server_label"),
    "mcp_approval_request": ("id", "name", "arguments", "server_label"),
}
_OUTPUTS = ("function_call_output", "custom_tool_call_output")
_IMAGE_URL = re.compile(r"https?://.+|data:image/(png|jpe?g|gif|webp);base64,.+", re.DOTALL)
_FILE_DATA = re.compile(r"data:[\w.+-]+/[\w.+-]+;base64,.+", re.DOTALL)


def _items(arrived: Arrived) -> None:
    for index, entry in enumerate(as_array(arrived.body["input"])):
        param = f"input[{index}]"
        check_kind(param, entry, (JsonKind.OBJECT,))
        item = as_object(entry)
        kind = item.get("type", "message")
        if kind not in _ITEMS:
            raise invalid_value(f"{param}.type", kind, _ITEMS)
        prefix = _ID_PREFIXES.get(as_text(kind))
        identifier = item.get("id")
        if prefix and identifier is not None and not as_text(identifier).startswith(prefix):
            raise Refusal(
                f"Invalid '{param}.id': '{identifier}'. Expected an ID that begins with '{prefix}'.",
                code="invalid_value",
                param=f"{param}.id",
            )
        check = _ITEM_CHECKS.get(as_text(kind))
        if check:
            check(param, item)
        for field in _HOSTED_FIELDS.get(as_text(kind), ()):
            if field not in item:
                raise missing(f"{param}.{field}")


def _check_message(param: str, item: dict[str, object]) -> None:
    role = item.get("role")
    if role not in _ROLES:
        raise invalid_value(f"{param}.role", role, _ROLES)
    content = item.get("content")
    check_kind(f"{param}.content", content, (JsonKind.STRING, JsonKind.ARRAY))
    if fits(content, (JsonKind.ARRAY,)):
        _check_parts(f"{param}.content", as_array(content), _PARTS[as_text(role)])


def _check_parts(param: str, parts: list[object], supported: tuple[str, ...]) -> None:
    for index, entry in enumerate(parts):
        check_kind(f"{param}[{index}]", entry, (JsonKind.OBJECT,))
        part = as_object(entry)
        kind = part.get("type")
        if kind not in supported:
            raise invalid_value(f"{param}[{index}].type", kind, supported)
        field = {"input_text": "text", "output_text": "text", "refusal": "refusal"}.get(as_text(kind))
        if field:
            check_kind(f"{param}[{index}].{field}", part.get(field), (JsonKind.STRING,))
        check_file = _FILE_CHECKS.get(as_text(kind))
        if check_file:
            check_file(f"{param}[{index}]", part)


def _check_image(param: str, part: dict[str, object]) -> None:
    url = part.get("image_url")
    if not (url or part.get("file_id")):
        raise missing(f"{param}.image_url")
    if url and not _IMAGE_URL.fullmatch(as_text(url)):
        raise Refusal(
            f"Invalid '{param}.image_url'. Expected a valid URL, or base64 data of a png, jpeg, gif or webp image.",
            code="invalid_value",
            param=f"{param}.image_url",
        )


def _check_file(param: str, part: dict[str, object]) -> None:
    if not any(part.get(field) for field in ("file_data", "file_id", "file_url")):
        raise missing(f"{param}.file_id")
    if part.get("file_data"):
        if not part.get("filename"):
            raise missing(f"{param}.filename")
        if not _FILE_DATA.fullmatch(as_text(part["file_data"])):
            raise Refusal(
                f"Invalid '{param}.file_data'. Expected a base64-encoded data URL with a MIME type.",
                code="invalid_value",
                param=f"{param}.file_data",
            )


def _check_audio(param: str, part: dict[str, object]) -> None:
    audio = as_object(part.get("input_audio"))
    for field in ("data", "format"):
        if not audio.get(field):
            raise missing(f"{param}.input_audio.{field}")
    if audio["format"] not in ("mp3", "wav"):
        raise invalid_value(f"{param}.input_audio.format", audio["format"], ("mp3", "wav"))


_FILE_CHECKS: dict[str, Callable[[str, dict[str, object]], None]] = {
    "input_image": _check_image,
    "input_file": _check_file,
    "input_audio": _check_audio,
}


def _check_call(param: str, item: dict[str, object]) -> None:
    for field in ("call_id", "name", "arguments"):
        check_kind(f"{param}.{field}", item.get(field), (JsonKind.STRING,))
    check_length(f"{param}.call_id", as_text(item["call_id"]), 64)


def _check_custom(param: str, item: dict[str, object]) -> None:
    for field in ("call_id", "name", "input"):
        check_kind(f"{param}.{field}", item.get(field), (JsonKind.STRING,))
    check_length(f"{param}.call_id", as_text(item["call_id"]), 64)


def _check_output(param: str, item: dict[str, object]) -> None:
    check_kind(f"{param}.call_id", item.get("call_id"), (JsonKind.STRING,))
    check_length(f"{param}.call_id", as_text(item["call_id"]), 64)
    output = item.get("output")
    check_kind(f"{param}.output", output, (JsonKind.STRING, JsonKind.ARRAY))
    if fits(output, (JsonKind.ARRAY,)):
        _check_parts(f"{param}.output", as_array(output), _INPUT_PARTS)


def _check_reasoning(param: str, item: dict[str, object]) -> None:
    content = as_array(item.get("content"))
    if content:
        raise Refusal(
            f"Invalid '{param}.content': array too long. Expected an array with maximum length 0, but got an array "
            f"with length {len(content)} instead.",
            code="array_above_max_length",
            param=f"{param}.content",
        )
    check_kind(f"{param}.summary", item.get("summary"), (JsonKind.ARRAY,))


def _check_decision(param: str, item: dict[str, object]) -> None:
    check_kind(f"{param}.approval_request_id", item.get("approval_request_id"), (JsonKind.STRING,))
    check_kind(f"{param}.approve", item.get("approve"), (JsonKind.BOOLEAN,))
    if item.get("reason") is not None:
        check_kind(f"{param}.reason", item["reason"], (JsonKind.STRING,))


_ITEM_CHECKS: dict[str, Callable[[str, dict[str, object]], None]] = {
    "message": _check_message,
    "function_call": _check_call,
    "function_call_output": _check_output,
    "custom_tool_call": _check_custom,
    "custom_tool_call_output": _check_output,
    "reasoning": _check_reasoning,
    "mcp_approval_response": _check_decision,
}


def _call_pairs(arrived: Arrived) -> None:
    asked: set[str] = set()
    open_ids: dict[str, None] = {}
    for _index, item in objects(arrived.body["input"]):
        call_id = as_text(item.get("call_id"))
        if item.get("type") in ("function_call", "custom_tool_call"):
            open_ids[call_id] = None
        if as_text(item.get("type")).endswith("_call"):
            # A search for tools may have an output like a function, but needs none.
            asked.add(call_id)
        elif item.get("type") in _OUTPUTS:
            if call_id not in asked:
                raise Refusal(f"No tool call found for function call output with call_id {call_id}.", param="input")
            open_ids.pop(call_id, None)
    for call_id in open_ids:
        raise Refusal(f"No tool output found for function call {call_id}.", param="input")


def _approvals(arrived: Arrived) -> None:
    """Check that each decision about a call of an MCP server follows the request for it, and is the only one."""
    asked: set[str] = set()
    for index, item in objects(arrived.body["input"]):
        if item.get("type") == "mcp_approval_request":
            asked.add(as_text(item.get("id")))
        elif item.get("type") == "mcp_approval_response":
            request = as_text(item.get("approval_request_id"))
            if request not in asked:
                raise Refusal(f"Approval request with id '{request}' not found.", param=f"input[{index}]")
            asked.remove(request)


def _reasoning_leads(arrived: Arrived) -> None:
    """Check that a reasoning item is followed by another item of the model, not the end of its turn."""
    items = [item for _index, item in objects(arrived.body["input"])]
    for position, item in enumerate(items):
        following = items[position + 1] if position + 1 < len(items) else {}
        leads = following.get("type") not in {None, "message", "function_call_output"} or following.get("role") == (
            "assistant"
        )
        if item.get("type") == "reasoning" and not leads:
            raise Refusal(
                f"Item '{item.get('id')}' of type 'reasoning' was provided without its required following item.",
                param="input",
            )


def _nothing_stored(arrived: Arrived) -> None:
    """Refuse references to stored items or responses: this server stores nothing."""
    previous = arrived.body.get("previous_response_id")
    if previous is not None:
        raise Refusal(
            f"Previous response with id '{previous}' not found.",
            code="previous_response_not_found",
            param="previous_response_id",
        )
    for _index, item in objects(arrived.body["input"]):
        if item.get("type") == "item_reference":
            raise Refusal(f"Item with id '{item.get('id')}' not found.", status=404, param="input")


ITEM_RULES: tuple[Rule, ...] = (
    _items,
    _nothing_stored,
    _call_pairs,
    _approvals,
    _reasoning_leads,
    check_led,
    check_seals,
)
