"""Every name of OpenTelemetry's GenAI conventions that this library writes, and nothing else. Pure.

The conventions are in development and have renamed much in 2026, so two versions of them are kept: ``0.1.0``, the first
release of the repository of their own, and ``1.41``, the last one inside the general conventions, which most backends
read. No other file spells such a name.

Source: https://github.com/open-telemetry/semantic-conventions-genai, docs/gen-ai/client-inference.md,
gen-ai-token-metrics.md, gen-ai-agent-spans.md and model/gen-ai/*.yaml (read 2026-11-28)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Version = Literal["0.1.0", "1.41"]
"""A version of the conventions."""

# ------------------------------------------------------------------------------------------------ attributes

OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
CONVERSATION: Final = "gen_ai.conversation.id"
COMPACTED: Final = "gen_ai.conversation.compacted"
OUTPUT_TYPE: Final = "gen_ai.output.type"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_STREAM: Final = "gen_ai.request.stream"
REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
REQUEST_TOP_P: Final = "gen_ai.request.top_p"
REQUEST_TOP_K: Final = "gen_ai.request.top_k"
REQUEST_SEED: Final = "gen_ai.request.seed"
REQUEST_STOP: Final = "gen_ai.request.stop_sequences"
REQUEST_CHOICES: Final = "gen_ai.request.choice.count"
REQUEST_REASONING: Final = "gen_ai.request.reasoning.level"
RESPONSE_ID: Final = "gen_ai.response.id"
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
RESPONSE_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
CACHE_READ_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
REASONING_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
SYSTEM_INSTRUCTIONS: Final = "gen_ai.system_instructions"
TOOL_DEFINITIONS: Final = "gen_ai.tool.definitions"
TOOL_NAME: Final = "gen_ai.tool.name"
TOOL_TYPE: Final = "gen_ai.tool.type"
TOOL_CALL_ID: Final = "gen_ai.tool.call.id"
TOOL_ARGUMENTS: Final = "gen_ai.tool.call.arguments"
TOOL_RESULT: Final = "gen_ai.tool.call.result"
TOKEN_MODALITY: Final = "gen_ai.token.modality"  # noqa: S105 - tokens of a model
TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105 - likewise
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
ERROR_TYPE: Final = "error.type"
EXCEPTION_TYPE: Final = "exception.type"
STATUS_CODE: Final = "http.response.status_code"

# ours, where the conventions have no name
OUTCOME: Final = "dhenara.outcome"
"""How a call ended that is neither complete nor failed: ``left``, ``cancelled`` or ``lost``, as observers are told."""
PLAN: Final = "dhenara.plan"
"""The kind of plan over several endpoints."""
CALLS: Final = "dhenara.fan_out.calls"
"""Number of calls of a fan-out."""
CALLS_FAILED: Final = "dhenara.fan_out.failed"
"""Number of them that ended without a complete answer."""
TURN: Final = "dhenara.turn.id"
"""The id of the turn, which is that of its node."""
LOOP: Final = "dhenara.loop.id"
"""The id of the tool loop."""
ATTEMPT: Final = "dhenara.attempt"
"""The event of a request that failed, and the attribute with its number."""
ATTEMPTS: Final = "dhenara.attempts"
"""Number of requests, where there was more than one."""
REQUEST_ID: Final = "dhenara.request_id"
"""The provider's id of the request, to quote to its support."""
TRUNCATED: Final = "dhenara.content.truncated"
"""Whether prompts or answers were cut, because they are too large."""

# ------------------------------------------------------------------------------------------------ values

CHAT: Final = "chat"
GENERATE_CONTENT: Final = "generate_content"
INVOKE_AGENT: Final = "invoke_agent"
EXECUTE_TOOL: Final = "execute_tool"
JSON: Final = "json"
FAN_OUT: Final = "fan_out"
FUNCTION: Final = "function"
UNKNOWN_MODALITY: Final = "unknown"
AUDIO_MODALITY: Final = "audio"
ERROR_FINISH: Final = "error"
OTHER_ERROR: Final = "_OTHER"
TOOL_ERROR: Final = "tool_error"
"""The type of an error that a tool told in its result, without an exception."""

PROVIDERS: Final[Mapping[str, str]] = {
    "google_ai": "gcp.gemini",
    "google_vertex_ai": "gcp.vertex_ai",
    "microsoft_openai": "azure.ai.openai",
    "microsoft_foundry": "azure.ai.inference",
    "amazon_bedrock": "aws.bedrock",
    "mistral": "mistral_ai",
    "xai": "x_ai",
}
"""The conventions' names of providers, where they differ from ours."""

FINISH_REASONS: Final[Mapping[str, str]] = {"tool_calls": "tool_call", "context_window": "length"}
"""The conventions' words for finish reasons, where they differ from ours."""

# ------------------------------------------------------------------------------------------------ metrics and events

INFERENCE_CALLS: Final = "gen_ai.invoke_agent.inference_calls"
TOOL_CALLS: Final = "gen_ai.invoke_agent.tool_calls"
AGENT_DURATION: Final = "gen_ai.invoke_agent.duration"
TOOL_DURATION: Final = "gen_ai.execute_tool.duration"
DETAILS_EVENT: Final = "gen_ai.client.inference.operation.details"

SECONDS_BUCKETS: Final = tuple(0.01 * 2**power for power in range(14))
"""Bounds in seconds, up to 81.92."""
AGENT_SECONDS_BUCKETS: Final = tuple(0.1 * 2**power for power in range(13))
"""Bounds in seconds for a whole tool loop, up to 409.6."""
TOKEN_BUCKETS: Final = tuple(4.0**power for power in range(14))
COUNT_BUCKETS: Final = tuple(2.0**power for power in range(8))


@dataclass(frozen=True, slots=True)
class TokenCounter:
    """A counter of one kind of tokens.

    Attributes:
        name: Its name.
        field: The field of ``Usage`` that it counts.
        audio: The field of ``Usage`` with the part of it that was audio; None = there is none.
    """

    name: str
    field: str
    audio: str | None = None


@dataclass(frozen=True, slots=True)
class Names:
    """The names that differ between the versions.

    Attributes:
        schema_url: Where the version is published; None = it has no address yet.
        duration: The histogram of seconds of a call.
        first_chunk: The histogram of seconds until the first content.
        exception: The event of a failure.
        cache_write_tokens: The attribute of tokens written to a cache.
        counters: The counters of tokens; empty = ``token_usage`` is used.
        token_usage: The histogram of tokens, for input and output by the attribute ``TOKEN_TYPE``; None = ``counters``.
        input_distribution: The histogram of input tokens of a call; None = ``token_usage`` has them.
        output_distribution: Likewise of output tokens.
    """

    schema_url: str | None
    duration: str
    first_chunk: str
    exception: str
    cache_write_tokens: str
    counters: tuple[TokenCounter, ...] = ()
    token_usage: str | None = None
    input_distribution: str | None = None
    output_distribution: str | None = None


NAMES: Final[Mapping[Version, Names]] = {
    "0.1.0": Names(
        schema_url=None,
        duration="gen_ai.client.inference.duration",
        first_chunk="gen_ai.client.inference.time_to_first_chunk",
        exception="gen_ai.client.inference.exception",
        cache_write_tokens="gen_ai.usage.cache_write.input_tokens",
        counters=(
            TokenCounter("gen_ai.client.inference.usage.input_tokens", "input_tokens", "input_audio_tokens"),
            TokenCounter("gen_ai.client.inference.usage.output_tokens", "output_tokens", "output_audio_tokens"),
            TokenCounter("gen_ai.client.inference.usage.cache_read.input_tokens", "cache_read_tokens"),
            TokenCounter("gen_ai.client.inference.usage.cache_write.input_tokens", "cache_write_tokens"),
            TokenCounter("gen_ai.client.inference.usage.reasoning.output_tokens", "reasoning_tokens"),
        ),
        input_distribution="gen_ai.client.inference.operation.input_tokens",
        output_distribution="gen_ai.client.inference.operation.output_tokens",
    ),
    "1.41": Names(
        schema_url="https://opentelemetry.io/schemas/1.41.0",
        duration="gen_ai.client.operation.duration",
        first_chunk="gen_ai.client.operation.time_to_first_chunk",
        exception="gen_ai.client.operation.exception",
        cache_write_tokens="gen_ai.usage.cache_creation.input_tokens",
        token_usage="gen_ai.client.token.usage",  # noqa: S106 - likewise
    ),
}
