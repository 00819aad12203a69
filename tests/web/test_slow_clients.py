"""A client that reads slowly slows its turn's provider; its answer does not pile up in the server."""

import aiohttp
import anyio
import pytest

from dhenara_async import ConversationManager
from dhenara_async.turns.turn import Turn
from tests.loopback import PATIENCE, Connection, chat_delta, chat_endpoint, chat_stream, head, serve
from tests.web.protocols import ui_message_of
from tests.web.servers import SERVERS
from tests.web.test_clients_gone import answering

PIECE = 256 * 1024
PIECES = 192
"""48 MiB at most: kernels take some MiB on each of the two ways to the client before anybody waits."""


@pytest.mark.parametrize("server", [*SERVERS, "aiohttp"])
async def test_the_provider_waits_for_a_client_that_does_not_read(server: str) -> None:
    sent, enough = 0, anyio.Event()

    async def play(connection: Connection) -> None:
        nonlocal sent
        await connection.request()
        await connection.send(head())
        while sent < PIECES and not enough.is_set():
            await connection.send(chat_delta("x" * PIECE))
            sent += 1
        await connection.send(*chat_stream("."))

    async with serve(play) as provider, ConversationManager() as manager:
        conversation = await manager.create()

        def turn() -> Turn:
            return manager.turn(conversation, "What?", chat_endpoint(provider.url))

        async with (
            answering(server, turn) as url,
            aiohttp.ClientSession() as session,
            session.post(url, json={}) as reply,
        ):
            with anyio.fail_after(PATIENCE):
                seen = -1
                while seen != sent or not sent:
                    seen = sent
                    await anyio.sleep(0.15)
            assert 0 < sent < PIECES
            enough.set()
            with anyio.fail_after(6 * PATIENCE):
                message = ui_message_of(await reply.read())
    assert sum(map(len, message.texts.values())) == sent * PIECE + 1
    assert message.finish
