"""The README's examples run as they stand, against the loopback server."""

import ast
import asyncio
import inspect
import os
import re
import sys
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from subprocess import PIPE
from types import CodeType
from typing import cast

import anyio
import anyio.to_thread
import pytest

from dhenara_async import AIModelClient, ConversationNode, Timeouts
from dhenara_async.testing import Answer, ProviderServer, ScriptedError, ScriptedToolCall, SeenRequest
from tests.loopback import Connection, chat_endpoint, chat_stream, chunked, serve

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
PROGRAM, CALLS, KEEP_ALIVE, BLOCKING, SAYING, HOP, TROUBLE, MANY, RAY, TESTING = EXAMPLES  # RAY runs in test_ray.py


def compiled(source: str) -> CodeType:
    return compile(source, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def definitions() -> dict[str, object]:
    """What the program's reader has by then: its imports and endpoints, without running it."""
    names: dict[str, object] = {}
    exec(compiled(PROGRAM.partition("async def main")[0]), names)  # noqa: S102 - our own README
    exec(compiled("from dhenara_async import AIModelClient"), names)  # noqa: S102
    return names


async def run(source: str, names: dict[str, object]) -> None:
    outcome: object = eval(compiled(source), names)  # noqa: S307 - our own README
    if inspect.isawaitable(outcome):
        await outcome


async def test_the_program_is_fifteen_lines_of_work_and_hops() -> None:
    work = [line for line in PROGRAM.splitlines() if line.strip() and not re.match(r"import|from", line)]
    assert len(work) <= 15
    async with ProviderServer() as server:
        environment = {**os.environ, **server.environment()}
        with anyio.fail_after(30):
            done = await anyio.run_process(
                [sys.executable, "-W", "error", "-c", PROGRAM], env=environment, check=False, stdout=PIPE
            )
        assert done.returncode == 0, done.stderr.decode()
        assert [seen.provider for seen in server.requests] == ["anthropic", "openai"]
        first_answer = server.requests[1].turns[1]
        assert first_answer[0] == "assistant" and first_answer[1] in done.stdout.decode()


async def test_the_calls(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    async with ProviderServer() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        await run(CALLS, definitions())
        assert server.requests[0].turns == (("user", "What is a robot?And in one word?"),)
        assert len(server.requests) == 2
    assert capsys.readouterr().out.splitlines()[-1] == "stream_end"


async def test_an_endpoint_that_keeps_its_connection_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    said = asyncio.Event()

    async def play(connection: Connection) -> None:
        await connection.request()
        await said.wait()
        await connection.send(chunked(*chat_stream("Ebb", " and", " flow.")))

    async with serve(play) as server:
        names = definitions()
        exec(compiled("import anyio"), names)  # noqa: S102 - our own README
        names["client"] = AIModelClient(chat_endpoint(server.url))
        await run(KEEP_ALIVE.replace("move_on_after(15)", "move_on_after(0.001)"), names)
        endpoint = cast("Callable[[str], AsyncGenerator[str]]", names["server_sent_events"])
        lines: list[str] = []
        async for line in endpoint("Sing."):
            lines.append(line)
            if len(lines) == 3:
                said.set()
        assert len(server.requests) == 1
    assert lines[:3] == [": keep-alive\n\n"] * 3
    events = [line for line in lines if line.startswith("data: {")]
    assert [line.partition('"text":')[2].partition("}")[0] for line in events if "text_delta" in line] == [
        *('"Ebb"', '" and"', '" flow."'),
    ]


async def test_the_blocking_face(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    async with ProviderServer() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        names = definitions()
        await anyio.to_thread.run_sync(exec, compiled(BLOCKING), names)
        assert len(server.requests) == 1
    assert capsys.readouterr().out.strip()


async def test_everything_that_can_be_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    call = ScriptedToolCall(call_id="toolu_1", name="weather", arguments='{"city":"Paris"}')
    script = [
        Answer(tool_calls=(call,)),
        Answer(text="Sunny."),
        Answer(text='{"name":"Ada","age":36}'),
        Answer(text="A robot."),
    ]
    async with ProviderServer(script) as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        names = definitions()
        exec(compiled("from dhenara_async import AIModelCallConfig"), names)  # noqa: S102 - our own README
        await run(SAYING, names)
        assert server.requests[1].turns[-1] == ("user", "Sunny in Paris.")
    assert str(names["person"]) == "name='Ada' age=36"
    assert capsys.readouterr().out.startswith("A robot. ()")


async def test_what_a_hop_carries_over(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    script = [Answer(text="A robot painted.", reasoning="What would it paint?"), Answer(text="It was colour-blind.")]
    async with ProviderServer(script) as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        await run(HOP, definitions())
        assert [seen.provider for seen in server.requests] == ["anthropic", "openai"]
        assert server.requests[1].turns[1] == ("assistant", "A robot painted.")
    dry_run, counted, _head, *rows = capsys.readouterr().out.splitlines()
    assert dry_run == "()"
    assert counted == "3 native, 1 omitted"
    assert [row.split()[2:4] for row in rows] == [["reasoning", "omitted"]]
    assert "foreign origin" in rows[0]


async def test_when_things_go_wrong(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    async with ProviderServer([Answer(text="Yes.")]) as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        names = definitions()
        exec(compiled("from dhenara_async import AIModelCallConfig"), names)  # noqa: S102 - our own README
        await run(TROUBLE, names)
    assert capsys.readouterr().out == "complete 1 [None]\n"


async def test_many_at_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def one_fails(seen: SeenRequest) -> Answer | ScriptedError:
        asked = seen.turns[-1][1]
        return (
            ScriptedError(401, "No.")
            if (seen.provider, asked) == ("openai", "What is a robot?")
            else Answer(text=asked)
        )

    async with ProviderServer(one_fails) as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        names = definitions()
        await run(MANY, names)
        assert len(server.requests) == 6
    results, *events = capsys.readouterr().out.splitlines()
    assert results.startswith("['What is a robot?', AuthenticationError(")
    assert sorted(events) == ["a Why?", "b Why?"]
    assert [node.status for node in cast("tuple[ConversationNode, ...]", names["nodes"])] == ["complete", "complete"]


def test_the_time_limits_are_those_there_are() -> None:
    told = dict(re.findall(r"^\| `(\w+)=(\w+)` \|", README, re.MULTILINE))
    assert told == {name: f"{value:g}" if value else "None" for name, value in Timeouts().model_dump().items()}


async def test_the_testing_example() -> None:
    await run(TESTING, {})


def test_the_two_commands_come_first_and_the_gate_runs_the_second() -> None:
    commands = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    assert "dhenara_async demo" in commands[0] and commands[0].count("\n") == 1
    assert commands[1].rstrip().endswith(".venv/bin/pytest") and commands[1].count("\n") == 1
    gate = (Path(__file__).parent.parent / ".ci" / "run").read_text(encoding="utf-8")
    assert gate.rstrip().endswith("\npytest")
