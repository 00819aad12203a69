"""Databases of every earlier schema are migrated with what is kept in them."""

from pathlib import Path

import anyio
import pytest
from sqlalchemy import URL, create_engine, make_url, text

from dhenara_async import ConversationManager, ConversationNode, FilePart, PartStart, StreamStart, TextDelta
from dhenara_async.stores import SQLStore
from dhenara_async.stores.event_lines import event_lines
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


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_a_turn_that_was_running_under_an_earlier_schema_is_ended_with_what_was_kept(
    tmp_path: Path, request: pytest.FixtureRequest, kind: str
) -> None:
    url = make_url(f"sqlite:///{tmp_path}/chat.db") if kind == "sqlite" else request.getfixturevalue("empty")
    node = ConversationNode(user_query="painting")
    file = FilePart.from_bytes(bytes(100_000), media_type="application/x-test")
    draft = ConversationNode(parent_id=node.id, user_query="And now?", attached_files=(file,))
    events = event_lines([StreamStart("m", "p"), PartStart(0, "text"), TextDelta(0, "It "), TextDelta(0, "is ")])
    await anyio.to_thread.run_sync(_write_as, url, "0004", node)
    await anyio.to_thread.run_sync(_write_running, url, draft, events)
    if kind == "postgres":
        await anyio.to_thread.run_sync(migrate, url)
    async with (
        SQLStore(url.render_as_string(hide_password=False)) as store,
        ConversationManager(store=store) as manager,
    ):
        old = await manager.open("old")
        assert old.head is not None
        assert (old.head.id, old.head.parent_id, old.head.status) == (draft.id, node.id, "interrupted")
        assert (old.head.answer.text(), old.head.user_query, old.head.attached_files) == ("It is ", "And now?", (file,))
        page = await store.read_turn(draft.id)
        assert page is not None
        assert (page.turn.draft, [event.type for event in page.events][-2:]) == (draft, ["text_delta"] * 2)


def _write_running(url: URL, draft: ConversationNode, events: str) -> None:
    """Keep a turn of a process that is gone as version 0004 did."""
    engine = create_engine(url.set(drivername="sqlite") if "sqlite" in url.drivername else url)
    with engine.begin() as connection:
        row = (
            "INSERT INTO turns (seq, owner, id, conversation, epoch, draft, config, writer, pid, lease_until, "
            "watched_until, cancel_requested, last_seq) VALUES (1, '', :id, 'old', 'e', :draft, '{}', 'gone', 1, 0, 0, "
            ":no, 0)"
        )
        connection.execute(text(row), {"id": draft.id, "draft": draft.model_dump_json(), "no": False})
        connection.execute(text("INSERT INTO turn_events VALUES (1, 'e', 0, 4, :events)"), {"events": events})
    engine.dispose()


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
