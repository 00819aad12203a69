"""``SQLStore`` under a ``ConversationManager``, filled by one statement a thousand nodes."""

from collections.abc import Sequence

from anyio import to_thread
from sqlalchemy import URL, create_engine, insert, make_url, select, text, update

from benchmarks.stores.talk import PAGE, RARE, TURNS, Progress, answer, demand, name_of, question
from dhenara_async import ChatResponse, Conversation, ConversationManager, ConversationNode, FinishReason, TextPart
from dhenara_async.response import Choice
from dhenara_async.stores import SQLStore
from dhenara_async.stores.search import words_of
from dhenara_async.stores.sql.tables import conversations as conversation_table
from dhenara_async.stores.sql.tables import nodes as node_table

_TREE = "tree"


def node_of(turn: int, node_id: str, parent: str | None) -> ConversationNode:
    """Return a turn of the talk."""
    parts = (TextPart(text=answer(turn)),)
    response = ChatResponse(model="m", provider="p", choices=(Choice(parts=parts, finish_reason=FinishReason.STOP),))
    return ConversationNode(id=node_id, parent_id=parent, user_query=question(turn), response=response)


class OurKeeper:
    """A database of ours; its schema is there.

    Args:
        address: A path or a URL.
    """

    def __init__(self, address: str) -> None:
        self._store = SQLStore(address)
        self._manager = ConversationManager(store=self._store)
        self._url = make_url(address) if "://" in address else URL.create("sqlite", database=address)
        self._added = 0

    async def fill(self, conversations: int, progress: Progress) -> None:
        """Keep the talk."""
        await self._manager.__aenter__()
        for number in range(conversations):
            await self._store.create(name_of(number), title=f"Talk {number}")
        kept = [
            (name_of(number), node_of(turn, f"{number}-{turn}", f"{number}-{turn - 1}" if turn else None))
            for number in range(conversations)
            for turn in range(TURNS)
        ]
        await to_thread.run_sync(self._insert, kept, progress)
        await self._store.create(_TREE)  # a path, and branches of ten turns behind its middle
        turns = [node_of(turn, f"path-{turn}", f"path-{turn - 1}" if turn else None) for turn in range(PAGE)]
        fork = turns[PAGE // 2].id
        for turn in range(conversations * TURNS - PAGE):
            turns.append(node_of(turn, f"aside-{turn}", f"aside-{turn - 1}" if turn % 10 else fork))
        await to_thread.run_sync(self._insert, [(_TREE, node) for node in turns], progress)
        await self._store.checkout(_TREE, f"path-{PAGE - 1}")

    async def open(self, conversation: int) -> None:
        """Read a conversation."""
        opened = await self._manager.open(name_of(conversation))
        demand(len(opened.path()) >= TURNS, "the path is not whole")

    async def append(self, conversation: int) -> None:
        """Keep one more turn, behind the last one that was there at the beginning."""
        self._added += 1
        node = node_of(self._added * 100 + 1, f"{conversation}-more-{self._added}", f"{conversation}-{TURNS - 1}")
        await self._store.append(name_of(conversation), node)

    async def list(self) -> None:
        """Read the first page of conversations."""
        page = await self._manager.list(limit=PAGE)
        demand(len(page.items) > 0, "nothing is listed")

    async def search(self) -> None:
        """Find the newest turns with a rare word."""
        hits = await self._manager.search(f"{RARE} next", limit=PAGE)
        demand(len(hits) > 0, "nothing is found")

    async def open_tree(self) -> None:
        """Read the path to the head of the large tree."""
        opened: Conversation = await self._manager.open(_TREE)
        demand(len(opened.path()) == PAGE, "the path is not whole")

    async def aclose(self) -> None:
        """Close the connections."""
        await self._manager.__aexit__(None, None, None)
        await self._store.aclose()

    def _insert(self, kept: Sequence[tuple[str, ConversationNode]], progress: Progress) -> None:
        """Insert nodes as ``append`` does, many in one statement."""
        engine, table, done = create_engine(self._url), conversation_table.c, 0
        with engine.begin() as connection:
            seqs = {row.id: row.seq for row in connection.execute(select(table.id, table.seq))}
            for start in range(0, len(kept), 1_000):
                rows = [
                    {"conversation": seqs[name], "owner": "", "id": node.id, "parent": node.parent_id}
                    | {"status": node.status, "body": node.model_dump_json(), "words": words_of(node)}
                    for name, node in kept[start : start + 1_000]
                ]
                connection.execute(insert(node_table), rows)
                done += len(rows)
                progress(done)
            counts: dict[str, tuple[int, str]] = {}
            for name, node in kept:
                counts[name] = (counts.get(name, (0, ""))[0] + 1, node.id)
            for name, (turns, head) in counts.items():
                values = {"turns": turns, "head": head, "tokens": 0, "money": "0"}
                connection.execute(update(conversation_table).where(table.id == name).values(values))
            if engine.dialect.name == "postgresql":
                connection.execute(text("ANALYZE"))  # the server does so by itself, some time later
        engine.dispose()
