"""Each rule of the table finds a request that breaks it, and finds nothing in one that is right."""

import ast
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import cast

import orjson
import pytest

from tests import replay_rules
from tests.replay_rules import JSON, RULES, Request, Wire, violations

_CALL: JSON = {"id": "callabcde", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
_CHAT: list[JSON] = [
    {"role": "system", "content": "Be exact."},
    {"role": "user", "content": "Hi."},
    {"role": "assistant", "content": None, "tool_calls": [_CALL]},
    {"role": "tool", "tool_call_id": "callabcde", "content": "22"},
    {"role": "assistant", "content": "It is 22."},
    {
        "role": "user",
        "content": [{"type": "text", "text": "And?"}, {"type": "image_url", "image_url": {"url": "data:"}}],
    },
]
_THINKING: JSON = {"type": "thinking", "thinking": "", "signature": "sealed"}
_ANTHROPIC: list[JSON] = [
    {"role": "user", "content": [{"type": "text", "text": "Hi."}]},
    {
        "role": "assistant",
        "content": [
            _THINKING,
            {"type": "redacted_thinking", "data": "sealed"},
            {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"thoughtSignature": 1}},
            {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
            {"type": "text", "text": "So.", "citations": [{"type": "x"}]},
            {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}},
            {"type": "tool_use", "id": "toolu_2", "name": "weather", "input": {}},
        ],
    },
    {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "toolu_1", "content": "22"},
            {
                "type": "tool_result",
                "tool_use_id": "toolu_2",
                "content": [{"type": "text", "text": "no"}],
                "is_error": True,
            },
            {"type": "text", "text": "And?"},
        ],
    },
]
_RESPONSES: list[JSON] = [
    {"role": "user", "content": [{"type": "input_text", "text": "Hi."}]},
    {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "sealed"},
    {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}"},
    {"type": "function_call", "call_id": "call_2", "name": "weather", "arguments": '{"tool_calls": 1}'},
    {"type": "function_call_output", "call_id": "call_2", "output": [{"type": "input_text", "text": "22"}]},
    {"type": "function_call_output", "call_id": "call_1", "output": "22"},
    {"role": "assistant", "content": "It is 22."},
    {"role": "developer", "content": [{"type": "input_text", "text": "Be exact."}]},
    {"role": "user", "content": [{"type": "input_text", "text": "And?"}]},
]
_GEMINI: list[JSON] = [
    {"role": "user", "parts": [{"text": "Hi."}]},
    {
        "role": "model",
        "parts": [
            {"text": "", "thoughtSignature": "sealed"},
            {"functionCall": {"id": "1", "name": "weather", "args": {"tool_calls": 1}}, "thoughtSignature": "sealed"},
            {"functionCall": {"id": "2", "name": "time", "args": {}}},
        ],
    },
    {
        "role": "user",
        "parts": [
            {"functionResponse": {"id": "1", "name": "weather", "response": {"output": "22"}}},
            {
                "functionResponse": {
                    "id": "2",
                    "name": "time",
                    "response": {"output": "now"},
                    "parts": [{"inlineData": {"mimeType": "image/png", "data": "aa"}}],
                }
            },
            {"text": "And?"},
        ],
    },
]

_KEYS: Mapping[Wire, str] = {"anthropic": "messages", "responses": "input", "gemini": "contents", "chat": "messages"}
_ASKED: Mapping[Wire, tuple[str, str, list[JSON]]] = {
    "anthropic": ("anthropic", "claude-sonnet-5-5", _ANTHROPIC),
    "responses": ("openai", "gpt-6.2-sol", _RESPONSES),
    "gemini": ("google_ai", "gemini-3.8-flash", _GEMINI),
    "chat": ("openai", "gpt-5", _CHAT),
}

Change = list[JSON] | tuple[object, ...] | JSON
"""Messages instead of the right ones; or where a value stands, and the value; or what is in the body besides."""


def _body(wire: Wire, messages: list[JSON], change: Change, host: str) -> bytes:
    messages = deepcopy(messages)
    body: JSON = {"store": False} if wire == "responses" else {}
    if isinstance(change, dict):
        body |= change
    elif isinstance(change, list):
        messages = change
    elif change:
        *path, last, value = change
        place: object = messages
        for step in path:
            place = cast("dict[object, object]", place)[step]
        cast("dict[object, object]", place)[last] = value
    if host == "deepseek" and not isinstance(change, list):
        for message in messages:
            if message["role"] == "assistant":
                message.setdefault("reasoning_content", "")
    return orjson.dumps({_KEYS[wire]: messages, **body})


_USER: JSON = {"role": "user", "content": "Hi."}
_ASSISTANT: JSON = {"role": "assistant", "content": "Hi."}
_SAID = [{"type": "text", "text": "Hi."}]
_TOOLS: JSON = {"tools": [{"type": "function", "function": {"name": "weather"}}]}

_LOOP: list[JSON] = [
    _USER,
    {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "22"}]},
]

# Rule, wire, host, model, what is changed. An empty host or model is the usual one.
_BROKEN: list[tuple[str, Wire, str, str, Change]] = [
    ("foreign state", "chat", "", "", (1, "content", "They said: SECRET!")),
    ("foreign state", "anthropic", "", "", (1, "content", 5, "input", {"deep": ["SECRET"]})),
    ("foreign words", "chat", "", "", (4, "thoughtSignature", "x")),
    ("foreign words", "gemini", "", "", (1, "parts", 0, {"text": "x", "encrypted_content": "x"})),
    ("foreign words", "responses", "", "", (6, "tool_calls", [])),
    ("foreign words", "anthropic", "", "", (1, "content", 4, "provider_state", {})),
    ("nothing asked", "chat", "", "", []),
    ("E-A1", "anthropic", "", "", (2, "content", [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "22"}])),
    ("E-A1", "anthropic", "", "", (2, "content", 0, {"type": "text", "text": "First words."})),
    ("E-A2", "anthropic", "", "", (0, "content", [{"type": "tool_result", "tool_use_id": "toolu_1"}])),
    ("E-A3", "anthropic", "", "claude-haiku-4-5", {"thinking": {"type": "enabled"}, "messages": _LOOP}),
    ("E-A4", "anthropic", "", "", (1, "content", 0, "cache_control", {"type": "ephemeral"})),
    ("E-A4", "anthropic", "", "", (1, "content", 0, "signature", "")),
    ("E-A4", "anthropic", "", "", (1, "content", 1, "data", "")),
    ("E-A5", "anthropic", "", "", (1, "content", 0, "signature", "SECRET")),
    ("E-A5", "anthropic", "", "", (1, "content", 1, "data", "SECRET")),
    ("E-A6", "anthropic", "", "", (0, "content", " \n")),
    ("E-A6", "anthropic", "", "", (2, "content", 2, "text", "")),
    ("E-A6", "anthropic", "", "", (2, "content", 1, "content", [])),
    ("E-A6", "anthropic", "", "", (2, "content", 0, "content", " ")),
    ("E-A6", "anthropic", "", "", (0, "content", [])),
    ("E-A6", "anthropic", "", "", {"system": [{"type": "text", "text": " "}]}),
    ("E-A7", "anthropic", "", "", [_USER, _ASSISTANT]),
    ("E-A7", "anthropic", "", "claude-haiku-4-5", [_USER, {"role": "assistant", "content": "Hi "}]),
    ("E-A8", "anthropic", "", "", {"temperature": 1}),
    ("E-A9", "anthropic", "", "", (0, "role", "system")),
    ("E-A10", "anthropic", "", "claude-fable-5-1", {"tool_choice": {"type": "any"}}),
    ("E-A12", "anthropic", "", "", (1, "content", 2, {"type": "text", "text": "Gone."})),
    ("E-A12", "anthropic", "", "", (1, "content", 3, {"type": "text", "text": "Gone."})),
    ("E-A13", "anthropic", "", "", (1, "content", 4, {"type": "document", "source": {}})),
    ("E-A13", "anthropic", "", "", (1, "content", 4, {"type": "image", "source": {}})),
    ("E-A13", "anthropic", "", "", (2, "content", 2, "citations", [{}])),
    ("E-A13", "anthropic", "", "", (2, "content", 2, _THINKING)),
    ("turns", "anthropic", "", "", [_ASSISTANT, _USER]),
    ("turns", "anthropic", "", "", [_USER, _USER]),
    (
        "E-X1",
        "anthropic",
        "",
        "claude-haiku-4-5",
        [_USER, {"role": "system", "content": "Be exact."}, _ASSISTANT, _USER],
    ),
    ("E-X1", "anthropic", "", "", [_USER, _ASSISTANT, {"role": "tool", "content": "22"}]),
    ("call ids", "anthropic", "", "", (1, "content", 6, "id", "toolu_1")),
    ("call ids", "anthropic", "", "", (1, "content", 6, "id", "srvtoolu_2")),
    ("call ids", "anthropic", "", "", (1, "content", 6, "id", "call|2")),
    ("call ids", "anthropic", "", "", (1, "content", 6, "id", "x" * 65)),
    ("names", "anthropic", "", "", (1, "content", 5, "name", "get.weather")),
    ("arguments", "anthropic", "", "", (1, "content", 5, "input", "{}")),
    ("E-O1", "responses", "", "", (2, {"role": "user", "content": "Hi."})),
    ("E-O1", "responses", "", "", [_USER, _RESPONSES[1]]),
    ("E-O1", "responses", "", "", (2, _RESPONSES[4])),
    ("E-O2", "responses", "", "", (2, "id", "fc_1")),
    ("E-O2", "responses", "", "", (6, "id", "msg_1")),
    ("E-O3", "responses", "", "", (1, "encrypted_content", None)),
    ("E-O3", "responses", "", "", (1, "encrypted_content", "SECRET")),
    ("E-O4", "responses", "", "", (1, "content", [])),
    ("E-O4", "responses", "", "", (1, "summary", None)),
    ("E-O5", "responses", "", "", (2, "call_id", "x" * 65)),
    ("E-O5", "responses", "", "", (2, "call_id", "")),
    ("call ids", "responses", "", "", (3, "call_id", "call_1")),
    ("E-O7", "responses", "", "", (5, {"role": "assistant", "content": "No output."})),
    ("E-O7", "responses", "", "", (2, {"role": "assistant", "content": "No call."})),
    ("E-O7", "responses", "", "", (5, "type", "custom_tool_call_output")),
    ("E-O7", "responses", "", "", (4, {"role": "user", "content": "Before the outputs."})),
    ("stored", "responses", "", "", {"previous_response_id": "resp_1"}),
    ("stored", "responses", "", "", {"store": True}),
    ("stored", "responses", "", "", (1, {"type": "item_reference", "id": "rs_1"})),
    ("places", "responses", "", "", (0, "content", 0, "type", "output_text")),
    ("places", "responses", "", "", (6, "content", [{"type": "input_image"}])),
    ("places", "responses", "", "", (4, "output", 0, "type", "text")),
    ("arguments", "responses", "", "", (2, "arguments", {})),
    ("arguments", "responses", "", "", (2, "arguments", "")),
    ("names", "responses", "", "", (2, "name", "")),
    ("foreign items", "responses", "", "", (1, "id", "thinking_1")),
    ("E-O9", "responses", "", "", {"stop": ["x"]}),
    ("E-G1", "gemini", "", "", (1, "parts", 1, "thoughtSignature", "")),
    ("stand-ins", "gemini", "", "", (1, "parts", 2, "thoughtSignature", "skip_thought_signature_validator")),
    ("stand-ins", "gemini", "", "", (1, "parts", 0, "thoughtSignature", "skip_thought_signature_validator")),
    ("E-G3", "gemini", "", "", (2, "parts", 1, {"text": "One is missing."})),
    ("E-G3", "gemini", "", "", (2, "parts", 0, "functionResponse", "name", "time")),
    ("E-G3", "gemini", "", "", (2, "parts", 0, "functionResponse", "id", "2")),
    ("E-G3", "gemini", "", "", [*_GEMINI[:1], _GEMINI[2]]),
    ("E-G3", "gemini", "", "", _GEMINI[:2]),
    ("E-G4", "gemini", "", "", _GEMINI[1:]),
    ("E-G4", "gemini", "", "", [*_GEMINI[:1], *_GEMINI]),
    ("E-G4", "gemini", "", "", (0, "role", "system")),
    ("E-G4", "gemini", "", "", (1, "role", "user")),
    ("E-G5", "gemini", "", "gemini-2.5-flash", {"toolConfig": {"includeServerSideToolInvocations": True}}),
    ("no blanks", "gemini", "", "", (0, "parts", [])),
    ("no blanks", "gemini", "", "", (0, "parts", 0, "text", "\n")),
    ("arguments", "gemini", "", "", (1, "parts", 2, "functionCall", "args", "{}")),
    ("arguments", "gemini", "", "", (2, "parts", 0, "functionResponse", "response", "22")),
    ("names", "gemini", "", "", (1, "parts", 2, "functionCall", "name", "9lives")),
    ("call ids", "gemini", "", "", (1, "parts", 2, "functionCall", "id", "1")),
    ("media in results", "gemini", "", "gemini-2.5-flash", ()),
    (
        "media in results",
        "gemini",
        "",
        "",
        (2, "parts", 1, "functionResponse", "parts", 0, "inlineData", "mimeType", "audio/wav"),
    ),
    ("pairs", "chat", "", "", (3, {"role": "user", "content": "No result."})),
    ("pairs", "chat", "", "", (2, {"role": "assistant", "content": "No call."})),
    ("pairs", "chat", "", "", _CHAT[:3]),
    ("pairs", "chat", "", "", (2, "role", "user")),
    ("E-O6", "chat", "", "", (2, "tool_calls", 0, "id", "x" * 41)),
    ("E-O6", "chat", "groq", "", (2, "tool_calls", 0, "id", "x" * 65)),
    ("E-O6", "chat", "", "", (3, "tool_call_id", "")),
    ("call ids", "chat", "", "", (2, "tool_calls", [_CALL, _CALL])),
    ("names", "chat", "", "", (2, "tool_calls", 0, "function", "name", "ä")),
    ("arguments", "chat", "", "", (2, "tool_calls", 0, "function", "arguments", {})),
    ("places", "chat", "", "", (3, "content", [{"type": "image_url"}])),
    ("places", "chat", "", "", (4, "content", [{"type": "image_url"}])),
    ("places", "chat", "groq", "", (4, "content", [{"type": "refusal", "refusal": "No."}])),
    ("places", "chat", "deepseek", "", (5, "content", 0, {"type": "file", "file": {}})),
    ("contents", "chat", "", "", (4, "content", None)),
    ("contents", "chat", "", "", (4, "content", 22)),
    ("contents", "chat", "", "", (1, "content", "")),
    ("contents", "chat", "", "", (1, "content", [])),
    ("plain words", "chat", "ollama", "", (1, "content", _SAID)),
    ("silence", "chat", "vllm", "", ()),
    ("roles", "chat", "groq", "", (0, "role", "developer")),
    ("roles", "chat", "xai", "", (4, {"role": "system", "content": "Inside."})),
    ("turns", "chat", "vllm", "", [_USER, _USER]),
    ("turns", "chat", "llama_cpp", "", [_ASSISTANT, _USER]),
    ("turns", "chat", "lm_studio", "", (4, {"role": "system", "content": "x"})),
    ("reasoning fields", "chat", "", "", (4, "reasoning", "Hm.")),
    ("reasoning fields", "chat", "groq", "", (4, "reasoning_content", "Hm.")),
    ("reasoning fields", "chat", "deepseek", "", (1, "reasoning_content", "Hm.")),
    ("E-D1", "chat", "deepseek", "", [_USER, _ASSISTANT, _USER]),
    ("E-Q1", "chat", "groq", "", (4, "reasoning_content", "Hm.")),
    ("E-C1", "chat", "cerebras", "", (4, "reasoning_content", "Hm.")),
    ("E-M1", "chat", "mistral", "", (2, "tool_calls", 0, "id", "call_1")),
    ("E-M1", "chat", "mistral", "", (3, "tool_call_id", "toolu_1")),
    ("E-M2", "chat", "mistral", "", (4, {"role": "user", "content": "Hurry."})),
    ("last word", "chat", "mistral", "", _CHAT[:5]),
    ("empty answers", "chat", "mistral", "", (4, "content", "")),
    ("E-O8", "chat", "", "gpt-5.4", {**_TOOLS, "reasoning_effort": "low"}),
    ("E-O8", "chat", "", "gpt-5.6", _TOOLS),
    ("E-O9", "chat", "", "", {"max_tokens": 1}),
    ("E-O9", "chat", "", "", {"temperature": 1}),
]


def _found(wire: Wire, host: str, model: str, change: Change) -> list[str]:
    usual_host, usual_model, messages = _ASKED[wire]
    host = host or usual_host
    body = _body(wire, messages, change, host)
    return [name for name, _where in violations(wire, host, model or usual_model, body, foreign={"SECRET"})]


@pytest.mark.parametrize(("rule", "wire", "host", "model", "change"), _BROKEN)
def test_each_rule_finds_its_violation(rule: str, wire: Wire, host: str, model: str, change: Change) -> None:
    assert rule in _found(wire, host, model, change)


def test_every_rule_is_broken_once() -> None:
    broken = [(rule, Request(wire, host or _ASKED[wire][0], model, {})) for rule, wire, host, model, _ in _BROKEN]
    assert [rule.name for rule in RULES if not any(rule.name == name and rule.binds(to) for name, to in broken)] == []


@pytest.mark.parametrize("host", ["openai", "openai_compatible", "groq", "mistral", "xai", "openrouter", "together"])
def test_the_rules_accept_a_legal_request_to_a_chat_host(host: str) -> None:
    assert _found("chat", host, "" if host == "openai" else "anything", ()) == []


@pytest.mark.parametrize("host", ["ollama", "vllm", "llama_cpp", "lm_studio", "deepseek"])
def test_the_rules_accept_a_legal_request_to_a_strict_chat_host(host: str) -> None:
    assert _found("chat", host, "anything", (2, "content", "")) == []


@pytest.mark.parametrize("wire", ["anthropic", "responses", "gemini"])
def test_the_rules_accept_a_legal_request(wire: Wire) -> None:
    assert _found(wire, "", "", ()) == []


def test_the_rules_accept_legal_last_messages() -> None:
    paused: list[JSON] = [{"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}]
    assert _found("anthropic", "", "", [_USER, {"role": "assistant", "content": paused}]) == []
    assert _found("anthropic", "", "claude-haiku-4-5", [_USER, _ASSISTANT]) == []
    assert (
        _found("anthropic", "", "claude-opus-5", [_USER, {"role": "system", "content": "x"}, _ASSISTANT, _USER]) == []
    )
    assert _found("chat", "mistral", "", [_USER, {**_ASSISTANT, "prefix": True}]) == []
    assert _found("chat", "", "gpt-5.6", {**_TOOLS, "reasoning_effort": "none"}) == []


def test_the_rules_do_not_import_the_library() -> None:
    tree = ast.parse(Path(replay_rules.__file__).read_text(encoding="utf-8"))
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert names
    assert [name for name in names if name.startswith(("dhenara_async", "tests"))] == []
