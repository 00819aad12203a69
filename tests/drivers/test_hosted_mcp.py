"""MCP servers that the provider calls, and hosted tools without a name of their own, in every dialect."""

from typing import cast

import pytest
from pydantic import JsonValue, SecretStr

from dhenara_async import AIModelCallConfig, AIModelClient, Dialect, HostedTool, Tool
from dhenara_async.errors import APIError, ConfigurationError
from dhenara_async.testing import Answer, ProviderServer, ScriptedError
from tests.loopback import ONCE, endpoint_at

TOKEN = "a-token-of-the-user"
URL = "https://example.com/mcp"
ALIKE: list[dict[str, JsonValue]] = [
    {"server_label": "shop", "server_url": URL, "authorization": TOKEN, "allowed_tools": ["buy"]},
    {"name": "shop", "url": URL, "authorization_token": TOKEN, "allowed_tools": ["buy"]},
]
NATIVE = {"name": "shop", "streamableHttpTransport": {"url": URL, "headers": {"X-Key": TOKEN}}}


async def body_of(dialect: Dialect, *tools: HostedTool | Tool) -> tuple[dict[str, object], tuple[str, ...], str]:
    """The body that the server accepted, the settings that were warned of, and the header of beta features."""
    async with ProviderServer([Answer(text="Done.")]) as server:
        config = AIModelCallConfig(tools=tools)
        response = await AIModelClient(endpoint_at(server, dialect), config).generate("Buy a shirt.")
        (seen,) = server.requests
        warned = tuple(f"{warning.code} {warning.knob}" for warning in response.warnings)
        return cast("dict[str, object]", seen.json), warned, seen.headers.get("anthropic-beta", "")


@pytest.mark.parametrize("options", ALIKE)
async def test_one_server_is_spelled_for_each_provider(options: dict[str, JsonValue]) -> None:
    tool = HostedTool(type="mcp", options=options)
    body, warned, _ = await body_of(Dialect.OPENAI_RESPONSES, tool)
    assert (body["tools"], warned) == ([{"type": "mcp", **ALIKE[0]}], ())
    body, warned, betas = await body_of(Dialect.ANTHROPIC_MESSAGES, tool)
    only = {"default_config": {"enabled": False}, "configs": {"buy": {"enabled": True}}}
    assert body["tools"] == [{"type": "mcp_toolset", "mcp_server_name": "shop", **only}]
    assert body["mcp_servers"] == [{"type": "url", "url": URL, "name": "shop", "authorization_token": TOKEN}]
    assert (warned, betas) == ((), "mcp-client-2025-11-20")
    body, warned, _ = await body_of(Dialect.GEMINI, tool, Tool(name="look"))
    transport = {"url": URL, "headers": {"Authorization": f"Bearer {TOKEN}"}}
    tools = cast("list[object]", body["tools"])
    assert tools[1:] == [{"mcpServers": [{"name": "shop", "streamableHttpTransport": transport}]}]
    assert warned == ("param_adjusted tools",)  # Gemini has no list of allowed tools
    assert (await body_of(Dialect.OPENAI_CHAT, tool))[1] == ("param_dropped tools",)


async def test_the_spelling_of_gemini_reaches_the_others() -> None:
    tool = HostedTool(type="mcp", options=cast("dict[str, JsonValue]", NATIVE))
    body, _, _ = await body_of(Dialect.GEMINI, tool)
    assert body["tools"] == [{"mcpServers": [NATIVE]}]
    body, _, _ = await body_of(Dialect.OPENAI_RESPONSES, tool)
    assert body["tools"] == [{"type": "mcp", "server_label": "shop", "server_url": URL, "headers": {"X-Key": TOKEN}}]
    assert (await body_of(Dialect.ANTHROPIC_MESSAGES, tool))[1] == ("param_adjusted tools",)  # no headers there


RAW: dict[Dialect, dict[str, JsonValue]] = {
    Dialect.OPENAI_RESPONSES: {"type": "image_generation", "quality": "low"},
    Dialect.OPENAI_CHAT: {"type": "function", "function": {"name": "note"}},
    Dialect.ANTHROPIC_MESSAGES: {"type": "memory_20250818", "name": "memory"},
    Dialect.GEMINI: {"googleMaps": {}},
}


@pytest.mark.parametrize("dialect", RAW)
async def test_a_raw_tool_is_sent_as_it_is(dialect: Dialect) -> None:
    body, warned, _ = await body_of(dialect, HostedTool(type="raw", options=RAW[dialect]))
    assert (body["tools"], warned) == ([RAW[dialect]], ())


async def test_the_token_of_a_server_is_in_no_text_and_no_error() -> None:
    tool = HostedTool(type="mcp", options={"server_url": URL}, authorization=SecretStr(TOKEN))
    assert TOKEN not in repr(tool) + str(tool) + tool.model_dump_json()
    async with ProviderServer([ScriptedError(400, f"the server refused {TOKEN}")]) as server:
        client = AIModelClient(endpoint_at(server, Dialect.OPENAI_RESPONSES), ONCE.changed(tools=(tool,)))
        with pytest.raises(APIError, match=r"refused \*\*\*") as caught:
            await client.generate("Buy a shirt.")
    assert TOKEN not in repr(caught.value.body)


def test_a_hosted_tool_without_what_it_needs_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="a raw hosted tool needs options"):
        HostedTool(type="raw")


async def test_a_server_without_an_address_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="needs its address"):
        await body_of(Dialect.OPENAI_RESPONSES, HostedTool(type="mcp"))
