"""``warm_up`` loads modules in a thread and opens connections before the first call, and sends nothing."""

import json
import os
import sys
from pathlib import Path

import anyio
import pytest
import trustme

from dhenara_async import (
    AIModelCallConfig,
    AIModelClient,
    AiohttpTransport,
    ConversationManager,
    Dialect,
    Failover,
    Race,
    Timeouts,
)
from dhenara_async.errors import ConfigurationError, ConnectError, DeadlineError
from dhenara_async.testing import Answer, ProviderServer
from tests.loopback import (
    ONCE,
    Connection,
    chat_body,
    chat_endpoint,
    endpoint_at,
    nobody,
    replies,
    serve,
    whole,
)

PROGRAM = """
import asyncio, json, ssl, sys, threading

from dhenara_async import AIModel, AIModelAPI, AIModelCallConfig, AIModelClient, AIModelEndpoint, Failover

given = json.loads(sys.argv[1])
found, contexts = [], []


class Finder:
    def find_spec(self, name, path=None, target=None):
        found.append((name, threading.get_ident()))


make_context = ssl.create_default_context


def recorded(*args, **kwargs):
    contexts.append(threading.get_ident())
    return make_context(*args, **kwargs)


def values(base):
    for value in base.__subclasses__():
        yield value
        yield from values(value)


def unbuilt():
    from dhenara_async.frozen import FrozenModel

    return sorted(value.__name__ for value in values(FrozenModel) if not value.__pydantic_complete__)


async def main():
    api = AIModelAPI(provider=given["provider"], api_key="k", base_url=given["base_url"], dialect=given["dialect"])
    endpoint = AIModelEndpoint(api=api, ai_model=AIModel(model_name=given["model"]))
    client = AIModelClient(Failover([endpoint, endpoint]) if given["plan"] else endpoint, AIModelCallConfig())
    loop = threading.get_ident()
    sys.meta_path.insert(0, Finder())
    ssl.create_default_context = recorded
    async with client:
        if given["warm"]:
            await client.warm_up()
        by_loop = {name for name, thread in found if thread == loop}
        elsewhere = {name for name, thread in found if thread != loop}
        loaded, raw = set(sys.modules), unbuilt() if given["warm"] else []
        plain = await client.generate("Hi.")
        async with client.stream("Hi.") as stream:
            streamed = await stream.collect()
    print(json.dumps({
        "loaded by the loop": sorted(name for name in by_loop if name.startswith(("dhenara", "aiohttp", "anyio"))),
        "loaded in a thread": sorted(elsewhere & {"aiohttp", "anyio", "dhenara_async.calls.prepare"}),
        "contexts by the loop": contexts.count(loop),
        "contexts": len(contexts),
        "loaded by calls": sorted(set(sys.modules) - loaded),
        "not built": raw,
        "texts": [plain.text(), streamed.text()],
    }))


asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("dialect", "plan"), [*((dialect, False) for dialect in Dialect), (Dialect.ANTHROPIC_MESSAGES, True)]
)
async def test_after_warming_up_a_call_loads_nothing(dialect: Dialect, plan: bool) -> None:
    """The call runs in a process of its own, because this one has loaded all modules."""
    async with ProviderServer([Answer(text="One."), Answer(text="Two.")]) as server:
        told = await _told(server, dialect, plan=plan, warm=True)
        assert server.connections == 1  # opened by warm_up
    assert told["texts"] == ["One.", "Two."]
    assert told["loaded by calls"] == []
    assert told["not built"] == []
    assert told["loaded by the loop"] == ["dhenara_async.calls", "dhenara_async.calls.warmup"]
    assert told["loaded in a thread"] == ["aiohttp", "anyio", "dhenara_async.calls.prepare"]
    assert told["contexts by the loop"] == 0
    assert told["contexts"] != 0


async def test_entering_a_client_block_loads_modules_in_a_thread() -> None:
    async with ProviderServer([Answer(text="One."), Answer(text="Two.")]) as server:
        told = await _told(server, Dialect.OPENAI_CHAT, plan=False, warm=False)
    assert told["texts"] == ["One.", "Two."]
    assert told["loaded by the loop"] == ["dhenara_async.calls", "dhenara_async.calls.warmup"]
    assert told["contexts by the loop"] == 0


async def _told(server: ProviderServer, dialect: Dialect, *, plan: bool, warm: bool) -> dict[str, object]:
    endpoint = endpoint_at(server, dialect)
    given = {
        "provider": endpoint.api.provider,
        "base_url": endpoint.api.base_url,
        "dialect": dialect,
        "model": endpoint.ai_model.model_name,
        "plan": plan,
        "warm": warm,
    }
    with anyio.fail_after(60):
        done = await anyio.run_process(
            [sys.executable, "-W", "error", "-c", PROGRAM, json.dumps(given)],
            env={**os.environ, "NO_PROXY": "*"},
            check=False,
        )
    assert (done.stderr.decode(), done.returncode) == ("", 0)
    told: dict[str, object] = json.loads(done.stdout)
    return told


async def test_warm_up_sends_nothing_and_the_first_call_uses_its_connection() -> None:
    async with serve(replies(whole(chat_body("Warm.")))) as server, AIModelClient(chat_endpoint(server.url)) as client:
        await client.warm_up()
        await server.wait_connected(1)
        assert server.requests == []
        assert (await client.generate("Hi.")).text() == "Warm."
        assert server.connections == 1


async def test_warm_up_needs_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GROQ_API_KEY", raising=False)
    async with ProviderServer() as server:
        endpoint = endpoint_at(server, Dialect.OPENAI_CHAT)
        keyless = endpoint.model_copy(update={"api": endpoint.api.model_copy(update={"api_key": None})})
        async with AIModelClient(keyless) as client:
            await client.warm_up()
            with pytest.raises(ConfigurationError):
                await client.generate("Hi.")


async def test_warm_up_connects_only_where_connections_are_kept() -> None:
    async with serve(replies(whole(chat_body("Shared.")))) as server:
        endpoint = chat_endpoint(server.url)
        await AIModelClient(endpoint).warm_up()  # outside a block each call opens a connection of its own
        async with AIModelClient(endpoint, AIModelCallConfig(test_mode=True)) as rehearsing:
            await rehearsing.warm_up()
        shared = AiohttpTransport()
        await AIModelClient(endpoint, transport=shared).warm_up()
        assert (await AIModelClient(endpoint, transport=shared).generate("Hi.")).text() == "Shared."
        await shared.aclose()
        assert server.connections == 1


async def test_warm_up_connects_to_every_host_of_a_plan_although_one_fails() -> None:
    with nobody() as nowhere:
        async with serve(replies(whole(chat_body("Alive.")))) as server:
            dead, alive = chat_endpoint(nowhere), chat_endpoint(server.url)
            async with AIModelClient(Race([dead, alive, alive]), ONCE) as client:
                with pytest.raises(ConnectError):
                    await client.warm_up()
                assert (await client.generate("Hi.")).text() == "Alive."
                assert server.connections == 2  # one from warm_up, and another for the second endpoint on the same host
            async with AIModelClient(Failover([dead, alive]), ONCE) as client:
                with pytest.raises(ConnectError):
                    await client.warm_up()
                await server.wait_connected(3)
                assert (await client.generate("Hi.")).text() == "Alive."
                assert server.connections == 3


async def test_warm_up_of_a_manager_connects_for_its_turns() -> None:
    async with serve(replies(whole(chat_body("First.")))) as server, ConversationManager() as manager:
        endpoint = chat_endpoint(server.url)
        with pytest.raises(ConfigurationError, match="a sequence of endpoints"):
            await manager.warm_up(endpoint)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
        await manager.warm_up([endpoint])
        node = await manager.ask(await manager.create(), "Hi.", endpoint)
        assert node.response is not None
        assert node.response.text() == "First."
        assert server.connections == 1


async def test_warm_up_of_a_host_that_never_finishes_tls_ends_at_the_connect_limit() -> None:
    async def play(connection: Connection) -> None:
        await connection.until_hung_up()

    config = AIModelCallConfig(timeouts=Timeouts(connect=0.05))
    async with serve(play) as server:
        url = server.url.replace("http://", "https://")
        async with AIModelClient(chat_endpoint(url), config) as client:
            with pytest.raises(DeadlineError) as caught:
                await client.warm_up()
    assert (caught.value.limit, caught.value.seconds) == ("connect", 0.05)


async def test_an_invalid_address_is_reported_by_warm_up() -> None:
    async with AIModelClient(chat_endpoint("ftp://127.0.0.1")) as client:
        with pytest.raises(ConfigurationError):
            await client.warm_up()


async def test_warm_up_opens_a_tls_connection(tmp_path: Path) -> None:
    """The call runs in a process of its own, because a process reads its trusted authorities once."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "host.pem"))
    with anyio.fail_after(60):
        done = await anyio.run_process(
            [sys.executable, "-W", "error", "-c", OVER_TLS, str(tmp_path / "host.pem")],
            env={**os.environ, "SSL_CERT_FILE": str(tmp_path / "authority.pem"), "NO_PROXY": "*"},
            check=False,
        )
    assert (done.stderr.decode(), done.stdout.decode(), done.returncode) == ("", "1 handshake, [] loaded: Hi.\n", 0)


OVER_TLS = """
import asyncio, json, socket, ssl, sys, threading

from dhenara_async import AIModel, AIModelAPI, AIModelAPIProviderEnum, AIModelClient, AIModelEndpoint

BODY = json.dumps({"id": "1", "object": "chat.completion", "model": "m", "choices": [
    {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi."}}]}).encode()
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1])
listener = socket.create_server(("127.0.0.1", 0))
handshakes = 0


def serve():
    global handshakes
    while True:
        try:
            raw, _ = listener.accept()
        except OSError:
            return
        with context.wrap_socket(raw, server_side=True) as connection:
            handshakes += 1
            while connection.recv(65536):
                connection.sendall(b"HTTP/1.1 200 OK\\r\\ncontent-length: %d\\r\\n\\r\\n%s" % (len(BODY), BODY))


async def main():
    api = AIModelAPI(
        provider=AIModelAPIProviderEnum.OPENAI_COMPATIBLE,
        api_key="k",
        base_url=f"https://localhost:{listener.getsockname()[1]}/v1",
    )
    async with AIModelClient(AIModelEndpoint(api=api, ai_model=AIModel(model_name="m"))) as client:
        await client.warm_up()
        loaded = set(sys.modules)
        while not handshakes:  # the loop stands still until it has session tickets to read
            threading.Event().wait(0.01)
        text = (await client.generate("Hi.")).text()
    print(f"{handshakes} handshake, {sorted(set(sys.modules) - loaded)} loaded: {text}")


thread = threading.Thread(target=serve, daemon=True)
thread.start()
asyncio.run(main())
listener.shutdown(socket.SHUT_RDWR)
listener.close()
thread.join(60)
"""
