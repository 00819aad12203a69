"""Anthropic Messages, API version 2026-10-21: requests and errors.

Source: https://docs.anthropic.com/en/api/messages and the types of the ``anthropic`` package 2.12 (read 2026-11-22)
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

from dhenara_async.config import AIModelCallConfig, PromptCache
from dhenara_async.drivers.anthropic_messages.content import ContentEncoder, answer_tool, rules
from dhenara_async.drivers.anthropic_messages.decode import MessagesDecoder
from dhenara_async.drivers.anthropic_messages.reading import messages_error
from dhenara_async.drivers.anthropic_messages.schema import anthropic_schema
from dhenara_async.drivers.base import Decoder, JsonObject, KnobWarnings, wire
from dhenara_async.drivers.connector import McpConnector, connector_of
from dhenara_async.drivers.failures import error_object
from dhenara_async.drivers.rules import Rules
from dhenara_async.endpoint import AIModel, AIModelEndpoint, Capabilities
from dhenara_async.errors import APIError, UnsupportedError
from dhenara_async.messages.messages import Origin
from dhenara_async.models.families import capabilities
from dhenara_async.request import ChatRequest, WireRequest
from dhenara_async.tools.declarations import HostedTool, NamedTool, Tool
from dhenara_async.tools.schema_reading import DanglingReferenceError, JsonSchema
from dhenara_async.tools.schemas import OutputSchema, output_schema

VERSION = "2026-10-21"
# The newest version refuses sampling parameters even at their defaults; models that accept them do so under this one.
VERSION_WITH_SAMPLING = "2023-06-01"
# The API requires a limit; this one is below the size from which it demands streaming.
DEFAULT_MAX_TOKENS = 16_384
LEAST_BUDGET = 1_024
BINDING_BETA = "thinking-binding-controls-2026-08-01"

_EFFORTS = ("minimal", "low", "medium", "high", "xhigh", "max")
_BUDGETS = {"minimal": 1_024, "low": 2_048, "medium": 8_192, "high": 16_384, "xhigh": 32_768, "max": 65_536}
_DEFAULT_BUDGET = _BUDGETS["medium"]
_REASONING_KNOBS = ("reasoning", "reasoning_effort", "max_reasoning_tokens", "reasoning_summary")

MCP_BETA = "mcp-client-2025-11-20"

_HOSTED: Mapping[str, JsonObject] = {
    "web_search": {"type": "web_search_20260318", "name": "web_search"},
    "url_context": {"type": "web_fetch_20260318", "name": "web_fetch"},
    "code_execution": {"type": "code_execution_20260521", "name": "code_execution"},
}


class AnthropicMessagesDriver:
    """Driver of the Messages API."""

    def encode(self, request: ChatRequest, endpoint: AIModelEndpoint) -> WireRequest:
        model, config = endpoint.ai_model, request.config
        can = capabilities(model)
        warnings = KnobWarnings(model.model_name)
        content = ContentEncoder(model.model_name)
        messages = content.messages(request.messages)
        thinking = _bound(_thinking(config, model, can, warnings, messages), config, can)
        body: JsonObject = {"model": model.model_name, "max_tokens": thinking.max_tokens, "messages": messages}
        if request.instructions:
            body["system"] = [{"type": "text", "text": text} for text in request.instructions if text.strip()]
        if config.stop:
            body["stop_sequences"] = list(config.stop)
        if request.stream:
            body["stream"] = True
        if thinking.block:
            body["thinking"] = thinking.block
        native, by_tool = _structured(config, can, warnings)
        body |= _tools(config, can, warnings, thinking, by_tool)
        if output := _output_config(native, thinking):
            body["output_config"] = output
        sampling = _sampling(config, can.samples(thinking.asked), warnings)
        body |= sampling
        body |= _services(config, warnings)
        _warn_of_unsupported(config, warnings)
        headers = {"anthropic-version": VERSION_WITH_SAMPLING if sampling else VERSION}
        betas = content.betas | thinking.betas
        if servers := _servers(config):
            body["mcp_servers"] = servers
            betas |= {MCP_BETA}
        if betas:
            headers["anthropic-beta"] = ",".join(sorted(betas))
        sent = wire("/v1/messages", body, config, warnings, headers)
        return replace(sent, lists=frozenset({"anthropic-beta"} & headers.keys()))

    def decoder(self, request: ChatRequest, origin: Origin) -> Decoder:
        return MessagesDecoder(request, origin, answer_tool=answer_tool(request.config))

    def error(self, status: int, headers: Mapping[str, str], body: bytes, *, provider: str) -> APIError:
        return messages_error(status, headers, body, error_object(body), provider)

    def rules(self, endpoint: AIModelEndpoint) -> Rules:
        return rules(endpoint.ai_model)


# ---------------------------------------------------------------------------------------------------- thinking


@dataclass(slots=True, frozen=True)
class _Thinking:
    """The thinking settings of a request.

    Attributes:
        asked: Whether the call requests thinking (True), forbids it (False), or leaves it open (None); other settings
            depend on it.
        block: ``thinking`` of the body; None = not sent.
        effort: ``output_config.effort``; None = not sent.
        max_tokens: ``max_tokens``, including the thinking budget.
    """

    asked: bool | None
    block: JsonObject | None
    effort: str | None
    max_tokens: int

    @property
    def by_budget(self) -> bool:
        return self.block is not None and self.block["type"] == "enabled"

    @property
    def betas(self) -> frozenset[str]:
        """The beta features that the settings need."""
        bound = self.block is not None and "block_binding" in self.block
        return frozenset({BINDING_BETA} if bound else ())


def _thinking(
    config: AIModelCallConfig, model: AIModel, can: Capabilities, warnings: KnobWarnings, messages: list[JsonObject]
) -> _Thinking:
    asked = _asked(config)
    limit = config.max_output_tokens or min(DEFAULT_MAX_TOKENS, model.max_output_tokens or DEFAULT_MAX_TOKENS)
    if can.reasoning == "none":
        if asked is not False:
            warnings.drop_unless(False, config, _REASONING_KNOBS, "this model does not think")
        return _Thinking(None, None, None, limit)
    if asked is False:
        return _without_thinking(config, can, warnings, limit)
    effort = _effort(config, can, warnings) if asked else None
    if can.reasoning == "budget" or (can.reasoning_budget and config.max_reasoning_tokens):
        return _with_budget(config, model, warnings, messages, _Thinking(asked, None, effort, limit))
    if config.max_reasoning_tokens:
        warnings.dropped("max_reasoning_tokens", "this model has no thinking budget; set reasoning_effort")
    display = _display(config)
    if asked or display.get("display") == "summarized":
        return _Thinking(True, {"type": "adaptive", **display}, effort, limit)
    return _Thinking(None, None, None, limit)


def _bound(thinking: _Thinking, config: AIModelCallConfig, can: Capabilities) -> _Thinking:
    """Let the API drop mismatched thinking instead of refusing it, for models that bind thinking to its prefix.

    Such models think by default, so the request then states the default explicitly. Other models do not accept the
    field.
    """
    block: JsonObject = {"type": "adaptive"} if thinking.block is None else thinking.block
    own = config.extra_body.get("thinking", block)
    kind = own.get("type", block["type"]) if isinstance(own, Mapping) else None
    if not can.prefix_bound or block["type"] != "adaptive" or kind != "adaptive":
        return thinking
    return replace(thinking, block={**block, "block_binding": {"prefix_mismatch_behavior": "drop_block"}})


def _asked(config: AIModelCallConfig) -> bool | None:
    if config.reasoning is not None:
        return config.reasoning
    if config.reasoning_effort == "none" or config.max_reasoning_tokens == 0:
        return False
    return True if config.reasoning_effort or config.max_reasoning_tokens else None


def _without_thinking(config: AIModelCallConfig, can: Capabilities, warnings: KnobWarnings, limit: int) -> _Thinking:
    if config.reasoning_effort not in (None, "none"):
        warnings.dropped("reasoning_effort", "reasoning is off")
    if can.reasoning_off:
        return _Thinking(False, {"type": "disabled"}, None, limit)
    knob = "reasoning_effort" if config.reasoning is None and config.reasoning_effort == "none" else "reasoning"
    least = next((word for word in can.efforts if word != "none"), None)
    warnings.adjusted(knob, f"effort {least!r}" if least else "nothing", "this model always thinks")
    return _Thinking(True, None, least, limit)


def _effort(config: AIModelCallConfig, can: Capabilities, warnings: KnobWarnings) -> str | None:
    """Return the supported effort nearest to the requested one; None without a request, or if budgets apply."""
    wanted = config.reasoning_effort
    known = [word for word in can.efforts if word in _EFFORTS]
    if can.reasoning != "budget":
        known = [word for word in known if word != "minimal"]  # the API has no such effort, whatever the model declares
    if wanted is None or wanted == "none" or wanted in known:
        return None if wanted == "none" else wanted
    if not known:
        if can.reasoning != "budget":
            warnings.dropped("reasoning_effort", "this model has no effort levels")
        return None
    nearest = min(known, key=lambda word: abs(_EFFORTS.index(word) - _EFFORTS.index(wanted)))
    warnings.adjusted("reasoning_effort", nearest, f"it knows {', '.join(known)}")
    return nearest


def _with_budget(
    config: AIModelCallConfig, model: AIModel, warnings: KnobWarnings, messages: list[JsonObject], plan: _Thinking
) -> _Thinking:
    """Return thinking with a token budget, which counts as output and must leave room for the answer."""
    if not plan.asked:
        if config.reasoning_summary not in (None, "none"):
            warnings.dropped("reasoning_summary", "this model thinks only on request")
        return plan
    requested = config.max_reasoning_tokens
    budget = requested or _BUDGETS.get(config.reasoning_effort or "", _DEFAULT_BUDGET)
    limit = plan.max_tokens
    if config.max_output_tokens is None:
        limit = min(budget + limit, model.max_output_tokens or budget + limit)
    most = limit - 1 if requested else max(LEAST_BUDGET, limit // 2)
    allowed_budget = max(LEAST_BUDGET, min(budget, most))
    if allowed_budget >= limit:
        knob = next(name for name in _REASONING_KNOBS if getattr(config, name) is not None)
        warnings.dropped(knob, f"thinking needs at least {LEAST_BUDGET} tokens, and max_output_tokens is {limit}")
        return _Thinking(None, None, plan.effort, limit)
    if requested and allowed_budget != requested:
        why = f"a thinking budget is at least {LEAST_BUDGET} and below max_output_tokens"
        warnings.adjusted("max_reasoning_tokens", allowed_budget, why)
    if _continues_without_thinking(messages):
        why = "the turn that the model continues began without thinking"
        warnings.adjusted("reasoning", "off", why)
        return _Thinking(False, {"type": "disabled"}, plan.effort, limit)
    block: JsonObject = {"type": "enabled", "budget_tokens": allowed_budget, **_display(config)}
    return _Thinking(True, block, plan.effort, limit)


def _continues_without_thinking(messages: list[JsonObject]) -> bool:
    """Whether the model continues a turn (a tool loop, a prefill) that does not start with thinking.

    With a budget the API refuses such a request. It happens where another model began the turn, or this model without
    thinking.
    """
    answers = [message for message in messages if message["role"] == "assistant"]
    last = cast("list[JsonObject]", messages[-1]["content"]) if messages else []
    goes_on = bool(answers) and (messages[-1] is answers[-1] or any(block["type"] == "tool_result" for block in last))
    if not goes_on:
        return False
    first = cast("list[JsonObject]", answers[-1]["content"])[0]
    return first["type"] not in {"thinking", "redacted_thinking"}


def _display(config: AIModelCallConfig) -> JsonObject:
    if config.reasoning_summary is None:
        return {}
    return {"display": "omitted" if config.reasoning_summary == "none" else "summarized"}


# ---------------------------------------------------------------------------------------------------- tools


def _structured(
    config: AIModelCallConfig, can: Capabilities, warnings: KnobWarnings
) -> tuple[JsonSchema | None, OutputSchema | None]:
    """Return the schema for native structured output, or the schema for the answer tool; both None if no structured
    answer is requested."""
    wanted = output_schema(config)
    if wanted is None or not can.structured_output:
        return None, wanted
    try:
        return anthropic_schema(wanted.schema), None
    except DanglingReferenceError:
        raise
    except UnsupportedError as exc:
        warnings.adjusted("structured_output", "the arguments of a forced tool call", str(exc))
        return None, wanted


def _tools(
    config: AIModelCallConfig,
    can: Capabilities,
    warnings: KnobWarnings,
    thinking: _Thinking,
    answer: OutputSchema | None,
) -> JsonObject:
    """Return ``tools`` and ``tool_choice``, including the tool that carries an ``answer``; empty without tools."""
    tools = [block for tool in config.declared_tools if (block := _tool(tool, warnings))]
    choice: JsonObject | None = _tool_choice(config)
    if answer is not None:
        named = answer_tool(config)
        words = "Gives the answer to the user, as this tool's arguments."
        tools.append({"name": named, "description": words, "input_schema": {"type": "object", **answer.schema}})
        if choice is None or choice["type"] != "tool":
            alone = len(tools) == 1 or config.tool_choice == "none"
            choice = {"type": "tool", "name": named} if alone else {"type": "any"}
    if not tools:
        warnings.drop_unless(False, config, ("tool_choice", "parallel_tool_calls"), "there are no tools to choose from")
        return {}
    forced = choice is not None and choice["type"] in {"any", "tool"}
    if forced and (thinking.by_budget or not can.forces(thinking.asked)):
        knob = "tool_choice" if config.tool_choice not in (None, "auto", "none") else "structured_output"
        warnings.adjusted(knob, "auto", "this model cannot be forced to call a tool, or not while it thinks")
        choice = {"type": "auto"}
    if config.parallel_tool_calls is False and (choice is None or choice["type"] != "none"):
        choice = (choice or {"type": "auto"}) | {"disable_parallel_tool_use": True}
    body: JsonObject = {"tools": tools}
    if choice is not None:
        body["tool_choice"] = choice
    return body


def _tool(tool: Tool | HostedTool, warnings: KnobWarnings) -> JsonObject | None:
    if isinstance(tool, HostedTool):
        return _hosted(tool, warnings)
    strict, parameters = tool.strict, tool.parameters
    if strict:
        try:
            parameters = anthropic_schema(parameters)
        except DanglingReferenceError:
            raise
        except UnsupportedError as exc:
            warnings.adjusted("tools", f"{tool.name} without strict", str(exc))
            strict = False
    block: JsonObject = {"name": tool.name, "input_schema": {"type": "object", **parameters}}
    if tool.description:
        block["description"] = tool.description
    if strict is not None:
        block["strict"] = strict
    return block


def _hosted(tool: HostedTool, warnings: KnobWarnings) -> JsonObject | None:
    if tool.type == "raw":
        return {**tool.options}
    if tool.type == "mcp":
        return _toolset(connector_of(tool), warnings)
    hosted = _HOSTED.get(tool.type)
    if hosted is None:
        warnings.dropped("tools", f"the Messages API has no hosted tool {tool.type!r}")
        return None
    return {**hosted, **tool.options}


def _toolset(server: McpConnector, warnings: KnobWarnings) -> JsonObject | None:
    """Return the tools of an MCP server; ``_servers`` has its address."""
    if not server.url:
        warnings.dropped("tools", f"the Messages API knows the MCP server {server.name!r} by no id: give its address")
        return None
    toolset: JsonObject = {"type": "mcp_toolset", "mcp_server_name": server.name}
    if server.allowed_names is not None:
        toolset["default_config"] = {"enabled": False}
        toolset["configs"] = {name: {"enabled": True} for name in server.allowed_names}
    known = {"cache_control", "configs", "default_config", "tools"}
    toolset |= {key: value for key, value in server.rest.items() if key in known}
    left = sorted(server.rest.keys() - known - {"require_approval", "tool_configuration"})
    if server.rest.get("require_approval", "never") != "never":
        left.append("require_approval")
    if server.headers and not server.token:
        left.append("headers")
    if left:
        words = f"the Messages API has no {', '.join(left)} of an MCP server"
        warnings.adjusted("tools", f"the MCP server {server.name!r} without them", words)
    return toolset


def _servers(config: AIModelCallConfig) -> list[JsonObject]:
    """Return the addresses of the MCP servers that the API calls."""
    servers: list[JsonObject] = []
    for tool in config.declared_tools:
        if isinstance(tool, HostedTool) and tool.type == "mcp" and (server := connector_of(tool)).url:
            entry: JsonObject = {"type": "url", "url": server.url, "name": server.name}
            if server.token:
                entry["authorization_token"] = server.token
            if "tool_configuration" in server.rest:
                entry["tool_configuration"] = server.rest["tool_configuration"]
            servers.append(entry)
    return servers


def _tool_choice(config: AIModelCallConfig) -> JsonObject | None:
    match config.tool_choice:
        case None:
            return None
        case NamedTool(name=name):
            return {"type": "tool", "name": name}
        case "required":
            return {"type": "any"}
        case "auto" | "none":
            return {"type": config.tool_choice}


def _output_config(schema: JsonSchema | None, thinking: _Thinking) -> JsonObject:
    output: JsonObject = {"effort": thinking.effort} if thinking.effort else {}
    if schema is not None:
        output["format"] = {"type": "json_schema", "schema": schema}
    return output


# ---------------------------------------------------------------------------------------------------- other knobs


def _sampling(config: AIModelCallConfig, allowed: bool, warnings: KnobWarnings) -> JsonObject:
    knobs = ("temperature", "top_p", "top_k")
    if not warnings.drop_unless(allowed, config, knobs, "this model does not take it, or not while it thinks"):
        return {}
    sampling: JsonObject = {}
    if config.temperature is not None:
        sampling["temperature"] = warnings.clamp("temperature", config.temperature, 1.0)
    if config.top_p is not None:
        if "temperature" in sampling:
            warnings.dropped("top_p", "Claude takes temperature or top_p, not both")
        else:
            sampling["top_p"] = config.top_p
    if config.top_k is not None:
        sampling["top_k"] = config.top_k
    return sampling


def _services(config: AIModelCallConfig, warnings: KnobWarnings) -> JsonObject:
    """Return the fields for caching, the user's id and the service tier."""
    services: JsonObject = {}
    cache = PromptCache() if config.prompt_cache is True else config.prompt_cache
    if cache:
        # At the top level it marks the last cacheable block, and so the whole prompt.
        services["cache_control"] = {"type": "ephemeral"} | ({"ttl": cache.ttl} if cache.ttl else {})
        if cache.key is not None:
            warnings.adjusted("prompt_cache", "a cache without a key", "this API looks its cache up by content")
    user = config.user_id or config.metadata.get("user_id")
    if user:
        services["metadata"] = {"user_id": user}
    if config.metadata.keys() - {"user_id"}:
        warnings.dropped("metadata", "the Messages API stores no metadata but a user's id")
    if config.service_tier is not None:
        services["service_tier"] = config.service_tier
    return services


def _warn_of_unsupported(config: AIModelCallConfig, warnings: KnobWarnings) -> None:
    warnings.drop_unless(False, config, ("seed",), "the Messages API has no seed")
    warnings.drop_unless(False, config, ("top_logprobs",), "the Messages API has no log probabilities")
    warnings.drop_unless(config.n == 1, config, ("n",), "the Messages API returns a single answer")
