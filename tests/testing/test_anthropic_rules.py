"""What the loopback server refuses as Anthropic Messages does, beyond the shape of plain talk."""

import base64
from collections.abc import AsyncIterator
from typing import cast

import anthropic
import pytest

from dhenara_async.endpoint import AIModelAPIProviderEnum
from dhenara_async.testing import Answer, ProviderServer, ScriptedToolCall

JSON = dict[str, object]

_NEW, _OPUS_5, _FABLE, _OPUS_46, _OLD, _OLDER = (
    "claude-sonnet-5-5",
    "claude-opus-5",
    "claude-fable-5-2",
    "claude-opus-4-6",
    "claude-haiku-4-5",
    "claude-sonnet-4-0",
)
_HI: JSON = {"role": "user", "content": "hi"}
_TOOL: JSON = {"name": "add", "input_schema": {"type": "object", "properties": {}}}
_SEARCH_TOOL: JSON = {"type": "web_search_20260318", "name": "web_search"}
_CLOSED: JSON = {"type": "object", "properties": {}, "additionalProperties": False}
_CACHED: JSON = {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}
_USE: JSON = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {}}
_RESULT: JSON = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "2"}
_SEARCH: JSON = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}}
_FOUND: JSON = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}
_BUDGET: JSON = {"type": "enabled", "budget_tokens": 2000}


def _said(role: str, *blocks: JSON) -> JSON:
    return {"role": role, "content": list(blocks)}


def _forced(kind: str, **more: object) -> JSON:
    return {"tools": [_TOOL], "tool_choice": {"type": kind, **more}}


def _format(schema: object) -> JSON:
    return {"output_config": {"format": {"type": "json_schema", "schema": schema}}}


_LOOP: list[JSON] = [_HI, _said("assistant", _USE), _said("user", _RESULT)]

_REFUSED: list[tuple[str, JSON, str]] = [
    # thinking
    (_NEW, {"thinking": _BUDGET}, '"thinking.type.enabled" is not supported for this model'),
    (_OLD, {"thinking": {"type": "adaptive"}}, "adaptive thinking is not supported"),
    (_FABLE, {"thinking": {"type": "disabled"}}, '"thinking.type.disabled" is not supported'),
    (_OPUS_5, {"thinking": {"type": "disabled"}, "output_config": {"effort": "max"}}, "with effort max"),
    (_NEW, {"thinking": {"type": "deep"}}, "Input tag 'deep'"),
    (_NEW, {"thinking": {"type": "adaptive", "budget_tokens": 2000}}, "adaptive.budget_tokens: Extra inputs"),
    (_NEW, {"thinking": {"type": "adaptive", "display": "all"}}, "'summarized' or 'omitted'"),
    (_NEW, {"thinking": {"type": "adaptive", "block_binding": {}}}, "thinking.adaptive.block_binding: Extra inputs"),
    (_OLD, {"thinking": {"type": "enabled"}}, "budget_tokens: Input should be an integer"),
    (_OLD, {"thinking": {"type": "enabled", "budget_tokens": 1000}}, "greater than or equal to 1024"),
    (_OLD, {"thinking": _BUDGET, "max_tokens": 2000}, "`max_tokens` must be greater than `thinking.budget_tokens`"),
    (
        _OLD,
        {"thinking": _BUDGET, "messages": _LOOP},
        "Expected `thinking` or `redacted_thinking`, but found `tool_use`",
    ),
    # tools
    (_NEW, {"tools": [{"name": "add"}]}, "tools.0.custom.input_schema: Field required"),
    (_NEW, {"tools": [{**_TOOL, "name": "a b"}]}, "tools.0.custom.name: String should match pattern"),
    (_NEW, {"tools": [{**_TOOL, "input_schema": {}}]}, "tools.0.custom.input_schema.type: Field required"),
    (_NEW, {"tools": [{**_TOOL, "input_schema": {"type": "array"}}]}, "Input should be 'object'"),
    (_NEW, {"tools": [{**_TOOL, "parameters": {}}]}, "tools.0.custom.parameters: Extra inputs"),
    (_NEW, {"tools": [{**_TOOL, "strict": "yes"}]}, "tools.0.custom.strict: Input should be a boolean"),
    (_NEW, {"tools": [{**_TOOL, "strict": True}]}, "'additionalProperties' must be explicitly set to false"),
    (_NEW, {"tools": [_TOOL, _TOOL]}, "Tool names must be unique"),
    (_NEW, {"tools": [{"type": "web_search_20260318", "name": "search"}]}, "name: Input should be 'web_search'"),
    (_NEW, {"tools": [{"type": "teleport_20260101", "name": "go"}]}, "Input tag 'teleport_20260101'"),
    (_NEW, {"tool_choice": {"type": "auto"}}, "may only be specified while providing tools"),
    (_NEW, _forced("required"), "Input tag 'required'"),
    (_NEW, _forced("tool", name="subtract"), "Tool 'subtract' not found"),
    (_NEW, _forced("none", disable_parallel_tool_use=True), "none.disable_parallel_tool_use: Extra inputs"),
    (_FABLE, _forced("any"), 'type "tool" and "any" are not supported for this model'),
    (_FABLE, _forced("tool", name="add"), 'type "tool" and "any" are not supported for this model'),
    (_OLD, {**_forced("any"), "thinking": _BUDGET}, "Thinking may not be enabled when tool_choice forces tool use"),
    (_NEW, {"messages": [*_LOOP[:2], _said("user", {**_RESULT, "content": "", "is_error": True})]}, "cannot be empty"),
    # hosted pairs
    (_NEW, {"messages": [_HI, _said("assistant", _FOUND), _HI]}, "must have a corresponding `server_tool_use` block"),
    (_NEW, {"messages": [_HI, _said("assistant", _SEARCH), _HI]}, "without a corresponding `web_search_tool_result`"),
    (
        _NEW,
        {"messages": [_HI, _said("assistant", _FOUND, _SEARCH), _HI]},
        "unexpected `tool_use_id` found in `web_search_tool_result` blocks",
    ),
    # output
    (_NEW, {"output_config": {"effort": "minimal"}}, "output_config.effort: Input should be"),
    (_OLD, {"output_config": {"effort": "low"}}, "does not support the effort parameter"),
    (_OPUS_46, {"output_config": {"effort": "xhigh"}}, "does not support effort level 'xhigh'"),
    (_OLDER, _format(_CLOSED), "structured outputs are not supported"),
    (_NEW, _format(None), "schema: Field required"),
    (_NEW, {"output_config": {"format": {"type": "json_object"}}}, "Input should be 'json_schema'"),
    (_NEW, _format({**_CLOSED, "additionalProperties": True}), "must be explicitly set to false"),
    (_NEW, _format({**_CLOSED, "properties": {"a": {"type": "object"}}}), "must be explicitly set to false"),
    (_NEW, {"output_config": {"style": "x"}}, "output_config.style: Extra inputs"),
    # caching and labels
    (_NEW, {"messages": [_said("user", *[_CACHED] * 5)]}, "A maximum of 4 blocks with cache_control"),
    (
        _NEW,
        {
            "cache_control": {"type": "ephemeral"},
            "system": [_CACHED],
            "tools": [{**_TOOL, "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
            "messages": [_said("user", _CACHED, _CACHED)],
        },
        "Found 5.",
    ),
    (_NEW, {"cache_control": {"type": "ephemeral", "ttl": "2h"}}, "ttl: Input should be '5m' or '1h'"),
    (_NEW, {"cache_control": {"type": "forever"}}, "cache_control: Input should be"),
    (_NEW, {"metadata": {"team": "a"}}, "metadata.team: Extra inputs"),
    (_NEW, {"service_tier": "fast"}, "service_tier: Input should be"),
    # API version
    (_NEW, {"messages": [_said("user", {"type": "text", "text": "x", "citations": [{}]})]}, "citations: Extra inputs"),
]

_TAKEN: list[tuple[str, JSON]] = [
    (_NEW, {"thinking": {"type": "adaptive", "display": "omitted"}, "output_config": {"effort": "xhigh"}}),
    (_OPUS_5, {"thinking": {"type": "disabled"}, "output_config": {"effort": "high"}}),
    (_OPUS_46, {"thinking": _BUDGET}),
    (_OLD, {"thinking": _BUDGET}),
    (_OLD, {"thinking": {"type": "disabled"}, "messages": _LOOP}),
    (_OLD, {"thinking": _BUDGET, "messages": [*_LOOP, _said("assistant", {"type": "text", "text": "2"}), _HI]}),
    (_NEW, {"thinking": {"type": "adaptive"}, "messages": _LOOP, "tools": [_TOOL]}),
    (_NEW, {"tools": [_TOOL, _SEARCH_TOOL], "tool_choice": {"type": "any", "disable_parallel_tool_use": True}}),
    (_OLD, _format(_CLOSED)),
    ("claude-opus-4-1", _format(_CLOSED)),
    ("claude-opus-4-5", {"output_config": {"effort": "low"}}),
    (_NEW, {"messages": [_HI, _said("assistant", _SEARCH, _FOUND), _HI]}),
    (_NEW, {"messages": [_HI, _said("assistant", _SEARCH)]}),
    (_NEW, {"messages": [_said("user", *[_CACHED] * 4)]}),
    (_NEW, {"metadata": {"user_id": "u"}, "service_tier": "auto"}),
]


@pytest.fixture
async def server() -> AsyncIterator[ProviderServer]:
    async with ProviderServer() as running:
        yield running


async def _post(server: ProviderServer, body: JSON, **headers: str) -> JSON:
    base_url = server.base_url(AIModelAPIProviderEnum.ANTHROPIC)
    async with anthropic.AsyncAnthropic(base_url=base_url, api_key="key", max_retries=0) as client:
        full = {"max_tokens": 4000, "messages": [_HI], **body}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return cast("JSON", await client.post("/v1/messages", body=full, cast_to=object, options={"headers": named}))


async def _refused(server: ProviderServer, body: JSON, **headers: str) -> str:
    with pytest.raises(anthropic.BadRequestError) as caught:
        await _post(server, body, **headers)
    error = cast("JSON", cast("JSON", caught.value.body)["error"])
    assert error["type"] == "invalid_request_error"
    return str(error["message"])


@pytest.mark.parametrize(("model", "change", "message"), _REFUSED)
async def test_refuses(server: ProviderServer, model: str, change: JSON, message: str) -> None:
    assert message in await _refused(server, {"model": model, **change})


@pytest.mark.parametrize(("model", "change"), _TAKEN)
async def test_takes(server: ProviderServer, model: str, change: JSON) -> None:
    await _post(server, {"model": model, **change})


async def test_binding_needs_its_beta(server: ProviderServer) -> None:
    thinking = {"type": "adaptive", "block_binding": {"prefix_mismatch_behavior": "drop_block"}}
    beta = "thinking-binding-controls-2026-08-01"
    await _post(server, {"model": _FABLE, "thinking": thinking}, anthropic_beta=f"files-api-2025-04-14,{beta}")
    assert "block_binding" in await _refused(server, {"model": _FABLE, "thinking": thinking}, anthropic_beta="other")


_BETA = "thinking-binding-controls-2026-08-01"


@pytest.mark.parametrize("model", [_NEW, _OPUS_5, "claude-fable-5", "claude-mythos-5-2"])
async def test_only_models_bound_to_their_prefix_know_of_binding(server: ProviderServer, model: str) -> None:
    thinking = {"type": "adaptive", "block_binding": {"prefix_mismatch_behavior": "drop_block"}}
    refusal = await _refused(server, {"model": model, "thinking": thinking}, anthropic_beta=_BETA)
    assert refusal == "thinking.adaptive.block_binding: Extra inputs are not permitted"
    await _post(server, {"model": model, "thinking": {"type": "adaptive"}}, anthropic_beta=_BETA)


@pytest.mark.parametrize(
    ("binding", "message"),
    [
        (None, None),
        ({}, None),
        ({"prefix_mismatch_behavior": "error"}, None),
        ("drop_block", "block_binding: Input should be an object"),
        ({"prefix_mismatch_behavior": "drop"}, "prefix_mismatch_behavior: Input should be 'error' or 'drop_block'"),
        ({"model_mismatch_behavior": "error"}, "model_mismatch_behavior: Extra inputs are not permitted"),
    ],
)
async def test_binding_takes_what_it_knows(server: ProviderServer, binding: object, message: str | None) -> None:
    body: JSON = {"model": _FABLE, "thinking": {"type": "adaptive", "block_binding": binding}}
    if message is None:
        await _post(server, body, anthropic_beta=_BETA)
    else:
        assert message in await _refused(server, body, anthropic_beta=_BETA)


# ---------------------------------------------------------------------------------------------------- signatures


def _thinker(model: str) -> tuple[ProviderServer, JSON]:
    call = ScriptedToolCall(call_id="toolu_1", name="add")
    script = [Answer(reasoning="Hm.", text="Let me.", tool_calls=(call,)), *[Answer(text="ok")] * 4]
    return ProviderServer(script), {"model": model, "tools": [_TOOL], "system": "Be kind."}


async def _begun(server: ProviderServer, body: JSON) -> tuple[list[JSON], JSON]:
    """The conversation after the answer and its result, and the thinking in it, which changes it when it is changed."""
    answer = cast("list[JSON]", (await _post(server, body))["content"])
    assert [block["type"] for block in answer] == ["thinking", "text", "tool_use"]
    return [_HI, _said("assistant", *answer), _said("user", _RESULT)], answer[0]


@pytest.mark.parametrize("model", [_NEW, _FABLE, _OLDER])
async def test_own_thinking_is_taken_back_and_altered_is_not(model: str) -> None:
    server, body = _thinker(model)
    async with server:
        messages, thinking = await _begun(server, body)
        await _post(server, {**body, "messages": messages})
        own = str(thinking["signature"])
        loose = own.replace(f"{own.rstrip('=')[-1]}=", f"{chr(ord(own.rstrip('=')[-1]) + 1)}=")  # the same bytes
        assert (loose != own, base64.b64decode(loose)) == (True, base64.b64decode(own))
        forged = base64.b64encode(b"\0" * 60 + model.encode()).decode()
        for altered in (
            own[:-4],
            f"{own}AAAA",
            f"A{own[1:]}",
            own[:50] + "zz" + own[52:],
            own[::-1],
            loose,
            forged,
            "sig",
        ):
            thinking["signature"] = altered
            refusal = await _refused(server, {**body, "messages": messages})
            assert refusal == "messages.1.content.0: Invalid `signature` in `thinking` block"
        thinking |= {"signature": own, "thinking": "Hm!"}
        assert "in the latest assistant message cannot be modified" in await _refused(
            server, {**body, "messages": messages}
        )
        longer = [*messages, _said("assistant", {"type": "text", "text": "2"}), _HI]
        assert "Invalid `signature`" in await _refused(server, {**body, "messages": longer})


@pytest.mark.parametrize(
    "change",
    [
        {"system": "Be brief."},
        {"tools": [{**_TOOL, "description": "Adds."}]},
        {"messages": [{"role": "user", "content": "hello"}]},
    ],
)
async def test_only_strict_models_bind_thinking_to_what_stood_before(change: JSON) -> None:
    server, body = _thinker(_FABLE)
    async with server:
        messages, _thinking = await _begun(server, body)
        changed = [*cast("list[JSON]", change.get("messages", messages[:1])), *messages[1:]]
        refusal = await _refused(server, {**body, **change, "messages": changed})
        assert "messages.1.content.0" in refusal
        assert "The block is bound to a different conversation" in refusal
        marked = [_said("user", {"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}), *messages[1:]]
        await _post(server, {**body, "messages": marked})
        dropping = {"type": "adaptive", "block_binding": {"prefix_mismatch_behavior": "drop_block"}}
        beta = "thinking-binding-controls-2026-08-01"
        sent = {**body, **change, "messages": changed, "thinking": dropping}
        answer = await _post(server, sent, anthropic_beta=beta)
        assert answer["input_transformations"] == [
            {"type": "thinking_dropped", "path": "messages.1.content.0", "reason": "prefix_binding_mismatch"}
        ]
        unchanged = await _post(server, {**body, "messages": messages, "thinking": dropping}, anthropic_beta=beta)
        assert "input_transformations" not in unchanged
        await _post(server, {**body, **change, "messages": changed, "model": _NEW})


async def test_a_scripted_signature_is_known_once_it_was_given_out() -> None:
    async with ProviderServer([Answer(text="x", reasoning="Hm.", signature="made up"), Answer(text="y")]) as server:
        thinking: JSON = {"type": "thinking", "thinking": "Hm.", "signature": "made up"}
        messages = [_HI, _said("assistant", thinking, {"type": "text", "text": "x"}), _HI]
        assert "Invalid `signature`" in await _refused(server, {"model": _NEW, "messages": messages})
        await _post(server, {"model": _NEW})
        await _post(server, {"model": _NEW, "messages": messages})
