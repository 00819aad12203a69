"""Large files of nodes: taken out of a node's JSON, and kept once for each owner by the hash of their content.

The JSON has a mark in the place of a file's base64 text. Files are taken out of the text and put back into the text, so
that it comes back byte for byte.
"""

import re
from base64 import urlsafe_b64encode
from collections.abc import Collection, Iterator, Mapping
from hashlib import sha256
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from dhenara_async.conversation import ConversationNode
from dhenara_async.messages.messages import FilePart, ToolResultPart
from dhenara_async.stores.sql.tables import files, node_files, nodes

MIN_BYTES: Final = 65_536
"""The size from which a file is kept outside its node's row."""

# A NUL is in no base64 text, and JSON writes it like this.
_MARK: Final = '"data":"\\u0000file:'
_MARKED: Final = re.compile(re.escape(_MARK) + '([0-9a-f]{64})"')


def is_large(node: ConversationNode) -> bool:
    """Whether a node has a file that is kept outside its row."""
    return next(_large(node), None) is not None


def encoded(node: ConversationNode) -> tuple[str, dict[str, bytes]]:
    """Return the JSON of a node with marks for its large files, and the files by their hashes."""
    return take_out(node, node.model_dump_json())


def take_out(node: ConversationNode, body: str) -> tuple[str, dict[str, bytes]]:
    """Return the JSON of a node with marks for its large files, and the files by their hashes."""
    taken: dict[str, bytes] = {}
    if _MARK in body:  # somebody has written a mark of ours: it stays as it is, and so do the files
        return body, taken
    for data in _large(node):
        key = sha256(data).hexdigest()
        marked = body.replace(f'"data":"{urlsafe_b64encode(data).decode()}"', f'{_MARK}{key}"')
        if marked != body:
            body, taken[key] = marked, data
    return body, taken


def put_back(body: str, contents: Mapping[str, bytes]) -> str:
    """Return the JSON of a node with its files; a mark whose hash is unknown stays."""

    def content(mark: re.Match[str]) -> str:
        data = contents.get(mark[1])
        return mark[0] if data is None else f'"data":"{urlsafe_b64encode(data).decode()}"'

    return _MARKED.sub(content, body)


def left_out(body: str) -> str:
    """Return the JSON of a node with a byte in the place of each large file, for those who look at something else."""
    return _MARKED.sub('"data":"AA=="', body)


def keep(connection: Connection, owner: str, node: int, contents: Mapping[str, bytes], *, is_sqlite: bool) -> None:
    """Store the files of a node, each once for its owner."""
    for key in sorted(contents):  # in one order, so that two transactions do not wait for each other
        values = {"owner": owner, "hash": key, "content": contents[key]}
        if is_sqlite:
            connection.execute(sqlite_insert(files).values(values).on_conflict_do_nothing())
        else:  # the update changes nothing; it locks the row against ``forget``
            row = postgres_insert(files).values(values)
            connection.execute(row.on_conflict_do_update(index_elements=["owner", "hash"], set_={"hash": key}))
        connection.execute(insert(node_files).values(node=node, owner=owner, hash=key))


def read(connection: Connection, owner: str, bodies: Mapping[int, str]) -> dict[int, dict[str, bytes]]:
    """Return the large files of nodes by their hashes.

    Args:
        connection: Where to read.
        owner: The owner of the nodes.
        bodies: The JSON of the nodes, by their numbers.
    """
    found: dict[int, dict[str, bytes]] = {}
    contents: dict[str, bytes] = {}
    for node in (node for node, body in bodies.items() if _MARK in body):
        mine = (node_files.c.owner == owner, node_files.c.node == node)  # a mark that somebody else wrote is not there
        keys = connection.scalars(select(node_files.c.hash).where(*mine)).all()
        missing = [key for key in keys if key not in contents]
        if missing:
            wanted = select(files.c.hash, files.c.content).where(files.c.owner == owner, files.c.hash.in_(missing))
            contents |= {row.hash: row.content for row in connection.execute(wanted)}
        found[node] = {key: contents[key] for key in keys}
    return found


def forget(connection: Connection, owner: str, conversation: int) -> None:
    """Delete the files of a conversation that no other one of its owner needs, before its nodes are deleted."""
    mine: Collection[str] = connection.scalars(_hashes(owner, conversation).distinct()).all()
    if not mine:
        return
    these = (files.c.owner == owner, files.c.hash.in_(mine))
    # Locked first: the next statement then sees who else has begun to need them meanwhile.
    connection.execute(select(files.c.hash).where(*these).order_by(files.c.hash).with_for_update())
    inside = select(nodes.c.seq).where(nodes.c.conversation == conversation, nodes.c.owner == owner)
    connection.execute(delete(node_files).where(node_files.c.owner == owner, node_files.c.node.in_(inside)))
    needed = select(node_files.c.hash).where(node_files.c.owner == owner, node_files.c.hash == files.c.hash)
    connection.execute(delete(files).where(*these, ~needed.exists()))


def _hashes(owner: str, conversation: int) -> Any:
    needed = select(node_files.c.hash).join(nodes, nodes.c.seq == node_files.c.node)
    return needed.where(nodes.c.conversation == conversation, nodes.c.owner == owner, node_files.c.owner == owner)


def _large(node: ConversationNode) -> Iterator[bytes]:
    answered = () if node.response is None else (part for choice in node.response.choices for part in choice.parts)
    for part in (*node.attached_files, *node.tool_results, *answered):
        for item in part.content if isinstance(part, ToolResultPart) else (part,):
            if isinstance(item, FilePart) and item.data is not None and len(item.data) >= MIN_BYTES:
                yield item.data
