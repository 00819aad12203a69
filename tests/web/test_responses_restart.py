"""``/v1/responses`` after its process was killed: a new one on the same SQLite file has every response."""

import sys
from pathlib import Path
from subprocess import PIPE
from typing import Any

import anyio
import anyio.abc

from dhenara_async import Dialect
from dhenara_async.testing import Answer, Fault, ProviderServer
from tests.loopback import PATIENCE, endpoint_at
from tests.web.openai_clients import front, sdk_at


async def _line(process: anyio.abc.Process) -> str:
    assert process.stdout is not None
    line = b""
    while not line.endswith(b"\n"):
        line += await process.stdout.receive()
    return line.decode().strip()


async def test_responses_of_a_killed_process_are_there_in_the_next_one(tmp_path: Path) -> None:
    store = tmp_path / "chat.db"
    script = [Answer(text="One"), Fault(answer=Answer(text="two three four five"), stall=3), Answer(text="Three")]
    async with ProviderServer(script) as provider:
        endpoint = endpoint_at(provider, Dialect.OPENAI_CHAT)
        assert endpoint.api.base_url is not None
        command = [sys.executable, "-m", "tests.web.responses_server", str(store), endpoint.api.base_url]
        with anyio.fail_after(3 * PATIENCE):
            async with await anyio.open_process(command, stdout=PIPE, stderr=None) as process:
                async with sdk_at(await _line(process)) as sdk:
                    done = await sdk.responses.create(model="m", input="One?")
                    seen: list[Any] = []
                    asked = {"input": "Two?", "previous_response_id": done.id}
                    async for event in await sdk.responses.create(model="m", **asked, stream=True, background=True):
                        seen.append(event)
                        if event.type == "response.output_text.delta":
                            break
                process.kill()
                await process.wait()
            async with front({"m": endpoint}, store=store) as (url, _), sdk_at(url) as sdk:
                assert (await sdk.responses.retrieve(done.id)).to_dict() == done.to_dict()
                cut = seen[0].response.id
                left = await sdk.responses.retrieve(cut)
                assert (left.status, left.previous_response_id) == ("failed", done.id)
                replay = [event async for event in await sdk.responses.retrieve(cut, stream=True)]
                assert [event.sequence_number for event in replay] == list(range(len(replay)))
                assert replay[-1].type == "response.failed"
                kept = [event.to_dict() for event in replay[:-2]][: len(seen)]
                assert kept == [event.to_dict() for event in seen][: len(kept)]
                rest = [
                    event async for event in await sdk.responses.retrieve(cut, stream=True, starting_after=1_000)
                ]  # of what the killed process had sent and not kept
                assert [(event.type, event.sequence_number) for event in rest] == [("response.failed", 1_001)]
                assert rest[0].response.to_dict() == left.to_dict()
                last = await sdk.responses.create(model="m", input="Three?", previous_response_id=done.id)
                assert last.output_text == "Three"
