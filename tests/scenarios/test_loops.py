"""Event loops one after another, many at once, and their ends: run in interpreters where every warning is an error."""

import asyncio
import subprocess
import sys
import textwrap

import pytest
from anyio.from_thread import start_blocking_portal

from dhenara_async import AIModelClient
from dhenara_async.transport.aiohttp_transport import AiohttpTransport
from tests.loopback import chat_body, chat_endpoint, replies, serve, whole

_SECONDS = 120

_BEFORE = """
import asyncio, gc, sys, threading
from anyio.from_thread import start_blocking_portal
from dhenara_async import AIModelCallConfig, AIModelClient, AIModelEndpoint, AIModel, AIModelAPIProviderEnum
from dhenara_async import ConversationManager
from dhenara_async.testing import ProviderServer
from dhenara_async.transport.aiohttp_transport import AiohttpTransport

def endpoint_of(server):
    api = server.api(AIModelAPIProviderEnum.GROQ)
    return AIModelEndpoint(api=api, ai_model=AIModel(model_name="some-model"))

async def ask(client):
    async with client.stream("Hi.") as stream:
        async for event in stream:
            pass
    return (await client.generate("Hi.")).text() == stream.response.text()

async def turns(manager, endpoint):
    conversation = await manager.create()
    for _ in range(2):
        async with manager.turn(conversation, "Hi.", endpoint) as turn:
            async for event in turn:
                pass
    assert [node.status for node in conversation.nodes] == ["complete", "complete"]
    return True

gc.collect()
gc.freeze()  # collections examine only what calls make, not all imported modules
"""


def run(body: str) -> str:
    """What a script prints; what it says on stderr is an error, and so is every warning."""
    code = _BEFORE + textwrap.dedent(body)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout


SHARED = """
def calls(shared):
    return turns(shared, endpoint) if isinstance(shared, ConversationManager) else ask(shared)

with start_blocking_portal() as portal, portal.wrap_async_context_manager(ProviderServer()) as server:
    endpoint = endpoint_of(server)
    work(AIModelClient(endpoint), None)
    for transport in (AiohttpTransport(), AiohttpTransport(limit=2)):
        work(AIModelClient(endpoint, transport=transport), transport)
    transport = AiohttpTransport()
    work(ConversationManager(transport=transport), transport)
"""
"""Gives ``work`` a client that opens its own connections, then two clients and a manager with a transport."""


def test_twenty_consecutive_loops_leave_nothing_open() -> None:
    """Nobody closes anything: what a loop has opened ends with it."""
    told = run(
        textwrap.dedent("""
            def work(shared, transport):
                for _ in range(20):
                    assert asyncio.run(calls(shared))
                    gc.collect()
                print(None if transport is None else len(transport._sessions))
        """)
        + SHARED
    )
    assert told == "None\n0\n0\n0\n"


def test_eight_threads_with_their_own_loops_leave_nothing_open() -> None:
    told = run(
        textwrap.dedent("""
            def work(shared, _transport):
                done = []

                def loops():
                    for _ in range(5):
                        done.append(asyncio.run(calls(shared)))

                threads = [threading.Thread(target=loops) for _ in range(8)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                gc.collect()
                print(sum(done))
        """)
        + SHARED
    )
    assert told == "40\n40\n40\n40\n"


ENDS = {
    "a stream that is left open": """
        async def main():
            global stream
            stream = client.stream("Hi.")
            await stream.__aenter__()
            print(type(await anext(stream)).__name__)
    """,
    "a task that is still reading": """
        async def read():
            async with client.stream("Hi.") as stream:
                async for event in stream:
                    print(type(event).__name__)
                    begun.set()

        async def main():
            global begun, task
            begun = asyncio.Event()
            task = asyncio.get_running_loop().create_task(read())
            await begun.wait()
    """,
    "an exit from within": """
        async def main():
            async with client.stream("Hi.") as stream:
                async for event in stream:
                    print(type(event).__name__)
                    sys.exit(0)
    """,
}


@pytest.mark.parametrize("made", ["AIModelClient(endpoint)", "AIModelClient(endpoint, transport=AiohttpTransport())"])
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
def test_an_interpreter_exits_with_an_open_stream(end: str, made: str) -> None:
    told = run(
        "portal_block = start_blocking_portal()\n"
        "portal = portal_block.__enter__()\n"
        "server = portal.call(ProviderServer(delay=1000).__aenter__)\n"
        f"endpoint = endpoint_of(server)\nclient = {made}\n"
        + textwrap.dedent(end)
        + textwrap.dedent("""
            try:
                asyncio.run(main())
            finally:
                portal.call(server.__aexit__, None, None, None)
                portal_block.__exit__(None, None, None)
        """)
    )
    assert told == "StreamStart\n"


def test_an_interpreter_exits_with_an_open_blocking_stream() -> None:
    told = run("""
        portal_block = start_blocking_portal()
        portal = portal_block.__enter__()
        server = portal.call(ProviderServer(delay=1000).__aenter__)
        stream = AIModelClient(endpoint_of(server), is_async=False).stream("Hi.")
        print(type(next(iter(stream.__enter__()))).__name__)
        portal.call(server.__aexit__, None, None, None)
        portal_block.__exit__(None, None, None)
    """)
    assert told == "StreamStart\n"


def test_an_interpreter_exits_while_a_thread_reads() -> None:
    told = run("""
        begun = threading.Event()

        async def main():
            async with ProviderServer(delay=1000) as server:
                async with AIModelClient(endpoint_of(server)).stream("Hi.") as stream:
                    async for event in stream:
                        print(type(event).__name__, flush=True)
                        begun.set()

        threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()
        assert begun.wait(60)
    """)
    assert told == "StreamStart\n"


def test_a_loop_that_is_closed_without_its_generators_is_let_go() -> None:
    """Not what ``asyncio.run`` does, but some do: the next loop to come sweeps after it."""
    shared = AiohttpTransport(trust_env=False)
    play = replies(whole(chat_body("Hello."), connection="close"))
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(serve(play)) as server:
        client = AIModelClient(chat_endpoint(server.url), transport=shared)
        gone = [asyncio.new_event_loop() for _ in range(3)]
        for loop in gone:
            assert loop.run_until_complete(client.generate("Hi.")).text() == "Hello."
            loop.close()
        sessions: dict[asyncio.AbstractEventLoop, object] = vars(shared)["_sessions"]
        assert list(sessions) == gone[-1:]
        assert asyncio.run(client.generate("Hi.")).text() == "Hello."
        assert sessions == {}
