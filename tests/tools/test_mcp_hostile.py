"""MCP servers that break the protocol, flood their client or change their mind: their client stays within bounds."""

import asyncio
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread
import pytest
from anyio.lowlevel import checkpoint
from mcp import MCPError
from mcp.server.lowlevel import Server
from mcp.server.mcpserver import MCPServer
from mcp_types import CallToolResult, ImageContent, ListToolsResult, PaginatedRequestParams, TextContent
from mcp_types import Tool as Definition
from pydantic import JsonValue
from starlette.types import Receive, Scope, Send

from dhenara_async import McpServer, Tool
from dhenara_async.errors import ConfigurationError, ToolServerError
from dhenara_async.tools.mcp import connection
from dhenara_async.tools.mcp.connection import LONGEST_ERROR, words_of
from dhenara_async.tools.mcp.results import converted
from dhenara_async.tools.mcp.source import McpSource
from dhenara_async.tools.sessions import ToolSessions
from dhenara_async.tools.sources import ToolQuestion
from tests.loopback import PATIENCE
from tests.mcp_server import PIXEL, server_of
from tests.tools.test_mcp import PROTOCOLS, call, counted, open_connections, opened, run, served

ANYTHING: dict[str, JsonValue] = {"type": "object"}


def raw(fault: str, **options: float) -> McpServer:
    """The program of ``tests/raw_mcp_server.py``, with its fault."""
    server = McpServer.stdio(sys.executable, "tests/raw_mcp_server.py", fault, name="raw")
    return server.changed(**options)


def listing(*names: str, **more: object) -> Server:
    """A server in memory with these tools, each of which returns the JSON ``{"x": 1}``."""

    async def page(_: object, params: PaginatedRequestParams | None) -> ListToolsResult:
        return ListToolsResult(
            tools=[Definition.model_validate({"name": name, "input_schema": ANYTHING, **more}) for name in names],
            next_cursor=None if names else "again",
        )

    async def done(*_: object) -> CallToolResult:
        return CallToolResult(content=[], structured_content={"x": 1})

    return Server("raw", on_list_tools=page, on_call_tool=done)


# ------------------------------------------------------------------------------------------------ answers


@pytest.mark.parametrize("fault", ["noise", "repeated"])
async def test_noise_and_answers_that_nobody_asked_for_are_skipped(fault: str) -> None:
    async with opened(raw(fault)) as listed:
        assert [await run(listed, "raw__go") for _ in range(2)] == ["done", "done"]


async def test_a_child_that_dies_in_the_middle_of_a_line_fails_its_call_at_once() -> None:
    async with opened(raw("half", timeout=PATIENCE)) as listed:
        assert "ended while it ran the tool" in await run(listed, "raw__go")


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_result_that_does_not_fit_the_output_schema_is_the_result(protocol: str) -> None:
    """The tool has done its work, and a pattern of the server could stop the event loop for hours."""
    schema = {"type": "object", "required": ["y"]}
    server = McpServer.of(listing("go", output_schema=schema), name="raw", protocol=protocol)
    async with opened(server) as listed:
        assert await run(listed, "raw__go") == '{"x":1}'


def converted_text(result: CallToolResult, *declined: str, **options: int) -> str:
    server = McpServer.of(None, name="raw").changed(**options)
    return converted(call("raw__go"), result, server, resources={}, declined=declined).get_text()


def test_only_the_first_notes_of_a_result_are_kept() -> None:
    told = converted_text(CallToolResult(content=[]), *(["?" * 5000] * 1000))
    assert len(told) < 25_000
    assert told.endswith("[and 980 more notes like these]")
    broken = ImageContent(data="!", mime_type="image/png")
    assert len(converted_text(CallToolResult(content=[broken] * 1000))) < 2_500
    large = ImageContent(data="A" * 100, mime_type="image/png")
    assert len(converted_text(CallToolResult(content=[large] * 1000), max_file_bytes=10)) < 2_500


def test_a_result_has_at_most_a_thousand_files() -> None:
    pixel = ImageContent(data=PIXEL, mime_type="image/png")
    result = CallToolResult(content=[*[pixel] * 1_001, TextContent(text="the end")])
    made = converted(call("raw__go"), result, McpServer.of(None, name="raw"), resources={})
    assert len(made.content) == 1_002
    assert made.get_text() == "[an image was left out: a result has at most 1000 files]the end"


def test_the_words_of_a_server_in_an_error_are_shortened() -> None:
    told = words_of(MCPError(1, "no " * 1_000_000), raw("none"))
    assert len(told) == LONGEST_ERROR


# ------------------------------------------------------------------------------------------------ listings


async def test_a_server_with_too_many_tools_or_pages_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_MOST_TOOLS", 2)
    async with opened(McpServer.of(listing("a", "b"))) as listed:
        assert len(listed.tools) == 2
    with pytest.raises(ToolServerError, match="it has more than 2 tools"):
        async with opened(McpServer.of(listing("a", "b", "c"))):
            pass
    with pytest.raises(ToolServerError, match="it has more than 100 pages of tools"):
        async with opened(McpServer.of(listing())):
            pass


async def test_two_tools_with_one_name_for_the_model_are_refused_unless_one_is_left_out() -> None:
    for names in (("go.on", "go_on"), ("go_on", "go.on")):
        with pytest.raises(ConfigurationError, match=r"two tools, 'go\.on' and 'go_on'.*allow="):
            async with opened(McpServer.of(listing(*names))):
                pass
        for allowed in names:
            async with opened(McpServer.of(listing(*names), allow=[allowed])) as listed:
                assert [tool.name for tool in listed.tools if isinstance(tool, Tool)] == ["raw__go_on"]
                result = await listed.sources["raw__go_on"].call(call("raw__go_on"))
                assert not result.is_error
                assert result.tool is not None
                assert result.tool.tool == allowed


async def test_a_call_of_a_tool_that_the_server_has_taken_back_is_not_run() -> None:
    sdk = MCPServer("raw", log_level="CRITICAL")
    for name in ("go", "stay"):
        sdk.add_tool(lambda: "done", name=name)
    server = McpServer.of(sdk)
    sessions = ToolSessions()
    listed = await sessions.listed([server])
    sdk.remove_tool("go")
    await sessions.listed([server])
    told = await run(listed, "raw__go")
    assert told == "ERROR the tool 'raw__go' was not run: the server does not offer it any more"
    assert await run(listed, "raw__stay") == "done"
    sdk.add_tool(lambda: "done", name="go")
    await sessions.listed([server])
    assert await run(listed, "raw__go") == "done"
    await sessions.aclose()


# ------------------------------------------------------------------------------------------------ questions


async def test_a_question_is_withdrawn_when_its_call_is_cancelled() -> None:
    """The server does not withdraw it, and the user would be asked for a call that nobody waits for."""
    asked, withdrawn = anyio.Event(), anyio.Event()

    async def ask(question: ToolQuestion) -> Mapping[str, JsonValue]:
        del question
        asked.set()
        try:
            await anyio.sleep_forever()
        finally:
            withdrawn.set()
        return {}

    async with opened(raw("asks")) as listed:

        async def go() -> None:
            await listed.sources["raw__go"].call(call("raw__go"), ask=ask)

        async with anyio.create_task_group() as group:
            group.start_soon(go)
            await asked.wait()
            group.cancel_scope.cancel()
        with anyio.fail_after(PATIENCE):
            await withdrawn.wait()  # while the session is open


# ------------------------------------------------------------------------------------------------ sessions


async def test_an_idle_session_ends_although_its_server_never_answers_the_goodbye(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "_GOODBYE_SECONDS", 0.05)
    sdk, goodbyes = server_of().streamable_http_app(), anyio.Event()

    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "DELETE":
            goodbyes.set()
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        await sdk(scope, receive, send)

    async with served(silent) as url:
        sessions = ToolSessions()
        listed = await sessions.listed([McpServer.http(url, name="shop", protocol="legacy", idle_timeout=0.05)])
        with anyio.fail_after(PATIENCE):
            await goodbyes.wait()
            while open_connections(sessions):  # noqa: ASYNC110 - nothing tells when a session has ended
                await anyio.sleep(0.01)
        assert listed.tools
        await sessions.aclose()


def test_sessions_of_an_ended_event_loop_are_opened_again() -> None:
    sdk, told = counted()
    sessions, server = ToolSessions(), McpServer.of(sdk, idle_timeout=0.05)

    async def greet() -> None:
        listed = await sessions.listed([server])
        assert await run(listed, "shop__greet") == "hello"

    async def idle() -> None:
        await greet()
        with anyio.fail_after(PATIENCE):
            while open_connections(sessions):  # noqa: ASYNC110 - nothing tells when a session has ended
                await anyio.sleep(0.01)
        await sessions.aclose()

    asyncio.run(greet())
    asyncio.run(idle())
    assert told.count("open") >= 2


async def test_a_session_is_not_used_in_another_event_loop() -> None:
    async with opened(McpServer.of(server_of())) as listed:

        async def add() -> str:
            return await run(listed, "shop__add", a=1, b=2)

        told = await anyio.to_thread.run_sync(asyncio.run, add())
        assert told.startswith("ERROR the MCP server 'shop' is open in another event loop")
        assert await add() == "3"


async def test_closing_waits_for_the_end_of_a_lost_session_as_well() -> None:
    opened_once, second_closed, closed = anyio.Event(), anyio.Event(), list[str]()

    @asynccontextmanager
    async def lifespan(_: MCPServer) -> AsyncGenerator[None, None]:
        is_first = not opened_once.is_set()
        opened_once.set()
        yield
        if is_first:
            await second_closed.wait()
            for _again in range(200):  # for longer than the second needs to end
                await checkpoint()
        closed.append("first" if is_first else "second")
        second_closed.set()

    sdk = MCPServer("raw", log_level="CRITICAL", lifespan=lifespan)
    sdk.add_tool(lambda: "done", name="go")
    async with opened(McpServer.of(sdk)) as listed:
        source = listed.sources["raw__go"]
        assert isinstance(source, McpSource)
        held = source._connection  # pyright: ignore[reportPrivateUsage]
        held.lose(await held.client())
        assert await run(listed, "raw__go") == "done"
    assert closed == ["second", "first"]
