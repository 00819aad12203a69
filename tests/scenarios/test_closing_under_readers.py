"""A client, a manager or a transport that is closed while others use its connections: they are told at once.

``cell`` of ``test_cancellation`` brings a call to each place where it can wait; afterwards nothing is left of it.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import httpx
import pytest

from dhenara_async import (
    AIModelCallConfig,
    AIModelClient,
    AIModelEndpoint,
    ConversationManager,
    Failover,
    FilePart,
    HttpxTransport,
    Message,
    Race,
    ResponseStream,
    Router,
    Target,
    TextDelta,
    Timeouts,
    fan_out,
)
from dhenara_async.errors import DhenaraError, StreamStateError
from dhenara_async.request import HttpRequest
from dhenara_async.transport import Transport
from dhenara_async.transport.aiohttp_transport import AiohttpTransport
from dhenara_async.turns.turn import Turn
from tests.loopback import PATIENCE, Play, chat_body, chat_delta, chat_endpoint, head, replies, serve, stalling, whole
from tests.scenarios.test_cancellation import Cell, Phase, cell, host, nothing_left

pytestmark = pytest.mark.usefixtures("both_aiohttp_ways")

PHASES: tuple[Phase, ...] = (
    *("slot", "pool", "connecting", "headers", "error body", "first event", "mid-stream", "retry", "download"),
)
WIRES = ("aiohttp", "httpx")


async def told(reader: ResponseStream | Turn, place: Cell, met: list[BaseException | None]) -> None:
    """Read to the end, whatever that is."""
    try:
        async with reader:
            async for event in reader:
                if event == TextDelta(0, " two"):
                    place.arrived.set()
    except Exception as exc:  # noqa: BLE001 - it is looked at by the test
        met.append(exc)
    else:
        met.append(None)


def is_final(met: list[BaseException | None]) -> None:
    """One error, of ours, that makes nobody try again."""
    (error,) = met
    assert isinstance(error, StreamStateError), error
    assert "closed" in str(error)
    assert not error.retryable


async def closed_over(place: Cell, reader: ResponseStream | Turn, close: Callable[[], Awaitable[None]]) -> None:
    """Close while ``reader`` waits; it ends at once."""
    met: list[BaseException | None] = []
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(told, reader, place, met)
            await place.waiting()
            await close()
    is_final(met)


@asynccontextmanager
async def shared(wire: str) -> AsyncGenerator[tuple[Transport, Callable[[], Awaitable[None]]]]:
    """A transport, and what closes it."""
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=2)) as http:
        made = AiohttpTransport(limit=2) if wire == "aiohttp" else HttpxTransport(http)
        yield made, http.aclose if wire == "closed httpx" else made.aclose
        await made.aclose()


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("wire", WIRES)
async def test_closing_a_transport_ends_its_readers(wire: str, phase: Phase) -> None:
    async with cell(phase) as place, shared(wire) as (transport, close):
        if phase == "pool":
            place.transport, kept = transport, place.transport
            async with AsyncExitStack() as stack:
                client = AIModelClient(chat_endpoint(place.host.url), place.config, transport=transport)
                for _ in range(2):
                    await anext(await stack.enter_async_context(client.stream("mid-stream")))
                await closed_over(place, place.stream(shared=True), close)
            place.transport = kept
            return
        client = AIModelClient(place.endpoint, place.config, transport=transport, shared=place.shared)
        stream = client.stream(place.asked)
        await closed_over(place, stream, close)
        assert isinstance(stream.failure, StreamStateError)
        assert stream.partial.text() == ("One two" if phase == "mid-stream" else "")


@pytest.mark.parametrize("phase", PHASES)
async def test_leaving_a_clients_block_ends_its_readers(phase: Phase) -> None:
    if phase == "pool":
        pytest.skip("a client's own pool has no end")
    async with cell(phase) as place:
        client = AIModelClient(place.endpoint, place.config, shared=place.shared)
        await client.__aenter__()

        async def close() -> None:
            await client.__aexit__(None, None, None)

        await closed_over(place, client.stream(place.asked), close)


@pytest.mark.parametrize("phase", PHASES)
async def test_leaving_a_managers_block_ends_its_turns(phase: Phase) -> None:
    if phase == "pool":
        pytest.skip("a manager's own pool has no end")
    async with cell(phase) as place:
        manager = ConversationManager(config=place.config, limits=place.shared.limiter)
        await manager.__aenter__()
        conversation = await manager.create()
        files = [part for part in place.asked.parts if isinstance(part, FilePart)]
        turn = manager.turn(conversation, phase, place.endpoint, files=files)

        async def close() -> None:
            await manager.__aexit__(None, None, None)

        await closed_over(place, turn, close)
        (node,) = conversation.nodes
        assert node.status == ("interrupted" if phase == "mid-stream" else "failed")
        assert node.error is not None
        assert node.error.startswith("StreamStateError")


Plan = Callable[[AIModelEndpoint, AIModelEndpoint], Target]
PLANS: dict[str, Plan] = {
    "failover": lambda who, other: Failover([who, other], on=DhenaraError),
    "continue": lambda who, other: Failover([who, other], mode="continue", on=DhenaraError),
    "race": lambda who, _other: Race([who, who]),
    "hedged race": lambda who, other: Race([who, other], hedge_after=3600.0),
    "router": lambda who, other: Router(lambda _said, _config: "who", {"who": who, "other": other}),
    "failover of races": lambda who, other: Failover([Race([who, other], hedge_after=3600.0), other], on=DhenaraError),
}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())
@pytest.mark.parametrize("phase", ["slot", "connecting", "headers", "first event", "mid-stream", "retry"])
async def test_a_plan_asks_no_other_endpoint_after_the_transport_closed(phase: Phase, plan: Plan) -> None:
    with host() as other:
        async with cell(phase) as place, shared("aiohttp") as (transport, close):
            target = plan(place.endpoint, chat_endpoint(other.url))
            client = AIModelClient(target, place.config, transport=transport, shared=place.shared)
            await closed_over(place, client.stream(place.asked), close)
            assert not place.shared.cooldowns.any
        assert not other.asked.is_set()


@pytest.mark.parametrize("connecting", [None, 1])
@pytest.mark.parametrize("wire", WIRES)
async def test_calls_of_a_fan_out_keep_their_partial_answers(wire: str, connecting: int | None) -> None:
    async with nothing_left(), serve(stalling(head(), chat_delta("One"))) as server, shared(wire) as (transport, close):
        calls = [(chat_endpoint(server.url), "Count.") for _ in range(4)]
        async with fan_out(calls, transport=transport, connecting=connecting, limit=2) as fan:
            heard = 0
            async with asyncio.timeout(PATIENCE):
                while heard < 2:
                    batch = await fan.batch()
                    assert batch is not None
                    heard += any(event.type == "text_delta" for event in batch.events)
                await close()
                results = await fan.collect()
        assert [type(result.error) for result in results] == [StreamStateError] * 4
        assert [result.partial.text() if result.partial else None for result in results] == ["One", "One", "", ""]
        assert len(server.requests) == 2


@pytest.mark.parametrize(
    "play",
    [stalling(), stalling(head(content_type="application/json", content_length="400"), chat_body("One")[:40])],
    ids=["head", "body"],
)
@pytest.mark.parametrize("wire", [*WIRES, "closed httpx"])
async def test_closing_the_transport_ends_a_plain_call(wire: str, play: Play) -> None:
    async with nothing_left(), serve(play) as server, shared(wire) as (transport, close):
        met: list[BaseException] = []

        async def generate() -> None:
            try:
                await AIModelClient(chat_endpoint(server.url), transport=transport).generate("Count.")
            except DhenaraError as exc:
                met.append(exc)

        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(generate)
                await server.asked.wait()
                await anyio.wait_all_tasks_blocked()
                await close()
        assert [type(error) for error in met] == [StreamStateError]
        assert len(server.requests) == 1
        await server.wait_hung_up()


@pytest.mark.parametrize("wire", [*WIRES, "closed httpx"])
async def test_a_closed_transport_sends_nothing(wire: str) -> None:
    config = AIModelCallConfig(timeouts=Timeouts(total=PATIENCE))
    async with nothing_left(), serve(replies(whole(chat_body("Yes.")))) as server, shared(wire) as (transport, close):
        client = AIModelClient(chat_endpoint(server.url), config, transport=transport)
        assert (await client.generate("Hi.")).text() == "Yes."
        stream = client.stream("Hi.")
        await close()
        await close()
        with pytest.raises(StreamStateError, match="nothing was sent"):
            await client.generate("Hi.")
        with pytest.raises(StreamStateError, match="nothing was sent"):
            async with stream:
                await anext(stream)
        with pytest.raises(StreamStateError, match="nothing was sent"):
            await transport.send(HttpRequest(server.url, {}, b"{}"), Timeouts())
        if isinstance(transport, AiohttpTransport):
            with pytest.raises(StreamStateError, match="nothing was sent"):
                await transport.warm_up(server.url, Timeouts())
        assert (server.connections, len(server.requests)) == (1, 1)


async def test_a_stream_of_a_block_is_not_read_after_it() -> None:
    async with nothing_left(), serve(replies(whole(chat_body("Yes.")))) as server:
        async with AIModelClient(chat_endpoint(server.url)) as client:
            stream = client.stream(Message.user("Hi."))
        async with stream:
            with pytest.raises(StreamStateError, match="inside the block"):
                await anext(stream)
        assert server.connections == 0
        assert (await client.generate("Hi.")).text() == "Yes."  # by connections of its own


async def test_a_task_cancelled_during_transport_close_is_cancelled() -> None:
    async with nothing_left(), serve(stalling()) as server, shared("aiohttp") as (transport, close):
        client = AIModelClient(chat_endpoint(server.url), transport=transport)
        async with asyncio.TaskGroup() as tasks:
            generating = tasks.create_task(client.generate("Count."))
            await server.asked.wait()
            await anyio.wait_all_tasks_blocked()
            generating.cancel()
            await close()
        assert generating.cancelled()
