"""Requests of OpenAI Responses, stateless: nothing is stored at the provider, so a conversation can move to other
providers.

The conversation is encoded in ``content``, answers are decoded in ``decode``.

Source: https://platform.openai.com/docs/api-reference/responses and the types of the ``openai`` package 3.54 (read
2026-11-22)
"""

import re
from collections.abc import Mapping
from copy import deepcopy
from typing import get_args

from dhenara_async.config import AIModelCallConfig, PromptCache, ReasoningEffort
from dhenara_async.drivers.base import Decoder, JsonObject, KnobWarnings, merge, wire
from dhenara_async.drivers.connector import McpConnector, connector_of
from dhenara_async.drivers.failures import error_object
from dhenara_async.drivers.openai_responses.content import input_items, rules
from dhenara_async.drivers.openai_responses.decode import ResponsesDecoder
from dhenara_async.drivers.openai_responses.reading import responses_error
from dhenara_async.drivers.openai_schema import asks_for_json, fits_openai_strict, openai_schema
from dhenara_async.drivers.rules import Rules
from dhenara_async.endpoint import AIModelEndpoint, Capabilities
from dhenara_async.errors import APIError, ConfigurationError
from dhenara_async.framing.lenient_json import dumps
from dhenara_async.messages.messages import Origin
from dhenara_async.models.families import capabilities
from dhenara_async.request import ChatRequest, WireRequest
from dhenara_async.tools.declarations import HostedTool, NamedTool, Tool
from dhenara_async.tools.schemas import output_schema

MIN_OUTPUT_TOKENS = 16

_JSON_ONLY = "Answer with one JSON value that follows this JSON schema, and with nothing else: "
_EFFORTS: Mapping[str, int] = {word: rank for rank, word in enumerate(get_args(ReasoningEffort))}
_HOSTED: Mapping[str, JsonObject] = {
    "web_search": {"type": "web_search"},
    "code_execution": {"type": "code_interpreter", "container": {"type": "auto"}},
    "file_search": {"type": "file_search"},
}
# Results of hosted tools are only reported on request.
_INCLUDES: Mapping[str, str] = {
    "web_search": "web_search_call.action.sources",
    "code_execution": "code_interpreter_call.outputs",
    "file_search": "file_search_call.results",
}
# Generations before gpt-5.6, whose cache cannot be controlled; any other model is newer.
_FIXED_CACHE = re.compile(r"(ft:)?(o\d|gpt-[34]|gpt-5(\.[0-5])?(?![.\d])|chatgpt-|gpt-oss|codex-|computer-use)")
# The cache lives at least that long; our settings are at most as long.
_CACHE_TTLS = {"5m": "30m", "1h": "12h"}


class OpenAIResponsesDriver:
    """Driver of the Responses API."""

    def encode(self, request: ChatRequest, endpoint: AIModelEndpoint) -> WireRequest:
        model, config = endpoint.ai_model, request.config
        can, warnings = capabilities(model), KnobWarnings(model.model_name)
        include = [] if can.reasoning == "none" else ["reasoning.encrypted_content"]
        body: JsonObject = {
            "model": model.model_name,
            "input": input_items(request.messages, model.model_name),
            "store": False,
        }
        if request.instructions:
            body["instructions"] = "\n\n".join(request.instructions)
        effort = _add_reasoning(body, config, can, warnings)
        thinks = None if effort is None else effort != "none"
        _add_sampling(body, include, config, can.samples(thinks), warnings)
        _add_tools(body, include, config, can.forces(thinks), warnings)
        _add_structured_output(body, request, can, warnings)
        _add_prompt_cache(body, config, warnings, fixed=_FIXED_CACHE.match(model.model_name) is not None)
        _add_rest(body, config, warnings)
        if include:
            body["include"] = include
        if request.stream:
            body["stream"] = True
        return wire("/responses", body, config, warnings, {})

    def decoder(self, request: ChatRequest, origin: Origin) -> Decoder:
        return ResponsesDecoder(request, origin)

    def error(self, status: int, headers: Mapping[str, str], body: bytes, *, provider: str) -> APIError:
        return responses_error(status, headers, body, error_object(body), provider)

    def rules(self, endpoint: AIModelEndpoint) -> Rules:
        return rules(endpoint.ai_model.model_name)


# ---------------------------------------------------------------------------------------------------- reasoning


def _add_reasoning(
    body: JsonObject, config: AIModelCallConfig, can: Capabilities, warnings: KnobWarnings
) -> str | None:
    """Add the reasoning settings; returns the requested effort, if any."""
    warnings.drop_unless(False, config, ("max_reasoning_tokens",), "the API has efforts, and no limit on tokens")
    summary = None if config.reasoning_summary == "none" else config.reasoning_summary
    if can.reasoning == "none":
        _refuse_reasoning(config, summary, warnings)
        return None
    effort = _effort(config, can, warnings)
    reasoning = {"effort": effort, "summary": summary}
    if effort is not None or summary is not None:
        body["reasoning"] = {key: value for key, value in reasoning.items() if value is not None}
    return effort


def _refuse_reasoning(config: AIModelCallConfig, summary: str | None, warnings: KnobWarnings) -> None:
    """Warn of settings that request reasoning from a model without it; disabling reasoning needs no warning."""
    wanted = {
        "reasoning": config.reasoning,
        "reasoning_effort": config.reasoning_effort not in (None, "none"),
        "reasoning_summary": summary,
    }
    for knob, value in wanted.items():
        if value:
            warnings.dropped(knob, "the model does not reason")


def _effort(config: AIModelCallConfig, can: Capabilities, warnings: KnobWarnings) -> str | None:
    knob, wanted = "reasoning_effort", config.reasoning_effort
    if config.reasoning is False and wanted != "none":
        if wanted is not None:
            warnings.dropped(knob, "reasoning is off")
        knob, wanted = "reasoning", "none"
    elif config.reasoning and wanted is None and can.sampling:
        knob, wanted = "reasoning", "medium"  # a model that samples by default does not reason by default
    if wanted is None or wanted in can.efforts:
        return wanted
    if not can.efforts:
        warnings.dropped(knob, "the model has no effort setting")
        return None
    nearest = min(can.efforts, key=lambda word: (_effort_distance(word, wanted), -_EFFORTS.get(word, 0)))
    warnings.adjusted(knob, nearest, f"the model does not have the effort {wanted}")
    return nearest


def _effort_distance(word: str, wanted: str) -> tuple[bool, int]:
    """Return the distance of two efforts; ``none`` is never near another effort if there is an alternative."""
    return (word == "none") != (wanted == "none"), abs(_EFFORTS.get(word, 0) - _EFFORTS[wanted])


# ---------------------------------------------------------------------------------------------------- other knobs


def _add_sampling(
    body: JsonObject, include: list[str], config: AIModelCallConfig, allowed: bool, warnings: KnobWarnings
) -> None:
    if not warnings.drop_unless(
        allowed, config, ("temperature", "top_p", "top_logprobs"), "the model refuses it while it reasons"
    ):
        return
    if config.temperature is not None:
        body["temperature"] = warnings.clamp("temperature", config.temperature, 2.0)
    if config.top_p is not None:
        body["top_p"] = config.top_p
    if config.top_logprobs is not None:
        body["top_logprobs"] = config.top_logprobs
        include.append("message.output_text.logprobs")


def _add_tools(
    body: JsonObject, include: list[str], config: AIModelCallConfig, forces: bool, warnings: KnobWarnings
) -> None:
    tools: list[JsonObject] = []
    for tool in config.declared_tools:
        if isinstance(tool, Tool):
            tools.append(_function(tool, warnings))
        elif tool.type == "raw":
            tools.append({**deepcopy(tool.options)})
        elif tool.type == "mcp":
            tools.append(_connector(connector_of(tool)))
        elif tool.type in _HOSTED:
            tools.append(_hosted(tool))
            include.append(_INCLUDES[tool.type])
        else:
            warnings.dropped("tools", f"the Responses API has no {tool.type} of its own")
    if not warnings.drop_unless(bool(tools), config, ("tool_choice", "parallel_tool_calls"), "there are no tools"):
        return
    body["tools"] = tools
    if config.tool_choice is not None:
        body["tool_choice"] = _tool_choice(config.tool_choice, forces, warnings)
    if config.parallel_tool_calls is not None:
        body["parallel_tool_calls"] = config.parallel_tool_calls


def _function(tool: Tool, warnings: KnobWarnings) -> JsonObject:
    strict = tool.strict
    if strict and not fits_openai_strict(tool.parameters):
        warnings.adjusted("tools", f"{tool.name} without strict", "strict mode does not support its schema")
        strict = False
    described = {"description": tool.description} if tool.description else {}
    schema = openai_schema(tool.parameters) if strict else tool.parameters
    return {"type": "function", "name": tool.name, **described, "parameters": schema, "strict": strict}


def _hosted(tool: HostedTool) -> JsonObject:
    spelled = deepcopy(_HOSTED[tool.type])
    merge(spelled, tool.options)
    if tool.type == "file_search" and not spelled.get("vector_store_ids"):
        raise ConfigurationError("file_search needs its vector stores: HostedTool(options={'vector_store_ids': […]})")
    return spelled


def _connector(server: McpConnector) -> JsonObject:
    fields: JsonObject = {
        "server_url": server.url,
        "authorization": server.token,
        "headers": server.headers,
        "allowed_tools": server.allowed,
    }
    given = {key: value for key, value in fields.items() if value}
    return {"type": "mcp", "server_label": server.name, **given, **server.rest}


def _tool_choice(choice: str | NamedTool, forces: bool, warnings: KnobWarnings) -> str | JsonObject:
    if not forces and choice not in ("auto", "none"):
        warnings.adjusted("tool_choice", "auto", "the model cannot be forced to call a tool")
        return "auto"
    return choice if isinstance(choice, str) else {"type": "function", "name": choice.name}


def _add_structured_output(body: JsonObject, request: ChatRequest, can: Capabilities, warnings: KnobWarnings) -> None:
    wanted = output_schema(request.config)
    if wanted is None:
        return
    if asks_for_json(wanted.schema, (message.get_text() for message in request.messages)):
        body["text"] = {"format": {"type": "json_object"}}
        return
    if not can.structured_output:
        warnings.adjusted("structured_output", "an instruction", "the model does not support schemas")
        led = body.get("instructions")
        words = _JSON_ONLY + dumps(wanted.schema).decode()
        body["instructions"] = f"{led}\n\n{words}" if led else words
        return
    strict = fits_openai_strict(wanted.schema)
    if not strict:
        warnings.adjusted("structured_output", "a guide", "strict mode does not support this schema")
    schema = openai_schema(wanted.schema)
    body["text"] = {"format": {"type": "json_schema", "name": wanted.name, "schema": schema, "strict": strict}}


def _add_prompt_cache(body: JsonObject, config: AIModelCallConfig, warnings: KnobWarnings, *, fixed: bool) -> None:
    """Add the cache settings. Caching is automatic; they set its sharing and its time, or turn it off."""
    cache = config.prompt_cache
    if isinstance(cache, PromptCache) and cache.key is not None:
        body["prompt_cache_key"] = cache.key
    ttl = cache.ttl if isinstance(cache, PromptCache) else None
    if fixed:
        if cache is False or ttl is not None:
            warnings.dropped("prompt_cache", "the model's cache cannot be controlled")
    elif cache is False:
        body["prompt_cache_options"] = {"mode": "explicit"}  # without a breakpoint nothing is cached
    elif ttl is not None:
        least = _CACHE_TTLS[ttl]
        warnings.adjusted("prompt_cache", least, "the cache has fixed lifetimes")
        body["prompt_cache_options"] = {"ttl": least}


def _add_rest(body: JsonObject, config: AIModelCallConfig, warnings: KnobWarnings) -> None:
    if config.max_output_tokens is not None:
        limit = max(config.max_output_tokens, MIN_OUTPUT_TOKENS)
        if limit != config.max_output_tokens:
            warnings.adjusted("max_output_tokens", limit, "it is the API's minimum")
        body["max_output_tokens"] = limit
    if config.metadata:
        body["metadata"] = dict(config.metadata)
    if config.user_id is not None:
        body["safety_identifier"] = config.user_id
    if config.service_tier is not None:
        body["service_tier"] = config.service_tier
    warnings.drop_unless(False, config, ("top_k", "stop", "seed"), "the Responses API has no such parameter")
    if config.n not in (None, 1):
        warnings.dropped("n", "the Responses API returns a single answer")
