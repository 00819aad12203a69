"""Every name is one of the release's registry, and every span has the attributes that the tables of spans ask for.

The names and tables below were copied from there, only what is used.

Source: https://github.com/open-telemetry/semantic-conventions-genai, docs/gen-ai/client-inference.md,
gen-ai-token-metrics.md, gen-ai-agent-spans.md and model/gen-ai/spans.yaml; for 1.41,
open-telemetry/semantic-conventions, docs/gen-ai (read 2026-11-28)
"""

import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind

from dhenara_async import AIModelCallConfig, ConversationManager, Dialect, Failover, Tool, ToolPolicy
from dhenara_async.calls.telemetry import names
from dhenara_async.calls.telemetry.attributes import error_type, exception_type
from dhenara_async.calls.telemetry.names import NAMES
from dhenara_async.errors import APIError, DhenaraError, InvalidRequestError, RateLimitError, ServerError
from dhenara_async.testing import Answer, ProviderServer, ScriptedError, ScriptedToolCall
from dhenara_async.usage.tokens import Usage
from tests.calls.telemetry.telemetry import Telemetry, attributes_of
from tests.loopback import SPEAKERS, endpoint_at

REGISTRY = {
    "gen_ai.operation.name",
    "gen_ai.provider.name",
    "gen_ai.conversation.id",
    "gen_ai.conversation.compacted",
    "gen_ai.output.type",
    "gen_ai.request.model",
    "gen_ai.request.stream",
    "gen_ai.request.max_tokens",
    "gen_ai.request.temperature",
    "gen_ai.request.top_p",
    "gen_ai.request.top_k",
    "gen_ai.request.seed",
    "gen_ai.request.stop_sequences",
    "gen_ai.request.choice.count",
    "gen_ai.request.reasoning.level",
    "gen_ai.response.id",
    "gen_ai.response.model",
    "gen_ai.response.finish_reasons",
    "gen_ai.response.time_to_first_chunk",
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.cache_write.input_tokens",
    "gen_ai.usage.reasoning.output_tokens",
    "gen_ai.input.messages",
    "gen_ai.output.messages",
    "gen_ai.system_instructions",
    "gen_ai.tool.definitions",
    "gen_ai.tool.name",
    "gen_ai.tool.type",
    "gen_ai.tool.call.id",
    "gen_ai.tool.call.arguments",
    "gen_ai.tool.call.result",
    "gen_ai.token.modality",
    "server.address",
    "server.port",
    "error.type",
    "exception.type",
    "http.response.status_code",
    "gen_ai.invoke_agent.duration",
    "gen_ai.invoke_agent.inference_calls",
    "gen_ai.invoke_agent.tool_calls",
    "gen_ai.execute_tool.duration",
    "gen_ai.client.inference.operation.details",
    "gen_ai.client.inference.duration",
    "gen_ai.client.inference.time_to_first_chunk",
    "gen_ai.client.inference.exception",
    "gen_ai.client.inference.usage.input_tokens",
    "gen_ai.client.inference.usage.output_tokens",
    "gen_ai.client.inference.usage.cache_read.input_tokens",
    "gen_ai.client.inference.usage.cache_write.input_tokens",
    "gen_ai.client.inference.usage.reasoning.output_tokens",
    "gen_ai.client.inference.operation.input_tokens",
    "gen_ai.client.inference.operation.output_tokens",
}
OLDER = {
    *("gen_ai.client.operation.duration", "gen_ai.client.operation.time_to_first_chunk", "gen_ai.client.token.usage"),
    *("gen_ai.client.operation.exception", "gen_ai.usage.cache_creation.input_tokens", "gen_ai.token.type"),
}
PROVIDERS = {
    *("gcp.gemini", "gcp.vertex_ai", "azure.ai.openai", "azure.ai.inference", "aws.bedrock", "mistral_ai", "x_ai"),
}


def test_every_name_is_in_the_registry() -> None:
    constants = {value for name, value in vars(names).items() if name.isupper() and isinstance(value, str)}
    dotted = {value for value in constants if "." in value and not value.startswith("dhenara.")}
    assert dotted <= REGISTRY | {"gen_ai.token.type"}
    for version, allowed in (("0.1.0", REGISTRY), ("1.41", OLDER)):
        known = NAMES[version]  # type: ignore[index] - one of the two
        values = {getattr(known, each.name) for each in fields(known) if each.name not in ("schema_url", "counters")}
        counters = {counter.name for counter in known.counters}
        assert values - {None} | counters <= allowed
    assert set(names.PROVIDERS.values()) == PROVIDERS


def test_no_other_file_spells_a_name() -> None:
    folder = Path(names.__file__).parent
    spelled = {
        path.name: re.findall(r'"(gen_ai\.[\w.]+)"', path.read_text(encoding="utf-8")) for path in folder.glob("*.py")
    }
    assert {name for name, found in spelled.items() if found} == {"names.py"}


Type = type[str] | type[int] | type[float] | type[bool] | type[tuple[str, ...]]
ALWAYS, WITH_REQUEST, WITH_ANSWER, SOMETIMES = "always", "with the request", "with an answer", "sometimes"
INFERENCE: Mapping[str, tuple[Type, str]] = {
    "gen_ai.operation.name": (str, ALWAYS),
    "gen_ai.provider.name": (str, ALWAYS),
    "gen_ai.request.model": (str, ALWAYS),
    "server.address": (str, ALWAYS),
    "server.port": (int, ALWAYS),
    "gen_ai.conversation.id": (str, ALWAYS),
    "gen_ai.response.finish_reasons": (tuple, ALWAYS),
    "gen_ai.output.type": (str, WITH_REQUEST),
    "gen_ai.request.stream": (bool, WITH_REQUEST),
    "gen_ai.request.max_tokens": (int, WITH_REQUEST),
    "gen_ai.request.temperature": (float, SOMETIMES),
    "gen_ai.request.top_p": (float, SOMETIMES),
    "gen_ai.request.top_k": (int, SOMETIMES),
    "gen_ai.request.seed": (int, SOMETIMES),
    "gen_ai.request.stop_sequences": (tuple, SOMETIMES),
    "gen_ai.request.choice.count": (int, SOMETIMES),
    "gen_ai.request.reasoning.level": (str, SOMETIMES),
    "gen_ai.conversation.compacted": (bool, SOMETIMES),
    "gen_ai.response.id": (str, WITH_ANSWER),
    "gen_ai.response.model": (str, WITH_ANSWER),
    "gen_ai.response.time_to_first_chunk": (float, WITH_ANSWER),
    "gen_ai.usage.input_tokens": (int, WITH_ANSWER),
    "gen_ai.usage.output_tokens": (int, WITH_ANSWER),
    "gen_ai.usage.cache_read.input_tokens": (int, SOMETIMES),
    "gen_ai.usage.cache_write.input_tokens": (int, SOMETIMES),
    "gen_ai.usage.reasoning.output_tokens": (int, SOMETIMES),
    "error.type": (str, SOMETIMES),
}
AGENT: Mapping[str, tuple[Type, str]] = {
    "gen_ai.operation.name": (str, ALWAYS),
    "gen_ai.provider.name": (str, ALWAYS),
    "gen_ai.request.model": (str, ALWAYS),
    "gen_ai.conversation.id": (str, ALWAYS),
    "error.type": (str, SOMETIMES),
}
TOOL: Mapping[str, tuple[Type, str]] = {
    "gen_ai.operation.name": (str, ALWAYS),
    "gen_ai.tool.name": (str, ALWAYS),
    "gen_ai.tool.call.id": (str, ALWAYS),
    "gen_ai.tool.type": (str, ALWAYS),
    "error.type": (str, SOMETIMES),
}
SPANS = {"invoke_agent": (AGENT, SpanKind.INTERNAL), "execute_tool": (TOOL, SpanKind.INTERNAL)}
EVERYTHING = AIModelCallConfig(
    max_output_tokens=99,
    temperature=1,
    top_p=1,
    top_k=40,
    seed=7,
    stop=["END"],
    structured_output={"type": "object", "properties": {}},
    streaming=True,
    retries=0,
)
"""Every option that a span tells, as far as the target takes it; whole numbers where the table has a ``double``."""


def check_table(span: ReadableSpan, failed: bool) -> None:
    """Check a span against the table of its kind: nothing due is missing, all else is in the table, and types fit."""
    attributes = attributes_of(span)
    table, kind = SPANS.get(str(attributes["gen_ai.operation.name"]), (INFERENCE, SpanKind.CLIENT))
    assert span.kind is kind
    due = {ALWAYS, WITH_REQUEST, *(() if failed else (WITH_ANSWER,))}
    missing = {name for name, (_, when) in table.items() if when in due} - attributes.keys()
    assert missing == set()
    told = {name: value for name, value in attributes.items() if not name.startswith("dhenara.")}
    assert told.keys() - table.keys() == set()
    assert {name: value for name, value in told.items() if type(value) is not table[name][0]} == {}


@pytest.mark.parametrize("dialect", SPEAKERS)
async def test_every_span_of_a_tool_loop_and_of_a_failure_follows_its_table(dialect: Dialect) -> None:
    def paint(colour: str) -> str:
        """Paint something."""
        raise LookupError(colour)

    telemetry = Telemetry()
    calls = Answer(tool_calls=(ScriptedToolCall("call_1", "paint", '{"colour": "red"}'),))
    counted = Answer(text="{}", usage=Usage(cache_read_tokens=1, cache_write_tokens=2, reasoning_tokens=3))
    config = EVERYTHING.changed(tools=(Tool.from_function(paint),))
    async with ProviderServer([calls, counted, ScriptedError(500, "no")]) as server:
        endpoint = endpoint_at(server, dialect)
        async with ConversationManager(observers=[telemetry.observer()], config=config) as manager:
            conversation = await manager.create()
            await manager.ask(conversation, "Paint!", endpoint, run_tools=ToolPolicy())
            done = len(telemetry.spans)
            with pytest.raises(DhenaraError):
                await manager.ask(conversation, "More!", Failover([endpoint]))
    assert done == 4
    conventional = [span for span in telemetry.spans if "gen_ai.operation.name" in attributes_of(span)]
    assert len(conventional) == 5
    for span in conventional:
        check_table(span, failed=attributes_of(span).get("error.type") is not None)


def test_an_error_type_is_our_class_or_else_the_status() -> None:
    def refused(kind: type[APIError], status: int) -> APIError:
        return kind("no", provider="x", status=status)

    errors = [refused(RateLimitError, 429), refused(ServerError, 502), refused(InvalidRequestError, 402)]
    assert [error_type(error) for error in errors] == ["RateLimitError", "ServerError", "InvalidRequestError"]
    redirected = refused(APIError, 307)  # the class of no status of its own
    assert (error_type(redirected), exception_type(redirected)) == ("307", "APIError")
    assert error_type(LookupError("secret")) == "LookupError"
    assert error_type(None) == "_OTHER"
