"""Processes that are forked while calls are under way: each has connections of its own, and nobody waits for ever."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

_ROOT = Path(__file__).parents[2]

_BEFORE = """
import asyncio, gc, os, sys, warnings
import httpx
from anyio.from_thread import start_blocking_portal
from dhenara_async import AIModelClient, HttpxTransport
from dhenara_async.errors import StreamStateError
from dhenara_async.transport.aiohttp_transport import AiohttpTransport
from tests.loopback import LAST_CHUNK, chat_body, chat_delta, chat_endpoint, chat_stream, chunk, head, serve, whole

warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
go_on = None


async def play(connection):
    global go_on
    while (request := await connection.request()) is not None:
        if b'"stream":true' not in request.body:
            await connection.send(whole(chat_body("Aye.")))
            continue
        go_on = asyncio.Event()
        await connection.send(head(transfer_encoding="chunked"), chunk(chat_delta("Half")))
        await go_on.wait()
        await connection.send(*map(chunk, chat_stream(" and half.")), LAST_CHUNK)


def wait_for(child):
    assert os.waitpid(child, 0)[1] == 0


"""


def run(body: str) -> list[str]:
    """What a script prints; it and its children have little time, say nothing else, and end well."""
    command = [sys.executable, "-c", _BEFORE + body]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=_ROOT)
    assert (done.stderr, done.returncode) == ("", 0)
    return done.stdout.splitlines()


def test_a_forked_child_with_its_own_loop_leaves_the_parents_connections_alone() -> None:
    """The parent's stream and its idle connection stay its own, although the child uses the same transport and ends."""
    assert run("""
with (
    start_blocking_portal() as hosting,
    start_blocking_portal() as portal,
    hosting.wrap_async_context_manager(serve(play)) as server,
):
    transport = AiohttpTransport()
    client = AIModelClient(chat_endpoint(server.url), transport=transport)
    stream = client.stream("Talk.")
    portal.call(stream.__aenter__)
    print(portal.call(stream.batch)[-1].text, flush=True)
    print(portal.call(client.generate, "Idle?").text(), flush=True)

    async def in_the_child():
        print(await client.generate("Child?") and "child", flush=True)
        await transport.aclose()

    child = os.fork()
    if child == 0:
        asyncio.run(in_the_child())
        asyncio.run(AIModelClient(chat_endpoint(server.url)).generate("Own?"))
        transport = client = stream = None
        gc.collect()
        os._exit(0)
    wait_for(child)
    hosting.call(go_on.set)
    print(portal.call(stream.collect).text(), flush=True)
    portal.call(stream.aclose)
    print(portal.call(client.generate, "Idle still?").text(), flush=True)
    portal.call(transport.aclose)
print(server.connections)
""") == ["Half", "Aye.", "child", "Half and half.", "Aye.", "4"]


def test_a_process_forked_in_a_coroutine_gets_an_error() -> None:
    *told, connections = run("""
async def main():
    async def entering(prompt):
        async with client.stream(prompt):
            pass

    async with serve(play) as server, httpx.AsyncClient() as http:
        for transport in (AiohttpTransport(), HttpxTransport(http), None):
            client = AIModelClient(chat_endpoint(server.url), transport=transport)
            assert (await client.generate("Parent?")).text() == "Aye."
            child = os.fork()
            if child == 0:
                for call in (client.generate, client.generate, entering):
                    try:
                        await call("Child?")
                    except BaseException as exc:
                        print(type(exc).__name__, exc, flush=True)
                os._exit(0)
            wait_for(child)
            if transport is not None:
                await transport.aclose()
        print(server.connections)

asyncio.run(main())
""")
    assert connections == "3"
    assert len(told) == 9
    assert set(told) == {
        "StreamStateError no event loop runs here; a process that was forked has none of its parent's: begin one with "
        "asyncio.run()"
    }


def test_the_httpx_client_of_a_parent_is_not_used() -> None:
    (told,) = run("""
transport = HttpxTransport(httpx.AsyncClient())
child = os.fork()
if child == 0:
    try:
        asyncio.run(AIModelClient(chat_endpoint("http://127.0.0.1:1"), transport=transport).generate("Child?"))
    except StreamStateError as exc:
        print(exc, flush=True)
    os._exit(0)
wait_for(child)
""")
    assert "a client of its own" in told
