"""The tools of a chat: functions and MCP servers named on the command line, and the questions before they run."""

import shlex
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from dhenara_async.cli.input import Lines
from dhenara_async.cli.screen import Screen
from dhenara_async.errors import ConfigurationError
from dhenara_async.messages.messages import ToolCallPart
from dhenara_async.tools.declarations import Usable
from dhenara_async.tools.mcp.server import McpServer


def tools_of(functions: Sequence[str], servers: Sequence[str]) -> list[Usable]:
    """Return the tools that options name.

    Args:
        functions: ``module:function``; modules of the current folder are found, too.
        servers: URLs of MCP servers, or commands that start one.

    Raises:
        ConfigurationError: One of them cannot be found or used.
    """
    return [*map(_function, functions), *map(_server, servers)]


def _function(name: str) -> Callable[..., object]:
    module, colon, attribute = name.partition(":")
    if not colon or not module or not attribute:
        raise ConfigurationError(f"--tool {name}: write MODULE:FUNCTION, such as weather:forecast")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: object = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as exc:
        raise ConfigurationError(f"--tool {name}: {exc}") from exc
    if not callable(found):
        raise ConfigurationError(f"--tool {name}: it is not a function")
    return found


def _server(address: str) -> McpServer:
    if address.startswith(("http://", "https://")):
        return McpServer.http(address)
    try:
        words = shlex.split(address)
    except ValueError as exc:  # a quotation without its end
        raise ConfigurationError(f"--mcp {address}: {exc}") from exc
    return McpServer.stdio(words)


class Approvals:
    """Asks the user before a tool runs.

    Args:
        screen: Where the call is shown.
        lines: Where the answer comes from.
    """

    def __init__(self, screen: Screen, lines: Lines) -> None:
        self._screen = screen
        self._lines = lines
        self._always: set[str] = set()

    async def approve(self, call: ToolCallPart) -> bool | str:
        """Return the user's decision about a call; a line that is neither yes nor no is the reason of a no."""
        if call.name in self._always:
            return True
        self._screen.end_line()
        self._screen.quiet(f"the model asks for {call.get_text()}")  # whole: nothing that is allowed may be hidden
        line = await self._lines.next("run it? y(es), n(o), a(lways this tool), or why not: ")
        word = (line or "n").lower()
        if word in ("a", "always"):
            self._always.add(call.name)
        if word in ("y", "yes", "a", "always"):
            return True
        return False if word in ("n", "no") else line or False
