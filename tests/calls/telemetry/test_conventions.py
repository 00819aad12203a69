"""Every name is one of the release's registry; the names below were copied from there, only those that are used.

Source: https://github.com/open-telemetry/semantic-conventions-genai, docs/gen-ai/client-inference.md,
gen-ai-token-metrics.md and gen-ai-agent-spans.md; for 1.41, open-telemetry/semantic-conventions, docs/gen-ai
(read 2026-11-28)
"""

import re
from dataclasses import fields
from pathlib import Path

from dhenara_async.calls.telemetry import names
from dhenara_async.calls.telemetry.names import NAMES

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
