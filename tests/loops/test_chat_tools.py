"""``chat --tool`` and ``--mcp``: calls and results are shown folded, and nothing runs before the user says so."""

import json
import sys
from pathlib import Path

import pytest

from dhenara_async.cli.tools import tools_of
from dhenara_async.errors import ConfigurationError
from dhenara_async.testing import Answer, ProviderServer
from tests.commands import finish, start
from tests.loops.tools import call, paint_step

SERVER = """
from mcp.server.mcpserver import MCPServer

shop = MCPServer("shop")
shop.add_tool(lambda: "A shirt is 12 EUR.", name="prices", description="All prices.")
shop.run("stdio")
"""
LONG = json.dumps({"why": "x" * 200 + "hidden-at-the-end"})


async def test_the_user_decides_about_each_call(tmp_path: Path) -> None:
    pytest.importorskip("mcp")
    path = tmp_path / "shop.py"
    path.write_text(SERVER, encoding="utf-8")
    script = [
        paint_step(1, call(1, "shorten", '{"text": "one two"}'), call(2, "shorten", '{"text": "three"}')),
        Answer(text="Done."),
        paint_step(2, call(3, "shorten", '{"text": "four"}'), call(4, "shop__prices", LONG)),
        Answer(text="Done again."),
    ]
    typed = "Shorten.\nnot this one\na\nAgain.\ny\n/quit\n"
    tools = ("--tool", "tests.loops.chat_tools:shorten", "--mcp", f"{sys.executable} {path}")
    async with ProviderServer(script) as server:
        environment = {**server.environment(), "PYTHONPATH": str(Path(__file__).parents[2])}
        process = await start("chat", "--model", "gpt-4o-mini", *tools, environment=environment)
        out, err = await finish(process, typed)
        assert (err, [seen.error for seen in server.requests]) == ("", [None] * 4)
        sent = json.dumps(server.requests[1].json)
    assert "the user did not allow this call: not this one" in sent
    assert out.count("the model asks for shorten(") == 2  # the third call is allowed with the second
    assert out.count("the model asks for shop__prices(") == 1
    assert "".join(out.split()).count("hidden-at-the-end") == 1  # whole in the question, folded when it runs
    assert '→ shorten({"text": "three"})' in out
    assert "← THREE" in out
    assert "← FOUR (+1 lines)" in out
    assert "← A shirt is 12 EUR." in out
    assert "Done again." in out


def test_a_tool_that_is_not_there_is_told() -> None:
    with pytest.raises(ConfigurationError, match="has no attribute 'nothing'"):
        tools_of(["textwrap:nothing"], [])
    with pytest.raises(ConfigurationError, match="write MODULE:FUNCTION"):
        tools_of(["textwrap"], [])
    with pytest.raises(ConfigurationError, match="not a function"):
        tools_of(["sys:path"], [])
    with pytest.raises(ConfigurationError, match="No closing quotation"):
        tools_of([], ["python 'server.py"])
