"""Databases of every earlier schema are migrated with what is kept in them."""

from pathlib import Path

import anyio
import pytest
from sqlalchemy import URL, create_engine, make_url, text

from dhenara_async import ConversationNode
from dhenara_async.stores import SQLStore
from dhenara_async.stores.sql import schema
from tests.stores.postgres import migrate


@pytest.mark.parametrize("version", sorted(schema.versions()))
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_databases_of_every_version_are_migrated_with_their_conversations(
    tmp_path: Path, request: pytest.FixtureRequest, kind: str, version: str
) -> None:
    node = ConversationNode(user_query="painting")
    url = make_url(f"sqlite:///{tmp_path}/chat.db") if kind == "sqlite" else request.getfixturevalue("empty")
    await anyio.to_thread.run_sync(_write_as, url, version, node)
    if kind == "postgres":
        await anyio.to_thread.run_sync(migrate, url)
    async with SQLStore(url.render_as_string(hide_password=False)) as store:
        old = await store.load("old")
        assert (old.nodes, old.head, old.instructions) == ((node,), node, None)
        assert [hit.node for hit in await store.search("painting")] == [node.id]
        await store.append("old", ConversationNode(parent_id=node.id, user_query="painting"))
        assert ((await store.load_path("old")).turns, len(await store.search("painting"))) == (2, 2)
        await store.create_instructed("new", ["Be exact."])
        assert (await store.load("new")).instructions == ("Be exact.",)


def _write_as(url: URL, version: str, node: ConversationNode) -> None:
    """Keep a conversation of one node in a new database as an earlier version did."""
    engine = create_engine(url.set(drivername="sqlite") if "sqlite" in url.drivername else url)
    with engine.begin() as connection:
        schema.upgrade(connection, version)
        connection.execute(
            text(
                "INSERT INTO conversations (seq, owner, id, metadata, head, version, created, updated) "
                "VALUES (1, '', 'old', '{}', :node, 1, '2026-11-22T10:00:00+00:00', '2026-11-22T10:00:00+00:00')"
            ),
            {"node": node.id},
        )
        connection.execute(
            text(
                "INSERT INTO nodes (conversation, owner, id, status, body, words) "
                "VALUES (1, '', :node, 'complete', :body, 'painting')"
            ),
            {"node": node.id, "body": node.model_dump_json()},
        )
        if "sqlite" not in url.drivername:
            connection.execute(text("SELECT setval('conversations_seq_seq', 1)"))
    engine.dispose()
