"""What a model's id says of it: by table, and against requests that providers answered.

The recordings tell what providers accept: no knob in an accepted request may be one that we hold for refused.
"""

from collections.abc import Iterable, Iterator
from typing import cast

import orjson
import pytest

from dhenara_async import AIModel, Capabilities
from dhenara_async.models.families import capabilities
from tests import recordings

JsonObject = dict[str, object]

_ALL = "none minimal low medium high xhigh max"

# What is said of a model: how it is asked to think and with which words, then one letter for each thing it takes.
#   o thinking can be turned off   b takes a token budget
#   s samples where nothing is said of thinking, S while it thinks, q once it is told not to
#   f takes a forced tool call where nothing is said of thinking, F while it thinks, g once it is told not to
#   t stop texts   d seed   p prefill   j JSON schema   r wants the developer role
_EVERYTHING = "o sSq fFg t d p j"
_FAMILIES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    f"none: {_EVERYTHING}": (
        "none",
        "",
        (
            *("gpt-4o", "gpt-4o-mini-2024-07-18", "gpt-4.1-nano", "ft:gpt-4o-mini:org", "gpt-5-chat-latest"),
            *("gemini-1.5-flash", "gemini-2.0-flash", "gemini-2.0-flash-lite-001", "models/gemini-2.0-flash"),
            *("llama-3.3-70b-versatile", "meta-llama/Llama-3.3-70B-Instruct-Turbo", "llama3.2:1b", "gemma3:4b"),
            *("mistral-tiny", "open-mistral-nemo", "mistral-large-2512", "mistral-small-2501", "codestral-2508"),
            *("grok-3", "grok-4-fast-non-reasoning"),
        ),
    ),
    "none of old: o sSq fFg t d p": (
        "none",
        "",
        ("gpt-3.5-turbo", "gpt-4", "gpt-4-turbo", "gpt-4o-2024-05-13", "deepseek-chat"),
    ),
    "o1, o3-mini: fFg t d p j r": (
        "effort",
        "low medium high",
        ("o1", "o1-2024-12-17", "o1-pro", "o3-mini", "o3-mini-2025-01-31"),
    ),
    "o3 and o4-mini: fFg d p j r": (
        "effort",
        "low medium high",
        ("o3", "o3-pro", "o4-mini", "gpt-5-codex", "gpt-5.1-codex", "codex-mini-latest"),
    ),
    "gpt-5: fFg d p j r": (
        "effort",
        "minimal low medium high",
        ("gpt-5", "gpt-5-2025-08-07", "gpt-5-mini", "gpt-5-nano"),
    ),
    "gpt-5-pro: fFg d p j r": ("effort", "high", ("gpt-5-pro",)),
    "later pros: fFg d p j r": ("effort", "medium high xhigh", ("gpt-5.2-pro", "gpt-5.4-pro", "gpt-5.5-pro")),
    "gpt-5.x-chat: fFg d p j r": ("effort", "medium", ("gpt-5.1-chat-latest", "gpt-5.3-chat-latest")),
    "gpt-5.1: o sq fFg d p j r": ("effort", "none low medium high", ("gpt-5.1", "gpt-5.1-2025-11-13")),
    "gpt-5.2 to 5.4: o sq fFg d p j r": (
        "effort",
        "none low medium high xhigh",
        ("gpt-5.2", "gpt-5.3-codex", "gpt-5.4-mini", "gpt-5.4-nano"),
    ),
    "gpt-5.5: o q fFg d p j r": ("effort", "none low medium high xhigh", ("gpt-5.5", "openai.gpt-5.5")),
    "gpt-5.6: o q fFg d p j r": (
        "effort",
        "none low medium high xhigh max",
        ("gpt-5.6", "gpt-5.6-sol", "gpt-5.6-luna"),
    ),
    "gpt-6 that can be quiet: o fFg d p j r": (
        "effort",
        "none low medium high xhigh max",
        ("gpt-6-sol", "gpt-6-luna"),
    ),
    "newest GPT: fFg d p j r": (
        "effort",
        "low medium high xhigh max",
        ("gpt-6-astra", "gpt-6.1-terra", "gpt-6.2-sol", "gpt-7", "gpt-of-the-future"),
    ),
    "gpt-oss: sSq fFg t d p j": (
        "effort",
        "low medium high",
        ("gpt-oss-120b", "openai/gpt-oss-20b", "gpt-oss:20b", "openai.gpt-oss-120b"),
    ),
    "early Claude: o sSq fFg t p": ("none", "", ("claude-2.1", "claude-3-5-haiku-20241022", "claude-3-opus-latest")),
    "Claude 3.7 and 4: o b sq fg t p": (
        "budget",
        "",
        ("claude-3-7-sonnet-latest", "claude-sonnet-4-20250514", "claude-sonnet-4-0", "claude-opus-4@20250514"),
    ),
    "Claude 4.5: o b sq fg t p j": (
        "budget",
        "",
        (
            *("claude-opus-4-1", "claude-opus-4-1-20250805", "claude-sonnet-4-5", "claude-haiku-4-5-20251001"),
            *("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "anthropic.claude-opus-4-5-20251101-v1:0"),
        ),
    ),
    "Claude 4.6: o b sq fFg t j": ("adaptive", "low medium high max", ("claude-opus-4-6", "claude-sonnet-4-6")),
    "newest Claude: o fFg t j": (
        "adaptive",
        "low medium high xhigh max",
        (
            "claude-opus-4-7",
            "claude-opus-4-8",
            "claude-sonnet-5",
            "claude-opus-5-5",
            "claude-haiku-5-5",
            "claude-new-9",
        ),
    ),
    "Claude Fable: t j": (
        "adaptive",
        "low medium high xhigh max",
        ("claude-fable-5", "claude-fable-5-2", "claude-mythos-5-2"),
    ),
    f"Gemini 2.5: b {_EVERYTHING}": ("budget", "", ("gemini-2.5-flash", "gemini-2.5-flash-lite")),
    "Gemini 2.5 Pro: b sSq fFg t d p j": ("budget", "", ("gemini-2.5-pro", "gemini-2.5-pro-preview-03-25")),
    "Gemini 3 Pro: b sSq fFg t d p j": ("level", "low high", ("gemini-3-pro-preview",)),
    "later Pro: b sSq fFg t d p j": (
        "level",
        "low medium high",
        ("gemini-3.1-pro-preview", "gemini-pro-latest", "gemini-3.7-flash"),
    ),
    f"newest Gemini: b {_EVERYTHING}": (
        "level",
        "minimal low medium high",
        (
            "gemini-3-flash-preview",
            "gemini-3.5-flash-lite",
            "gemini-3.8-flash",
            "gemini-4-argon",
            "gemini-flash-latest",
        ),
    ),
    "DeepSeek V4: o sSq g t d p": ("effort", "low high max", ("deepseek-flash", "deepseek-v4-pro", "deepseek-v9")),
    "DeepSeek R1 of old: sSq t d p": ("effort", "", ("deepseek-reasoner",)),
    f"Mistral: {_EVERYTHING}": (
        "effort",
        "none high",
        ("mistral-small-latest", "mistral-medium-3-5", "mistral-large-4"),
    ),
    "thinks as it likes: sSq fFg t d p j": ("effort", "", ("magistral-medium-latest", "deepseek-r1-distill-llama-70b")),
    "Grok: sSq fFg d p j": ("effort", "low medium high", ("grok-4.5", "grok-4.7", "grok-9")),
    "Grok 4.3: o sSq fFg d p j": ("effort", "none low medium high", ("grok-4.3",)),
    "Grok 4: sSq fFg d p j": ("effort", "", ("grok-4", "grok-4-fast", "grok-4.20-reasoning", "grok-code-fast-1")),
    "Grok 3 mini: sSq fFg d p j": ("effort", "low high", ("grok-3-mini",)),
    f"of no family: {_EVERYTHING}": ("effort", _ALL, ("my-model", "anthropic/claude-opus-5", "mistral:7b", "qwen3:4b")),
}


def _letters(can: Capabilities) -> str:
    asked = (None, True, False)
    groups = (
        "o" * can.reasoning_off,
        "b" * can.reasoning_budget,
        "".join(letter for letter, reasoning in zip("sSq", asked, strict=True) if can.samples(reasoning)),
        "".join(letter for letter, reasoning in zip("fFg", asked, strict=True) if can.forces(reasoning)),
        "t" * can.stop,
        "d" * can.seed,
        "p" * can.prefill,
        "j" * can.structured_output,
        "r" * can.developer_role,
    )
    return " ".join(filter(None, groups))


@pytest.mark.parametrize(
    ("title", "name"), [(title, name) for title, (_way, _words, names) in _FAMILIES.items() for name in names]
)
def test_capabilities_by_id(title: str, name: str) -> None:
    way, words, _names = _FAMILIES[title]
    can = capabilities(AIModel(model_name=name))
    assert (can.reasoning, " ".join(can.efforts)) == (way, words)
    expected = title.partition(": ")[2].split()
    assert sorted(_letters(can).split()) == sorted(expected)


_BOUND = (
    *("claude-fable-5-1", "claude-fable-5-2", "claude-fable-5-2-20260901", "claude-fable-6", "claude-fable-latest"),
    *("anthropic.claude-fable-5-1-v1:0", "claude-fable-5-1@20260801"),
)
_FREE = (
    *("claude-fable-5", "claude-fable-5-0", "claude-fable-5-20260601", "claude-fable-5-latest", "CLAUDE-FABLE-5-0"),
    *("claude-fable-5@20260601", "us.anthropic.claude-fable-5-v1:0", "claude-fable-5-20260601-v1:0"),
    *(name for _way, _words, names in _FAMILIES.values() for name in names if name != "claude-fable-5-2"),
)


@pytest.mark.parametrize(
    ("name", "bound"), [*((name, True) for name in _BOUND), *((name, False) for name in dict.fromkeys(_FREE))]
)
def test_only_fable_from_51_on_binds_its_thinking_to_its_prefix(name: str, bound: bool) -> None:
    can = capabilities(AIModel(model_name=name))
    assert can.prefix_bound is bound
    if "fable" in name.lower():  # in all else the generations are alike
        assert can == capabilities(AIModel(model_name="claude-fable-5")).model_copy(update={"prefix_bound": bound})


# ---------------------------------------------------------------------------------------------------- recorded requests

# Words of the wire for what our capabilities are told in.
_SAMPLING = ("temperature", "top_p", "top_k", "topP", "topK")
_STOP = ("stop", "stop_sequences", "stopSequences")
_FORCED = ("required", "any", "tool", "function", "ANY")
_SCHEMA = ("json_schema", "responseSchema", "responseJsonSchema")

_ELSEWHERE = {
    "openai_chat/claude-sonnet-4-6": "Snowflake translates Chat Completions for Claude, and drops what it refuses",
    "openai_chat/qwen/qwen3-32b": "Groq has a word of its own for what leaving the knob out does",
}
"""Accepted requests that say nothing of the model, by API and model."""


def _object(value: object) -> JsonObject:
    return cast(JsonObject, value) if isinstance(value, dict) else {}


def _accepted() -> Iterator[tuple[str, str, JsonObject]]:
    for row in recordings.index():
        if cast(int, row["status"]) >= 300 or not row["has_request"]:
            continue
        recorded = orjson.loads((recordings.FOLDER / f"{row['id']}.json").read_bytes())
        request = _object(recorded["request"])
        body = _object(request.get("json"))
        named = body.get("model") or str(request.get("path")).partition("/models/")[2].partition(":")[0]
        if isinstance(named, str) and named:
            yield f"{row['api']}/{named}", named, body


def _thinking(body: JsonObject) -> tuple[bool | None, str | None]:
    """Whether a request asks for thinking, forbids it or says nothing; and the word with which."""
    effort = body.get("reasoning_effort") or _object(body.get("reasoning")).get("effort")
    way = _object(body.get("thinking")).get("type")
    gemini = _object(_object(body.get("generationConfig")).get("thinkingConfig"))
    word = effort or _object(body.get("output_config")).get("effort")
    word = word or gemini.get("thinkingLevel") or gemini.get("thinking_level")
    budget = gemini.get("thinkingBudget", gemini.get("thinking_budget"))
    if effort == "none" or way == "disabled" or budget == 0:
        return False, None if word is None else str(word)
    if effort or way in ("enabled", "adaptive") or gemini:
        return True, None if word is None else str(word).lower()
    return None, None if word is None else str(word)


def _refused(can: Capabilities, body: JsonObject) -> Iterable[str]:
    """The knobs of an accepted request that we would not have sent."""
    knobs = body | _object(body.get("generationConfig"))
    reasoning, word = _thinking(body)
    if not can.samples(reasoning):
        yield from (name for name in _SAMPLING if knobs.get(name) not in (None, 1))
    if not can.stop:
        yield from (name for name in _STOP if knobs.get(name))
    if not can.seed and knobs.get("seed") is not None:
        yield "seed"
    choice = body.get("tool_choice")
    mode = _object(_object(body.get("toolConfig")).get("functionCallingConfig")).get("mode")
    forced = choice if isinstance(choice, str) else _object(choice).get("type", mode)
    if not can.forces(reasoning) and forced in _FORCED:
        yield f"tool_choice {forced}"
    yield from _refused_thinking(can, body, reasoning, word)
    output = _object(body.get("response_format")) | _object(_object(body.get("text")).get("format"))
    if not can.structured_output and (
        output.get("type") in _SCHEMA
        or any(name in knobs for name in _SCHEMA)
        or "format" in _object(body.get("output_config"))
        or "output_format" in body
    ):
        yield "a schema"
    messages = cast("list[JsonObject]", body.get("messages") or [])
    if not can.prefill and messages and messages[-1].get("role") == "assistant":
        yield "a prefilled answer"


def _refused_thinking(can: Capabilities, body: JsonObject, reasoning: bool | None, word: str | None) -> Iterable[str]:
    if reasoning is False and not can.reasoning_off:
        yield "no thinking"
    if reasoning and can.reasoning == "none":
        yield "thinking"
    if word is not None and word not in can.efforts:
        yield f"effort {word}"
    gemini = _object(_object(body.get("generationConfig")).get("thinkingConfig"))
    way = _object(body.get("thinking")).get("type")
    if not can.reasoning_budget and (way == "enabled" or "thinkingBudget" in gemini or "thinking_budget" in gemini):
        yield "a budget"
    if way == "adaptive" and can.reasoning != "adaptive":
        yield "adaptive thinking"


@pytest.mark.skipif(not recordings.FOUND, reason=recordings.MISSING)
def test_nothing_is_held_for_refused_that_was_accepted() -> None:
    seen = 0
    wrong: set[tuple[str, str]] = set()
    for key, model, body in _accepted():
        seen += 1
        if key not in _ELSEWHERE:
            can = capabilities(AIModel(model_name=model))
            wrong |= {(key, knob) for knob in _refused(can, body)}
    assert seen > 1000
    assert sorted(wrong) == []


@pytest.mark.parametrize(
    ("model", "body"),
    [
        ("gpt-5.6-sol", {"temperature": 0.5}),
        ("gpt-5.4-nano", {"temperature": 0.5, "reasoning_effort": "high"}),
        ("gpt-5-mini", {"stop": ["x"]}),
        ("gpt-4o", {"reasoning": {"effort": "low"}}),
        ("gpt-5.1", {"reasoning_effort": "xhigh"}),
        ("o3", {"reasoning_effort": "none"}),
        ("claude-opus-4-6", {"output_config": {"effort": "xhigh"}}),
        ("claude-opus-5", {"thinking": {"type": "enabled", "budget_tokens": 1024}}),
        ("claude-sonnet-4-5", {"thinking": {"type": "adaptive"}}),
        ("claude-sonnet-4-5", {"thinking": {"type": "enabled"}, "tool_choice": {"type": "any"}}),
        ("claude-fable-5-2", {"tool_choice": {"type": "tool", "name": "add"}}),
        ("claude-fable-5-2", {"thinking": {"type": "disabled"}}),
        ("claude-sonnet-4-0", {"output_config": {"format": {"type": "json_schema"}}}),
        ("claude-sonnet-4-6", {"messages": [{"role": "assistant", "content": "and"}]}),
        ("gemini-2.5-pro", {"generationConfig": {"thinkingConfig": {"thinkingBudget": 0}}}),
        ("gemini-3.1-pro-preview", {"generationConfig": {"thinkingConfig": {"thinkingLevel": "MINIMAL"}}}),
        ("deepseek-v4-pro", {"tool_choice": "required"}),
    ],
)
def test_refused_settings_count_as_unsupported(model: str, body: JsonObject) -> None:
    assert list(_refused(capabilities(AIModel(model_name=model)), body))
