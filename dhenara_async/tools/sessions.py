"""``ToolSessions``: the open servers of tools of one owner, a manager or a client.

A server is opened at its first use and closed with the owner, so that all calls and turns of the owner share it; one
that is idle is closed earlier. An owner with a server for each of its users (each with a token of its own) so holds
only those in use.
"""

from collections.abc import Hashable, Iterable
from importlib import import_module
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import anyio
import anyio.to_thread

from dhenara_async.errors import ConfigurationError, DhenaraError, MissingExtraError, StreamStateError
from dhenara_async.tools.declarations import HostedTool, Tool
from dhenara_async.tools.mcp.server import McpServer
from dhenara_async.tools.sources import Declarations, ListedTools, ToolSource

if TYPE_CHECKING:  # loaded when a server is used: the SDK takes most of a second
    from dhenara_async.tools.mcp.connection import McpConnection


_MOST_LOOPS = 1000  # whose tools are kept, for loops that nobody ends


class ToolSessions:
    """Opens servers of tools and keeps their sessions until they are idle, at most until ``aclose``."""

    def __init__(self) -> None:
        self._open: set[McpConnection] = set()
        # a connection without a session lives as long as a loop that has listed its tools
        self._connections: WeakValueDictionary[Hashable, McpConnection] = WeakValueDictionary()
        self._of_loops: dict[str, ListedTools] = {}
        self._closed = False

    async def listed(self, tools: Iterable[Tool | HostedTool | McpServer], *, loop: str | None = None) -> ListedTools:
        """Replace the servers among ``tools`` by their tools, before the first request of a turn.

        Args:
            tools: The tools of a config.
            loop: The id of the tool loop that lists them: the tools of a loop are listed once, so that they stay the
                same in all its requests, until ``forget``. None = outside of one.

        Raises:
            ToolServerError: A server cannot be opened, or does not list its tools.
            ConfigurationError: Two tools have the same name.
            MissingExtraError: The extra ``mcp`` is not installed.
            StreamStateError: The owner was closed.
        """
        given = tuple(tools)
        servers = [tool for tool in given if isinstance(tool, McpServer)]
        if not servers:
            return ListedTools(tuple(tool for tool in given if not isinstance(tool, McpServer)))
        if loop is not None and loop in self._of_loops:
            return self._of_loops[loop]
        await _loaded()
        if self._closed:  # a session that is opened now would have no end
            raise StreamStateError("the client or manager was closed before the tools of its MCP servers were listed")
        sources = [self._source(server) for server in servers]
        declared = await _declared(sources)
        found: list[Tool | HostedTool] = []
        by_name: dict[str, ToolSource] = {}
        names: dict[str, str] = {}
        place = 0
        for tool in given:
            if isinstance(tool, McpServer):
                source, offered = sources[place], declared[place].tools
                place += 1
                by_name.update({each.name: source for each in offered})
                whose = f"the MCP server {tool.name!r}"
            else:
                offered, whose = (tool,), "a tool of the config"
            for each in offered:
                if isinstance(each, Tool):
                    _check_name(each.name, whose, names)
                found.append(each)
        listed = ListedTools(
            tuple(found),
            by_name,
            tuple(text for each in declared for text in each.instructions),
            tuple(warning for each in declared for warning in each.warnings),
        )
        if loop is not None:
            if len(self._of_loops) >= _MOST_LOOPS:
                del self._of_loops[next(iter(self._of_loops))]
            self._of_loops[loop] = listed
        return listed

    async def warm_up(self, tools: Iterable[Tool | HostedTool | McpServer]) -> None:
        """Load the SDK, and open the servers among ``tools``.

        Raises:
            ToolServerError: A server cannot be opened, or does not list its tools.
            MissingExtraError: The extra ``mcp`` is not installed.
        """
        given = tuple(tools)
        if not given:
            await _loaded()
        await self.listed(given)

    def forget(self, loop: str) -> None:
        """End a tool loop: its tools are listed anew if it is resumed."""
        self._of_loops.pop(loop, None)

    async def aclose(self) -> None:
        """Close all servers, also when the caller is cancelled. Can be called again."""
        self._closed = True
        connections = list(self._connections.values())
        if connections:
            with anyio.CancelScope(shield=True):
                async with anyio.create_task_group() as group:
                    for connection in connections:
                        group.start_soon(connection.aclose)

    def _source(self, server: McpServer) -> ToolSource:
        from dhenara_async.tools.mcp.connection import McpConnection
        from dhenara_async.tools.mcp.source import McpSource

        key = server.connection_key()
        connection = self._connections.get(key)
        if connection is None:
            connection = self._connections[key] = McpConnection(server, self._open)
        for known, source in connection.sources:
            if known == server:
                return source
        source = McpSource(server, connection)
        connection.sources.append((server, source))
        return source


async def mcp_pins(server: McpServer) -> dict[str, str]:
    """Return the hash of the definition of each tool of a server, for ``McpServer.http(…, pins=…)``.

    Look at the definitions before you keep the hashes. The server is opened for this, and closed.

    Args:
        server: The server; its ``allow`` holds, its ``pins`` do not.

    Raises:
        ToolServerError: The server cannot be opened, or does not list its tools.
        MissingExtraError: The extra ``mcp`` is not installed.
    """
    await _loaded()
    from dhenara_async.tools.mcp.connection import McpConnection
    from dhenara_async.tools.mcp.names import definition_hash

    connection = McpConnection(server)
    try:
        _, tools, _ = await connection.list_tools()
    finally:
        await connection.aclose()
    allowed = [tool for tool in tools if server.allow is None or tool.name in server.allow]
    return {tool.name: definition_hash(tool.name, tool.description or "", tool.input_schema) for tool in allowed}


def _check_name(name: str, whose: str, names: dict[str, str]) -> None:
    if name in names:
        raise ConfigurationError(
            f"two tools have the name {name!r}, from {names[name]} and from {whose}: give the server another name="
        )
    names[name] = whose


async def _declared(sources: list[ToolSource]) -> list[Declarations]:
    """List the tools of all servers at the same time."""
    found: dict[int, Declarations] = {}
    failures: list[DhenaraError] = []

    async def listing(place: int, source: ToolSource) -> None:
        try:
            found[place] = await source.declarations()
        except DhenaraError as exc:  # one plain error, not a group
            failures.append(exc)

    async with anyio.create_task_group() as group:
        for place, source in enumerate(sources):
            group.start_soon(listing, place, source)
    if failures:
        raise failures[0]
    return [found[place] for place in range(len(sources))]


async def _loaded() -> None:
    """Load the SDK, in a thread: it takes most of a second, in which the loop's other streams would stand still."""
    try:
        await anyio.to_thread.run_sync(import_module, "dhenara_async.tools.mcp.source")
    except ImportError as exc:
        raise MissingExtraError("McpServer", extra="mcp") from exc
