"""The rules of Anthropic Messages for all fields except the conversation: tools, output, caching, labels.

Follows: the anthropic SDK 2.12 (``types/tool_param.py``, ``types/output_config_param.py``) and the tool-use, structured
outputs, effort and prompt-caching guides of https://platform.claude.com/docs (read 2026-11-22).
"""

import re
from typing import cast

from dhenara_async.testing.dialects.anthropic_messages_thinking import always_thinks, generation
from dhenara_async.testing.dialects.base import (
    Arrived,
    JsonKind,
    Refusal,
    as_object,
    as_text,
    fits,
    kind_of,
    objects,
)
from dhenara_async.testing.dialects.schemas import dangling_reference, subschemas

_TOOL_FIELDS = {
    "name": (JsonKind.STRING,),
    "input_schema": (JsonKind.OBJECT,),
    "description": (JsonKind.STRING,),
    "type": (JsonKind.STRING, JsonKind.NULL),
    "strict": (JsonKind.BOOLEAN,),
    "cache_control": (JsonKind.OBJECT, JsonKind.NULL),
    "defer_loading": (JsonKind.BOOLEAN,),
    "eager_input_streaming": (JsonKind.BOOLEAN, JsonKind.NULL),
    "input_examples": (JsonKind.ARRAY,),
    "allowed_callers": (JsonKind.ARRAY,),
}
# Tools that Anthropic runs or defines: the required name of each type.
_OWN_TOOLS = (
    (r"web_search_\d{8}", "web_search"),
    (r"web_fetch_\d{8}", "web_fetch"),
    (r"code_execution_\d{8}", "code_execution"),
    (r"tool_search_tool_regex(_\d{8})?", "tool_search_tool_regex"),
    (r"tool_search_tool_bm25(_\d{8})?", "tool_search_tool_bm25"),
    (r"memory_\d{8}", "memory"),
    (r"bash_\d{8}", "bash"),
    (r"text_editor_\d{8}", "str_replace_(based_edit|editor)_?tool|str_replace_editor"),
    (r"(computer|browser|advisor)_\d{8}", r"\w+"),
    (r"mcp_toolset", r"\w*"),
)
_CHOICES = {
    "auto": {"type", "disable_parallel_tool_use"},
    "any": {"type", "disable_parallel_tool_use"},
    "tool": {"type", "name", "disable_parallel_tool_use"},
    "none": {"type"},
}
_EFFORTS = ("low", "medium", "high", "xhigh", "max")
_MOST_BREAKPOINTS = 4


def check_tools(arrived: Arrived) -> None:
    """Check that every tool has a legal, unique name and an object schema.

    Raises:
        Refusal: A tool is invalid.
    """
    names: list[str] = []
    for index, tool in objects(arrived.body.get("tools")):
        kind = as_text(tool.get("type"))
        if kind in {"", "custom"}:
            _check_own_tool(f"tools.{index}.custom", tool)
        else:
            _check_hosted_tool(f"tools.{index}", kind, tool)
        if kind == "mcp_toolset":
            _check_toolset(f"tools.{index}", tool, arrived)
        names.append(as_text(tool.get("name") or tool.get("mcp_server_name")))
    if len(set(names)) < len(names):
        raise Refusal("tools: Tool names must be unique.")


def _check_own_tool(where: str, tool: dict[str, object]) -> None:
    for field in ("name", "input_schema"):
        if field not in tool:
            raise Refusal(f"{where}.{field}: Field required")
    for field, value in tool.items():
        if field not in _TOOL_FIELDS:
            raise Refusal(f"{where}.{field}: Extra inputs are not permitted")
        if not fits(value, _TOOL_FIELDS[field]):
            raise Refusal(f"{where}.{field}: Input should be {' or '.join(_TOOL_FIELDS[field])}, not {kind_of(value)}")
    if not re.fullmatch(r"[a-zA-Z0-9_-]{1,128}", as_text(tool["name"])):
        raise Refusal(f"{where}.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
    schema = as_object(tool["input_schema"])
    if "type" not in schema:
        raise Refusal(f"{where}.input_schema.type: Field required")
    if schema["type"] != "object":
        raise Refusal(f"{where}.input_schema.type: Input should be 'object'")
    _check_references(f"{where}.input_schema", schema)
    if tool.get("strict") is True:
        check_strict(f"{where}.input_schema", schema)


def _check_hosted_tool(where: str, kind: str, tool: dict[str, object]) -> None:
    for pattern, name in _OWN_TOOLS:
        if re.fullmatch(pattern, kind):
            if not re.fullmatch(name, as_text(tool.get("name"))):
                raise Refusal(f"{where}.{kind}.name: Input should be '{name}'")
            return
    raise Refusal(f"{where}: Input tag '{kind}' found using 'type' does not match any of the expected tags")


def _check_toolset(where: str, tool: dict[str, object], arrived: Arrived) -> None:
    """Check that the server of a toolset has an address, in a request with the beta header."""
    servers = [as_text(server.get("name")) for _index, server in objects(arrived.body.get("mcp_servers"))]
    if "mcp-client-" not in arrived.headers.get("anthropic-beta", ""):
        raise Refusal("mcp_servers: Extra inputs are not permitted")
    if as_text(tool.get("mcp_server_name")) not in servers:
        raise Refusal(f"{where}.mcp_server_name: no server of that name is in mcp_servers")


def check_tool_choice(arrived: Arrived) -> None:
    """Check that the tool choice names a declared tool, and that the model can be forced.

    Raises:
        Refusal: The choice is invalid.
    """
    if "tool_choice" not in arrived.body:
        return
    choice = as_object(arrived.body["tool_choice"])
    kind = as_text(choice.get("type"))
    if kind not in _CHOICES:
        raise Refusal(f"tool_choice: Input tag '{kind}' found using 'type' does not match any of the expected tags")
    extra = set(choice) - _CHOICES[kind]
    if extra:
        raise Refusal(f"tool_choice.{kind}.{min(extra)}: Extra inputs are not permitted")
    names = [as_text(tool.get("name")) for _index, tool in objects(arrived.body.get("tools"))]
    if not names:
        raise Refusal("tool_choice: tool_choice may only be specified while providing tools")
    if kind == "tool" and choice.get("name") not in names:
        raise Refusal(f"tool_choice: Tool '{as_text(choice.get('name'))}' not found in provided tools")
    if kind in {"any", "tool"}:
        if always_thinks(as_text(arrived.body["model"])):
            raise Refusal('tool_choice: type "tool" and "any" are not supported for this model')
        if as_object(arrived.body.get("thinking")).get("type") == "enabled":
            raise Refusal("Thinking may not be enabled when tool_choice forces tool use.")


def check_output(arrived: Arrived) -> None:
    """Check that the model supports the effort and the output format.

    Raises:
        Refusal: One is not supported.
    """
    config = as_object(arrived.body.get("output_config"))
    extra = set(config) - {"effort", "format"}
    if extra:
        raise Refusal(f"output_config.{min(extra)}: Extra inputs are not permitted")
    model = as_text(arrived.body["model"])
    effort, wanted = config.get("effort"), config.get("format")
    if effort is not None:
        _check_effort(model, effort)
    if wanted is not None:
        structured = generation(model) >= (4, 5) or ("opus" in model and generation(model) == (4, 1))
        if not structured:
            raise Refusal("output_config.format: structured outputs are not supported on this model")
        form = as_object(wanted)
        if form.get("type") != "json_schema":
            raise Refusal("output_config.format.type: Input should be 'json_schema'")
        if kind_of(form.get("schema")) is not JsonKind.OBJECT:
            raise Refusal("output_config.format.schema: Field required")
        _check_references("output_config.format.schema", form["schema"])
        check_strict("output_config.format.schema", as_object(form["schema"]))


def _check_references(where: str, schema: object) -> None:
    pointer = dangling_reference(schema)
    if pointer is not None:
        raise Refusal(f"{where}: JSON schema is invalid: '$ref' {pointer!r} does not resolve to a definition")


def _check_effort(model: str, effort: object) -> None:
    if effort not in _EFFORTS:
        raise Refusal("output_config.effort: Input should be 'low', 'medium', 'high', 'xhigh' or 'max'")
    version = generation(model)
    if version < (4, 5) or (version == (4, 5) and "opus" not in model):
        raise Refusal("This model does not support the effort parameter.")
    if effort == "xhigh" and version < (4, 7):
        raise Refusal("This model does not support effort level 'xhigh'.")


def check_strict(where: str, schema: object) -> None:
    """Check that every object of an enforced schema forbids additional properties.

    Raises:
        Refusal: An object allows them.
    """
    for node in subschemas(schema):
        if node.get("type") == "object" and node.get("additionalProperties") is not False:
            raise Refusal(f"{where}: For 'object' type, 'additionalProperties' must be explicitly set to false")


def check_labels(arrived: Arrived) -> None:
    """Check the metadata and the service tier.

    Raises:
        Refusal: The metadata has more than a user id, or the tier is unknown.
    """
    metadata = as_object(arrived.body.get("metadata"))
    extra = set(metadata) - {"user_id"}
    if extra:
        raise Refusal(f"metadata.{min(extra)}: Extra inputs are not permitted")
    if not fits(metadata.get("user_id"), (JsonKind.STRING, JsonKind.NULL)):
        raise Refusal("metadata.user_id: Input should be a valid string")
    if arrived.body.get("service_tier") not in (None, "auto", "standard_only"):
        raise Refusal("service_tier: Input should be 'auto' or 'standard_only'")


def check_caching(arrived: Arrived) -> None:
    """Check cache breakpoints: at most four, none on thinking, each with a supported lifetime.

    Raises:
        Refusal: There are more, or one is invalid.
    """
    found = [_marked("cache_control", arrived.body)]
    found += [_marked(f"tools.{index}", tool) for index, tool in objects(arrived.body.get("tools"))]
    found += [_marked(f"system.{index}", block) for index, block in objects(arrived.body.get("system"))]
    for index, message in objects(arrived.body["messages"]):
        for number, block in objects(message.get("content")):
            where = f"messages.{index}.content.{number}"
            found.append(_marked(where, block))
            inner = objects(block.get("content")) if block.get("type") == "tool_result" else ()
            found += [_marked(f"{where}.content.{place}", entry) for place, entry in inner]
    if sum(found) > _MOST_BREAKPOINTS:
        raise Refusal(
            f"A maximum of {_MOST_BREAKPOINTS} blocks with cache_control may be provided. Found {sum(found)}."
        )


def _marked(where: str, block: object) -> bool:
    """Whether a block has a cache breakpoint."""
    marked = cast("dict[str, object]", block)
    control = marked.get("cache_control")
    if control is None:
        return False
    kind = as_text(marked.get("type"))
    if kind in {"thinking", "redacted_thinking"}:
        raise Refusal(f"{where}.{kind}.cache_control: Extra inputs are not permitted")
    fields = as_object(control)
    if fields.get("type") != "ephemeral" or set(fields) - {"type", "ttl"}:
        raise Refusal(f"{where}.cache_control: Input should be {{'type': 'ephemeral'}}, with or without 'ttl'")
    if fields.get("ttl", "5m") not in ("5m", "1h"):
        raise Refusal(f"{where}.cache_control.ephemeral.ttl: Input should be '5m' or '1h'")
    return True
