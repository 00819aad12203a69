"""Gemini generateContent and streamGenerateContent of the Developer API: requests.

Messages are encoded in ``content``, answers are decoded in ``decode``.

Source: https://ai.google.dev/api/generate-content, https://ai.google.dev/gemini-api/docs/thinking,
https://ai.google.dev/gemini-api/docs/function-calling and the types of the ``google-genai`` package 3.4 (read
2026-11-22)
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote as quote_path

from dhenara_async.config import AIModelCallConfig, PromptCache
from dhenara_async.drivers.base import Decoder, JsonObject, KnobWarnings, wire
from dhenara_async.drivers.connector import McpConnector, connector_of
from dhenara_async.drivers.failures import error_object
from dhenara_async.drivers.gemini.content import encode_contents, is_third_or_later, rules
from dhenara_async.drivers.gemini.decode import GeminiDecoder
from dhenara_async.drivers.gemini.reading import error_of
from dhenara_async.drivers.gemini.schema import gemini_schema
from dhenara_async.drivers.rules import Rules
from dhenara_async.endpoint import AIModelEndpoint, Capabilities
from dhenara_async.errors import APIError, ConfigurationError
from dhenara_async.framing.lenient_json import dumps
from dhenara_async.messages.messages import Origin
from dhenara_async.models.families import capabilities
from dhenara_async.request import ChatRequest, WireRequest
from dhenara_async.response import CONTINUATION
from dhenara_async.tools.declarations import HostedTool, HostedToolType, NamedTool, Tool
from dhenara_async.tools.schemas import is_any_object, output_schema

API_VERSION = "v1beta"  # a superset of v1
MAX_STOPS = 5
LEAST_BUDGET = 128

_HOSTED: Final[Mapping[HostedToolType, str]] = {
    "web_search": "googleSearch",
    "code_execution": "codeExecution",
    "url_context": "urlContext",
    "file_search": "fileSearch",
}
# Hosted tools whose calls are only reported on request.
_REPORTED = frozenset({"googleSearch", "urlContext", "fileSearch", "mcpServers"})
_RANKS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
# The budgets that the vendor's OpenAI-compatible layer uses for the effort levels.
_BUDGETS = {"minimal": 1_024, "low": 1_024, "medium": 8_192, "high": 24_576, "xhigh": 24_576, "max": 24_576}


class GeminiDriver:
    """Driver of generateContent."""

    def encode(self, request: ChatRequest, endpoint: AIModelEndpoint) -> WireRequest:
        """See ``drivers.base.Driver``."""
        model, config = endpoint.ai_model.model_name, request.config
        asking = _SettingsEncoder(endpoint, config)
        body: JsonObject = {"contents": encode_contents(request.messages, endpoint)}
        tools = asking.tools()
        generation = {**asking.knobs(), **asking.output(tools), **asking.thinking()}
        leads = [*request.instructions, *asking.instructions]
        if leads:
            body["systemInstruction"] = {"parts": [{"text": text} for text in leads]}
        if tools:
            body["tools"] = tools
        choice = asking.tool_config(tools)
        if choice:
            body["toolConfig"] = choice
        if generation:
            body["generationConfig"] = generation
        if config.service_tier is not None:
            body["serviceTier"] = config.service_tier
        if request.continuation is not None:
            body[CONTINUATION] = request.continuation
        method = "streamGenerateContent?alt=sse" if request.stream else "generateContent"
        return wire(f"/{API_VERSION}/{_model_path(model)}:{method}", body, config, asking.warnings, {})

    def decoder(self, request: ChatRequest, origin: Origin) -> Decoder:
        """See ``drivers.base.Driver``."""
        return GeminiDecoder(request, origin)

    def error(self, status: int, headers: Mapping[str, str], body: bytes, *, provider: str) -> APIError:
        """See ``drivers.base.Driver``."""
        return error_of(status, headers, body, error_object(body), provider)

    def rules(self, endpoint: AIModelEndpoint) -> Rules:
        """See ``drivers.base.Driver``."""
        return rules(endpoint.ai_model)


# Resource names that are used in the path unchanged; any other name is one segment below ``models/``.
_RESOURCE = re.compile(
    r"(?:projects/[^/]+/locations/[^/]+/)?(?:(?:publishers/[^/]+/)?models|tunedModels|endpoints)/[^/]+"
)


def _model_path(model: str) -> str:
    """Return the path of a model: ``models/x`` for a bare id; a resource name (``tunedModels/x``,
    ``publishers/google/models/x``) unchanged.

    Raises:
        ConfigurationError: The name has the segment ``.`` or ``..``, which would lead to another path of the API.
    """
    if not {".", ".."}.isdisjoint(model.split("/")):
        raise ConfigurationError(f"the model name {model!r} has . or .. as a segment: it would leave the API's path")
    if _RESOURCE.fullmatch(model):
        return quote_path(model, safe="/")
    return f"models/{quote_path(model, safe='')}"


class _SettingsEncoder:
    """Encodes one call's settings; ``instructions`` collects settings that are expressed in words instead."""

    def __init__(self, endpoint: AIModelEndpoint, config: AIModelCallConfig) -> None:
        model = endpoint.ai_model.model_name
        self.config = config
        self.warnings = KnobWarnings(model)
        self.instructions: list[str] = []
        self._abilities: Capabilities = capabilities(endpoint.ai_model)
        self._modern = is_third_or_later(model)

    def knobs(self) -> JsonObject:
        """Return sampling, limits and reported extras; warns of settings that Gemini does not have."""
        config, warnings = self.config, self.warnings
        knobs: JsonObject = {
            "maxOutputTokens": config.max_output_tokens,
            "topP": config.top_p,
            "topK": config.top_k,
            "seed": config.seed,
            "candidateCount": config.n,
        }
        if config.temperature is not None:
            knobs["temperature"] = warnings.clamp("temperature", config.temperature, 2.0)
        if config.stop:
            if len(config.stop) > MAX_STOPS:
                warnings.adjusted("stop", list(config.stop[:MAX_STOPS]), f"the API takes at most {MAX_STOPS}")
            knobs["stopSequences"] = list(config.stop[:MAX_STOPS])
        if config.top_logprobs is not None:
            knobs["responseLogprobs"] = True
            knobs["logprobs"] = config.top_logprobs or None  # without it, only the chosen tokens are reported
        if config.metadata:
            warnings.dropped("metadata", "the Developer API has no labels")
        if config.user_id is not None:
            warnings.dropped("user_id", "the API has no such field")
        if config.parallel_tool_calls is False:
            warnings.dropped("parallel_tool_calls", "the API cannot forbid parallel calls")
        if isinstance(config.prompt_cache, PromptCache) and config.prompt_cache != PromptCache():
            warnings.dropped("prompt_cache", "caching is implicit and takes neither a time to live nor a key")
        return {name: value for name, value in knobs.items() if value is not None}

    # ------------------------------------------------------------------------------------------------ tools

    def tools(self) -> list[JsonObject]:
        """Return the tools: one entry for all functions, and one for each hosted tool."""
        functions = [tool for tool in self.config.tools if isinstance(tool, Tool)]
        hosted = [tool for tool in self.config.tools if isinstance(tool, HostedTool)]
        if functions and hosted and not self._modern:
            names = ", ".join(tool.type for tool in hosted)
            self.warnings.dropped("tools", f"before Gemini 3, functions cannot be combined with {names}")
            hosted = []
        entries: list[JsonObject] = []
        if functions:
            entries.append({"functionDeclarations": [_declaration(tool) for tool in functions]})
        for tool in hosted:
            if tool.type == "raw":
                entries.append({**tool.options})
            elif tool.type == "mcp":
                entries += self._connector(connector_of(tool))
            else:
                entries.append({_HOSTED[tool.type]: dict(tool.options)})
        return entries

    def _connector(self, server: McpConnector) -> list[JsonObject]:
        """Return the entry of an MCP server that the API calls; none if it has no address."""
        if not server.url:
            self.warnings.dropped("tools", f"Gemini knows the MCP server {server.name!r} by no id: give its address")
            return []
        left = ["allowed_tools"] if server.allowed is not None else []
        if server.rest.get("require_approval", "never") != "never":
            left.append("require_approval")
        if left:
            words = f"Gemini has no {' and no '.join(left)} of an MCP server"
            self.warnings.adjusted("tools", f"the MCP server {server.name!r} without it", words)
        token: JsonObject = {"Authorization": f"Bearer {server.token}"} if server.token else {}
        headers = {**server.headers, **token}
        transport: JsonObject = {"url": server.url, **({"headers": headers} if headers else {})}
        return [{"mcpServers": [{"name": server.name, "streamableHttpTransport": transport}]}]

    def tool_config(self, tools: Sequence[JsonObject]) -> JsonObject:
        """Return whether functions may be called, and whether calls of hosted tools are reported."""
        functions = any("functionDeclarations" in entry for entry in tools)
        chosen: JsonObject = {}
        mode = self._mode() if functions else {}
        if self.config.tool_choice is not None and not functions:
            self.warnings.dropped("tool_choice", "there are no functions to choose from")
        if mode:
            chosen["functionCallingConfig"] = mode
        # Code execution is always reported, by parts of its own.
        if self._modern and any(entry.keys() & _REPORTED for entry in tools):
            chosen["includeServerSideToolInvocations"] = True
        return chosen

    def _mode(self) -> JsonObject:
        choice = self.config.tool_choice
        strict = any(isinstance(tool, Tool) and tool.strict for tool in self.config.tools)
        if choice == "none":
            return {"mode": "NONE"}
        if choice == "required" or isinstance(choice, NamedTool):
            if self._abilities.forced_tools:
                names: JsonObject = {"allowedFunctionNames": [choice.name]} if isinstance(choice, NamedTool) else {}
                return {"mode": "ANY", **names}
            self.warnings.adjusted("tool_choice", "AUTO", "the model cannot be forced to call a function")
        if strict:
            return {"mode": "VALIDATED"}
        return {} if choice is None else {"mode": "AUTO"}

    # ------------------------------------------------------------------------------------------------ output

    def output(self, tools: Sequence[JsonObject]) -> JsonObject:
        """Return the fields for the answer's schema. It becomes an instruction where the model cannot take it beside
        tools, or not at all."""
        wanted = output_schema(self.config)
        if wanted is None:
            return {}
        schema = gemini_schema(wanted.schema)
        if self._abilities.structured_output and (self._modern or not tools):
            told = {} if is_any_object(wanted.schema) else {"responseJsonSchema": schema}
            return {"responseMimeType": "application/json", **told}
        why = "before Gemini 3 it cannot be combined with tools" if tools else "the model has no such mode"
        self.warnings.adjusted("structured_output", "an instruction", why)
        self.instructions.append(
            f"Answer with one JSON value that follows this JSON schema, and with nothing else: {dumps(schema).decode()}"
        )
        return {}

    # ------------------------------------------------------------------------------------------------ thinking

    def thinking(self) -> JsonObject:
        """Return ``thinkingConfig``: a budget for 2.5, a level from 3 on, never both."""
        config = self.config
        if self._abilities.reasoning == "none":
            self._warn_of_thinking()
            return {}
        asked = self._budget() if self._abilities.reasoning == "budget" else self._level()
        if config.reasoning_summary is not None:
            asked["includeThoughts"] = config.reasoning_summary != "none"
        return {"thinkingConfig": asked} if asked else {}

    @property
    def _is_off(self) -> bool:
        config = self.config
        return config.reasoning is False or (config.reasoning is None and config.reasoning_effort == "none")

    def _warn_of_thinking(self) -> None:
        config, why = self.config, "the model does not think"
        if config.reasoning:
            self.warnings.dropped("reasoning", why)
        if config.reasoning_effort not in (None, "none"):
            self.warnings.dropped("reasoning_effort", why)
        if config.max_reasoning_tokens:
            self.warnings.dropped("max_reasoning_tokens", why)
        if config.reasoning_summary not in (None, "none"):
            self.warnings.dropped("reasoning_summary", why)

    def _budget(self) -> JsonObject:
        config, knob = self.config, "max_reasoning_tokens"
        budget = config.max_reasoning_tokens
        if self._is_off:
            budget, knob = 0, "reasoning" if config.reasoning is False else "reasoning_effort"
        elif budget is None and config.reasoning_effort not in (None, "none"):
            budget = _BUDGETS[config.reasoning_effort]
            if config.max_output_tokens is not None:  # thinking counts towards the same limit
                budget = max(LEAST_BUDGET, min(budget, config.max_output_tokens // 2))
        elif budget is None and config.reasoning:
            budget = -1  # dynamic; small models do not think by default
        if budget == 0 and not self._abilities.reasoning_off:
            budget = LEAST_BUDGET
            self.warnings.adjusted(knob, f"a budget of {budget} tokens", "its thinking cannot be turned off")
        return {} if budget is None else {"thinkingBudget": budget}

    def _level(self) -> JsonObject:
        config, warnings = self.config, self.warnings
        words = tuple(word for word in self._abilities.efforts if word in _RANKS[1:-1]) or ("low", "high")
        if config.max_reasoning_tokens is not None:
            warnings.dropped("max_reasoning_tokens", "the model has thinking levels, no thinking budget")
        if self._is_off:
            if not self._abilities.reasoning_off:
                knob = "reasoning" if config.reasoning is False else "reasoning_effort"
                warnings.adjusted(knob, words[0], "its thinking cannot be turned off")
            return {"thinkingLevel": words[0].upper()}
        effort = config.reasoning_effort
        if effort is None or effort == "none":
            return {}
        rank = _RANKS.index(effort)
        nearest = min(words, key=lambda word: abs(_RANKS.index(word) - rank))
        if nearest != effort:
            warnings.adjusted("reasoning_effort", nearest, "it is the nearest level that the model has")
        return {"thinkingLevel": nearest.upper()}


def _declaration(tool: Tool) -> JsonObject:
    """Return a function declaration. A function without parameters has no schema, because some models refuse an object
    without properties."""
    declared: JsonObject = {"name": tool.name}
    if tool.description:
        declared["description"] = tool.description
    if tool.parameters.get("properties") or tool.parameters.keys() - {"type", "properties", "title", "required"}:
        declared["parametersJsonSchema"] = gemini_schema(tool.parameters)
    return declared
