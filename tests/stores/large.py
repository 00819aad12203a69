"""Large conversations, written into a database at once: appending their turns one by one would take too long."""

from collections.abc import Sequence
from uuid import uuid4

from anyio import to_thread
from sqlalchemy import URL, create_engine, insert, select, update

from dhenara_async import ConversationNode
from dhenara_async.stores.search import words_of
from dhenara_async.stores.sql.tables import conversations, nodes


async def insert_nodes(url: URL, conversation_id: str, added: Sequence[ConversationNode]) -> None:
    """Add nodes to a conversation; its head, and its sums beside their number, stay."""

    def work() -> None:
        engine = create_engine(url.set(drivername="sqlite" if url.get_backend_name() == "sqlite" else url.drivername))
        with engine.begin() as connection:
            mine = conversations.c.id == conversation_id
            row = connection.execute(select(conversations).where(mine)).one()
            whose = {"conversation": row.seq, "owner": row.owner}
            kept = [
                whose
                | {"id": node.id, "parent": node.parent_id, "status": node.status}
                | {"body": node.model_dump_json(), "words": words_of(node)}
                for node in added
            ]
            connection.execute(insert(nodes), kept)
            connection.execute(update(conversations).where(mine).values(turns=(row.turns or 0) + len(kept)))
        engine.dispose()

    await to_thread.run_sync(work)


def branches(root: ConversationNode, number: int, *, length: int = 10) -> list[ConversationNode]:
    """Make ``number`` turns behind ``root``, in branches of ``length``."""
    made: list[ConversationNode] = []
    for place in range(number):
        parent = made[-1].id if place % length else root.id
        made.append(root.changed(id=uuid4().hex, parent_id=parent, user_query=f"aside {place}"))
    return made
