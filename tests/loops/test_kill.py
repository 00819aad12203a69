"""A process that is killed at any event of a loop: what was seen of it is not run again, and the loop goes on."""

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import anyio.to_thread
import pytest

from dhenara_async import AIModelCallConfig, ConversationManager, Dialect, ToolPolicy
from dhenara_async.testing import Answer, ProviderServer, SeenRequest
from tests.loops.tools import answered, call, endpoint_of

STEPS = 5
MOST = 80
"""More than the events of a loop of five steps."""

STRIDE = 1 if os.environ.get("DHENARA_SOAK") else 4
"""A process is killed at each so many-th event; four meets every kind of event in some step."""

CHILD = """
import asyncio, os, signal, sys
from pathlib import Path
from dhenara_async import AIModelCallConfig, AIModel, AIModelAPI, AIModelEndpoint, ConversationManager, ToolPolicy
from dhenara_async.stores import SQLStore

folder, address, model, most, stride = Path(sys.argv[1]), *sys.argv[2:4], *map(int, sys.argv[4:])

async def loop(number):
    def paint(number_of_picture: int) -> str:
        with (folder / f"{number}.ran").open("a") as file:
            file.write(f"{number_of_picture}\\n")
        return f"picture {number_of_picture} is painted"

    api = AIModelAPI(provider="openai", base_url=address, dialect="openai_chat", api_key="key")
    endpoint = AIModelEndpoint(api=api, ai_model=AIModel(model_name=model))
    config = AIModelCallConfig(tools=[paint])
    async with ConversationManager(store=str(folder / "chat.db"), config=config) as manager:
        conversation = await manager.open(f"talk {number}")
        seen = 0
        async with manager.turn(conversation, "Paint five.", endpoint, run_tools=ToolPolicy()) as turn:
            async for event in turn:
                seen += 1
                if event.type == "tool_end":
                    (folder / f"{number}.seen").open("a").write(f"{event.result.call_id}\\n")
                if seen == number:
                    os.kill(os.getpid(), signal.SIGKILL)
    return seen

asyncio.run(loop(0))  # loads the modules for all children
for number in range(1, most, stride):
    child = os.fork()
    if not child:
        os._exit(asyncio.run(loop(number)))
    end = os.waitpid(child, 0)[1]
    print(end)
    if end != signal.SIGKILL:
        break
"""


def paint(ran: list[str], number_of_picture: int) -> str:
    """Paint a picture."""
    ran.append(str(number_of_picture))
    return f"picture {number_of_picture} is painted"


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="processes cannot be forked and killed here")
async def test_nothing_that_was_seen_runs_again_and_the_loop_goes_on(tmp_path: Path) -> None:
    def script(seen: SeenRequest) -> Answer:
        step = answered(seen) + 1
        if step > STEPS:
            return Answer(text="Done.")
        return Answer(tool_calls=(call(step, "paint", f'{{"number_of_picture": {step}}}'),))

    async with ProviderServer(script) as server:
        endpoint = endpoint_of(server, Dialect.OPENAI_CHAT)
        async with ConversationManager(store=str(tmp_path / "chat.db")) as manager:
            for number in range(MOST):
                await manager.store.create(f"talk {number}")
        arguments = [str(tmp_path), str(endpoint.api.base_url), endpoint.ai_model.model_name, str(MOST), str(STRIDE)]
        command = [sys.executable, "-c", CHILD, *arguments]

        def run() -> subprocess.CompletedProcess[str]:
            return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

        done = await anyio.to_thread.run_sync(run)
        ends = [int(line) for line in done.stdout.split()]
        events = ends[-1] >> 8
        assert ends[:-1] == [signal.SIGKILL] * len(range(1, events + 1, STRIDE)), done.stderr
        assert 9 * STEPS < events < MOST
        assert None not in [seen.json for seen in server.requests]

        async with ConversationManager(store=str(tmp_path / "chat.db")) as manager:
            for number in range(1, events + 1, STRIDE):
                ran: list[str] = []
                config = AIModelCallConfig(tools=[partial(paint, ran)])
                talk, policy = await manager.open(f"talk {number}"), ToolPolicy()
                if talk.head is None:
                    node = await manager.turn(talk, "Paint five.", endpoint, config=config, run_tools=policy)
                else:
                    node = await manager.resume(talk, {}, endpoint, config=config, run_tools=policy)
                assert node.answer.text() == "Done.", number
                assert len(talk.path()) == STEPS + 1
                seen = [entry.removeprefix("call_") for entry in lines(tmp_path / f"{number}.seen")]
                every = lines(tmp_path / f"{number}.ran") + ran
                assert [every.count(picture) for picture in seen] == [1] * len(seen), number
                assert sorted(set(every)) == [str(step + 1) for step in range(STEPS)]
        assert [seen.error for seen in server.requests if seen.error] == []
