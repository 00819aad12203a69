"""The seam between a tool loop and tools that run elsewhere, such as on an MCP server.

A ``ToolSource`` lists tools and runs their calls. A request takes plain ``Tool``s, so the servers among
``AIModelCallConfig.tools`` are listed before it: ``ListedTools`` has the tools for the request, and the source of each.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from pydantic import JsonValue

from dhenara_async.events import ToolProgress
from dhenara_async.messages.messages import ToolCallPart, ToolResultPart
from dhenara_async.response import CallWarning
from dhenara_async.tools.declarations import HostedTool, Tool


@dataclass(frozen=True, slots=True)
class ToolQuestion:
    """A question that a tool asks the user before it continues with a call.

    Attributes:
        call: The call.
        server: The name of the server that asks.
        message: The question, in the server's words.
        form: JSON schema of the answer, an object with flat properties; None for a question with a ``url``.
        url: The page that the user should visit to answer; None for a question with a form.
    """

    call: ToolCallPart
    server: str
    message: str
    form: Mapping[str, JsonValue] | None = None
    url: str | None = None


ToolAnswer = Mapping[str, JsonValue] | bool | str
"""The answer to a ``ToolQuestion``: the values of its form; True = yes, without values; False or a reason = no."""

OnProgress = Callable[[ToolProgress], object]
"""Receives the reports of a running call; called on the event loop, so it must not block."""

AskUser = Callable[[ToolQuestion], Awaitable[ToolAnswer]]
"""Answers a tool's question."""


@dataclass(frozen=True, slots=True)
class Declarations:
    """The tools that a source offers to the model.

    Attributes:
        tools: Its tools, ordered by name.
        instructions: Instructions of the source itself, for the system prompt.
        warnings: The tools that are withheld, and why.
    """

    tools: tuple[Tool, ...]
    instructions: tuple[str, ...] = ()
    warnings: tuple[CallWarning, ...] = ()


class ToolSource(Protocol):
    """Tools that run elsewhere."""

    @property
    def name(self) -> str:
        """The name of the source, for people."""
        ...

    async def declarations(self) -> Declarations:
        """List the tools. Called before the first request of a turn; equal tools give equal declarations.

        Raises:
            DhenaraError: They cannot be listed.
        """
        ...

    async def call(
        self, call: ToolCallPart, *, progress: OnProgress | None = None, ask: AskUser | None = None
    ) -> ToolResultPart:
        """Run a call of one of the declared tools.

        Cancelling this cancels the tool. A failure of any kind is an error result in plain words.

        Args:
            call: The model's call.
            progress: Receives the tool's reports; None = they are dropped.
            ask: Answers the tool's questions; None = they are declined, and the result says so.
        """
        ...

    async def aclose(self) -> None:
        """End the source and everything that it started. Can be called again."""
        ...


@dataclass(frozen=True, slots=True)
class ListedTools:
    """The tools of one turn: those of the config, with each server replaced by its tools.

    Attributes:
        tools: The tools for the request, in the order of the config.
        sources: The source that runs a tool, by the tool's name; tools without one run here.
        instructions: Instructions of the sources, for the system prompt of every request of the turn.
        warnings: The tools that are withheld, for the warnings of the response.
    """

    tools: tuple[Tool | HostedTool, ...]
    sources: Mapping[str, ToolSource] = field(default_factory=dict[str, ToolSource])
    instructions: tuple[str, ...] = ()
    warnings: tuple[CallWarning, ...] = ()
