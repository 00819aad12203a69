"""An MCP server with a tool for everything that tests ask of one; as a program, it speaks over standard input."""

import os
from typing import Annotated

import anyio
import mcp_types as types
from mcp.server.elicitation import AcceptedElicitation, ElicitationResult
from mcp.server.mcpserver import Context, Elicit, MCPServer, Resolve
from pydantic import BaseModel

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WAVE = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQAAAAA="


class Size(BaseModel):
    """The size of a shirt."""

    size: int


def server_of(name: str = "shop", instructions: str | None = None) -> MCPServer:
    """Make the server."""
    server = MCPServer(name, instructions=instructions, log_level="CRITICAL")
    meeting: list[str] = []
    started: list[str] = []
    cancelled: list[str] = []

    @server.tool()
    def add(a: int, b: int) -> str:
        """Add two numbers."""
        return str(a + b)

    @server.tool()
    def pid() -> str:
        return str(os.getpid())

    @server.tool()
    def die() -> str:
        os._exit(1)

    @server.tool()
    def variable(which: str) -> str:
        return os.environ.get(which, "unset")

    @server.tool()
    async def wait(seconds: float) -> str:
        started.append("wait")
        try:
            await anyio.sleep(seconds)
        except anyio.get_cancelled_exc_class():
            cancelled.append("wait")
            raise
        return "waited"

    @server.tool()
    async def meet(others: int) -> str:
        """Wait until so many calls are here at once."""
        meeting.append("meet")
        while len(meeting) < others:  # noqa: ASYNC110 - a server has no loop before it runs, and an event needs one
            await anyio.sleep(0.01)
        return "met"

    @server.tool()
    def starts() -> str:
        return str(len(started))

    @server.tool()
    def cancellations() -> str:
        return str(len(cancelled))

    @server.tool()
    def fail() -> str:
        raise RuntimeError("the database password is swordfish")

    @server.tool()
    def picture() -> types.CallToolResult:
        image = types.ImageContent(data=PIXEL, mime_type="image/png")
        sound = types.AudioContent(data=WAVE, mime_type="audio/wav")
        return types.CallToolResult(content=[types.TextContent(text="Here:"), image, sound])

    @server.tool()
    def link() -> types.CallToolResult:
        found = types.ResourceLink(uri="note://today", name="today", description="Today's note.")
        inside = types.EmbeddedResource(resource=types.TextResourceContents(uri="note://x", text="inside"))
        blob = types.EmbeddedResource(
            resource=types.BlobResourceContents(uri="note://a/pixel.png", blob=PIXEL, mime_type="image/png")
        )
        return types.CallToolResult(content=[found, inside, blob])

    @server.resource("note://today")
    def today() -> str:
        return "Buy milk."

    @server.tool()
    def table() -> types.CallToolResult:
        return types.CallToolResult(content=[], structured_content={"rows": [1, 2]})

    @server.tool()
    def log(size: int) -> str:
        return "x" * size

    @server.tool()
    async def count(context: Context) -> str:
        for done in (1, 2):
            await context.report_progress(done, 2, f"step {done}")
        return "counted"

    def size(item: str) -> Elicit[Size]:
        return Elicit(f"Which size of {item}?", Size)

    @server.tool()
    def order(item: str, wanted: Annotated[ElicitationResult[Size], Resolve(size)]) -> str:
        return f"ordered size {wanted.data.size}" if isinstance(wanted, AcceptedElicitation) else "not ordered"

    return server


if __name__ == "__main__":
    server_of().run()
