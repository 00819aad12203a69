"""``McpSource``: the tools of one MCP server for the model, and their calls."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from time import monotonic
from typing import cast

import anyio
import mcp_types as types
from mcp import Client, MCPError

from dhenara_async.errors import ConfigurationError, ToolArgumentsError, ToolServerError, printable
from dhenara_async.events import ToolProgress
from dhenara_async.messages.messages import ToolCallPart, ToolOrigin, ToolResultPart
from dhenara_async.response import CallWarning
from dhenara_async.tools.deadline import CallDeadline
from dhenara_async.tools.declarations import Tool
from dhenara_async.tools.mcp.connection import LONGEST_ERROR, McpConnection, is_forgotten, is_lost, words_of
from dhenara_async.tools.mcp.names import definition_hash, tool_name
from dhenara_async.tools.mcp.results import Resource, converted
from dhenara_async.tools.mcp.running_call import McpCall, running_call
from dhenara_async.tools.mcp.server import McpServer
from dhenara_async.tools.sources import AskUser, Declarations, OnProgress

logger: logging.Logger = logging.getLogger("dhenara_async")


@dataclass(frozen=True, slots=True)
class _Definition:
    """A tool as the server defines it.

    Attributes:
        name: The server's own name of the tool.
        hash: Hash of the definition.
        withheld: Why the model does not get it; None if it does.
    """

    name: str
    hash: str
    withheld: str | None


class McpSource:
    """The tools of a server; see ``ToolSource``.

    Args:
        server: The server.
        connection: Its session, which several sources may share.
    """

    def __init__(self, server: McpServer, connection: McpConnection) -> None:
        self._server = server
        self._connection = connection
        self._listing = anyio.Lock()
        self._listed_at = -inf
        self._keep_until = -inf
        self._declarations = Declarations(())
        # by the model's name; a listing adds to it and changes it, so a turn may call what an earlier listing gave it
        self._definitions: dict[str, _Definition] = {}

    @property
    def name(self) -> str:
        """The name of the server."""
        return self._server.name

    async def declarations(self) -> Declarations:
        """List the tools; several turns that begin together share one listing."""
        began = monotonic()
        if began < self._keep_until:
            return self._declarations
        async with self._listing:
            if self._listed_at <= began:
                client, tools, keep = await self._connection.list_tools()
                self._listed_at = monotonic()
                self._keep_until = self._listed_at + keep
                self._take(tools, client.instructions)
        return self._declarations

    async def call(
        self, call: ToolCallPart, *, progress: OnProgress | None = None, ask: AskUser | None = None
    ) -> ToolResultPart:
        """Run a call; see ``ToolSource``."""
        definition = self._definitions.get(call.name)
        if definition is None:
            return _failed(call, f"the MCP server {self.name!r} has no tool {call.name!r}")
        if definition.withheld is not None:
            return _failed(call, f"the tool {call.name!r} was not run: {definition.withheld}")
        try:
            arguments = call.parsed()
        except ToolArgumentsError as exc:
            return _failed(call, str(exc))
        seconds = self._server.timeout
        deadline = inf if seconds is None else anyio.current_time() + seconds
        result = _failed(call, f"the tool did not answer within {seconds} s and was cancelled")
        with anyio.CancelScope(deadline=deadline) as scope:
            running = McpCall(call, ask, CallDeadline(scope), [])
            with self._connection.used():
                result = await self._result(running, definition.name, cast("dict[str, object]", arguments), progress)
        protocol = self._connection.protocol
        tool = ToolOrigin(server=self.name, tool=definition.name, definition=definition.hash, protocol=protocol)
        return result.changed(tool=tool)

    async def aclose(self) -> None:
        """Close the session."""
        await self._connection.aclose()

    def _take(self, tools: Sequence[types.Tool], instructions: str | None) -> None:
        """Take over a listing."""
        server = self._server
        declared: dict[str, Tool] = {}
        warnings: list[CallWarning] = []
        allowed: dict[str, str] = {}
        for name in self._definitions.keys() - {tool_name(server.name, tool.name) for tool in tools}:
            self._definitions[name] = _Definition(name, "", "the server does not offer it any more")
        for tool in sorted(tools, key=lambda tool: tool.name):
            name = tool_name(server.name, tool.name)
            if server.allow is not None and tool.name not in server.allow:
                if name not in allowed:
                    words = "it is not among the allowed tools of its server"
                    self._definitions[name] = _Definition(tool.name, "", words)
                continue
            if allowed.setdefault(name, tool.name) != tool.name:
                raise ConfigurationError(
                    f"the MCP server {server.name!r} has two tools, {allowed[name]!r} and {tool.name!r}, that get the "
                    f"same name {name!r}: leave one of them out with allow=[…]"
                )
            description = tool.description or ""
            made = definition_hash(tool.name, description, tool.input_schema)
            withheld = _withheld(server.pins, tool.name, made)
            if withheld is None:
                try:
                    declared[name] = Tool(name=name, description=description, parameters=tool.input_schema)
                except ConfigurationError as exc:
                    withheld = f"its definition cannot be used: {exc}"
            self._definitions[name] = _Definition(tool.name, made, withheld)
            if withheld is not None:
                words = f"the tool {tool.name!r} of the MCP server {server.name!r} is withheld: {withheld}"
                warnings.append(CallWarning(code="tool_withheld", knob="tools", message=printable(words)))
                logger.warning("%s", printable(words))
        texts = (instructions,) if server.instructions and instructions else ()
        ordered = tuple(declared[name] for name in sorted(declared))
        self._declarations = Declarations(ordered, texts, tuple(warnings))

    async def _result(
        self, running: McpCall, tool: str, arguments: dict[str, object], on_progress: OnProgress | None
    ) -> ToolResultPart:
        """Run a call, once; a server that has forgotten the session, and so did nothing, is opened and asked again."""
        call, server = running.call, self._server

        async def report(progress: float, total: float | None, message: str | None) -> None:
            if on_progress is not None:
                on_progress(ToolProgress(call, progress, total, message))

        token = running_call.set(running)
        self._connection.calls.append(running)
        client: Client | None = None
        try:
            for last in (False, True):
                client = await self._connection.client()
                try:
                    result = await client.call_tool(tool, arguments, progress_callback=report)
                except MCPError as exc:
                    if is_forgotten(exc) and not last:
                        self._connection.lose(client)
                        continue
                    raise
                resources = await self._linked(client, result)
                return converted(call, result, server, resources=resources, declined=running.declined)
            raise AssertionError  # the second round returned or raised
        except ToolServerError as exc:
            return _failed(call, str(exc))
        except Exception as exc:  # noqa: BLE001 - the SDK raises groups, and errors of validators; the model is told
            if client is not None and is_lost(exc):
                self._connection.lose(client)
                return _failed(
                    call,
                    f"the MCP server {server.name!r} ended while it ran the tool, which may have done its work or not",
                )
            return _failed(call, f"the MCP server {server.name!r} did not run the tool: {words_of(exc, server)}")
        finally:
            self._connection.calls.remove(running)
            running.dismiss()
            running_call.reset(token)

    async def _linked(self, client: Client, result: types.CallToolResult) -> Mapping[str, Sequence[Resource]]:
        """Read the links of a result from the server, where it was asked for; a link that cannot be read stays one."""
        found: dict[str, Sequence[Resource]] = {}
        for block in result.content if self._server.resources else ():
            if isinstance(block, types.ResourceLink):
                try:
                    found[block.uri] = (await client.read_resource(block.uri)).contents
                except (MCPError, ValueError, RuntimeError) as exc:
                    logger.debug("a resource of %s cannot be read: %s", self.name, words_of(exc, self._server))
        return found


def _withheld(pins: Mapping[str, str] | None, tool: str, made: str) -> str | None:
    if pins is None or pins.get(tool) == made:
        return None
    if tool not in pins:
        return "it is new, and has no pin: look at its definition, and add its hash to pins="
    return "its definition has changed since it was pinned: look at it, and change its hash in pins="


def _failed(call: ToolCallPart, words: str) -> ToolResultPart:
    return ToolResultPart.of(call, words[:LONGEST_ERROR], is_error=True)
