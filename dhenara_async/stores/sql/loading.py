"""Reads conversations: all nodes, the path to one of them, or those that follow one, and the sums over all of them.

The cost of a read depends on the nodes that it returns, not on the size of the tree.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any, Final

from sqlalchemy import Column, Connection, Row, Select, func, select

from dhenara_async.conversation import ConversationNode, LoadedTurns
from dhenara_async.stores.outline import NodeOutline, outline_of, outline_of_json
from dhenara_async.stores.sql import attachments, files
from dhenara_async.stores.sql.attachments import is_marked
from dhenara_async.stores.sql.database import off_loop
from dhenara_async.stores.sql.tables import nodes
from dhenara_async.usage.budget import Amount, spent_by, took_by

LARGE_LOAD: Final = 200_000
"""Characters of JSON from which it is read in a thread."""

_BATCH: Final = 500
_MAX_NUMBER: Final = 2**63 - 1

Found = Row[int, str | None, int, str | None, int | None, int | None, str | None]
"""The row of a conversation: seq, head, version, instructions, turns, tokens, money."""


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums over the nodes of a conversation.

    Attributes:
        turns: Their number.
        spent: The tokens and the money that they used.
    """

    turns: int
    spent: Amount

    def plus(self, node: ConversationNode) -> "Sums":
        """Return the sums with one node more."""
        return Sums(self.turns + 1, self.spent.plus(took_by(node)))

    def columns(self) -> dict[str, int | str]:
        """Return the values to store."""
        return {"turns": self.turns, "tokens": min(self.spent.tokens, _MAX_NUMBER), "money": str(self.spent.money)}


def instructions_of(row: Found) -> tuple[str, ...] | None:
    """Return the standing instructions of a conversation; None if it has none of its own."""
    return None if row.instructions is None else tuple(json.loads(row.instructions))


def sums_of(connection: Connection, owner: str, row: Found) -> Sums:
    """Return the sums of a conversation; they are summed from its nodes if no append has kept them yet."""
    if row.turns is not None:
        return Sums(row.turns, Amount(row.tokens or 0, Decimal(row.money or 0)))
    turns, spent, last = 0, Amount(), 0
    while True:
        bodies = select(nodes.c.seq, nodes.c.body).where(nodes.c.conversation == row.seq, nodes.c.owner == owner)
        page = connection.execute(bodies.where(nodes.c.seq > last).order_by(nodes.c.seq).limit(_BATCH)).all()
        if not page:
            return Sums(turns, spent)
        turns, last = turns + len(page), page[-1].seq
        spent = spent.plus(off_loop(connection, partial(_spent_by, [found.body for found in page])))


def outlines(connection: Connection, owner: str, row: Found, after: int) -> Iterator[NodeOutline]:
    """Yield the outlines of the nodes behind a number, in order; a page of their JSON is read at a time."""
    while True:
        page = connection.execute(_of(owner, row).where(nodes.c.seq > after).order_by(nodes.c.seq).limit(_BATCH)).all()
        if not page:
            return
        after = page[-1].seq
        yield from off_loop(connection, partial(_outlined, [found.body for found in page]))


def _outlined(bodies: Iterable[str]) -> list[NodeOutline]:
    return [outline_of_json(body) or outline_of(attachments.without_files(body)) for body in bodies]


def _spent_by(bodies: Iterable[str]) -> Amount:
    return spent_by(map(attachments.without_files, bodies))


def all_nodes(connection: Connection, owner: str, row: Found) -> list[ConversationNode]:
    """Return every node of a conversation, in order."""
    rows = connection.execute(_of(owner, row).order_by(nodes.c.seq)).all()
    return nodes_of(connection, owner, {row.seq: row.body for row in rows})


def path(connection: Connection, owner: str, row: Found, node_id: str | None, others: int) -> LoadedTurns | None:
    """Return the nodes from the first one to ``node_id``, and all if at most ``others`` more exist; None if there is
    no such node."""
    sums, bodies = sums_of(connection, owner, row), dict[int, str]()
    steps = _path(owner, row, node_id, nodes.c.seq, nodes.c.body)
    if node_id is not None:
        bodies = {step.seq: step.body for step in connection.execute(select(steps.c.seq, steps.c.body))}
        if not bodies:
            return None
    if 0 < sums.turns - len(bodies) <= others:
        rest = _of(owner, row).where(nodes.c.seq.not_in(select(_path(owner, row, node_id, nodes.c.seq).c.seq)))
        bodies |= {other.seq: other.body for other in connection.execute(rest)}
    loaded = nodes_of(connection, owner, dict(sorted(bodies.items())))
    if len(loaded) == sums.turns:
        followers: Mapping[str | None, int] = Counter(node.parent_id for node in loaded)
    else:
        followers = _counted(connection, owner, row, select(_path(owner, row, node_id).c.id))
        followers[None] = _first_turns(connection, owner, row)
    return LoadedTurns(tuple(loaded), followers, sums.turns, row.head, *sums.spent, instructions_of(row))


def children(connection: Connection, owner: str, row: Found, node_id: str | None) -> LoadedTurns:
    """Return the nodes that follow ``node_id``; None = the first ones."""
    mine = (nodes.c.conversation == row.seq, nodes.c.owner == owner, nodes.c.parent.is_not_distinct_from(node_id))
    rows = connection.execute(select(nodes.c.seq, nodes.c.body).where(*mine).order_by(nodes.c.seq)).all()
    loaded = nodes_of(connection, owner, {child.seq: child.body for child in rows})
    followers = _counted(connection, owner, row, select(nodes.c.id).where(*mine))
    followers[node_id] = len(loaded)
    sums = sums_of(connection, owner, row)
    return LoadedTurns(tuple(loaded), followers, sums.turns, row.head, *sums.spent, instructions_of(row))


def _of(owner: str, row: Found) -> Select[int, str]:
    return select(nodes.c.seq, nodes.c.body).where(nodes.c.conversation == row.seq, nodes.c.owner == owner)


def _path(owner: str, row: Found, node_id: str | None, *others: Column[Any]) -> Any:
    """The path to a node as a table, the node first, with its ids and ``others``.

    Bodies may go along, so that each step reads one row by its key, whatever the size of the tree is.
    """
    mine = (nodes.c.conversation == row.seq, nodes.c.owner == owner)
    columns = (nodes.c.id, nodes.c.parent, *others)
    steps = select(*columns).where(*mine, nodes.c.id == node_id).cte("path", recursive=True)
    return steps.union_all(select(*columns).where(*mine, nodes.c.id == steps.c.parent))


def _counted(connection: Connection, owner: str, row: Found, parents: Select[str]) -> dict[str | None, int]:
    """Count the nodes that follow each of ``parents``."""
    mine = (nodes.c.conversation == row.seq, nodes.c.owner == owner, nodes.c.parent.in_(parents))
    counts = select(nodes.c.parent, func.count()).where(*mine).group_by(nodes.c.parent)
    return dict[str | None, int]((row[0], row[1]) for row in connection.execute(counts))


def _first_turns(connection: Connection, owner: str, row: Found) -> int:
    mine = (nodes.c.conversation == row.seq, nodes.c.owner == owner, nodes.c.parent.is_(None))
    return connection.scalar(select(func.count()).select_from(nodes).where(*mine)) or 0


def nodes_of(connection: Connection, owner: str, bodies: Mapping[int, str]) -> list[ConversationNode]:
    """Return nodes of their JSON, in its order, with their large files."""
    contents = files.of_nodes(connection, owner, [seq for seq, body in bodies.items() if is_marked(body)])

    def build() -> list[ConversationNode]:
        return [attachments.decoded(body, contents.get(seq, {})) for seq, body in bodies.items()]

    is_small = sum(map(len, bodies.values())) < LARGE_LOAD and not contents
    return build() if is_small else off_loop(connection, build)
