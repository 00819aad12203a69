"""Requests of OpenAI Chat Completions and its compatible hosts.

Hosts differ by ``Quirks``, which are data in their row of ``hosts``; no code here depends on a host's name.

Source: https://platform.openai.com/docs/api-reference/chat and the types of the ``openai`` package 3.54 (read
2026-11-22)
"""

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

from dhenara_async.config import AIModelCallConfig, PromptCache
from dhenara_async.drivers.base import Decoder, JsonObject, KnobWarnings, as_list, is_object, wire
from dhenara_async.drivers.failures import error_object
from dhenara_async.drivers.openai_chat.content import encode_messages, rules
from dhenara_async.drivers.openai_chat.decode import ChatDecoder
from dhenara_async.drivers.openai_chat.quirks import OPENAI, Quirks
from dhenara_async.drivers.openai_chat.reading import CHAT_REQUEST_ID_HEADERS, chat_error
from dhenara_async.drivers.openai_schema import asks_for_json, fits_openai_strict, openai_schema
from dhenara_async.drivers.rules import Rules
from dhenara_async.endpoint import AIModel, AIModelEndpoint
from dhenara_async.errors import APIError
from dhenara_async.framing.lenient_json import dumps
from dhenara_async.messages.messages import Origin
from dhenara_async.models.families import capabilities
from dhenara_async.request import ChatRequest, WireRequest
from dhenara_async.tools.declarations import HostedTool, JsonSchema, NamedTool, Tool
from dhenara_async.tools.schemas import output_schema

MAX_STOPS = 4

_SCALE = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_REFUSED = "the model refuses it while it reasons"
# OpenAI models that take functions here at any reasoning effort, and models that need the effort left out beside
# functions.
_CALLS_FREELY = re.compile(
    r"(ft:)?(o\d|gpt-[34]|gpt-5(-|$)|gpt-5\.[123](-|$)|gpt-(audio|realtime)|codex-|computer-use)"
)
_CALLS_UNASKED = re.compile(r"gpt-5\.[45](-|$)")
_JSON_ONLY = "Answer with one JSON object and nothing else. It must follow this JSON schema:\n"


class OpenAIChatDriver:
    """Driver of Chat Completions.

    Args:
        quirks: The host's differences.
    """

    request_id_headers: ClassVar[tuple[str, ...]] = CHAT_REQUEST_ID_HEADERS

    def __init__(self, quirks: Quirks = OPENAI) -> None:
        self._quirks = quirks

    def encode(self, request: ChatRequest, endpoint: AIModelEndpoint) -> WireRequest:
        return _RequestEncoder(request, endpoint.ai_model, self._quirks).encode()

    def decoder(self, request: ChatRequest, origin: Origin) -> Decoder:
        return ChatDecoder(request, origin, self._quirks)

    def error(self, status: int, headers: Mapping[str, str], body: bytes, *, provider: str) -> APIError:
        return chat_error(status, headers, body, error_object(body), provider)

    def rules(self, endpoint: AIModelEndpoint) -> Rules:
        return rules(self._quirks, endpoint.ai_model)


class _RequestEncoder:
    """Encodes one request."""

    def __init__(self, request: ChatRequest, model: AIModel, quirks: Quirks) -> None:
        self._request = request
        self._config = request.config
        self._name = model.model_name
        self._can = capabilities(model)
        self._quirks = quirks
        self._warnings = KnobWarnings(model.model_name)
        self._body: JsonObject = {"model": model.model_name, "messages": []}

    def encode(self) -> WireRequest:
        functions = self._tools()
        reasoning = self._reasoning(bool(functions))
        self._tool_choice(functions, reasoning)
        instructions = (*self._request.instructions, *self._structured())
        leader = "developer" if self._quirks.developer_role and self._can.developer_role else "system"
        self._body["messages"] = encode_messages(
            self._request.messages, instructions, self._quirks, leader=leader, model=self._name
        )
        self._sampling(reasoning)
        self._limits()
        self._labels()
        if self._request.stream:
            self._body["stream"] = True
            if self._quirks.stream_options:
                self._body["stream_options"] = {"include_usage": True}
        return wire("/chat/completions", self._body, self._config, self._warnings, {})

    def _put(self, knob: str, field: str, value: object) -> None:
        """Send ``value`` as ``field`` if the host has that field; warn otherwise."""
        if value is None:
            return
        if field in self._quirks.lacks:
            self._warnings.dropped(knob, f"this API has no {field}")
        else:
            self._body[field] = value

    # ------------------------------------------------------------------------------------------------ plain knobs

    def _sampling(self, reasoning: bool | None) -> None:
        config, warnings, samples = self._config, self._warnings, self._can.samples(reasoning)
        if warnings.drop_unless(samples, config, ("temperature", "top_p", "top_logprobs"), _REFUSED):
            if config.temperature is not None:
                self._body["temperature"] = warnings.clamp("temperature", config.temperature, 2.0)
            if config.top_p is not None:
                self._body["top_p"] = config.top_p
            self._logprobs(config.top_logprobs)
        if warnings.drop_unless(self._quirks.top_k, config, ("top_k",), "this API has no top_k") and config.top_k:
            self._body["top_k"] = config.top_k

    def _logprobs(self, count: int | None) -> None:
        if count is None:
            return
        if self._quirks.counted_logprobs:
            self._put("top_logprobs", "logprobs", count)
        elif "logprobs" in self._quirks.lacks:
            self._put("top_logprobs", "logprobs", True)
        else:
            self._body |= {"logprobs": True, "top_logprobs": count}

    def _limits(self) -> None:
        config, warnings = self._config, self._warnings
        if config.max_output_tokens is not None:
            self._body[self._quirks.max_tokens_field] = config.max_output_tokens
        if warnings.drop_unless(self._can.seed, config, ("seed",), "the model refuses it"):
            self._put("seed", self._quirks.seed_field, config.seed)
        if warnings.drop_unless(self._can.stop, config, ("stop",), "the model refuses it") and config.stop:
            if len(config.stop) > MAX_STOPS:
                warnings.adjusted("stop", list(config.stop[:MAX_STOPS]), f"the API takes at most {MAX_STOPS}")
            self._body["stop"] = list(config.stop[:MAX_STOPS])
        if config.n != 1:  # the default of every host
            self._put("n", "n", config.n)

    def _labels(self) -> None:
        config = self._config
        self._put("metadata", "metadata", dict(config.metadata) or None)
        self._put("user_id", self._quirks.user_field, config.user_id)
        self._put("service_tier", "service_tier", config.service_tier)
        cache = config.prompt_cache
        if isinstance(cache, PromptCache):  # caching itself is automatic
            self._put("prompt_cache", "prompt_cache_key", cache.key)
            if cache.ttl is not None:
                self._warnings.dropped("prompt_cache", "this API has no setting for the lifetime of its cache")

    # ------------------------------------------------------------------------------------------------ tools

    def _tools(self) -> list[Tool]:
        """Encode the tools; returns the functions among them."""
        functions = [tool for tool in self._config.tools if isinstance(tool, Tool)]
        if self._config.tool_choice == "none" and not self._quirks.tool_choice:
            functions = []  # a host without tool_choice only avoids calls if no functions are declared
        if functions:
            self._body["tools"] = [self._function(tool) for tool in functions]
        for tool in self._config.tools:
            if isinstance(tool, HostedTool):
                self._hosted(tool)
        if functions:
            self._put("parallel_tool_calls", "parallel_tool_calls", self._config.parallel_tool_calls)
        elif self._config.parallel_tool_calls is not None:
            self._warnings.dropped("parallel_tool_calls", "there is no function to call")
        return functions

    def _function(self, tool: Tool) -> JsonObject:
        function: JsonObject = {"name": tool.name}
        if tool.description:
            function["description"] = tool.description
        strict = bool(tool.strict) and self._quirks.strict_tools
        if strict and not fits_openai_strict(tool.parameters):
            self._warnings.adjusted("tools", f"{tool.name} without strict", "strict mode does not support its schema")
            strict = False
        function["parameters"] = openai_schema(tool.parameters) if strict else tool.parameters
        if tool.strict is not None and self._quirks.strict_tools:
            function["strict"] = strict
        elif tool.strict:
            self._warnings.dropped("tools", f"this API enforces no schema on arguments, so {tool.name!r} is not strict")
        return {"type": "function", "function": function}

    def _hosted(self, tool: HostedTool) -> None:
        if tool.type == "web_search" and self._quirks.web_search == "plugin":
            self._body["plugins"] = [{"id": "web", **tool.options}]
        elif tool.type == "raw":
            self._body["tools"] = [*as_list(self._body.get("tools")), {**tool.options}]
        elif tool.type == "web_search" and self._quirks.web_search == "options" and "search" in self._name:
            self._body["web_search_options"] = dict(tool.options)
        else:
            self._warnings.dropped("tools", f"there is no {tool.type} for this model in Chat Completions")

    def _tool_choice(self, functions: list[Tool], reasoning: bool | None) -> None:
        choice = self._config.tool_choice
        if choice is None or (choice in ("auto", "none") and not (functions and self._quirks.tool_choice)):
            return
        if not functions:
            self._warnings.dropped("tool_choice", "there is no function to call")
        elif not self._quirks.tool_choice:
            self._warnings.dropped("tool_choice", "this API has no tool choice")
        elif choice in ("auto", "none"):
            self._body["tool_choice"] = choice
        elif not self._can.forces(reasoning):
            self._body["tool_choice"] = "auto"
            self._warnings.adjusted("tool_choice", "auto", "the model cannot be forced to call a tool while it reasons")
        elif isinstance(choice, NamedTool):
            self._body["tool_choice"] = {"type": "function", "function": {"name": choice.name}}
        else:
            self._body["tool_choice"] = self._quirks.required_word

    # ------------------------------------------------------------------------------------------------ structured output

    def _structured(self) -> Sequence[str]:
        """Encode structured output; returns instructions to add for the model."""
        wanted = output_schema(self._config)
        if wanted is None:
            return ()
        quirks = self._quirks
        texts = (message.get_text() for message in self._request.messages)
        if asks_for_json(wanted.schema, (*self._request.instructions, *texts)):
            self._body["response_format"] = {"type": "json_object"}
            return ()
        if not (quirks.schemas == "host" or (quirks.schemas == "model" and self._can.structured_output)):
            self._body["response_format"] = {"type": "json_object"}
            self._warnings.adjusted("structured_output", "json_object", "it can enforce JSON, but no schema")
            return (_JSON_ONLY + dumps(wanted.schema).decode(),)
        schema: dict[str, str | bool | JsonSchema] = {"name": wanted.name, "schema": openai_schema(wanted.schema)}
        if quirks.strict_tools:
            schema["strict"] = fits_openai_strict(wanted.schema)
            if not schema["strict"]:
                self._warnings.adjusted("structured_output", "a guide", "strict mode does not support this schema")
        self._body["response_format"] = {"type": "json_schema", "json_schema": schema}
        if quirks.require_parameters:
            self._body["provider"] = {"require_parameters": True}
        return ()

    # ------------------------------------------------------------------------------------------------ reasoning

    def _reasoning(self, calls: bool) -> bool | None:
        """Encode the reasoning settings; returns whether the call now requests reasoning, forbids it, or leaves it
        open."""
        config = self._config
        wanted = _wanted(config)
        if self._can.reasoning == "none":
            if wanted:
                knobs = ("reasoning", "reasoning_effort", "max_reasoning_tokens")
                self._warnings.drop_unless(False, config, knobs, "the model does not reason")
            if config.reasoning_summary not in (None, "none"):
                self._warnings.dropped("reasoning_summary", "the model does not reason")
            return None
        if calls and self._quirks.tools_stop_reasoning and self._can.developer_role:
            stopped = self._reasoning_beside_functions(wanted)
            if stopped is not None:
                return stopped
        self._reasoning_format(wanted)
        budget = config.max_reasoning_tokens
        if budget and not (self._quirks.thinking_budget and wanted):
            self._warnings.dropped("max_reasoning_tokens", "this API has no limit on reasoning tokens")
            budget = None
        if wanted is None:
            return None
        return _SPELL[self._quirks.thinking](self, wanted, budget or None)

    def _reasoning_beside_functions(self, wanted: bool | None) -> bool | None:
        """Return the reasoning setting beside functions; None = both can be combined.

        Newer OpenAI models either call functions or reason in Chat Completions; Responses supports both.
        """
        if _CALLS_FREELY.match(self._name):
            return None
        why = "in Chat Completions it does not reason beside functions; use Responses for both"
        if _CALLS_UNASKED.match(self._name):
            if wanted:
                self._warnings.dropped("reasoning_effort", why)
            return False
        self._body["reasoning_effort"] = "none"
        if wanted is not False:
            self._warnings.adjusted("reasoning_effort", "none", why)
        return False

    def _reasoning_format(self, wanted: bool | None) -> None:
        """Encode where the reasoning is to appear."""
        summary, quirks = self._config.reasoning_summary, self._quirks
        if quirks.reasoning_format:
            oss = "gpt-oss" in self._name  # always in a field of its own
            if summary == "none" and oss and "include_reasoning" not in quirks.lacks:
                self._body["include_reasoning"] = False
            elif summary == "none":
                self._body["reasoning_format"] = "hidden"
            elif not oss and (wanted or (summary is not None and wanted is None)):
                self._body["reasoning_format"] = "parsed"
        elif summary == "none" and quirks.thinking == "object":
            self._body["reasoning"] = {"exclude": True}
        elif summary == "none" and quirks.reasoning_back is not None:
            self._warnings.dropped("reasoning_summary", "this API always shows its reasoning")
        if summary in ("concise", "detailed") or (summary == "auto" and quirks.tools_stop_reasoning):
            self._warnings.dropped("reasoning_summary", "Chat Completions has no summaries")

    def _supported_efforts(self) -> list[str]:
        """Return the efforts that both model and host support, lowest first."""
        host = next((words for begin, words in self._quirks.efforts_of if self._name.startswith(begin)), None)
        host = self._quirks.efforts if host is None else host
        known = self._can.efforts or (_SCALE if self._can.reasoning != "effort" else ())
        return [word for word in known if not host or word in host]

    def _effort(self, *, off: bool) -> str | None:
        """Return the supported effort nearest to the requested one; None = send none."""
        words, wanted = self._supported_efforts(), self._config.reasoning_effort
        if off:
            if "none" in words:
                return "none"
            if not words:
                self._warnings.dropped("reasoning", "the model always reasons")
                return None
            self._warnings.adjusted("reasoning", words[0], "the model always reasons")
            return words[0]
        levels = [word for word in words if word != "none" and word in _SCALE]
        if not levels:
            if wanted is not None:
                self._warnings.dropped("reasoning_effort", "it has no effort levels")
            return None
        word = _nearest(wanted or "medium", levels)
        if wanted is not None and word != wanted:
            self._warnings.adjusted("reasoning_effort", word, "the nearest it knows")
        return word

    def spell_effort(self, wanted: bool, _budget: int | None) -> bool:
        word = self._effort(off=not wanted)
        if word is not None:
            self._body["reasoning_effort"] = word
        return wanted or word != "none"

    def spell_thinking(self, wanted: bool, budget: int | None) -> bool:
        if not wanted and not self._can.reasoning_off:
            self._warnings.dropped("reasoning", "the model always reasons")
            return True
        self._body["thinking"] = {"type": "enabled" if wanted else "disabled"}
        if budget is not None:
            self._body["thinking"] = {"type": "enabled", "budget_tokens": budget}
        if wanted and self._config.reasoning_effort is not None:
            word = self._effort(off=False)
            if word is not None:
                self._body["reasoning_effort"] = word
        return wanted

    def spell_flag(self, wanted: bool, _budget: int | None) -> bool:
        if not wanted and not self._can.reasoning_off:
            return self.spell_effort(wanted, None)
        self._body["reasoning"] = {"enabled": wanted}
        if wanted and self._config.reasoning_effort is not None:
            self.spell_effort(wanted, None)
        return wanted

    def spell_object(self, wanted: bool, budget: int | None) -> bool:
        shown = self._body.get("reasoning")
        inner: JsonObject = dict(shown) if is_object(shown) else {}
        word = None if budget is not None else self._effort(off=not wanted)
        if budget is not None:
            inner["max_tokens"] = budget
            if self._config.reasoning_effort is not None:
                self._warnings.dropped("reasoning_effort", "this API takes either an effort or a number of tokens")
        elif word is not None:
            inner["effort"] = word
        if inner:
            self._body["reasoning"] = inner
        return wanted or word != "none"


_SPELL = {
    "effort": _RequestEncoder.spell_effort,
    "effort and thinking": _RequestEncoder.spell_thinking,
    "effort and flag": _RequestEncoder.spell_flag,
    "object": _RequestEncoder.spell_object,
}


def _wanted(config: AIModelCallConfig) -> bool | None:
    """Return whether reasoning is requested, forbidden, or (None) left open."""
    if config.reasoning is False or config.reasoning_effort == "none" or config.max_reasoning_tokens == 0:
        return False
    if config.reasoning or config.reasoning_effort is not None or config.max_reasoning_tokens is not None:
        return True
    return None


def _nearest(wanted: str, words: Sequence[str]) -> str:
    """Return the effort nearest to ``wanted``; of two equally near, the one nearer to ``high``."""
    place, high = _SCALE.index(wanted), _SCALE.index("high")
    return min(words, key=lambda word: (abs(_SCALE.index(word) - place), abs(_SCALE.index(word) - high)))
